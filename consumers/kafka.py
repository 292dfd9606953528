"""Reading Kafka: the only file that builds a Kafka consumer."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError

from producers import kafka as sending
from producers.kafka import CLIENT, RECONNECT_MS, KafkaConfig, accepted, addresses

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 100  # 500 costs a fifth where partitions are uneven; 10 starves on Tansu
MAX_POLL_RECORDS = 2000
TOPIC_CHECK_S = 0.3  # a topic that is made anew and filled in less could be counted on
LONGEST_HEARTBEAT_MS = 500  # by their heartbeats members learn that the group changes, however long a session lasts
LONGEST_JOIN_S = 0.3  # that a stop waits for
LONGEST_TANSU_JOIN_S = 6.0  # it takes half of the session time-out, and a join left half-way locks its group
LONGEST_CLOSE_S = 1.0
ADMIN = {
    **CLIENT,
    "bootstrap_timeout_ms": 12_000,
    "reconnect_backoff_max_ms": RECONNECT_MS,
    "request_timeout_ms": 5_000,  # how long it takes to know of a broker that it hangs, and to ask another
}
PROBE_S = 2.0  # a broker answers a fetch within FETCH_WAIT_MS, with records if there are any


class KafkaUnavailable(Exception):
    """Kafka cannot serve now, and may soon."""


class KafkaRefused(KafkaUnavailable, sending.KafkaRefused):
    """Kafka answers, and will not have us; it is no use to ask again before something is mended."""


class NoSuchTopic(KafkaUnavailable):
    """A topic is not there (yet)."""


def build_consumer(kafka: KafkaConfig, **overrides: Any) -> KafkaConsumer:
    """Open a consumer that reads committed records, and only from where it is told to.

    Raises:
        KafkaUnavailable: no broker answers at the address.
    """
    settings: dict[str, Any] = {
        **CLIENT,
        "allow_auto_create_topics": False,
        "auto_offset_reset": "none",  # `earliest` would silently read elsewhere when a fence lies outside the log
        "bootstrap_timeout_ms": 10_000,
        "enable_auto_commit": False,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "heartbeat_interval_ms": min(LONGEST_HEARTBEAT_MS, overrides.get("session_timeout_ms", 9000) // 3),
        "isolation_level": "read_committed",
        "max_poll_records": MAX_POLL_RECORDS,
        "metadata_max_age_ms": 3000,
        "metrics_enabled": False,
        "partition_assignment_strategy": [RangePartitionAssignor],
        "reconnect_backoff_max_ms": RECONNECT_MS,
    }
    with available(kafka):
        consumer = KafkaConsumer(**{**settings, **kafka, **overrides})
    consumer._net.run = partial(_without_traceback, consumer._net.run)
    return consumer


def _without_traceback(run: Callable[..., Any], *call: Any) -> Any:
    """A call of kafka-python's, of which nothing stays if it times out.

    It keeps the exception where a frame of its traceback refers to it: a ring that lasts until the garbage collector
    comes by, and holds what the poll has waited for and got, megabytes of records, every time a heartbeat is due.
    """
    try:
        return run(*call)
    except KafkaTimeoutError as cause:
        raise cause.with_traceback(None) from cause.__cause__


@contextlib.contextmanager
def available(kafka: KafkaConfig) -> Iterator[None]:
    """Turn what kafka-python says of an outage into KafkaUnavailable, and of a refusal into KafkaRefused."""
    try:
        with accepted(kafka):
            yield
    except sending.KafkaRefused as cause:
        raise KafkaRefused(*cause.args) from cause.__cause__
    except KafkaError as cause:
        raise KafkaUnavailable(f"Kafka at {addresses(kafka)} cannot serve now: {cause}") from cause


def place(topic: str, partition: int, offset: int | None = None) -> dict[str, Any]:
    """What a line that is logged is about, as its fields: the partition, and the offset where it is of one."""
    place: dict[str, Any] = {"topic": topic, "partition": partition}
    return place if offset is None else {**place, "offset": offset}


def place_of(record: Any) -> dict[str, Any]:
    """Where a record lies, as fields of a line that is logged of it."""
    return place(record.topic, record.partition, record.offset)


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

    def forget(self, topic: str) -> None:
        """Ask anew the next time."""
        self._known.pop(topic, None)

    def _ask(self, topic: str) -> TopicFacts:
        with available(self.kafka):
            if self._admin is None:
                self._admin = KafkaAdminClient(**{**ADMIN, **self.kafka})
            (found,) = self._admin.describe_topics([topic])
            if found["error_code"] == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(topic)
        partitions = tuple(sorted(p["partition_index"] for p in found["partitions"]))
        if found["error_code"] != 0 or not partitions:
            raise NoSuchTopic(f"topic {topic} does not exist: run `hitparade topics`")
        return TopicFacts(str(found["topic_id"]), partitions)

    def close(self) -> None:
        """Close the connection, if one was opened."""
        if self._admin is not None:
            self._admin.close()


def keep_joining(consumer: KafkaConsumer) -> None:
    """Before each poll of a member: have a join that outlasted the last poll awaited by the next one.

    By itself kafka-python 3.0 takes no more notice of one that its leader has begun because partitions came or went: it
    stays without them and without heartbeats, is put out of its group, and never joins again.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining:
        coordinator.request_rejoin()


