"""The only file that builds a Kafka producer, and the sender that looks at every answer it gets."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from producers.connection import Client, refusal

KafkaConfig = Mapping[str, Any]

RECONNECT_MS = 1000  # kafka-python's 30 s hold up everything for as long again as a broker was away
CLIENT = {"kafka_client": Client}
PRODUCER: dict[str, Any] = {
    **CLIENT,
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "linger_ms": 50,  # a broker's cost of a fetch grows with the number of batches it holds
    "batch_size": 256 * 1024,
    "max_block_ms": 5_000,
    "request_timeout_ms": 20_000,
    "delivery_timeout_ms": 60_000,
    "bootstrap_timeout_ms": 10_000,
    "reconnect_backoff_max_ms": RECONNECT_MS,
}
MOST_RECORDS = 10_000  # in flight; kafka-python itself puts no bound on what it buffers
MOST_BYTES = 32 * 1024 * 1024
PATIENCE_S = 1.0
KAFKAS_MOST_BYTES = 1_048_588  # max.message.bytes where the broker does not tell
BATCH_OVERHEAD = 61  # bytes of a batch's header


class KafkaUnreachable(ConnectionError):
    """No broker answers at the addresses of the settings."""


class KafkaRefused(KafkaUnreachable):
    """A broker answers, and will not have us: the password, a certificate or a right is wrong, and stays so."""


class TopicMissing(LookupError):
    """The topic to send to is not there, and is not made by sending to it."""


class DeliveryError(RuntimeError):
    """Kafka takes no more records; sent says what it took before."""

    def __init__(self, sent: "Sent") -> None:
        super().__init__(f"{sent}; what came after was not sent")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of what was to be sent: items acknowledged, in how many records; failed in Kafka; refused before."""

    topic: str
    noun: str
    items: int = 0
    records: int = 0
    failed: int = 0
    first_failure: str = ""
    refused: int = 0
    first_refusal: str = ""

    @property
    def is_complete(self) -> bool:
        """Nothing failed and nothing was refused."""
        return not self.failed and not self.refused

    def __str__(self) -> str:
        text = f"sent {self.items:,} {self.noun} in {self.records:,} records to {self.topic}"
        if self.failed:
            text += f"; {self.failed:,} failed, the first with {self.first_failure}"
        if self.refused:
            text += f"; {self.refused:,} not sent, the first: {self.first_refusal}"
        return text


