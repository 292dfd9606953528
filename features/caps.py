"""A cap on how often one user's plays of one track count in a week, purely.

What has been counted is remembered by week: a 16-byte digest of a user and a track, and how many plays of theirs have
counted. Only what was counted is remembered, so that a week never holds more plays of a pair than the cap.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from features.duplicates import DIGEST_BYTES
from features.events import BadRecord, Kind, RawEvent, parse
from features.plain import RUN_BYTES, plain_run
from features.records import LogRecord, Run, runs
from features.rules import CountedWeek, Rules

PLAY = "play"
Plays = Mapping[str, Mapping[bytes, int]]
"""How many plays have counted, by week and pair."""
NOTHING_PLAYED: Plays = MappingProxyType({})


@lru_cache(maxsize=1 << 16)  # each is wanted twice: to be looked up, and to be decided by
def pair_digest(user_id: str | int, track_id: str | int) -> bytes:
    """What is remembered of a user and a track; an integer is its decimal text.

    >>> pair_digest(7, "a") == pair_digest("7", "a")
    True
    >>> pair_digest("ab", "c") == pair_digest("a", "bc")
    False
    """
    user = str(user_id)
    return blake2b(f"{len(user)}:{user}{track_id}".encode(), digest_size=DIGEST_BYTES).digest()


def pairs_in(records: Sequence[LogRecord], rules: Rules) -> dict[str, set[bytes]]:
    """Every pair whose plays must be looked up before these records are decided, by week; too many do no harm."""
    found: dict[str, set[bytes]] = defaultdict(set)
    for run in runs(records, RUN_BYTES) if rules.plays_cap else ():
        for week, pairs in _plain_pairs(run, rules) or _odd_pairs(run, rules):
            found[week].update(pairs)
    return found


def _plain_pairs(records: Run, rules: Rules) -> list[tuple[str, list[bytes]]]:
    """The pairs of a plain run of few weeks, by week; nothing where it is none."""
    run = None if rules.mapping else plain_run(records, rules.event_zone, rules.exposures)
    if run is None or run.last - run.first > rules.weeks_kept * timedelta(weeks=1):
        return []
    try:
        weeks = [(week.name, run.within(week.start, week.end)) for week in rules.weeks_between(run.first, run.last)]
    except OverflowError:
        return []
    return [(week, _pairs(events)) for week, events in weeks]


def _pairs(events: Iterable[Any]) -> list[bytes]:
    return [pair_digest(event.user_id, event.track_id) for event in events if event.event_type == PLAY]


def _odd_pairs(records: Run, rules: Rules) -> Iterator[tuple[str, list[bytes]]]:
    for raw in (raw for record in records for raw in rules.decode(record.value)):
        try:
            event = parse(raw, rules.event_zone) if isinstance(raw, RawEvent) else None
            if event and event.kind is Kind.PLAY:
                yield rules.week_of(event.event_time).name, [pair_digest(event.user_id, event.track_id)]
        except (BadRecord, OverflowError):
            continue  # it does not count


class Cap:
    """What is known while a span is decided: how many plays have counted before, and what the span adds."""

    def __init__(self, most: int, known: Plays) -> None:
        self._most = most
        self._counts = {week: dict(counts) for week, counts in known.items()}
        self._changed: dict[str, dict[bytes, int]] = defaultdict(dict)

    @property
    def n_changed(self) -> int:
        """How many pairs have other counts than when what has changed was last taken."""
        return sum([len(pairs) for pairs in self._changed.values()])

    def lets(self, week: str, user_id: str, track_id: str) -> bool:
        """Whether one more play counts; it then has."""
        pair = pair_digest(user_id, track_id)
        counts = self._counts.setdefault(week, {})
        n = counts.get(pair, 0)
        if n < self._most:
            counts[pair] = self._changed[week][pair] = n + 1
        return n < self._most

    def let(self, week: CountedWeek, events: Sequence[Any]) -> Sequence[Any]:
        """Those of a week's plain events that count; they then have."""
        counts, changed = self._counts.setdefault(week.name, {}), self._changed[week.name]
        most, found = self._most, []
        for event in events:
            if event.event_type == PLAY:  # as lets(): a call an event costs as much again
                pair = pair_digest(event.user_id, event.track_id)
                n = counts.get(pair, 0)
                if n >= most:
                    continue
                counts[pair] = changed[pair] = n + 1
            found.append(event)
        return found

    def take(self, oldest_week: str) -> dict[str, dict[bytes, int]]:
        """How many plays have counted of what has changed since the last time, in the weeks that are kept."""
        changed = {week: pairs for week, pairs in self._changed.items() if pairs and week >= oldest_week}
        self._changed = defaultdict(dict)
        return changed
