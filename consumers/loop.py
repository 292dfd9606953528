"""The loop of the counting consumers: poll, decide, set aside, apply, commit. It reads as the guarantee.

Redis holds the counters and the offset, and both move in one step. Whatever dies or times out, the fence tells where
to go on.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from consumers.beginning import Beginning, Stopped, beyond_end, way_out
from consumers.client import OutOfRange
from consumers.edges import Decide, Sink
from consumers.health import Health
from consumers.kafka import end_offsets, place
from consumers.rests import Rests, longer
from consumers.source import Batch, Source
from consumers.troubles import PASSING, REFUSED
from consumers.watchdog import Watchdog
from consumers.writer import MOST_APPLYING, Writer
from features.connect import StoreUnavailable
from features.fence import Fence, counted_as
from features.parts import Part
from features.store import CounterStore, Fenced, TopicChanged

log = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.5
JOIN_POLL_S = 0.2  # partitions that a poll brings begin only after it; still shorter ones starve the join
LOOK_EVERY_S = 5.0
BEYOND_END_S = 30.0  # a new leader of a partition may not know for a while how far it was committed


@dataclass(slots=True)
class Consumer:
    """One process' share of a topic, counted into Redis.

    beginning says where a partition is counted from.
    """

    source: Source
    store: CounterStore
    letters: Sink
    decide: Decide
    beginning: Beginning
    stopped: dict[int, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    timing: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around the work on one batch."""
    health: Health = field(init=False)
    writer: Writer = field(init=False)
    n_stalls: int = 0
    """How often the watchdog has found a partition that stood still while its log went on."""
    n_fenced: int = 0
    """How often Redis has stood elsewhere than this consumer thought."""
    errors: Counter[str] = field(default_factory=Counter)
    """How often `redis` and `kafka` have failed it."""
    _watchdog: Watchdog = field(default_factory=Watchdog)
    _looked: float | None = None  # None: everything must be asked after before all is well
    _failing: set[int] = field(default_factory=set)
    _resting: Rests = field(default_factory=Rests)
    _beyond_end: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.health = Health(self.clock(), {"topic": self.source.topic})
        self.writer = Writer(self.source, self.store, self._guarded, self._failing.discard)

    def run(self, stop: threading.Event, until_idle: bool = False) -> int:
        """Consume until told to stop, or until everything has been read; return the exit code."""
        pause_s = 0.0
        idle_since = time.monotonic()
        try:
            while not stop.is_set():
                try:
                    if self.step():
                        idle_since = time.monotonic()
                    if not self._failing:
                        pause_s = 0.0
                    if until_idle and time.monotonic() > idle_since + POLL_TIMEOUT_S and self.has_read_everything():
                        break
                except PASSING as cause:
                    if isinstance(cause, REFUSED) and not self.writer.fences:  # at its start: who counts waits
                        raise
                    self._stumbled(cause)
                    if not isinstance(cause, StoreUnavailable):  # its partition rests; those of another node go on
                        pause_s = longer(pause_s)
                        stop.wait(pause_s * random.uniform(0.5, 1.0))
        finally:
            self.health.ended(self.clock())
            self.writer.release()
            self.source.close()
            self.letters.close()
        return 1 if self.stopped else 0

    def _stumbled(self, cause: Exception) -> None:
        self._looked = None
        self._watchdog.forget()
        self.errors["redis" if isinstance(cause, StoreUnavailable) else "kafka"] += 1
        self.health.failed(str(cause), self.clock())
        self.source.rewind()

    def step(self) -> bool:
        """Poll once and apply what came; True if anything did."""
        self.health.turned(self.clock())
        failure = self._begin_waiting()
        batches = self._poll()
        for batch in batches:
            with self.timing():
                self._guarded(batch.partition, partial(self.drain, batch))
                self.writer.make_room()
        if batches:
            self.health.progressed(self.clock())
        else:
            self.writer.release()
        failure, self.writer.failure = failure or self.writer.failure, None
        if failure:
            raise failure
        self._look()
        self._tell()
        return bool(batches)

    def _begin_waiting(self) -> Exception | None:
        """Begin what waits, up to the first failure, which is then the last in the line.

        Nobody is kept from polling by it: the partition may be another consumer's by now, or be gone.
        """
        for partition in list(self.source.waiting):
            try:
                if self._resting.is_over(partition, self.clock()):
                    self._guarded(partition, partial(self.begin, partition))
            except PASSING as cause:
                self.source.wait(partition)
                return cause
        return None

    def _poll(self) -> Sequence[Batch]:
        try:
            return self.source.poll(POLL_TIMEOUT_S if self.source.positions else JOIN_POLL_S)
        except OutOfRange as cause:
            self.source.rewind()  # what came of the other partitions has not been applied
            for partition in cause.partitions:
                self._guarded(partition, partial(self._refuse_beyond_end, partition))
            return ()

    def _look(self) -> None:
        """Ask after what no poll tells: an outage of Kafka, another fence in Redis, a partition that gives nothing."""
        now = self.clock()
        self._watchdog.note(self.source.positions, now)
        self._beyond_end = {p: since for p, since in self._beyond_end.items() if self.source.holds(p)}
        if self._looked is not None and now < self._looked + LOOK_EVERY_S:
            return
        self.writer.release()
        topic_id = self.source.topic_id()
        self._cure(self._watchdog.convicted(), now)
        for partition, position in list(self.source.positions.items()):
            self._guarded(partition, partial(self._compare, partition, position, topic_id))
        for partition in list(self._beyond_end):
            self._guarded(partition, partial(self._refuse_beyond_end, partition))
        if suspects := self._watchdog.suspects(now):
            self._watchdog.accuse(self.source.withheld(suspects))
        self._looked = now

    def _compare(self, partition: int, position: int, topic_id: str) -> None:
        """Notice a Redis that was emptied or went back, though nothing comes that it could refuse."""
        fence = self.store.fence(partition)
        ours = (position, counted_as(topic_id, self.writer.fences[partition].rebuilt))
        found = fence and (fence.next_offset, fence.identity)
        if found != ours:
            raise Fenced(f"{self.source.topic} partition {partition}: expected the fence at {ours}, found {found}")

    def _cure(self, silent: Mapping[int, int], now: float) -> None:
        for partition, end in silent.items():
            position = self.source.positions[partition]
            log.warning(
                "%s partition %d has given nothing for %.0f s: it stands at offset %d, its log goes on to %d (lag %d); "
                "rebuilding the consumer",
                *(self.source.topic, partition, self._watchdog.still_s(partition, now), position, end, end - position),
                extra=place(self.source.topic, partition, position),
            )
        if silent:
            self.n_stalls += len(silent)
            self.source.rebuild()
            self._watchdog.forget()

    def _tell(self) -> None:
        """Keep the health: a turn has gone well, but for what is stopped, or failed and was not tried again."""
        self._failing &= {*self.source.positions, *self.source.waiting}
        troubles = [f"partition {p} is stopped: {why}" for p, why in self.stopped.items() if self.source.holds(p)]
        troubles += [f"partition {p} waits, because its log ends before its fence" for p in self._beyond_end]
        if troubles:
            self.health.failed("; ".join(troubles), self.clock())
        elif not self._failing:
            self.health.recovered(self.clock())

    def drain(self, batch: Batch) -> None:
        """Move one span from Kafka into Redis; its last parts are still on their way when this returns."""
        writer, partition = self.writer, batch.partition
        going_on = writer.take(partition)
        stream_time = (going_on or writer.expected(partition)).stream_time
        for part in self.decide(batch, stream_time, going_on, writer.settle):
            if part.end == batch.end and writer.keep(partition, part):
                break
            writer.settle(0 if part.set_aside else MOST_APPLYING - 1)  # nothing is set aside after what is refused
            if partition not in self.source.positions:  # what came before was refused
                return
            self.letters.send(partition, part.set_aside)
            writer.apply(partition, part)

    def _guarded(self, partition: int, action: Callable[[], None]) -> None:
        """Do it; a partition that stands elsewhere begins anew, one that cannot be counted on stops alone."""
        try:
            action()
        except Fenced as cause:
            self.n_fenced += 1
            log.info("%s; reading the fence again", cause, extra=place(self.source.topic, partition))
            self.source.wait(partition)
        except PASSING as cause:
            self._failing.add(partition)
            if isinstance(cause, StoreUnavailable):
                self._resting.begin(partition, self.clock())
                self.source.wait(partition)
            raise
        except (TopicChanged, Stopped) as cause:
            reason = f"{cause}. {way_out(self.source.topic)}" if isinstance(cause, TopicChanged) else str(cause)
            told = partition, self.source.topic, reason
            log.error("partition %d of %s is stopped: %s", *told, extra=place(self.source.topic, partition))
            self.stopped[partition] = reason
            self.source.stop(partition)

    def begin(self, partition: int) -> None:
        """Read the partition from its fence on; make the fence where there is none.

        Raises:
            Stopped: counting on would lose or double something.
        """
        self.writer.drop(partition)
        fence = self.beginning.fence(partition)
        start = fence.next_offset
        known = self.writer.fences.get(partition, fence).next_offset
        if start < known:
            log.warning(
                "%s partition %d: Redis went back from offset %d to %d; counting again",
                *(self.source.topic, partition, known, start),
                extra=place(self.source.topic, partition, start),
            )
        self.writer.fences[partition] = fence
        self.stopped.pop(partition, None)
        if partition in self._resting:  # it may be read and take no writes: ask before its letters are sent again
            self.store.apply(partition, fence.identity, Part(start, start, fence.stream_time, since=fence.stream_time))
            self._resting.end(partition)
        self._failing.discard(partition)
        self.source.start(partition, start)

    def _refuse_beyond_end(self, partition: int) -> None:
        """The log does not hold the offset that the fence names: say why, or begin again if it does by now."""
        fence = self.store.fence(partition)
        end = end_offsets(self.source.kafka, {self.source.topic: [partition]})[self.source.topic][partition]
        if not fence or fence.next_offset <= end:
            self._beyond_end.pop(partition, None)
            return self.begin(partition)
        self.source.stop(partition)
        if self.clock() >= self._beyond_end.setdefault(partition, self.clock()) + BEYOND_END_S:
            del self._beyond_end[partition]
            raise beyond_end(self.source.topic, partition, fence, end)

    @property
    def tallies(self) -> Counter[str]:
        """What became of what it has counted, by outcome."""
        return self.writer.tallies

    @property
    def fences(self) -> Mapping[int, Fence]:
        """Where the partitions that it counts stand in Redis, as it last saw or moved them; any thread may ask."""
        return {p: fence for p, fence in self.writer.fences.copy().items() if self.source.holds(p)}

    def has_read_everything(self) -> bool:
        """True when every fence of the topic is at the end of its partition, whoever moved it."""
        facts = self.source.watch.facts(self.source.topic)
        # Who has stopped a partition does not wait for others, who may have stopped one too and wait for it.
        wanted = [*self.source.positions, *self.source.waiting] if self.stopped else facts.partitions
        running = [partition for partition in wanted if partition not in self.stopped]
        fences = self.store.fences(running)
        ends = end_offsets(self.source.kafka, {self.source.topic: running})[self.source.topic]
        return all(
            end == (fences[partition].next_offset if partition in fences else 0) for partition, end in ends.items()
        )