def build_producer(kafka: KafkaConfig, **overrides: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas; overrides win over the settings, these over the defaults.

    Raises:
        KafkaRefused: it will not have us.
        KafkaUnreachable: no broker answered within bootstrap_timeout_ms.
    """
    config = {**PRODUCER, **kafka, **overrides}
    try:
        with accepted(kafka):
            return KafkaProducer(**config)
    except KafkaTimeoutError as cause:
        raise KafkaUnreachable(
            f"no Kafka broker answers at {addresses(config)} within {config['bootstrap_timeout_ms'] / 1000:g} s "
            f"({cause}): start one, or correct HITPARADE_KAFKA_BOOTSTRAP_SERVERS"
        ) from cause


@contextmanager
def accepted(kafka: KafkaConfig) -> Iterator[None]:
    """Turn what says that a broker will not have us into KafkaRefused."""
    try:
        yield
    except KafkaError as cause:
        if reason := refusal(cause):
            raise KafkaRefused(f"Kafka at {addresses(kafka)} refuses: {reason}") from cause
        raise


def addresses(kafka: KafkaConfig) -> str:
    """Where the brokers are, as settings have it."""
    where = kafka.get("bootstrap_servers", "")
    return where if isinstance(where, str) else ",".join(where)


def most_bytes(kafka: KafkaConfig, topic: str) -> int:
    """How large a batch a topic takes; waits a moment for a topic that was just made.

    The topic is looked for in the list of all, because Tansu makes a topic that a client asks for by name, with
    partitions and settings of its own.

    Raises:
        TopicMissing: it is not there.
        KafkaUnreachable: no broker answered, or it will not have us.
    """
    build_producer(kafka).close()  # where no broker answers, an admin client would leave a thread behind
    deadline = time.monotonic() + PATIENCE_S
    settings = {name: value for name, value in kafka.items() if name in KafkaAdminClient.DEFAULT_CONFIG}
    with accepted(kafka), KafkaAdminClient(**CLIENT, **settings) as admin:
        while topic not in admin.list_topics():
            if time.monotonic() > deadline:
                raise TopicMissing(
                    f"there is no topic {topic} (or none that this user may see): make it with `hitparade topics`"
                )
            time.sleep(0.1)
        every = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        answer = every["topic"].get(topic, {})
    return int(answer.get("max.message.bytes", {"value": KAFKAS_MOST_BYTES})["value"])


class Sender:
    """Sends to one topic, with a bound on what is in flight.

    Every answer is looked at: flush() returns None even when every send failed. What is larger than the topic takes is
    held back here and fails alone; once the broker has refused anything for good, kafka-python's idempotent producer
    fails all that follows, so that ends the sending.
    """

    def __init__(self, kafka: KafkaConfig, topic: str, noun: str, **overrides: Any) -> None:
        self._topic, self._noun = topic, noun
        limit = most_bytes(kafka, topic)
        batch_size = min(limit, kafka.get("batch_size", PRODUCER["batch_size"]))
        sizes = {"max_request_size": limit - BATCH_OVERHEAD, "batch_size": batch_size}
        self._producer = build_producer(kafka, **{**sizes, **overrides})
        self.n_partitions = len(self._producer.partitions_for(topic))
        self._longest_s = self._producer.config["delivery_timeout_ms"] / 1000 + PATIENCE_S
        self._until = 0.0  # by when all that was handed over must have been answered
        self._in_flight: deque[tuple[Any, int, int]] = deque()
        self._bytes = self._items = self._records = self._failed = 0
        self._first_failure = ""
        self._is_hopeless = False

    def send(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        items: int = 1,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Hand over one record that holds so many items; wait while too much is in flight.

        Raises:
            DeliveryError: this record or an earlier one could not be delivered, for a reason that stays.
        """
        try:
            future = self._producer.send(self._topic, value=value, key=key, partition=partition, headers=list(headers))
        except MessageSizeTooLargeError as error:
            self._count_failure(error, items)
        else:
            size = len(value or b"")
            self._until = time.monotonic() + self._longest_s
            self._in_flight.append((future, size, items))
            self._bytes += size
        while self._in_flight and (self._is_full() or self._in_flight[0][0].is_done):
            self._take_answer()
        if self._is_hopeless:
            raise DeliveryError(self.finish())

    @property
    def n_in_flight(self) -> int:
        """Records handed over whose answer has not been looked at."""
        return len(self._in_flight)

    def finish(self) -> Sent:
        """Wait for every answer, and say what became of everything."""
        while self._in_flight:
            self._take_answer()
        return Sent(self._topic, self._noun, self._items, self._records, self._failed, self._first_failure)

    def _is_full(self) -> bool:
        return len(self._in_flight) > MOST_RECORDS or self._bytes > MOST_BYTES

    def _take_answer(self) -> None:
        """Count the oldest record's answer, waiting for it about delivery_timeout_ms at most.

        kafka-python alone may wait for good: what has no producer id, because its broker went away, never expires.
        """
        future, size, items = self._in_flight.popleft()
        self._bytes -= size
        try:
            future.get(timeout=max(0.0, self._until - time.monotonic()))
        except KafkaError as error:
            self._count_failure(error, items)
            self._is_hopeless = True
        else:
            self._items += items
            self._records += 1

    def _count_failure(self, error: KafkaError, items: int) -> None:
        self._failed += items
        self._first_failure = self._first_failure or _named(error)

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an error, an interrupt or a failure wait no longer than a moment for what is in flight."""
        with suppress(KafkaError):  # the answers have said what there is to say
            self._producer.close(5 if error or self._is_hopeless else None)


def _named(error: KafkaError) -> str:
    """The kind of an error and what it says, once."""
    text = str(error)
    return text if text.startswith(type(error).__name__) else f"{type(error).__name__}: {text}"
