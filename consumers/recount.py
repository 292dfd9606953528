"""One partition counted in memory, as its counters in Redis are: what features/apply.lua does, in Python."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime

from consumers.source import Batch
from features.caps import pairs_in
from features.counting import Witness
from features.duplicates import REPLAYED, ids_in
from features.packing import packed, unpacked
from features.parts import N_KINDS, Bucket, Part
from features.rules import Rules
from features.tally import tally

Counts = Mapping[str, Sequence[int]]
"""Plays, skips and likes of every group by track id"""


class Recount:
    """What a log comes to from an offset on; counts are kept of the weeks named, or of all where none is."""

    def __init__(
        self,
        rules: Rules,
        start: int,
        slice_of: Callable[[str], int],
        weeks: Collection[str] = (),
        witness: Witness | None = None,
    ) -> None:
        self.next_offset = start
        self.stream_time: datetime | None = None
        self.tallies: Counter[str] = Counter()
        self.touched: dict[str, int] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self._rules = rules
        self._slice_of = slice_of
        self._weeks = weeks
        self._witness = witness
        self._buckets: dict[str, dict[int, dict[str, int]]] = {}
        self._ids: dict[str, set[bytes]] = defaultdict(set)
        self._plays: dict[str, dict[bytes, int]] = defaultdict(dict)

    def add(self, batch: Batch) -> None:
        """Count a span that begins where the last one ended."""
        if batch.start != self.next_offset:
            raise ValueError(f"expected a span from {self.next_offset} on, found one from {batch.start} on")
        rules, witness = self._rules, self._witness
        known = self._known(ids_in(batch.records, rules.topic, rules.duplicate_hours, rules.decode))
        played = self._played(pairs_in(batch.records, rules))
        for part in tally(
            batch.records, batch.start, batch.end, self.stream_time, rules, known=known, witness=witness, played=played
        ):
            self._apply(part)

    def _known(self, wanted: Mapping[str, Set[bytes]]) -> dict[str, set[bytes]]:
        return {
            name: remembered.intersection(ids)
            for family, ids in wanted.items()
            for name, remembered in self._ids.items()
            if name.startswith(f"{family}:")
        }

    def _played(self, wanted: Mapping[str, Set[bytes]]) -> dict[str, dict[bytes, int]]:
        return {
            week: {pair: self._plays[week][pair] for pair in pairs if pair in self._plays[week]}
            for week, pairs in wanted.items()
        }

    def _apply(self, part: Part) -> None:
        self.next_offset, self.stream_time = part.end, part.stream_time
        self.tallies += part.tallies
        for bucket in part.buckets:
            self.touched[bucket.week] = bucket.touched
            self.groups[bucket.week] = bucket.groups
            if not self._weeks or bucket.week in self._weeks:
                self._add(bucket)
        for set_, ids in part.ids.items():
            self._ids[set_].update(ids)
        for week, pairs in part.plays.items():
            self._plays[week].update(pairs)
        if part.horizon:
            self._forget_weeks(part.horizon)
        if part.horizon or part.kept:
            self._forget_ids(part)

    def _add(self, bucket: Bucket) -> None:
        slices = self._buckets.setdefault(bucket.week, defaultdict(dict))
        for track_id, number in bucket.counts.items():
            slice_ = slices[self._slice_of(track_id)]
            slice_[track_id] = slice_.get(track_id, 0) + number

    def _forget_weeks(self, horizon: str) -> None:
        for week in [week for week in self.touched if week < horizon]:
            del self.touched[week], self.groups[week]
            self._buckets.pop(week, None)
        self._plays = defaultdict(dict, {week: pairs for week, pairs in self._plays.items() if week >= horizon})

    def _forget_ids(self, part: Part) -> None:
        for name in list(self._ids):
            family, _, rest = name.partition(":")
            is_old = rest < part.horizon if family == REPLAYED else name not in part.kept
            if is_old and (family == REPLAYED or re.fullmatch("[0-9]+h", family)):
                del self._ids[name]

    def bucket(self, week: str, slice_: int) -> Counts:
        """The counts of one slice of a week."""
        numbers = self._buckets.get(week, {}).get(slice_, {})
        n_counts = N_KINDS * len(self.groups.get(week, ()))
        return {track_id: unpacked(counts) for track_id, counts in packed(numbers, n_counts).items()}
