"""Counting a session topic's log again, beside the counters that serve, and switching over once it has caught up.

The new counters are shadow keys of the same partition. Until the switch nobody reads them; then one atomic step puts
them in the place of the old ones. Every consumer that runs is refused its next part, and reads the fence again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.beginning import Stopped
from consumers.edges import Sink
from consumers.kafka import TopicWatch, end_offsets
from consumers.log import PartitionLog, log_starts
from consumers.sessions import check_experiments, deciding, fence_settings
from consumers.source import Batch
from features.connect import StoreUnavailable
from features.fence import Fence
from features.parts import Part
from features.rules import Rules
from features.store import CounterStore, Fenced, TopicChanged
from producers.kafka import KafkaConfig

LONGEST_CHASE_S = 60.0


class RebuildRefused(Exception):
    """Counting again would lose what the log does not hold any more; or it was interfered with. Nothing has changed."""


@dataclass(slots=True)
class Rebuild:
    """What it takes to count a topic's log again under `rules`."""

    kafka: KafkaConfig
    store: CounterStore
    letters: Sink
    rules: Rules
    watch: TopicWatch
    accept_loss: bool = False
    tell: Callable[[str], None] = lambda text: None
    advance: Callable[[int], None] = lambda n: None
    shadow: CounterStore = field(init=False)
    starts: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shadow = self.store.shadow()

    def begin(self) -> int:
        """Make sure that every partition can be counted again; return how many offsets there are to count.

        Raises:
            RebuildRefused: naming the partitions and what would be lost.
        """
        topic, facts = self.store.topic, self.watch.facts(self.store.topic)
        fences = self.store.fences(facts.partitions)
        self.starts = log_starts(self.kafka, topic, facts.partitions)
        self.ends = end_offsets(self.kafka, {topic: facts.partitions})[topic]
        beyond = [
            f"partition {p}: the fence is at offset {fence.next_offset}, but the log ends at {self.ends[p]}: the log "
            f"was cut, or Redis is of another cluster; `hitparade drop {topic}` gives its counters up"
            for p, fence in fences.items()
            if fence.topic_id == facts.topic_id and fence.next_offset > self.ends[p]
        ]
        losses = [] if self.accept_loss else self._losses(fences, facts.topic_id)
        if beyond or losses:
            raise RebuildRefused("nothing was rebuilt:\n" + "\n".join(beyond + losses))
        return sum(max(0, self.ends[p] - self._begin_partition(p)) for p in facts.partitions)

    def _losses(self, fences: Mapping[int, Fence], topic_id: str) -> list[str]:
        losses = []
        for partition, log_start in self.starts.items():
            fence = fences.get(partition)
            counted = fence.tallies.get("counted", 0) if fence else 0
            if fence and fence.topic_id != topic_id and counted:
                losses.append(
                    f"partition {partition}: Redis counts topic id {fence.topic_id}, Kafka has {topic_id}: the topic "
                    f"was created anew, and the {counted:,} events counted of the old one cannot be counted again"
                )
            elif log_start > 0 and not self._continues(self.shadow.fence(partition), log_start):
                losses.append(
                    f"partition {partition}: the log begins at offset {log_start}, so that what was counted of the "
                    f"{log_start:,} offsets before it cannot be counted again"
                )
        return [*losses, "--accept-loss goes on without them"] if losses else []

    def _begin_partition(self, partition: int) -> int:
        """Go on from what an interrupted rebuild has counted, where that is possible, else begin anew; the offset."""
        fence = self.shadow.fence(partition)
        if fence and self._continues(fence, self.starts[partition]):
            if fence.next_offset > self.starts[partition]:
                self.tell(
                    f"partition {partition}: going on at offset {fence.next_offset:,}, as far as a rebuild had come"
                )
            return fence.next_offset
        self._begin_anew(partition)
        return self.starts[partition]

    def _begin_anew(self, partition: int) -> None:
        log_start = self.starts[partition]
        self.shadow.discard(partition)
        self.shadow.init(partition, 0, self._topic_id(), self._settings())
        if log_start > 0:
            self.shadow.apply(partition, self._topic_id(), Part(0, log_start, None, tallies=Counter(lost=log_start)))

    def _continues(self, fence: Fence | None, log_start: int) -> bool:
        """Whether an interrupted rebuild has counted under the same rules, and the log holds what comes next."""
        if fence is None or fence.topic_id != self._topic_id() or fence.settings != self._settings():
            return False
        try:
            check_experiments(self.rules, fence)
        except Stopped:
            return False
        return fence.next_offset >= log_start

    def _settings(self) -> dict[str, str]:
        rules = self.rules
        others = [rules.weeks_kept, rules.event_zone, rules.future_tolerance.total_seconds(), rules.duplicate_hours]
        others += ["exposures"] if rules.exposures else []
        others += [rules.mapping.fingerprint] if rules.mapping else []
        return {**fence_settings(rules, self.store.slices), "rules": " ".join(map(str, others))}

    def run(self, count: Callable[[Sequence[int]], Iterable[Sequence[str]]] | None = None) -> None:
        """Count every partition up to where its counters stand, then switch them all.

        Args:
            count: counts these partitions elsewhere, and gives what each has to tell.

        Raises:
            RebuildRefused: somebody else rebuilds the topic, or it was created anew meanwhile.
        """
        partitions = self.watch.facts(self.store.topic).partitions
        try:
            for partition in partitions if count is None else ():
                self.count(partition)
            for sentences in count(partitions) if count else ():
                for sentence in sentences:
                    self.tell(sentence)
            for partition in partitions:
                self._switch(partition)
        except Fenced as cause:
            raise RebuildRefused(
                f"{cause}. Another rebuild is at work, or Redis was restored: what both have counted so far is right, "
                "and the next rebuild goes on from there"
            ) from cause
        except TopicChanged as cause:
            raise RebuildRefused(f"{cause}. The topic was created anew meanwhile: run it again") from cause

    def count(self, partition: int) -> None:
        """Count up to where the counters stand, or to the log's end where there are none.

        Consumers have sent the letters of what was counted before, provided that it was set aside just so.
        """
        live = self._live(partition)
        end = live.next_offset if live else self.ends[partition]
        self._count_to(partition, end, sends=live is None)
        if live and _set_aside(self._shadow_fence(partition)) != _set_aside(live):
            self.tell(
                f"partition {partition}: other events are late or dead than before; counting once more, with letters"
            )
            self._begin_anew(partition)
            self._count_to(partition, end, sends=True)

    def _count_to(self, partition: int, end: int, sends: bool) -> None:
        with self._log(partition) as log:
            for batch in log.read_to(end):
                self._add(batch, sends)

    def _switch(self, partition: int) -> None:
        """Overtake the counters, and take their place; whoever counts on meanwhile is overtaken again."""
        deadline = time.monotonic() + LONGEST_CHASE_S
        with self._log(partition) as log:
            while not self.store.switch(partition, self._topic_id()):
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"{self.store.topic} partition {partition} is counted as fast as it is rebuilt: "
                        "run it again when there is less to count"
                    )
                if batch := log.poll():
                    self._add(batch, sends=True)  # a consumer that is behind has not sent them yet
        self.tell(f"partition {partition}: switched over at offset {log.next_offset:,}")

    def _add(self, batch: Batch, sends: bool) -> None:
        stream_time = self._shadow_fence(batch.partition).stream_time
        for part in deciding(self.shadow, self.rules)(batch, stream_time):
            if sends:
                self.letters.send(batch.partition, part.set_aside)
            self.shadow.apply(batch.partition, self._topic_id(), part)
        self.advance(batch.end - batch.start)

    def _log(self, partition: int) -> PartitionLog:
        return PartitionLog(self.kafka, self.store.topic, partition, self._shadow_fence(partition).next_offset)

    def _shadow_fence(self, partition: int) -> Fence:
        fence = self.shadow.fence(partition)
        if fence is None:
            raise Fenced(f"{self.store.topic} partition {partition}: what was rebuilt is gone")
        return fence

    def _live(self, partition: int) -> Fence | None:
        """Where the counters stand; None where there are none of this topic, for which nobody has sent letters then."""
        fence = self.store.fence(partition)
        return fence if fence and fence.topic_id == self._topic_id() else None

    def _topic_id(self) -> str:
        return self.watch.facts(self.store.topic).topic_id


def _set_aside(fence: Fence) -> dict[str, int]:
    return {name: n for name, n in fence.tallies.items() if name.split(":")[0] in ("late", "dead")}


def discard(store: CounterStore, partitions: Sequence[int]) -> int:
    """Remove what interrupted rebuilds have left; return of how many partitions."""
    return sum(store.shadow().discard(partition) for partition in partitions)
