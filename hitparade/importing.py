"""The commands that take what others have: listens and scrobbles as session events, charts as weeks of history."""

import argparse
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from features.account import Account
from features.events import BadRecord
from features.files import replacing
from hitparade import data_folder, output, wiring
from hitparade.errors import OutputError
from hitparade.settings import Settings
from hitparade.signals import stop_on_signals
from producers.files import read_lines
from producers.heard import Heard
from producers.shelf import Shelf

if TYPE_CHECKING:
    from features.history import History

TAKEN = "taken"
OUTCOMES = (TAKEN, "ignored", "dead")
ADVANCE_EVERY = 1000

Read = Callable[[bytes], Heard | None]


def listens(settings: Settings, arguments: argparse.Namespace) -> int:
    """Listens of ListenBrainz; 1 where none could be taken, or not all were sent."""
    from producers.listenbrainz import read_listen

    return _heard(settings, arguments, partial(read_listen, user=arguments.user))


def scrobbles(settings: Settings, arguments: argparse.Namespace) -> int:
    """Scrobbles of last.fm; 1 where none could be taken, or not all were sent."""
    from producers.lastfm import read_scrobble

    return _heard(settings, arguments, read_scrobble)


def _heard(settings: Settings, arguments: argparse.Namespace, read: Read) -> int:
    account, latest = Account(), datetime.now(UTC) + settings.future_tolerance
    with _shelf() as shelf:
        with output.progress("lines read") as advance:
            for found in _found(arguments.files, read, latest, account, advance):
                if not arguments.dry_run:
                    shelf.put(found)
        _report(account, "lines", arguments.json)
        if arguments.dry_run or not account.total(TAKEN):
            return 0 if account.total(TAKEN) else 1
        return _write(shelf, arguments.out) if arguments.out else _send(settings, shelf, arguments.json)


def _found(
    files: Iterable[Path], read: Read, latest: datetime, account: Account, advance: output.Advance
) -> Iterator[Heard]:
    """What was heard up to now; everything that was read is in the account."""
    for where, line in _named_lines(files, advance):
        try:
            found = read(line)
            if found is None:
                account.add("ignored", "playing_now", where, "it has not been listened to yet")
                continue
            if found.event_time > latest:
                raise BadRecord("future", f"{found.event_time} has not come yet")
        except BadRecord as cause:
            account.add("dead", cause.cause, where, str(cause))
        else:
            account.add(TAKEN)
            yield found


def _named_lines(files: Iterable[Path], advance: output.Advance) -> Iterator[tuple[str, bytes]]:
    for path in files:
        for number, line in read_lines(path):
            yield f"{path} line {number:,}", line
            if number % ADVANCE_EVERY == 0:
                advance(ADVANCE_EVERY)


@contextmanager
def _shelf() -> Iterator[Shelf]:
    try:
        with Shelf() as shelf:
            yield shelf
    except sqlite3.Error as cause:
        raise OutputError(f"what was read cannot be kept in a temporary file ({cause}): TMPDIR says where") from cause


def _send(settings: Settings, shelf: Shelf, as_json: bool) -> int:
    """The tracks first, so that no list lacks one."""
    from producers.sessions import send_sessions
    from producers.tracks import send_tracks

    stop = stop_on_signals()
    with output.progress("tracks sent") as advance:
        tracks = ((f"track {n:,}", track) for n, track in enumerate(shelf.tracks(), 1))
        sent = [send_tracks(tracks, settings.kafka, settings.topics.tracks, progress=advance)]
    with output.progress("events sent") as advance:
        events = takewhile(lambda _: not stop.is_set(), shelf.events())
        sent.append(send_sessions(events, settings.kafka, settings.topics.sessions, progress=advance))
    for one in sent:
        output.print_done(as_json, one, **asdict(one))
    if stop.is_set():
        print("hitparade: stopped by a signal before everything was sent", file=sys.stderr)
    return 0 if all(one.is_complete for one in sent) and not stop.is_set() else 1


def _write(shelf: Shelf, folder: Path) -> int:
    _write_lines(folder / "tracks.jsonl", shelf.tracks())
    _write_lines(folder / "sessions.jsonl", shelf.events())
    return 0


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
    except OSError as cause:
        raise OutputError(f"{path} cannot be written: {cause.strerror or cause}") from cause


def history(settings: Settings, arguments: argparse.Namespace) -> int:
    """Weeks of history; 1 where no row could be taken."""
    kept, account = wiring.history(settings), Account()
    with _shelf() as shelf:
        with output.progress("rows read") as advance:
            _read_history(settings, arguments, kept, shelf, account, advance)
        weeks = shelf.weeks()
        _report(account, "rows", arguments.json, weeks)
        if arguments.dry_run or not weeks:
            return 0 if weeks else 1
        with output.progress("weeks written", len(weeks)) as advance:
            for week in weeks:
                _write_week(kept, week, shelf, settings.slices, arguments.files)
                advance(1)
        if arguments.tracks:
            _write_lines(arguments.tracks, shelf.tracks())
    data_folder.send(settings)
    return 0


def _read_history(
    settings: Settings,
    arguments: argparse.Namespace,
    history: "History",
    shelf: Shelf,
    account: Account,
    advance: output.Advance,
) -> None:
    from producers.charted import Intake
    from producers.rows import read_rows

    kept = frozenset(() if arguments.replace else history.weeks())
    intake = Intake(shelf, settings.calendar, datetime.now(UTC), kept, settings.slices)
    for path in arguments.files:
        for number, row in read_rows(path, dict(arguments.column)):
            where = f"{path} line {number:,}"
            try:
                if intake.take(row):
                    account.add(TAKEN)
                else:
                    account.add("ignored", "nothing", where, "neither plays nor skips nor likes")
            except BadRecord as cause:
                account.add("dead", cause.cause, where, str(cause))
            if number % ADVANCE_EVERY == 0:
                advance(ADVANCE_EVERY)


def _write_week(history: "History", week: str, shelf: Shelf, n_slices: int, files: Iterable[Path]) -> None:
    from features.history import counts_of

    slices = (counts_of(shelf.counts(week, part)) for part in range(n_slices))
    history.write_week(week, slices, {"imported": ", ".join(path.name for path in files)})


def _report(account: Account, noun: str, as_json: bool, weeks: Iterable[str] | None = None) -> None:
    """What became of what was read, by cause."""
    totals = {outcome: account.total(outcome) for outcome in OUTCOMES}
    asides = [entry for entry in account.entries() if entry.outcome != TAKEN]
    named = {} if weeks is None else {"weeks": list(weeks)}
    if as_json:
        rows = [{"outcome": e.outcome, "cause": e.cause, "n": e.n, "examples": list(e.examples)} for e in asides]
        output.print_json([*rows, {"read": account.total(), **totals, **named}])
        return
    if asides:
        shown = [
            (*((entry.outcome, entry.cause, entry.n) if n == 0 else ("", "", "")), example)
            for entry in asides
            for n, example in enumerate(entry.examples)
        ]
        output.print_table("What is not taken, and why", ("outcome", "cause", f"#{noun}", "~the first of them"), shown)
    parts = ", ".join(f"{n:,} {outcome}" for outcome, n in totals.items())
    print(f"{account.total():,} {noun} read = {parts}.")
    if named and named["weeks"]:
        first, *_, last = (*named["weeks"], named["weeks"][-1])
        print(f"{len(named['weeks']):,} weeks, {first} to {last}")
