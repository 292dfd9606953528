"""Counters held against their log, partition by partition: what is equal, what differs, and what cannot be known."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.beginning import Stopped
from consumers.kafka import end_offsets
from consumers.log import PartitionLog, log_starts
from consumers.recount import Counts, Recount
from consumers.sessions import check_experiments, fence_settings
from features.connect import StoreUnavailable
from features.events import Kind
from features.fence import Fence
from features.rules import Rules
from features.store import CounterStore
from producers.kafka import KafkaConfig

KINDS = [kind.name.lower() + "s" for kind in Kind]
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not what the log says."""

    week: str
    group: str
    track_id: str
    kind: str
    log: int
    redis: int


@dataclass(slots=True)
class PartitionAudit:
    """How one partition's counters stand to its log; the fence is the first one that was read."""

    partition: int
    log_start: int
    log_end: int
    fence: int | None
    is_compared: bool = False
    events: int = 0
    tallies: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Those that differ: what the log says, what Redis says."""
    tallies_are_proved: bool = True
    problems: list[str] = field(default_factory=list)
    differing: int = 0
    difference: int = 0
    unproved: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether all that the log can prove is as it says."""
        return not (self.problems or self.differing or (self.tallies and self.tallies_are_proved))

    def compare(self, week: str, groups: Sequence[str], log: Counts, redis: Counts) -> None:
        """Note the counters of one slice of a week that differ; each is of a group, a track and a kind."""
        names = [(group, kind) for group in groups for kind in KINDS]
        nought = [0] * len(names)
        for track_id in sorted(log.keys() | redis.keys()):
            ours, theirs = log.get(track_id, nought), redis.get(track_id, nought)
            if len(theirs) != len(names):
                self._tell(
                    f"Redis holds {len(theirs)} counts of track {track_id} in week {week}, expected {len(names)}"
                )
            elif track_id not in log and not any(theirs):
                self._tell(f"Redis holds track {track_id} in week {week}, with no count")
            else:
                for (group, kind), our, their in zip(names, ours, theirs, strict=True):
                    if our != their:
                        self._note(Difference(week, group, track_id, kind, our, their))

    def _tell(self, problem: str) -> None:
        """Of many problems, some are enough."""
        if len(self.problems) < MOST_SHOWN:
            self.problems.append(problem)

    def _note(self, one: Difference) -> None:
        if one.redis > one.log and not self.tallies_are_proved:
            self.unproved += 1
            return
        self.differing += 1
        self.difference += abs(one.redis - one.log)
        if len(self.differences) < MOST_SHOWN:
            self.differences.append(one)


@dataclass(frozen=True, slots=True)
class Subject:
    """What there is to audit of a partition: its fence, where its log begins and ends, buckets that no fence names."""

    partition: int
    topic_id: str
    fence: Fence | None
    log_start: int
    log_end: int
    strays: Sequence[str]

    @property
    def n_offsets(self) -> int:
        """How much of the log there is to read."""
        return max(0, self.fence.next_offset - self.log_start) if self.fence else 0


