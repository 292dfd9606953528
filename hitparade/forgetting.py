"""The command `forget`: a listener is in no file that is kept, nor comes into one again."""

import argparse
from datetime import UTC, datetime
from itertools import product

from features.caps import pair_digest
from hitparade import data_folder, output, wiring
from hitparade.settings import Settings
from models.forgotten import cleanse, note, weeks_with


def forget(settings: Settings, arguments: argparse.Namespace) -> int:
    """Erase a listener from what is kept, or only say where they are."""
    data_folder.ready(settings)  # with what other machines have sent
    folder, forgotten, user = data_folder.usage(settings), data_folder.forgotten(settings), arguments.user
    # No event that is in the log by now is of a later week: one would be dead, as of the future.
    until = settings.calendar.week_of(datetime.now(UTC) + settings.future_tolerance).name
    if arguments.dry_run:
        weeks = weeks_with(folder, user)
    else:
        note(forgotten, user, until)  # first: from here on every command that opens the folder finishes the work
        weeks = cleanse(folder, forgotten)
        data_folder.send(settings)
    n_pairs = 0 if arguments.dry_run or not settings.plays_cap else _forget_plays(settings, user)
    answer = {"user_id": user, "weeks": weeks, "until": until, "pairs": n_pairs, "is_forgotten": not arguments.dry_run}
    if arguments.json:
        output.print_json([answer])
        return 0
    of = f"of {', '.join(weeks)}" if weeks else "(they were in none)"
    if arguments.dry_run:
        print(f"user {user} would be erased from the files {of}")
        return 0
    print(
        f"user {user} is erased from the files {of}. Files of weeks up to {until} are made without them from now on.\n"
        f"Their events stay in {settings.topics.sessions} until its retention ends, and in the topics of late and dead "
        "events: docs/experiments.md says what is kept about whom."
    )
    return 0


def _forget_plays(settings: Settings, user: str) -> int:
    """Take from Redis how many plays of the listener have counted, of each track; return of how many it was known.

    Whoever plays on is then counted up to the cap once more.
    """
    reader = wiring.counter_reader(settings)
    store, standing, n_pairs = reader.store, reader.standing(), 0
    for partition, week, slice_ in product(standing.fences, standing.kept(), range(store.slices)):
        tracks = store.bucket(partition, week.name, slice_)
        n_pairs += store.forget_plays(partition, week.name, [pair_digest(user, track) for track in tracks])
    return n_pairs
