"""Publishing a few records that must all be there before anything goes on."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from producers.kafka import KafkaConfig, KafkaRefused, KafkaUnreachable, accepted, build_producer

MAX_BYTES = 1 << 26  # the topic decides what is too large, not the client
TIMEOUT_S = 30


class NotAcknowledged(Exception):
    """Kafka has not taken every record; some may be there all the same, and may be sent again."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record to publish; to a partition of its own where the topic has that one, else by its key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None

    def with_headers(self, headers: tuple[tuple[str, bytes], ...]) -> "Message":
        """The same with more headers."""
        return replace(self, headers=(*self.headers, *headers)) if headers else self


class Publisher:
    """Connected at the first record, and anew after a failure: an idempotent producer may then refuse everything."""

    def __init__(self, kafka: KafkaConfig, compression_type: str | None = None) -> None:
        self.kafka = kafka
        self.compression_type = compression_type
        self._producer: KafkaProducer | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Write every record and wait until all are acknowledged: twice maybe, lost never.

        Raises:
            KafkaRefused: it will never take them from us.
            NotAcknowledged: one of them was not taken.
        """
        if not messages:
            return
        try:
            if self._producer is None:
                self._producer = build_producer(
                    self.kafka,
                    compression_type=self.compression_type,
                    delivery_timeout_ms=TIMEOUT_S * 1000,
                    linger_ms=5,
                    max_request_size=MAX_BYTES,
                )
            with accepted(self.kafka):
                futures = [self._send(self._producer, message) for message in messages]
                for future in futures:  # flush() says nothing of a send that failed, and fails for a batch it split
                    future.get(timeout=TIMEOUT_S)
        except KafkaRefused:
            self.close()
            raise
        except (KafkaError, KafkaUnreachable) as cause:
            self.close()
            topics = ", ".join(sorted({message.topic for message in messages}))
            raise NotAcknowledged(f"{topics} did not take all of {len(messages)} records: {cause!r}") from cause

    def _send(self, producer: KafkaProducer, message: Message) -> FutureRecordMetadata:
        partition = message.partition
        if partition is not None and partition not in producer.partitions_for(message.topic):
            partition = None
        return producer.send(
            message.topic, message.value, key=message.key, headers=list(message.headers), partition=partition
        )

    def close(self) -> None:
        """Let go of the producer, if there is one."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=1)
        self._producer = None
