"""Small logs that hold whatever a log may hold, and what an independent recount says of them."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial

from features.duplicates import Origin
from features.rules import Rules
from tests.builders import MONDAY, WEEK, Record, array, millis, rules, wire
from tests.oracle import Bucket, recount

TOPIC = "sessions"
WEEKS_KEPT = 3
TOLERANCE = timedelta(minutes=10)
MOST_PARTITIONS = 4
MOST_RECORDS = 10
BAD: Sequence[bytes | None] = (
    None,
    b"",
    b"junk",
    b"[]",
    wire(event_type=None),
    wire(track_id=""),
    wire(timestamp="soon"),
)
Range = tuple[int, int]
Letter = tuple[str, str, int, int, bytes | None]


@dataclass(frozen=True, eq=False)
class Log:
    """One partition's records by offset; None is an offset without one: a marker, or compacted away."""

    records: tuple[Record | None, ...]
    hours: int
    """For how long the ids of events are remembered; 0: not at all."""
    exposures: bool
    """Whether who has seen a list is told of."""
    plays_cap: int
    """How many plays of one track by one user count in a week; 0: all."""


@dataclass(frozen=True)
class Truth:
    """What a partition must come to."""

    counts: Mapping[Bucket, tuple[int, ...]]
    outcomes: Mapping[str, int]
    touched: Mapping[str, int]
    stream_time: datetime | None
    letters: frozenset[Letter]
    listeners: Mapping[tuple[str, str], Set[str]]


@lru_cache(maxsize=20_000)
def truth(log: Log, end: int, began: int = 0, lost: tuple[Range, ...] = ()) -> Truth:
    """The recount of a log from an offset to another, without the ranges that were lost."""
    totals = recount(
        [r for r in log.records[began:end] if r and not any(start <= r.offset < stop for start, stop in lost)],
        WEEKS_KEPT,
        TOLERANCE,
        topic=TOPIC,
        duplicate_hours=log.hours,
        exposures=log.exposures,
        plays_cap=log.plays_cap,
    )
    counts = {bucket: tuple(found) for bucket, found in totals.counts.items()}
    outcomes = totals.outcomes + Counter(lost=sum(stop - start for start, stop in lost))
    letters = frozenset(totals.aside)
    return Truth(counts, outcomes, totals.touched, totals.stream_time, letters, totals.listeners)


def rules_of(number: int) -> Rules:
    """What the logs of this number are counted by."""
    return rules(
        weeks_kept=WEEKS_KEPT,
        future_tolerance=TOLERANCE,
        topic=TOPIC,
        duplicate_hours=_hours_of(number),
        exposures=_has_exposures(number),
        plays_cap=_cap_of(number),
        listeners=True,
    )


def _hours_of(number: int) -> int:
    return 24 * (number % 2)


def _has_exposures(number: int) -> bool:
    return number % 4 > 1


def _cap_of(number: int) -> int:
    return number % 3


@lru_cache(maxsize=64)
def known_logs(number: int, topic: int) -> tuple[Log, ...]:
    """The logs of a topic's partitions; the same number and another topic is what a topic created anew holds."""
    chance, hours = random.Random(f"log {number} {topic}"), _hours_of(number)
    told = _has_exposures(number), _cap_of(number)
    return tuple(Log(_records(chance, hours > 0), hours, *told) for _ in range(MOST_PARTITIONS))


def _records(chance: random.Random, has_ids: bool) -> tuple[Record | None, ...]:
    found: list[Record | None] = []
    weeks = 0.0
    for offset in range(chance.randint(0, MOST_RECORDS)):
        weeks += chance.choice((0, 0, 0.02, 0.3, 1, 1, 4))
        event = partial(_event, chance, weeks, has_ids)
        record = Record(offset, None, millis(MONDAY + weeks * WEEK))
        match chance.choice(("gap", "bad", "one", "one", "array", "array", "replay")):
            case "gap":
                found.append(None)
            case "bad":
                found.append(_with(record, chance.choice(BAD)))
            case "one":
                found.append(_with(record, event()))
            case "array":
                bad = chance.choice((b"junk", wire(user_id=None)))
                elements = [bad if chance.random() < 0.1 else event() for _ in range(chance.randint(2, 4))]
                found.append(_with(record, array(*elements)))
            case "replay":
                earlier = [r for r in found if r and r.headers]
                origin = tuple(Origin(0, chance.randint(0, 3), 0).headers(TOPIC))
                is_again = bool(earlier) and chance.random() < 0.5
                value, headers = (earlier[-1].value, earlier[-1].headers) if is_again else (event(), origin)
                found.append(_with(record, value, headers))
    return tuple(found)


def _with(record: Record, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Record:
    return Record(record.offset, value, record.timestamp, headers=headers)


def _event(chance: random.Random, weeks: float, has_ids: bool) -> bytes:
    weeks -= chance.choice((0, 0, 0, 0.01, 1, 2, 3, 5, -0.5))
    changes: dict[str, object] = {"event_id": chance.randint(1, 6)} if has_ids and chance.random() < 0.5 else {}
    when, kinds = (MONDAY + weeks * WEEK).isoformat(), ("play", "play", "skip", "like", "exposure")
    changes |= {"week": "2023-W24", "group": "" if round(100 * weeks) % 5 == 0 else "even"}
    return wire(
        timestamp=when,
        track_id=chance.choice("ab"),
        user_id=chance.choice(("u", "uu")),
        event_type=chance.choice(kinds),
        **changes,
    )
