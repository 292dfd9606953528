"""A topic as spans of offsets, shared with the other consumers of a group.

Where a partition begins is the fence's business, never Kafka's: the committed offset is for lag dashboards.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import IllegalStateError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from consumers.kafka import KafkaUnavailable, TopicWatch, available, build_consumer, leave, readable
from features.tally import LogRecord
from producers.kafka import KafkaConfig


class OutOfRange(Exception):
    """The log does not hold the offsets at which these partitions are read."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(f"partitions {partitions} are read outside their logs")
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read of one partition: the span [start, end), which may hold fewer records than offsets, or none."""

    partition: int
    start: int
    end: int
    records: Sequence[LogRecord]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what was assigned, paused at 0; it does no I/O, because an exception here would cost only one poll."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self.changes: SimpleQueue[tuple[bool, int]] = SimpleQueue()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for partition in assigned:
            self.consumer.seek(partition, 0)
            self.consumer.pause(partition)
            self.changes.put((True, partition.partition))

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        for partition in revoked:
            self.changes.put((False, partition.partition))


class Source:
    """A topic's partitions, shared with the other consumers of the group."""

    def __init__(self, kafka: KafkaConfig, topic: str, group: str, session_timeout_ms: int) -> None:
        self.kafka = kafka
        self.topic = topic
        self.watch = TopicWatch(kafka)
        self.watch.facts(topic)
        self._build = partial(build_consumer, kafka, group_id=group, session_timeout_ms=session_timeout_ms)
        self._next: dict[int, int] = {}
        self.waiting: list[int] = []
        """Assigned partitions that have not been told yet where to begin."""
        self._join(self._build())

    def _join(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self._listener = _Listener(consumer)
        consumer.subscribe([self.topic], listener=self._listener)
        with available(self.kafka):  # a member that knows no partitions yet would cost one more rebalance
            consumer.partitions_for_topic(self.topic)

    def rebuild(self) -> None:
        """Join the group anew, with a client that remembers nothing; every partition begins at its fence.

        Raises:
            KafkaUnavailable: nobody answers; all is as it was.
        """
        successor = self._build()
        leave(self.consumer)
        self._next.clear()
        self.waiting.clear()
        self._join(successor)

    @property
    def positions(self) -> Mapping[int, int]:
        """Where every partition that is being read goes on."""
        return self._next

    def holds(self, partition: int) -> bool:
        """Whether the partition is this consumer's, read or not."""
        return self._at(partition) in self.consumer.assignment()

    def withheld(self, partitions: Sequence[int]) -> dict[int, int]:
        """Those of the partitions of which another client gets more than has come here, and where their logs end."""
        return readable(self.kafka, self.topic, {p: self._next[p] for p in partitions if p in self._next})

    def start(self, partition: int, offset: int) -> None:
        """Read the partition from an offset on."""
        if partition in self.waiting:
            self.waiting.remove(partition)
        with contextlib.suppress(ValueError):  # revoked meanwhile
            self.consumer.seek(self._at(partition), offset)
            self._next[partition] = offset
            self.consumer.resume(self._at(partition))

    def stop(self, partition: int) -> None:
        """Leave the partition alone for as long as it is assigned."""
        self._next.pop(partition, None)
        if partition in self.waiting:
            self.waiting.remove(partition)
        with contextlib.suppress(IllegalStateError, KeyError):
            self.consumer.pause(self._at(partition))

    def wait(self, partition: int) -> None:
        """Hold the partition until it is told anew where to begin."""
        self.stop(partition)
        self.waiting.append(partition)

    def poll(self, timeout_s: float) -> list[Batch]:
        """What came, by partition; control records and aborted transactions give a span without records.

        Raises:
            OutOfRange: an offset is not in its partition's log any more, or not yet.
            KafkaUnavailable: nobody answers.
        """
        try:
            with available(self.kafka):
                found = self.consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaUnavailable as cause:
            self._note_changes()
            if isinstance(cause.__cause__, OffsetOutOfRangeError):
                raise OutOfRange([partition.partition for partition in cause.__cause__.args[0]]) from cause
            raise
        self._note_changes()
        if beyond := [partition for partition in self._next if self._is_beyond_end(partition)]:
            raise OutOfRange(beyond)
        batches = []
        for partition, start in self._next.items():
            end = self._position(partition)
            if end > start:
                batches.append(Batch(partition, start, end, found.get(self._at(partition), ())))
        return batches

    def _note_changes(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                assigned, partition = self._listener.changes.get_nowait()
                self._next.pop(partition, None)
                self.watch.forget(self.topic)  # what made the group change may be that the topic was created anew
                if assigned and partition not in self.waiting:
                    self.waiting.append(partition)
                elif not assigned and partition in self.waiting:
                    self.waiting.remove(partition)

    def _position(self, partition: int) -> int:
        with available(self.kafka), contextlib.suppress(IllegalStateError):  # revoked meanwhile
            return self.consumer.position(self._at(partition), timeout_ms=1000) or 0
        return 0

    def applied(self, partition: int, end: int) -> None:
        """Begin the partition's next span at `end`."""
        if partition in self._next:
            self._next[partition] = end

    def rewind(self) -> None:
        """Read again what has not been applied."""
        for partition, offset in list(self._next.items()):
            self.start(partition, offset)

    def _is_beyond_end(self, partition: int) -> bool:
        """Tansu gives no error where a log is read past its end."""
        with contextlib.suppress(IllegalStateError):
            end: int | None = self.consumer.highwater(self._at(partition))
            return end is not None and self._next[partition] > end
        return False

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""
        with available(self.kafka):
            return int(self.consumer.beginning_offsets([self._at(partition)])[self._at(partition)])

    def committed(self, partition: int) -> int | None:
        """What the group last committed, if it ever did."""
        with available(self.kafka):
            offset: int | None = self.consumer.committed(self._at(partition), timeout_ms=10_000)
            return offset

    def commit(self) -> None:
        """Tell Kafka how far the fences are, for lag dashboards; nothing depends on its success."""
        offsets = {self._at(p): OffsetAndMetadata(offset, "", -1) for p, offset in self._next.items()}
        if offsets:
            self.consumer.commit_async(offsets)

    def topic_id(self) -> str:
        """The topic's id, at most a second old."""
        return self.watch.facts(self.topic).topic_id

    def close(self) -> None:
        """Leave the group."""
        leave(self.consumer)
        self.watch.close()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)