def leave(consumer: KafkaConsumer) -> None:
    """Leave the group and close, after a join under way if it is finished soon: who leaves in it must time out."""
    with contextlib.suppress(KafkaError):
        deadline = time.monotonic() + longest_join_s(consumer)
        while not consumer.assignment() and time.monotonic() < deadline:
            keep_joining(consumer)
            consumer.poll(timeout_ms=200)
    try:
        consumer.close(timeout_ms=int(LONGEST_CLOSE_S * 1000))
    except KafkaError:  # of the group; then kafka-python leaves its connections open, and the thread that serves them
        consumer._client.close()


def longest_join_s(consumer: KafkaConsumer) -> float:
    """How long a stop waits for a join under way: on Tansu, which is the one below Kafka 4, until it is finished."""
    return LONGEST_JOIN_S if consumer.config["api_version"] >= (4, 0) else LONGEST_TANSU_JOIN_S


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


def readable(kafka: KafkaConfig, topic: str, positions: Mapping[int, int]) -> dict[int, int]:
    """The partitions of which there is something to read at these positions, and where their logs end.

    It is tried, because the end of a log alone does not tell: an open transaction holds back what lies behind it.

    Raises:
        KafkaUnavailable: a partition has not answered.
    """
    ends = end_offsets(kafka, {topic: sorted(positions)})[topic]
    behind = {TopicPartition(topic, p): position for p, position in positions.items() if ends[p] > position}
    found: dict[int, int] = {}
    if not behind:
        return found
    deadline = time.monotonic() + PROBE_S
    with contextlib.closing(_lone_consumer(kafka, set(behind), positions)) as consumer:
        while len(found) < len(behind) and time.monotonic() < deadline:
            with available(kafka):
                consumer.poll(timeout_ms=100)
            found = {p.partition: ends[p.partition] for p, at in behind.items() if _position(kafka, consumer, p) > at}
    return found


def read_to_end(kafka: KafkaConfig, topic: str, partitions: Sequence[int], starts: Mapping[int, int]) -> list[Any]:
    """Every record from `starts` (0 where not named) to the end of the topic as it is now, by partition and offset."""
    records = stream_to_end(kafka, topic, partitions, starts)
    return sorted(records, key=lambda record: (record.partition, record.offset))


def stream_to_end(
    kafka: KafkaConfig, topic: str, partitions: Sequence[int], starts: Mapping[int, int]
) -> Generator[Any, None, None]:
    """As read_to_end, but as the records come: those of one partition in their order, and none is kept."""
    ends = end_offsets(kafka, {topic: partitions})[topic]
    reading = {TopicPartition(topic, p): end for p, end in ends.items() if starts.get(p, 0) < end}
    with contextlib.closing(_lone_consumer(kafka, set(reading), starts)) as consumer:
        while any(_position(kafka, consumer, partition) < end for partition, end in reading.items()):
            with available(kafka):
                found = consumer.poll(timeout_ms=200)
            for partition, records in found.items():
                yield from [record for record in records if record.offset < reading[partition]]


def _position(kafka: KafkaConfig, consumer: KafkaConsumer, partition: TopicPartition) -> int:
    with available(kafka):
        return consumer.position(partition) or 0


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