@dataclass(frozen=True, slots=True)
class Audit:
    """What it takes to audit a topic's counters; weeks are names, none of them means all."""

    kafka: KafkaConfig
    store: CounterStore
    rules: Rules
    weeks: Collection[str] = ()

    def survey(self, partitions: Sequence[int], topic_id: str) -> list[Subject]:
        """Look at every partition."""
        fences, topic = self.store.fences(partitions), self.store.topic
        ends = end_offsets(self.kafka, {topic: partitions})[topic]  # after the fences, so that none need be beyond it
        starts, strays = log_starts(self.kafka, topic, partitions), self._strays(partitions)
        return [Subject(p, topic_id, fences.get(p), starts[p], end, strays[p]) for p, end in sorted(ends.items())]

    def partition(self, subject: Subject, advance: Callable[[int], None] = lambda n: None) -> PartitionAudit:
        """Audit one partition, from its log's first record on; advance is told of offsets read.

        Raises:
            StoreUnavailable: Redis does not answer, or the counters were dropped or rebuilt meanwhile.
            LogCut: what was to be read of the log was deleted meanwhile.
        """
        fence, log_start, log_end = subject.fence, subject.log_start, subject.log_end
        found = PartitionAudit(subject.partition, log_start, log_end, fence.next_offset if fence else None)
        found.problems += subject.strays
        if fence is None:
            if log_end > log_start:
                found.problems.append(
                    "no fence in Redis: nothing of this log is counted; `hitparade consume sessions` does that"
                )
        elif problems := self._incomparable(found, fence, subject.topic_id):
            found.problems += problems
        else:
            self._compare(found, fence, advance)
        return found

    def _incomparable(self, found: PartitionAudit, fence: Fence, topic_id: str) -> list[str]:
        """Why the counters cannot be held against the log at all."""
        if fence.topic_id != topic_id:
            return [f"Redis counts topic id {fence.topic_id}, Kafka has {topic_id}: the topic was created anew"]
        problems = [
            f"counted with {name} {fence.settings.get(name)}, the settings have {ours}"
            for name, ours in fence_settings(self.rules, self.store.slices).items()
            if fence.settings.get(name) != ours
        ]
        if fence.next_offset > found.log_end:
            problems.append(f"the fence is at offset {fence.next_offset}, but the log ends at {found.log_end}")
        if fence.next_offset < found.log_start:
            n_lost = found.log_start - fence.next_offset
            problems.append(f"{n_lost:,} offsets from the fence on were deleted before they were counted")
        try:
            check_experiments(self.rules, fence)
        except Stopped as cause:
            problems.append(str(cause))
        return problems

    def _compare(self, found: PartitionAudit, fence: Fence, advance: Callable[[int], None]) -> None:
        recount = Recount(self.rules, found.log_start, self.store.slice_of, self.weeks)
        with PartitionLog(self.kafka, self.store.topic, found.partition, found.log_start) as log:

            def count_to(offset: int) -> None:
                for batch in log.read_to(offset):
                    recount.add(batch)
                    advance(batch.end - batch.start)

            count_to(fence.next_offset)
            self._compare_fence(found, recount, fence)
            # A slice is compared as of the instant at which it was read: however fast others count, nobody has to wait.
            for week in sorted(self._wanted(fence, recount)):
                groups = recount.groups.get(week) or fence.groups.get(week, ())
                for slice_ in range(self.store.slices):
                    now, stored = self.store.bucket_now(found.partition, week, slice_)
                    count_to(self._offset_of(now, fence, recount))
                    found.compare(week, groups, recount.bucket(week, slice_), stored)

    def _offset_of(self, now: Fence | None, before: Fence, recount: Recount) -> int:
        if now is None or now.identity != before.identity or now.next_offset < recount.next_offset:
            raise StoreUnavailable(
                f"counters of {self.store.topic} were dropped, rebuilt or restored during the audit: run it again"
            )
        return now.next_offset

    def _compare_fence(self, found: PartitionAudit, recount: Recount, fence: Fence) -> None:
        found.is_compared = True
        ours, theirs = recount.tallies, {name: n for name, n in fence.tallies.items() if name != "lost"}
        found.events = sum(n for name, n in ours.items() if ":" not in name)
        names = sorted(ours.keys() | theirs.keys())
        found.tallies = {n: (ours[n], theirs.get(n, 0)) for n in names if ours[n] != theirs.get(n, 0)}
        if sum(n for name, n in theirs.items() if ":" not in name) < found.events:
            found.problems.append(f"Redis has tallied fewer events than the {found.events:,} that the log still holds")
        # Where they are equal, nothing of what the log has lost was counted.
        found.tallies_are_proved = found.log_start == 0 or not found.tallies
        found.problems += [
            f"week {week} should have fallen out: {self.rules.weeks_kept} weeks are kept"
            for week in sorted(fence.touched)
            if self._has_fallen_out(week, fence)
        ]
        if found.tallies_are_proved and recount.stream_time != fence.stream_time:
            found.problems.append(f"stream time is {fence.stream_time}, the log says {recount.stream_time}")
        if found.tallies_are_proved:
            found.problems += [
                f"week {week}: last touched before offset {fence.touched[week]}, the log says {recount.touched[week]}"
                for week in sorted(fence.touched.keys() & recount.touched.keys())
                if fence.touched[week] != recount.touched[week] and self._is_chosen(week)
            ]
        found.problems += [
            f"week {week}: its groups are {', '.join(fence.groups.get(week, ['unknown']))}, "
            f"the log says {', '.join(recount.groups[week])}"
            for week in sorted(fence.touched.keys() & recount.touched.keys())
            if fence.groups.get(week) != recount.groups[week] and self._is_chosen(week)
        ]

    def _wanted(self, fence: Fence, recount: Recount) -> set[str]:
        """The chosen weeks that either side has, but not those that have fallen out."""
        weeks = fence.touched.keys() | recount.touched.keys()
        return {week for week in weeks if self._is_chosen(week) and not self._has_fallen_out(week, fence)}

    def _is_chosen(self, week: str) -> bool:
        return not self.weeks or week in self.weeks

    def _has_fallen_out(self, week: str, fence: Fence) -> bool:
        if fence.stream_time is None:
            return False
        return week < self.rules.calendar.week_of(fence.stream_time).span(self.rules.weeks_kept)[0].name

    def _strays(self, partitions: Sequence[int]) -> Mapping[int, list[str]]:
        """Buckets that no fence names: nobody reads them, until a fence names them again."""
        found: dict[int, set[str]] = defaultdict(set)
        for partition, name in self.store.bucket_keys():
            found[partition].add(name)
        named = {partition: self._named(fence) for partition, fence in self.store.fences(partitions).items()}
        return {
            partition: [
                f"key {self.store.key(partition, name)} is named by no fence"
                for name in sorted(found[partition] - named.get(partition, set()))
                if self.store.has(partition, name)  # else it has fallen out meanwhile
            ]
            for partition in partitions
        }

    def _named(self, fence: Fence) -> set[str]:
        slices = int(fence.settings.get("slices", self.store.slices))
        return {f"week:{week}:{slice_}" for week in fence.touched for slice_ in range(slices)}
