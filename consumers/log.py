"""One partition's log read once more, span by span, by a consumer in no group: it disturbs nobody who counts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from consumers.kafka import KafkaUnavailable, available, build_consumer, end_offsets
from consumers.records import decode_here
from consumers.source import Batch
from producers.kafka import KafkaConfig

POLL_TIMEOUT_MS = 200


class LogCut(KafkaUnavailable):
    """The log does not hold what was to be read of it: it was cut while it was read."""


class PartitionLog:
    """A partition, read from `next_offset` on; no more than one poll's records are in memory."""

    def __init__(self, kafka: KafkaConfig, topic: str, partition: int, next_offset: int) -> None:
        self.kafka = kafka
        self.next_offset = next_offset
        self._at = TopicPartition(topic, partition)
        self._consumer = build_consumer(kafka)
        decode_here(self._consumer)
        self._consumer.assign([self._at])
        self._seek(next_offset)

    def _seek(self, offset: int) -> None:
        self._consumer.seek(self._at, offset)
        self.next_offset = offset

    def poll(self) -> Batch | None:
        """The next span, or nothing where nothing has come in a fifth of a second.

        Raises:
            LogCut: the log has lost its beginning meanwhile.
        """
        try:
            with available(self.kafka):
                found = self._consumer.poll(timeout_ms=POLL_TIMEOUT_MS)
                end = self._consumer.position(self._at, timeout_ms=1000) or 0
        except KafkaUnavailable as cause:
            if isinstance(cause.__cause__, OffsetOutOfRangeError):
                raise LogCut(
                    f"{self._name()} does not hold offset {self.next_offset} any more: run it again"
                ) from cause
            raise
        if end <= self.next_offset:
            return None
        start, self.next_offset = self.next_offset, end
        return Batch(self._at.partition, start, end, found.get(self._at, ()))

    def read_to(self, end: int) -> Iterator[Batch]:
        """The spans from where it stands to `end`, and not one record further.

        Raises:
            LogCut: the log ends before that, or has lost its beginning meanwhile.
        """
        while self.next_offset < end:
            batch = self.poll()
            if batch is None:
                self.check_end(end)
            elif batch.end > end:
                self._seek(end)
                yield replace(batch, end=end, records=[record for record in batch.records if record.offset < end])
            else:
                yield batch

    def check_end(self, wanted: int) -> None:
        """Refuse to wait for what the log does not hold.

        Raises:
            LogCut: it ends before the offset.
        """
        found = end_offsets(self.kafka, {self._at.topic: [self._at.partition]})[self._at.topic][self._at.partition]
        if found < wanted:
            raise LogCut(f"{self._name()} ends at offset {found}, before {wanted}: it was cut meanwhile; run it again")

    def _name(self) -> str:
        return f"the log of {self._at.topic} partition {self._at.partition}"

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def __enter__(self) -> "PartitionLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def log_starts(kafka: KafkaConfig, topic: str, partitions: Sequence[int]) -> Mapping[int, int]:
    """The first offset that each partition's log still holds."""
    with closing(build_consumer(kafka)) as consumer, available(kafka):
        found = consumer.beginning_offsets([TopicPartition(topic, partition) for partition in partitions])
    return {at.partition: int(offset) for at, offset in found.items()}
