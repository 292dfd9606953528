"""Counting, purely: the records of one span in, what to add and what to set aside out."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from features.caps import NOTHING_PLAYED, Plays
from features.counting import Counting, Witness
from features.duplicates import NOTHING_KNOWN, KnownIds
from features.parts import Part
from features.plain import RUN_BYTES
from features.records import LogRecord, runs
from features.rules import Rules

MOST_TRACKS = 25_000  # in one atomic step: 40 ms of Redis' time
LEAST_EVENT_BYTES = 64  # of one that is counted


def tally(
    records: Sequence[LogRecord],
    start: int,
    end: int,
    stream_time: datetime | None,
    rules: Rules,
    most_tracks: int = MOST_TRACKS,
    known: KnownIds | None = NOTHING_KNOWN,
    witness: Witness | None = None,
    played: Plays = NOTHING_PLAYED,
    going_on: Part | None = None,
) -> Iterator[Part]:
    """Count a span in parts of about most_tracks tracks, ids and events set aside, cut between records, up to `end`.

    known are those of ids_in(records) that are remembered at `start`, by set; None where has_ids(records) is false.
    played is how many plays of each of pairs_in(records) have counted by `start`. The first part is going_on with what
    comes now, where there is one: a part that has only counts, ends at `start`, and has not been applied.
    """
    counting = Counting(rules, start, stream_time, known, witness, played, going_on)
    for run in runs(records, min(RUN_BYTES, LEAST_EVENT_BYTES * most_tracks)):
        counting.add_run(run)
        if counting.size() >= most_tracks and (next_offset := run.offset_after(-1)) < end:
            yield counting.part(next_offset)
    yield counting.part(end)
