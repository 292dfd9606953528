"""The counters in memory: what features/store.py and its scripts do in Redis, in plain Python."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from features.caps import Plays
from features.duplicates import REPLAYED
from features.fence import Fence
from features.parts import Part
from features.store import Fenced, TopicChanged
from tests.oracle import Bucket
from tests.simulation.logs import Range
from tests.stored import by_group

Ids = Mapping[str, frozenset[bytes]]
Listeners = Mapping[tuple[str, str], frozenset[str]]


@dataclass(frozen=True)
class Counted:
    """One partition at one instant; what is changed is a new value, so that a copy of a whole store costs nothing.

    began and lost are not in Redis: the offset of its first fence, and the ranges that it was told are lost.
    """

    fence: Fence
    counts: Mapping[Bucket, tuple[int, ...]] = field(default_factory=dict)
    ids: Ids = field(default_factory=dict)
    plays: Plays = field(default_factory=dict)
    listeners: Listeners = field(default_factory=dict)
    began: int = 0
    lost: tuple[Range, ...] = ()


class MemoryStore:
    """The partitions of one topic, with the methods of a CounterStore that the loop uses."""

    def __init__(self, topic: str, slices: int = 1) -> None:
        self.topic = topic
        self.slices = slices
        self.partitions: dict[int, Counted] = {}

    def fence(self, partition: int) -> Fence | None:
        counted = self.partitions.get(partition)
        return counted.fence if counted else None

    def fences(self, partitions: Sequence[int]) -> dict[int, Fence]:
        return {partition: self.partitions[partition].fence for partition in partitions if partition in self.partitions}

    def init(self, partition: int, next_offset: int, topic_id: str, settings: Mapping[str, str]) -> Fence:
        if partition not in self.partitions:
            fence = Fence(next_offset, topic_id, None, dict(settings), {}, {}, {}, {})
            self.partitions[partition] = Counted(fence, began=next_offset)
        return self.partitions[partition].fence

    def apply(self, partition: int, topic_id: str, part: Part) -> None:
        counted = self.partitions.get(partition)
        if counted is None:
            raise Fenced(f"partition {partition}: expected the fence at offset {part.start}, found NOFENCE")
        self.refuse(counted.fence, topic_id, part)
        self.partitions[partition] = _added(counted, part)

    def refuse(self, fence: Fence, topic_id: str, part: Part) -> None:
        """Raise what is wrong, if anything is."""
        if fence.identity != topic_id and fence.topic_id == topic_id.partition("#")[0]:
            raise Fenced(f"it was rebuilt, and is counted as {fence.identity}, not {topic_id}")
        if fence.identity != topic_id:
            raise TopicChanged(f"Redis counts topic id {fence.identity}, Kafka has {topic_id}")
        if fence.next_offset != part.start:
            raise Fenced(f"expected the fence at offset {part.start}, found {fence.next_offset}")
        if not self.is_of(fence, part):
            raise Fenced(f"expected stream time {part.since}, found {fence.stream_time}")

    @staticmethod
    def is_of(fence: Fence, part: Part) -> bool:
        """Whether the part was decided from the history that the fence has."""
        return fence.stream_time == part.since

    def known_ids(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> dict[str, set[bytes]]:
        fence = self.fence(partition)
        if any(wanted.values()) and (fence is None or fence.next_offset != start):
            raise Fenced(f"expected the fence at offset {start}, found {fence and fence.next_offset}")
        return {
            name: set(ids & wanted[family])
            for name, ids in (self.partitions[partition].ids.items() if fence else ())
            if wanted.get(family := name.split(":")[0])
        }

    def played(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> dict[str, dict[bytes, int]]:
        counted = self.partitions.get(partition)
        if any(wanted.values()) and (counted is None or counted.fence.next_offset != start):
            raise Fenced(f"expected the fence at offset {start}, found {counted and counted.fence.next_offset}")
        plays = counted.plays if counted else {}
        return {
            week: {p: plays[week][p] for p in pairs if p in plays.get(week, {})}
            for week, pairs in wanted.items()
            if pairs
        }


def _added(counted: Counted, part: Part) -> Counted:
    fence, counts = counted.fence, dict(counted.counts)
    touched, experiments, groups = dict(fence.touched), dict(fence.experiments), dict(fence.groups)
    for bucket in part.buckets:
        touched[bucket.week] = bucket.touched
        experiments[bucket.week] = bucket.fingerprint
        groups[bucket.week] = bucket.groups
        for name, deltas in by_group(bucket):
            old = counts.get(name, (0, 0, 0))
            counts[name] = (old[0] + deltas[0], old[1] + deltas[1], old[2] + deltas[2])
    if part.horizon:
        counts = {name: found for name, found in counts.items() if name[0] >= part.horizon}
        touched = {week: offset for week, offset in touched.items() if week >= part.horizon}
        experiments = {week: fingerprint for week, fingerprint in experiments.items() if week >= part.horizon}
        groups = {week: names for week, names in groups.items() if week >= part.horizon}
    fence = replace(
        fence,
        next_offset=part.end,
        stream_time=part.stream_time or fence.stream_time,
        tallies=Counter(fence.tallies) + part.tallies,
        touched=touched,
        experiments=experiments,
        groups=groups,
    )
    lost = ((part.start, part.end),) if part.tallies["lost"] else ()
    remembered = _remembered(counted.ids, part), _played(counted.plays, part), _heard(counted.listeners, part)
    return Counted(fence, counts, *remembered, counted.began, counted.lost + lost)


def _played(plays: Plays, part: Part) -> Plays:
    if not part.plays and not part.horizon:
        return plays
    weeks = [week for week in plays.keys() | part.plays.keys() if week >= part.horizon]
    return {week: {**plays.get(week, {}), **part.plays.get(week, {})} for week in weeks}


def _heard(listeners: Listeners, part: Part) -> Listeners:
    found = dict(listeners)
    for bucket in part.buckets:
        for track_id, users in bucket.listeners.items():
            name = bucket.week, track_id
            found[name] = found.get(name, frozenset()) | users
    return {name: users for name, users in found.items() if name[0] >= part.horizon}


def _remembered(ids: Ids, part: Part) -> Ids:
    if not part.ids and not part.horizon and not part.kept:
        return ids
    remembered = {**ids, **{name: ids.get(name, frozenset()).union(more) for name, more in part.ids.items()}}
    if not part.horizon and not part.kept:
        return remembered
    return {name: found for name, found in remembered.items() if not _is_old(name, part)}


def _is_old(name: str, part: Part) -> bool:
    family, _, rest = name.partition(":")
    if family == REPLAYED:
        return rest < part.horizon
    return name not in part.kept and re.fullmatch("[0-9]+h", family) is not None
