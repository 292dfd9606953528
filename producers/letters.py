"""Setting events aside: dead letters and late events, acknowledged before the fence moves."""

from collections.abc import Mapping, Sequence

from features.duplicates import Origin
from features.parts import SetAside
from producers.kafka import KafkaConfig
from producers.publisher import Message, Publisher

MOST_AT_ONCE = 5000  # one small record may hold half a million events that are none


class Letters:
    """The topics for what is not counted, by the name that SetAside.topic gives them."""

    def __init__(self, kafka: KafkaConfig, source_topic: str, topics: Mapping[str, str]) -> None:
        self.source_topic = source_topic
        self.topics = topics
        # The source took what was compressed by its compressed size; the letter must not be larger.
        self._publisher = Publisher(kafka, compression_type="gzip")

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        """Write every event with the headers that identify it; of a replay they name where it was first read.

        Raises:
            NotAcknowledged: one of them was not taken, so its span must not be applied.
        """
        for first in range(0, len(set_aside), MOST_AT_ONCE):
            events = set_aside[first : first + MOST_AT_ONCE]
            self._publisher.publish([self._message(partition, event) for event in events])

    def _message(self, partition: int, event: SetAside) -> Message:
        origin = event.origin or Origin(partition, event.offset, event.index)
        headers = (("hitparade-cause", event.cause.encode()), *origin.headers(self.source_topic))
        # Kafka's clients refuse a record with neither key nor value; null becomes empty.
        value = b"" if event.key is None and event.value is None else event.value
        return Message(self.topics[event.topic], event.key, value, headers, partition)

    def close(self) -> None:
        """Let go of the connection."""
        self._publisher.close()
