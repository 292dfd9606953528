"""The counting consumers' client by default: kafka-python."""

import contextlib
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import IllegalStateError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from consumers.client import Found, OutOfRange
from consumers.kafka import KafkaUnavailable, available, build_consumer, keep_joining, leave
from consumers.records import decode_here
from producers.kafka import KafkaConfig

# What is fetched at once is of one partition where much is waiting, and polled at once: a poll takes milliseconds.
MOST_BYTES = 4 * 1024 * 1024
MOST_RECORDS = 32_000


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what was assigned, paused at 0; it does no I/O, because an exception here would cost only one poll."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self.reading: dict[TopicPartition, int] = {}
        """Where each partition stands that is read."""
        self.changes: SimpleQueue[tuple[bool, int]] = SimpleQueue()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for partition in assigned:
            self.consumer.seek(partition, 0)
            self.consumer.pause(partition)
            self.reading.pop(partition, None)
            self.changes.put((True, partition.partition))

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        for partition in revoked:
            self.reading.pop(partition, None)
            self.changes.put((False, partition.partition))


class KafkaPython:
    """A member of a group, by kafka-python."""

    def __init__(self, kafka: KafkaConfig, topic: str, group: str, session_timeout_ms: int) -> None:
        self.kafka = kafka
        self.topic = topic
        self.consumer = build_consumer(
            kafka,
            group_id=group,
            session_timeout_ms=session_timeout_ms,
            max_poll_records=MOST_RECORDS,
            max_partition_fetch_bytes=MOST_BYTES,
            fetch_max_bytes=MOST_BYTES,
        )
        decode_here(self.consumer)
        self._listener = _Listener(self.consumer)
        self.consumer.subscribe([topic], listener=self._listener)
        with available(kafka):  # a member that knows no partitions yet would cost one more rebalance
            self.consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> Found:
        """What came of each partition that is read."""
        keep_joining(self.consumer)
        try:
            with available(self.kafka):
                found = self.consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaUnavailable as cause:
            if isinstance(cause.__cause__, OffsetOutOfRangeError):
                raise OutOfRange([partition.partition for partition in cause.__cause__.args[0]]) from cause
            raise
        reading = self._listener.reading
        if beyond := [partition.partition for partition in reading if self._is_beyond_end(partition)]:
            raise OutOfRange(beyond)
        for partition in list(reading):
            reading[partition] = self._position(partition)
        return {partition.partition: (end, found.get(partition, ())) for partition, end in reading.items()}

    def _position(self, partition: TopicPartition) -> int:
        with available(self.kafka), contextlib.suppress(IllegalStateError):  # revoked meanwhile
            return self.consumer.position(partition, timeout_ms=1000) or 0
        return 0

    def _is_beyond_end(self, partition: TopicPartition) -> bool:
        """Tansu gives no error where a log is read past its end."""
        end = self.end(partition.partition)
        return end is not None and self._listener.reading[partition] > end

    def changes(self) -> Iterator[tuple[bool, int]]:
        """What was assigned and taken away."""
        with contextlib.suppress(Empty):
            while True:
                yield self._listener.changes.get_nowait()

    def start(self, partition: int, offset: int) -> None:
        """Read an assigned partition from an offset on."""
        at = self._at(partition)
        with contextlib.suppress(ValueError):  # revoked meanwhile
            self.consumer.seek(at, offset)
            self.consumer.resume(at)
            self._listener.reading[at] = offset

    def stop(self, partition: int) -> None:
        """Read the partition no more."""
        self._listener.reading.pop(self._at(partition), None)
        with contextlib.suppress(IllegalStateError, KeyError):
            self.consumer.pause(self._at(partition))

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""
        at = self._at(partition)
        with available(self.kafka):
            return int(self.consumer.beginning_offsets([at])[at])

    def end(self, partition: int) -> int | None:
        """The end of the log, as the last answer told it."""
        with contextlib.suppress(IllegalStateError, KeyError):  # revoked meanwhile
            end: int | None = self.consumer.highwater(self._at(partition))
            return end
        return None

    def committed(self, partition: int) -> int | None:
        """What the group last committed."""
        with available(self.kafka):
            offset: int | None = self.consumer.committed(self._at(partition), timeout_ms=10_000)
            return offset

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far the partitions are."""
        self.consumer.commit_async({self._at(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()})

    def close(self) -> None:
        """Leave the group."""
        leave(self.consumer)

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)
