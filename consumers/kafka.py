"""Kafka as spans of offsets: the only file that builds a Kafka consumer.

Where a partition begins is the fence's business, never Kafka's: the committed offset is for lag dashboards.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from features.tally import LogRecord

log = logging.getLogger(__name__)

KafkaConfig = Mapping[str, Any]
FETCH_WAIT_MS = 100  # 500 costs a fifth where partitions are uneven; 10 starves on Tansu
MAX_POLL_RECORDS = 2000
TOPIC_CHECK_S = 1.0


class KafkaUnavailable(Exception):
    """Kafka cannot serve now, and may soon."""


class OutOfRange(Exception):
    """The log does not hold the offsets at which these partitions are read."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(f"partitions {partitions} are read outside their logs")
        self.partitions = partitions


class NoSuchTopic(KafkaUnavailable):
    """A topic is not there (yet)."""


def build_consumer(kafka: KafkaConfig, **overrides: Any) -> KafkaConsumer:
    """Open a consumer that reads committed records, and only from where it is told to.

    Raises:
        KafkaUnavailable: no broker answers at the address.
    """
    settings: dict[str, Any] = {
        "allow_auto_create_topics": False,
        "auto_offset_reset": "none",  # `earliest` would silently read elsewhere when a fence lies outside the log
        "bootstrap_timeout_ms": 10_000,
        "enable_auto_commit": False,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "isolation_level": "read_committed",
        "max_poll_records": MAX_POLL_RECORDS,
        "metadata_max_age_ms": 3000,
        "metrics_enabled": False,
        "partition_assignment_strategy": [RangePartitionAssignor],
    }
    with available(kafka):
        return KafkaConsumer(**{**settings, **kafka, **overrides})


@contextlib.contextmanager
def available(kafka: KafkaConfig) -> Iterator[None]:
    """Turn what kafka-python says of an outage into KafkaUnavailable."""
    try:
        yield
    except KafkaError as cause:
        where = kafka.get("bootstrap_servers")
        raise KafkaUnavailable(f"Kafka at {where} cannot serve now: {type(cause).__name__}: {cause}") from cause


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What identifies a topic, and its partitions in ascending order."""

    topic_id: str
    partitions: tuple[int, ...]


class TopicWatch:
    """Topic ids and partitions, at most TOPIC_CHECK_S old."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self.kafka = kafka
        self._admin: KafkaAdminClient | None = None
        self._known: dict[str, tuple[float, TopicFacts]] = {}

    def facts(self, topic: str) -> TopicFacts:
        """What the cluster says of a topic.

        Raises:
            NoSuchTopic: there is none of that name.
            KafkaUnavailable: nobody answers.
        """
        known = self._known.get(topic)
        if known and time.monotonic() - known[0] < TOPIC_CHECK_S:
            return known[1]
        asked = time.monotonic()
        facts = self._ask(topic)
        self._known[topic] = (asked, facts)
        return facts

    def _ask(self, topic: str) -> TopicFacts:
        with available(self.kafka):
            if self._admin is None:
                self._admin = KafkaAdminClient(**self.kafka, bootstrap_timeout_ms=10_000)
            (found,) = self._admin.describe_topics([topic])
        partitions = tuple(sorted(p["partition_index"] for p in found["partitions"]))
        if found["error_code"] != 0 or not partitions:
            raise NoSuchTopic(f"topic {topic} does not exist: run `hitparade topics`")
        return TopicFacts(str(found["topic_id"]), partitions)

    def close(self) -> None:
        """Close the connection, if one was opened."""
        if self._admin is not None:
            self._admin.close()


def end_offsets(kafka: KafkaConfig, topics: Mapping[str, Sequence[int]]) -> dict[str, dict[int, int]]:
    """The end of every partition as a fetch answer tells it: right on every broker, while producers are writing.

    ListOffsets is wrong on Tansu, and can lie below what a producer without acks=all has been told was written.

    Args:
        kafka: where the cluster is.
        topics: the partitions wanted of each topic.

    Raises:
        KafkaUnavailable: a partition has not answered in 30 s.
    """
    waiting = {TopicPartition(topic, partition) for topic, partitions in topics.items() for partition in partitions}
    ends: dict[str, dict[int, int]] = {topic: {} for topic in topics}
    deadline = time.monotonic() + 30
    with contextlib.closing(
        _lone_consumer(kafka, waiting, {}, max_partition_fetch_bytes=1, max_poll_records=1)
    ) as consumer:
        while waiting and time.monotonic() < deadline:
            with available(kafka):
                consumer.poll(timeout_ms=20)  # an answer without records does not end a poll
            known = {partition for partition in waiting if consumer.highwater(partition) is not None}
            for partition in known:
                ends[partition.topic][partition.partition] = consumer.highwater(partition)
            consumer.pause(*known)
            waiting -= known
    if waiting:
        names = ", ".join(sorted(f"{p.topic}-{p.partition}" for p in waiting))
        raise KafkaUnavailable(f"no end offset of {names} in 30 s")
    return ends


