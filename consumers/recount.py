"""One partition counted in memory, as its counters in Redis are: what features/apply.lua does, in Python."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Set
from datetime import datetime

from consumers.source import Batch
from features.duplicates import REPLAYED, ids_in
from features.tally import Part, Rules, tally

BucketName = tuple[str, str]
"""week, group"""
Counts = Mapping[str, tuple[int, int, int]]
"""Plays, skips and likes by track id"""


class Recount:
    """What a log comes to from an offset on; counts are kept of the weeks named, or of all where none is."""

    def __init__(self, rules: Rules, start: int, slice_of: Callable[[str], int], weeks: Collection[str] = ()) -> None:
        self.next_offset = start
        self.stream_time: datetime | None = None
        self.tallies: Counter[str] = Counter()
        self.touched: dict[BucketName, int] = {}
        self._rules = rules
        self._slice_of = slice_of
        self._weeks = weeks
        self._buckets: dict[BucketName, dict[int, dict[str, list[int]]]] = {}
        self._ids: dict[str, set[bytes]] = defaultdict(set)

    def add(self, batch: Batch) -> None:
        """Count a span that begins where the last one ended."""
        if batch.start != self.next_offset:
            raise ValueError(f"expected a span from {self.next_offset} on, found one from {batch.start} on")
        known = self._known(ids_in(batch.records, self._rules.topic, self._rules.duplicate_hours))
        for part in tally(batch.records, batch.start, batch.end, self.stream_time, self._rules, known=known):
            self._apply(part)

    def _known(self, wanted: Mapping[str, Set[bytes]]) -> dict[str, set[bytes]]:
        return {
            name: remembered.intersection(ids)
            for family, ids in wanted.items()
            for name, remembered in self._ids.items()
            if name.startswith(f"{family}:")
        }

    def _apply(self, part: Part) -> None:
        self.next_offset, self.stream_time = part.end, part.stream_time
        self.tallies += part.tallies
        for bucket in part.buckets:
            name = bucket.week, bucket.group
            self.touched[name] = bucket.touched
            if not self._weeks or bucket.week in self._weeks:
                self._add(name, bucket.counts)
        for set_, ids in part.ids.items():
            self._ids[set_].update(ids)
        if part.horizon:
            self._forget_weeks(part.horizon)
        if part.horizon or part.kept:
            self._forget_ids(part)

    def _add(self, name: BucketName, deltas: Mapping[str, list[int]]) -> None:
        slices = self._buckets.setdefault(name, defaultdict(dict))
        for track_id, (plays, skips, likes) in deltas.items():
            counts = slices[self._slice_of(track_id)].setdefault(track_id, [0, 0, 0])
            counts[0] += plays
            counts[1] += skips
            counts[2] += likes

    def _forget_weeks(self, horizon: str) -> None:
        for name in [name for name in self.touched if name[0] < horizon]:
            del self.touched[name]
            self._buckets.pop(name, None)

    def _forget_ids(self, part: Part) -> None:
        for name in list(self._ids):
            family, _, rest = name.partition(":")
            is_old = rest < part.horizon if family == REPLAYED else name not in part.kept
            if is_old and (family == REPLAYED or re.fullmatch("[0-9]+h", family)):
                del self._ids[name]

    def bucket(self, name: BucketName, slice_: int) -> Counts:
        """The counts of one slice of a bucket."""
        slices = self._buckets.get(name, {})
        return {track_id: (c[0], c[1], c[2]) for track_id, c in slices.get(slice_, {}).items()}
