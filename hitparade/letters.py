"""The commands for what was not counted: look at it, and send it again."""

import argparse
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from heapq import nlargest
from itertools import takewhile
from typing import Any

from consumers.letters import Letter, LetterTopic
from features.duplicates import Origin
from features.mapping import unframed
from hitparade import output, wiring
from hitparade.errors import UsageError
from hitparade.settings import Settings
from hitparade.signals import stop_on_signals

SHOWN = 50
LONGEST_VALUE = 80
WHITESPACE = b" \t\r\n"


def dead_letters(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the newest letters and how many there are of each cause; as JSON, all of them."""
    topic = _topic(settings, arguments.topic)
    if arguments.json and not arguments.limit:
        output.print_json(_object(letter, topic.source_topic) for letter in _wanted(topic, arguments.cause))
        return 0
    with output.progress("letters read") as advance:
        found = _wanted(topic, arguments.cause, advance)
        letters = nlargest(arguments.limit or SHOWN, found, key=lambda letter: letter.set_aside_at)
    if arguments.json:
        output.print_json(_object(letter, topic.source_topic) for letter in letters)
        return 0
    if letters:
        columns = ("cause", "#partition", "#offset", "#index", "set aside at", "…key", "…value")
        output.print_table(f"The newest letters in {topic.name}", columns, map(_row, letters))
    totals = topic.totals()
    causes = {cause: n for cause, n in totals.items() if arguments.cause in (None, cause)}
    print(f"{sum(causes.values()):,} events in {topic.name}{_by_cause(Counter(causes))}")
    return 0


def replay(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send letters again to where they came from; 1 where one of them was not taken."""
    if arguments.topic == "tracks":
        raise UsageError(
            "a track is not sent again: its producer's next record of it counts. Expected sessions or late"
        )
    topic = _topic(settings, arguments.topic)
    if arguments.yes:
        return _send(settings, topic, arguments)
    with output.progress("letters read") as advance:
        letters = Replayable(_wanted(topic, arguments.cause, advance))
        causes = Counter(letter.cause for letter, _ in letters)
    would = (
        f"would send {causes.total():,} events of {topic.name} again to {topic.source_topic}{_by_cause(causes)}; "
        f"add --yes to do it{letters.left_out()}"
    )
    output.print_done(
        arguments.json,
        would,
        topic=topic.source_topic,
        would_send=causes.total(),
        causes=causes,
        **letters.left(),
    )
    return 0


def _send(settings: Settings, topic: LetterTopic, arguments: argparse.Namespace) -> int:
    from producers.kafka import Sender

    stop, to = stop_on_signals(), topic.source_topic
    with (
        output.progress("letters read") as advance,
        Sender(settings.kafka, to, "events", compression_type="gzip") as sender,
    ):
        letters = Replayable(takewhile(lambda _: not stop.is_set(), _wanted(topic, arguments.cause, advance)))
        for letter, origin in letters:
            partition = origin.partition if origin.partition < sender.n_partitions else None
            sender.send(letter.value, letter.key, partition, headers=origin.headers(to))
        sent = sender.finish()
    output.print_done(arguments.json, f"{sent}{letters.left_out()}", **asdict(sent), **letters.left())
    if stop.is_set():
        print("hitparade: stopped by a signal before everything was sent", file=sys.stderr)
    return 0 if sent.is_complete and not stop.is_set() else 1


class Replayable:
    """The letters that can be sent again, each event once, and how many cannot.

    An array is several events, and one place of origin could not tell them apart when they are set aside again.
    """

    def __init__(self, letters: Iterable[Letter]) -> None:
        self._letters = letters
        self._seen: set[bytes] = set()
        self._n_homeless = self._n_arrays = 0

    def __iter__(self) -> Iterator[tuple[Letter, Origin]]:
        for letter in self._letters:
            if letter.identity in self._seen:
                continue
            self._seen.add(letter.identity)
            if letter.origin is None:
                self._n_homeless += 1
            elif unframed(letter.value or b"")[1].lstrip(WHITESPACE).startswith(b"["):
                self._n_arrays += 1
            else:
                yield letter, letter.origin

    def left(self) -> dict[str, int]:
        """How many were not sent, by why not."""
        return {"arrays": self._n_arrays, "without_origin": self._n_homeless}

    def left_out(self) -> str:
        """A sentence for those that were not sent, if there are any."""
        parts = []
        if self._n_arrays:
            parts.append(f"{self._n_arrays:,} are arrays where one event was expected")
        if self._n_homeless:
            parts.append(f"{self._n_homeless:,} do not say where they came from")
        return f". Not sent: {', '.join(parts)}" if parts else ""


def _topic(settings: Settings, name: str) -> LetterTopic:
    topics = settings.topics
    letters, source = {
        "sessions": (topics.dead_sessions, topics.sessions),
        "late": (topics.late, topics.sessions),
        "tracks": (topics.dead_tracks, topics.tracks),
    }[name]
    return LetterTopic(settings.kafka, letters, wiring.partitions_of(settings, letters), source)


def _wanted(topic: LetterTopic, cause: str | None, advance: output.Advance = lambda n: None) -> Iterator[Letter]:
    for letter in topic.read():
        advance(1)
        if cause in (None, letter.cause):
            yield letter


def _by_cause(causes: Counter[str]) -> str:
    named = ", ".join(f"{n:,} {output.printable(cause)}" for cause, n in causes.most_common())
    return f" ({named})" if named else ""


def _row(letter: Letter) -> tuple[object, ...]:
    origin = letter.origin
    place = ("", "", "") if origin is None else (origin.partition, origin.offset, origin.index)
    at = letter.set_aside_at.isoformat(" ", "seconds").removesuffix("+00:00")
    return (letter.cause, *place, at, _beginning(letter.key), _beginning(letter.value))


def _beginning(text: bytes | None) -> str:
    if text is None:
        return "null"
    shown = text[: 4 * LONGEST_VALUE].decode(errors="replace")
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 1]}…"


def _object(letter: Letter, source_topic: str) -> dict[str, Any]:
    origin = letter.origin
    return {
        "cause": letter.cause,
        "topic": source_topic if origin else None,
        "partition": origin.partition if origin else None,
        "offset": origin.offset if origin else None,
        "index": origin.index if origin else None,
        "set_aside_at": letter.set_aside_at.isoformat(timespec="milliseconds"),
        **_whole("key", letter.key),
        **_whole("value", letter.value),
    }


def _whole(name: str, text: bytes | None) -> dict[str, str | None]:
    """All of it: as text, or in base64 under another name where it is not UTF-8."""
    try:
        return {name: None if text is None else text.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(text or b"").decode()}
