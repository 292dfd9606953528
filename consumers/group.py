"""An ordinary member of a consumer group, for what is done record by record."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from consumers.kafka import TopicWatch, available, build_consumer, end_offsets, keep_joining, leave, place_of
from producers.kafka import KafkaConfig

log = logging.getLogger(__name__)


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
        )
        self._consumer.subscribe([topic], listener=_Calling(on_assigned))
        self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> Any:
        """The next record, or None."""
        keep_joining(self._consumer)
        with available(self.kafka):
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return next((record for records in found.values() for record in records), None)

    def keep_membership(self) -> None:
        """Poll without taking a record."""
        keep_joining(self._consumer)
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
            told = record.offset, self.topic, cause
            log.warning("offset %d of %s is not committed: %r", *told, extra=place_of(record))

    def has_read_everything(self) -> bool:
        """True when the group has committed up to the end of every partition, whoever did."""
        ends = end_offsets(self.kafka, {self.topic: self.partitions})[self.topic]
        with available(self.kafka):
            committed = {p: self._consumer.committed(TopicPartition(self.topic, p), timeout_ms=10_000) for p in ends}
        return all((committed[partition] or 0) >= end for partition, end in ends.items())

    def close(self) -> None:
        """Leave the group."""
        leave(self._consumer)
