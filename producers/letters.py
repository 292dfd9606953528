"""Setting events aside: dead letters and late events, acknowledged before the fence moves."""

import contextlib
import logging
from collections.abc import Mapping, Sequence

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from features.tally import SetAside
from producers.kafka import KafkaConfig, build_producer

log = logging.getLogger(__name__)
MAX_BYTES = 1 << 26  # the topic decides what is too large, not the client
FLUSH_TIMEOUT_S = 30


class LettersUnavailable(Exception):
    """An event could not be set aside, so its span must not be applied."""


class Letters:
    """The topics for what is not counted; connected at the first event that needs one."""

    def __init__(self, kafka: KafkaConfig, source_topic: str, topics: Mapping[str, str]) -> None:
        self.kafka = kafka
        self.source_topic = source_topic
        self.topics = topics
        self._producer: KafkaProducer | None = None

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        """Write every event and wait until all are acknowledged: twice maybe, lost never.

        Raises:
            LettersUnavailable: one of them was not acknowledged.
        """
        if not set_aside:
            return
        try:
            if self._producer is None:
                self._producer = build_producer(self.kafka, max_request_size=MAX_BYTES, delivery_timeout_ms=30_000)
            futures = [self._send(self._producer, partition, event) for event in set_aside]
            self._producer.flush(timeout=FLUSH_TIMEOUT_S)
            for future in futures:  # flush() returns None even when every send failed
                future.get(timeout=0)
        except (KafkaError, AssertionError) as cause:
            self.close()
            names = ", ".join(sorted(self.topics.values()))
            raise LettersUnavailable(f"{len(set_aside)} events could not be set aside in {names}: {cause!r}") from cause

    def _send(self, producer: KafkaProducer, partition: int, event: SetAside) -> FutureRecordMetadata:
        topic = self.topics[event.topic]
        headers = {
            "cause": event.cause,
            "topic": self.source_topic,
            "partition": str(partition),
            "offset": str(event.offset),
            "index": str(event.index),
        }
        return producer.send(
            topic,
            value=event.value,
            key=event.key,
            partition=partition if partition in producer.partitions_for(topic) else None,
            headers=[(f"hitparade-{name}", text.encode()) for name, text in headers.items()],
        )

    def close(self) -> None:
        """Forget the producer: after a failed send an idempotent one may refuse everything."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=1)
        self._producer = None