def read_to_end(kafka: KafkaConfig, topic: str, partitions: Sequence[int], starts: Mapping[int, int]) -> list[Any]:
    """Every record from `starts` (0 where not named) to the end of the topic as it is now, by partition and offset."""
    ends = end_offsets(kafka, {topic: partitions})[topic]
    reading = {TopicPartition(topic, p): end for p, end in ends.items() if starts.get(p, 0) < end}
    records: list[Any] = []
    with contextlib.closing(_lone_consumer(kafka, set(reading), starts)) as consumer, available(kafka):
        while any((consumer.position(partition) or 0) < end for partition, end in reading.items()):
            for found in consumer.poll(timeout_ms=200).values():
                records += found
    return sorted(records, key=lambda record: (record.partition, record.offset))


def follow(
    kafka: KafkaConfig, topic: str, partitions: Sequence[int], starts: Mapping[int, int]
) -> Generator[Any, None, None]:
    """Every record from `starts` on, as it comes; None whenever half a second has brought nothing."""
    everything = {TopicPartition(topic, partition) for partition in partitions}
    with contextlib.closing(_lone_consumer(kafka, everything, starts)) as consumer:
        while True:
            with available(kafka):
                found = consumer.poll(timeout_ms=500)
            yield from [record for records in found.values() for record in records] or [None]


def _lone_consumer(
    kafka: KafkaConfig, partitions: set[TopicPartition], starts: Mapping[int, int], **overrides: Any
) -> KafkaConsumer:
    """A consumer in no group, at `starts`, or where the log begins by now."""
    consumer = build_consumer(kafka, auto_offset_reset="earliest", **overrides)
    consumer.assign(list(partitions))
    for partition in partitions:
        consumer.seek(partition, starts.get(partition.partition, 0))
    return consumer


class _Calling(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, on_assigned: Callable[[], None]) -> None:
        self.on_assigned = on_assigned

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.on_assigned()

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        pass


class GroupReader:
    """An ordinary member of a consumer group: one record at a time, committed when it is done with."""

    def __init__(
        self, kafka: KafkaConfig, topic: str, group: str, session_timeout_ms: int, on_assigned: Callable[[], None]
    ) -> None:
        self.kafka = kafka
        self.topic = topic
        with contextlib.closing(TopicWatch(kafka)) as watch:
            self.partitions = watch.facts(topic).partitions
        self._consumer = build_consumer(
            kafka,
            group_id=group,
            auto_offset_reset="earliest",
            max_poll_records=1,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // 3,
        )
        self._consumer.subscribe([topic], listener=_Calling(on_assigned))
        self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> Any:
        """The next record, or None."""
        with available(self.kafka):
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return next((record for records in found.values() for record in records), None)

    def keep_membership(self) -> None:
        """Poll without taking a record."""
        with available(self.kafka):
            self._consumer.pause(*self._consumer.assignment())
            for partition, records in self._consumer.poll(timeout_ms=0).items():  # assigned in this very poll
                self._consumer.seek(partition, records[0].offset)
            self._consumer.resume(*self._consumer.assignment())

    def commit(self, record: Any) -> None:
        """Commit what is done; a consumer that has the partition by now does it again, to the same end."""
        at = TopicPartition(record.topic, record.partition)
        try:
            self._consumer.commit({at: OffsetAndMetadata(record.offset + 1, "", -1)}, timeout_ms=10_000)
        except KafkaError as cause:
            log.warning("offset %d of %s is not committed: %r", record.offset, self.topic, cause)

    def has_read_everything(self) -> bool:
        """True when the group has committed up to the end of every partition, whoever did."""
        ends = end_offsets(self.kafka, {self.topic: self.partitions})[self.topic]
        with available(self.kafka):
            committed = {p: self._consumer.committed(TopicPartition(self.topic, p), timeout_ms=10_000) for p in ends}
        return all((committed[partition] or 0) >= end for partition, end in ends.items())

    def close(self) -> None:
        """Leave the group."""
        with contextlib.suppress(KafkaError):
            self._consumer.close(timeout_ms=5000)


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
        self.consumer = build_consumer(
            kafka, group_id=group, session_timeout_ms=session_timeout_ms, heartbeat_interval_ms=session_timeout_ms // 3
        )
        self._listener = _Listener(self.consumer)
        self.consumer.subscribe([topic], listener=self._listener)
        self.consumer.partitions_for_topic(topic)  # a member that knows no partitions yet would cost one more rebalance
        self._next: dict[int, int] = {}
        self.waiting: list[int] = []
        """Assigned partitions that have not been told yet where to begin."""

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

    def lags(self) -> dict[int, int | None]:
        """Records not yet applied, by started partition; None until the first answer."""
        lags: dict[int, int | None] = {}
        for partition, offset in self._next.items():
            with contextlib.suppress(IllegalStateError):
                end = self.consumer.highwater(self._at(partition))
                lags[partition] = None if end is None else end - offset
        return lags

    def topic_id(self) -> str:
        """The topic's id, at most a second old."""
        return self.watch.facts(self.topic).topic_id

    def close(self) -> None:
        """Leave the group."""
        with contextlib.suppress(KafkaError):
            self.consumer.close(timeout_ms=5000)
        self.watch.close()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)
