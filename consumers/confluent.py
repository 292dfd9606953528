"""The counting consumers' second client: confluent-kafka, librdkafka's in C, where it is installed and chosen."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.client import Found, OutOfRange
from consumers.kafka import (
    FETCH_WAIT_MS,
    LONGEST_CLOSE_S,
    LONGEST_HEARTBEAT_MS,
    KafkaRefused,
    KafkaUnavailable,
    build_consumer,
    longest_join_s,
)
from features.records import Headers, Records
from producers.kafka import RECONNECT_MS, KafkaConfig, addresses

log = logging.getLogger("kafka.librdkafka")  # as quiet as the other client

AT_ONCE = 1000  # Messages are heavy: few at a time stay in the processor's cache
MOST_RECORDS = 40_000  # of a poll, with MOST_BYTES of values
MOST_BYTES = 16 * 1024 * 1024
PATIENCE_S = 10
NAMES = {
    "bootstrap_servers": "bootstrap.servers",
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
}
"""What librdkafka calls what kafka-python's clients are opened with."""
SETTINGS: dict[str, Any] = {
    "allow.auto.create.topics": False,
    "auto.offset.reset": "error",  # `earliest` would silently read elsewhere when a fence lies outside the log
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # alone tells of the control records at the end of a log
    # A topic created anew gives nothing for longer than TOPIC_CHECK_S: all who ask after its id have the new one.
    "fetch.error.backoff.ms": 1500,
    "fetch.max.bytes": 8 * 1024 * 1024,
    "fetch.queue.backoff.ms": 10,  # its 1000 halve the rate
    "fetch.wait.max.ms": FETCH_WAIT_MS,
    "isolation.level": "read_committed",
    "max.partition.fetch.bytes": 4 * 1024 * 1024,  # where much is waiting: a long span costs Redis little an event
    "partition.assignment.strategy": "range",
    "queued.max.messages.kbytes": 16 * 1024,
    "queued.min.messages": 50_000,
    "reconnect.backoff.max.ms": RECONNECT_MS,
    "topic.metadata.refresh.interval.ms": 3000,
}
REFUSALS = (
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)
ELSEWHERE = KafkaError.UNKNOWN_TOPIC_OR_PART  # the source asks after the topic itself, and says more


def translated(kafka: KafkaConfig) -> dict[str, Any]:
    """What kafka-python's clients are opened with, in librdkafka's words."""
    return {NAMES[name]: value for name, value in kafka.items()} | {"bootstrap.servers": addresses(kafka)}


