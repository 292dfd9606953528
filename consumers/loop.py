"""The loop of the counting consumers: poll, decide, set aside, apply, commit. It reads as the guarantee.

Redis holds the counters and the offset, and both move in one step. Whatever dies or times out, the fence tells where
to go on.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from consumers.kafka import KafkaUnavailable, end_offsets
from consumers.source import Batch, OutOfRange, Source
from features.store import CounterStore, Fence, Fenced, StoreUnavailable, TopicChanged
from features.tally import Part, SetAside
from producers.publisher import NotAcknowledged

log = logging.getLogger(__name__)

PASSING = (StoreUnavailable, KafkaUnavailable, NotAcknowledged)
POLL_TIMEOUT_S = 0.5
LONGEST_PAUSE_S = 10.0


class Stopped(Exception):
    """A partition must not be counted on; the message names both sides and the ways out."""


class Sink(Protocol):
    """Where events that are not counted go."""

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        """Write them all, acknowledged."""

    def close(self) -> None:
        """Let go of what is open."""


Decide = Callable[[Batch, datetime | None], Iterable[Part]]


@dataclass(slots=True)
class Consumer:
    """One process' share of a topic, counted into Redis.

    decide turns a span into parts, purely; settings are what the fence must agree with; check refuses a fence for a
    reason of the consumer's own.
    """

    source: Source
    store: CounterStore
    letters: Sink
    decide: Decide
    settings: Mapping[str, str]
    check: Callable[[Fence], None] = lambda fence: None
    accept_loss: bool = False
    tallies: Counter[str] = field(default_factory=Counter)
    stopped: dict[int, str] = field(default_factory=dict)
    _stream_times: dict[int, datetime | None] = field(default_factory=dict)

    def run(self, stop: threading.Event, until_idle: bool = False) -> int:
        """Consume until told to stop, or until everything has been read; return the exit code."""
        pause_s = 0.0
        idle_since = time.monotonic()
        try:
            while not stop.is_set():
                try:
                    if self.step():
                        idle_since = time.monotonic()
                    pause_s = 0.0
                    if until_idle and time.monotonic() > idle_since + POLL_TIMEOUT_S and self.has_read_everything():
                        break
                except PASSING as cause:
                    pause_s = min(LONGEST_PAUSE_S, max(0.2, 2 * pause_s))
                    log.warning("%s; trying again in about %.1f s", cause, pause_s)
                    self.source.rewind()
                    stop.wait(pause_s * random.uniform(0.5, 1.0))
        finally:
            self.source.close()
            self.letters.close()
        return 1 if self.stopped else 0

    def step(self) -> bool:
        """Poll once and apply what came; True if anything did."""
        for partition in list(self.source.waiting):
            self._guarded(partition, partial(self.begin, partition))
        try:
            batches = self.source.poll(POLL_TIMEOUT_S)
        except OutOfRange as cause:
            self.source.rewind()  # what came of the other partitions has not been applied
            for partition in cause.partitions:
                self._guarded(partition, partial(self._refuse_beyond_end, partition))
            return False
        for batch in batches:
            self._guarded(batch.partition, partial(self.drain, batch))
        if batches:
            self.source.commit()
        return bool(batches)

    def drain(self, batch: Batch) -> None:
        """Move one span from Kafka into Redis."""
        for part in self.decide(batch, self._stream_times.get(batch.partition)):
            self.letters.send(batch.partition, part.set_aside)
            self.store.apply(batch.partition, self.source.topic_id(), part)
            self.source.applied(batch.partition, part.end)
            self._stream_times[batch.partition] = part.stream_time
            self.tallies += part.tallies

    def _guarded(self, partition: int, action: Callable[[], None]) -> None:
        """Do it; a partition that stands elsewhere begins anew, one that cannot be counted on stops alone."""
        try:
            action()
        except Fenced as cause:
            log.info("%s; reading the fence again", cause)
            self.source.wait(partition)
        except (TopicChanged, Stopped) as cause:
            reason = f"{cause}. {self._way_out()}" if isinstance(cause, TopicChanged) else str(cause)
            log.error("partition %d of %s is stopped: %s", partition, self.source.topic, reason)
            self.stopped[partition] = reason
            self.source.stop(partition)

    def begin(self, partition: int) -> None:
        """Read the partition from its fence on; make the fence where there is none.

        Raises:
            Stopped: counting on would lose or double something.
        """
        fence = self.store.fence(partition) or self._first_fence(partition)
        where = f"{self.source.topic} partition {partition}"
        for name, ours in self.settings.items():
            found = fence.settings.get(name)
            if found != ours:
                raise Stopped(
                    f"{where} was counted with {name} {found}, this consumer has {ours}. "
                    f"Set it back to {found}, or count anew: {self._drop()}"
                )
        topic_id = self.source.topic_id()
        if fence.topic_id != topic_id:
            raise Stopped(f"{where}: Redis counts topic id {fence.topic_id}, Kafka has {topic_id}. {self._way_out()}")
        self.check(fence)
        start = self._after_loss(partition, fence)
        self._stream_times[partition] = fence.stream_time
        self.stopped.pop(partition, None)
        self.source.start(partition, start)

    def _first_fence(self, partition: int) -> Fence:
        log_start = self.source.log_start(partition)
        committed = self.source.committed(partition)
        if log_start > 0 and committed is not None and not self.accept_loss:
            raise Stopped(
                f"{self.source.topic} partition {partition} has no fence in Redis, but was counted up to offset "
                f"{committed}, and its log begins at {log_start}: Redis was emptied, and the log has lost what was "
                "counted. Bring Redis' data back, or count what is left with --accept-loss"
            )
        return self.store.init(partition, log_start, self.source.topic_id(), self.settings)

    def _after_loss(self, partition: int, fence: Fence) -> int:
        """Where to begin; the fence, unless the log has lost what it points to and the loss is accepted."""
        log_start = self.source.log_start(partition)
        if fence.next_offset >= log_start:
            return fence.next_offset
        lost = log_start - fence.next_offset
        if not self.accept_loss:
            raise Stopped(
                f"{self.source.topic} partition {partition}: the fence is at offset {fence.next_offset}, but the log "
                f"begins at {log_start}: {lost} offsets were deleted before they were counted. Raise the topic's "
                "retention, and go on without them with --accept-loss (they are tallied as lost)"
            )
        part = Part(fence.next_offset, log_start, fence.stream_time, tallies=Counter(lost=lost))
        self.store.apply(partition, fence.topic_id, part)
        return log_start

    def _refuse_beyond_end(self, partition: int) -> None:
        """The log does not hold the offset that the fence names: say why, or begin again if it does by now."""
        fence = self.store.fence(partition)
        end = end_offsets(self.source.kafka, {self.source.topic: [partition]})[self.source.topic][partition]
        if fence and fence.next_offset > end:
            raise Stopped(
                f"{self.source.topic} partition {partition}: the fence is at offset {fence.next_offset}, but the log "
                f"ends at {end}: the log was cut, or Redis is of another cluster. {self._way_out()}"
            )
        self.begin(partition)

    def _way_out(self) -> str:
        return (
            f"If the topic was created anew, count it from its beginning: {self._drop()}. "
            "Otherwise point this consumer at the Kafka that Redis was counted from"
        )

    def _drop(self) -> str:
        return f"`hitparade drop {self.source.topic}` removes what was counted"

    def has_read_everything(self) -> bool:
        """True when every fence of the topic is at the end of its partition, whoever moved it."""
        facts = self.source.watch.facts(self.source.topic)
        running = [partition for partition in facts.partitions if partition not in self.stopped]
        fences = self.store.fences(running)
        ends = end_offsets(self.source.kafka, {self.source.topic: running})[self.source.topic]
        return all(
            end == (fences[partition].next_offset if partition in fences else 0) for partition, end in ends.items()
        )