class Confluent:
    """A member of a group, by confluent-kafka.

    librdkafka's assignment is what is being read, each partition at its position, and never what the group has given:
    so a partition that waits gives nothing, and one that failed is read again by being assigned again.
    """

    def __init__(self, kafka: KafkaConfig, topic: str, group: str, session_timeout_ms: int) -> None:
        self.kafka = kafka
        self.topic = topic
        self._reading: dict[int, int] = {}
        self._is_moved = False
        self._has_asked = self._has_joined = False
        self._changes: list[tuple[bool, int]] = []
        self._trouble: KafkaError | None = None
        timing = {
            "session.timeout.ms": session_timeout_ms,
            "heartbeat.interval.ms": min(LONGEST_HEARTBEAT_MS, session_timeout_ms // 3),
        }
        config = {**SETTINGS, **timing, **translated(kafka), "group.id": group, "error_cb": self._on_error}
        self._consumer = Consumer(config, logger=log)
        self._reach()

    def _reach(self) -> None:
        """Wait until a broker answers, or refuses; it is asked again and again, to see soon that it refuses."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._consumer.list_topics(self.topic, timeout=1)
                return
            except KafkaException as cause:
                self._consumer.poll(0)  # brings what is known of the trouble
                unavailable = self._unavailable(self._trouble or cause.args[0])
                if isinstance(unavailable, KafkaRefused) or time.monotonic() > deadline:
                    raise unavailable from cause

    def _unavailable(self, error: KafkaError) -> KafkaUnavailable:
        if error.code() in REFUSALS or "SSL alert" in error.str():
            return KafkaRefused(f"Kafka at {addresses(self.kafka)} refuses: {error.str()}")
        return KafkaUnavailable(f"Kafka at {addresses(self.kafka)} cannot serve now: {error.str()}")

    # What poll() calls, and close()

    def _on_error(self, error: KafkaError) -> None:
        """Brokers come and go, and librdkafka finds them again: what is noted is told only if that is all there is."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self._trouble is None:  # which says less than why
            self._trouble = error

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        consumer.assign([])
        self._has_joined = True
        self._reading.clear()
        self._changes += [(True, partition.partition) for partition in partitions]

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._reading.clear()
        self._changes += [(False, partition.partition) for partition in partitions]

    # What a client does

    def poll(self, timeout_s: float) -> Found:
        """What came of each partition that is read."""
        try:
            if not self._has_asked:  # not before: a member that is not polled yet would keep the others waiting
                self._consumer.subscribe([self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
                self._has_asked = True
            if self._is_moved:
                self._consumer.assign([self._at(p, offset) for p, offset in self._reading.items()])
                self._is_moved = False
            found = self._gather(timeout_s)
        except KafkaException as cause:
            raise self._unavailable(cause.args[0]) from cause
        return {partition: (end, found.get(partition, ())) for partition, end in self._reading.items()}

    def _gather(self, timeout_s: float) -> dict[int, Records]:
        """The records that have come, once there is one, and the positions moved past them."""
        found: dict[int, Records] = {}
        n_records = n_bytes = 0
        messages = self._consumer.consume(1, timeout_s)
        if not messages:
            self._look_at_ends()
        while messages:
            for partition, some in groupby(self._sound(messages), Message.partition):
                if partition in self._reading:
                    records = found.setdefault(partition, Records())
                    _add(list(some), records)
                    self._move(partition, records.offsets[-1] + 1)
            n_records += len(messages)
            n_bytes += sum(map(len, messages))
            is_full = n_records >= MOST_RECORDS or n_bytes >= MOST_BYTES
            messages = [] if is_full else self._consumer.consume(AT_ONCE, 0)
        return found

    def _sound(self, messages: list[Message]) -> list[Message]:
        """Those that are records, after a look at what the others say."""
        if not any(map(Message.error, messages)):
            return messages
        beyond = []
        for message in messages:
            partition, error = message.partition(), message.error()
            if error is None or partition not in self._reading:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                self._move(partition, message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                beyond.append(partition)
            elif error.code() != ELSEWHERE:
                raise KafkaException(error)
        if beyond:
            raise OutOfRange(beyond)
        return [message for message in messages if message.error() is None]

    def _move(self, partition: int, position: int) -> None:
        """Never back: of the messages at hand, what tells of the log's end is looked at first."""
        self._reading[partition] = max(self._reading[partition], position)

    def _look_at_ends(self) -> None:
        """Tansu gives no error where a log is read past its end."""
        ends = {p: self._consumer.get_watermark_offsets(self._at(p), cached=True)[1] for p in self._reading}
        if beyond := [partition for partition, end in ends.items() if 0 <= end < self._reading[partition]]:
            raise OutOfRange(beyond)

    def changes(self) -> Iterator[tuple[bool, int]]:
        """What was assigned and taken away."""
        while self._changes:
            yield self._changes.pop(0)

    def start(self, partition: int, offset: int) -> None:
        """Read an assigned partition from an offset on, from the next poll on."""
        self._reading[partition] = offset
        self._is_moved = True

    def stop(self, partition: int) -> None:
        """Read the partition no more."""
        self._is_moved |= self._reading.pop(partition, None) is not None

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""
        try:
            return int(self._consumer.get_watermark_offsets(self._at(partition), timeout=PATIENCE_S)[0])
        except KafkaException as cause:
            raise self._unavailable(cause.args[0]) from cause

    def end(self, partition: int) -> int | None:
        """The end of the log, as the last answer told it."""
        with suppress(KafkaException, RuntimeError):  # it is closed
            end = int(self._consumer.get_watermark_offsets(self._at(partition), cached=True)[1])
            return end if end >= 0 else None
        return None

    def committed(self, partition: int) -> int | None:
        """What the group last committed."""
        try:
            (found,) = self._consumer.committed([self._at(partition)], timeout=PATIENCE_S)
        except KafkaException as cause:
            raise self._unavailable(cause.args[0]) from cause
        if found.error:
            raise self._unavailable(found.error)
        return None if found.offset < 0 else int(found.offset)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far the partitions are."""
        with suppress(KafkaException):
            self._consumer.commit(offsets=[self._at(p, offset) for p, offset in offsets.items()], asynchronous=True)

    def close(self) -> None:
        """Leave the group, after a join under way if it is finished soon."""
        if self._has_asked and not self._has_joined:
            self._finish_join()
        # The coordinator answers a leaving member only after a rebalance that may wait for another one.
        last = threading.Thread(target=self._consumer.close, daemon=True)
        last.start()
        last.join(LONGEST_CLOSE_S)

    def _finish_join(self) -> None:
        with suppress(KafkaUnavailable, KafkaException):
            with closing(build_consumer(self.kafka, bootstrap_timeout_ms=1000)) as other:  # knows the broker's version
                deadline = time.monotonic() + longest_join_s(other)
            while not self._has_joined and time.monotonic() < deadline:
                self._consumer.poll(0.2)

    def _at(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.topic, partition, offset)


def _add(messages: Sequence[Message], records: Records) -> None:
    """Put a run of messages to the records."""
    first, after = messages[0].offset() or 0, (messages[-1].offset() or 0) + 1
    is_whole = after - first == len(messages)
    records.values += map(Message.value, messages)
    records.timestamps += map(itemgetter(1), map(Message.timestamp, messages))
    records.headers += _headers(messages)
    records.offsets += range(first, after) if is_whole else [message.offset() or 0 for message in messages]
    records.keys += map(Message.key, messages)


def _headers(messages: Sequence[Message]) -> list[Headers]:
    """The headers of each message, which are mostly none; none where a name is not UTF-8, which the client cannot give.

    Each message is asked once: asked again after such a failure, confluent-kafka 2.16 gives what ends the process.
    """
    found: list[Any] = []
    answers = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            found.extend(answers)
        except SystemError:
            found.append(None)
    return [headers or () for headers in found] if any(found) else [()] * len(found)
