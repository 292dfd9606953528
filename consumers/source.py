"""A topic as spans of offsets, shared with the other consumers of a group.

Where a partition begins is the fence's business, never Kafka's: the committed offset is for lag dashboards.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from consumers.client import OpenClient
from consumers.kafka import TopicWatch, place, readable
from consumers.kafka_python import KafkaPython
from features.records import LogRecord
from producers.kafka import KafkaConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read of one partition: the span [start, end), which may hold fewer records than offsets, or none."""

    partition: int
    start: int
    end: int
    records: Sequence[LogRecord]


class Source:
    """A topic's partitions, shared with the other consumers of the group."""

    def __init__(
        self, kafka: KafkaConfig, topic: str, group: str, session_timeout_ms: int, client: OpenClient = KafkaPython
    ) -> None:
        self.kafka = kafka
        self.topic = topic
        self.watch = TopicWatch(kafka)
        self._open = partial(client, kafka, topic, group, session_timeout_ms)
        self._next: dict[int, int] = {}
        self._held: set[int] = set()
        self.waiting: list[int] = []
        """Assigned partitions that have not been told yet where to begin."""
        self.n_assigned = 0
        """How often the group has given this consumer a partition."""
        with ExitStack() as failed:  # whose clients would go on asking for as long as the process lives
            failed.callback(self.watch.close)
            self.watch.facts(topic)
            self.client = self._open()
            failed.pop_all()

    def rebuild(self) -> None:
        """Join the group anew, with a client that remembers nothing; every partition begins at its fence.

        Raises:
            KafkaUnavailable: nobody answers; all is as it was.
        """
        successor = self._open()
        self.client.close()
        self._next.clear()
        self._held.clear()
        self.waiting.clear()
        self.client = successor

    @property
    def positions(self) -> Mapping[int, int]:
        """Where every partition that is being read goes on."""
        return self._next

    def holds(self, partition: int) -> bool:
        """Whether the partition is this consumer's, read or not."""
        return partition in self._held

    def withheld(self, partitions: Sequence[int]) -> dict[int, int]:
        """Those of the partitions of which another client gets more than has come here, and where their logs end."""
        return readable(self.kafka, self.topic, {p: self._next[p] for p in partitions if p in self._next})

    def start(self, partition: int, offset: int) -> None:
        """Read the partition from an offset on."""
        if partition in self.waiting:
            self.waiting.remove(partition)
        if self.holds(partition):
            self._next[partition] = offset
            self.client.start(partition, offset)

    def stop(self, partition: int) -> None:
        """Leave the partition alone for as long as it is assigned."""
        self._next.pop(partition, None)
        if partition in self.waiting:
            self.waiting.remove(partition)
        self.client.stop(partition)

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
            found = self.client.poll(timeout_s)
        finally:
            self._note_changes()
        spans = [(partition, start, *found.get(partition, (start, ()))) for partition, start in self._next.items()]
        return [Batch(partition, start, end, records) for partition, start, end, records in spans if end > start]

    def _note_changes(self) -> None:
        for assigned, partition in self.client.changes():
            what = self.topic, partition, "assigned" if assigned else "taken away"
            log.debug("%s partition %d is %s", *what, extra=place(self.topic, partition))
            self.watch.forget(self.topic)  # what made the group change may be that the topic was created anew
            self._next.pop(partition, None)
            self._held.discard(partition)
            if partition in self.waiting:
                self.waiting.remove(partition)
            if assigned:
                self.n_assigned += 1
                self._held.add(partition)
                self.waiting.append(partition)

    def goes_on(self, partition: int, offset: int) -> None:
        """Begin the partition's next span at this offset: what was before it is in good hands."""
        if partition in self._next:
            self._next[partition] = offset

    def rewind(self) -> None:
        """Read again what is in nobody's hands."""
        for partition, offset in list(self._next.items()):
            self.start(partition, offset)

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""
        return self.client.log_start(partition)

    def end(self, partition: int) -> int | None:
        """The end of the log as the last answer told it; any thread may ask."""
        return self.client.end(partition)

    def committed(self, partition: int) -> int | None:
        """What the group last committed, if it ever did."""
        return self.client.committed(partition)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far the fences are, for lag dashboards; nothing depends on its success."""
        if offsets:
            self.client.commit(offsets)

    def topic_id(self) -> str:
        """The topic's id, as it was not long ago."""
        return self.watch.facts(self.topic).topic_id

    def close(self) -> None:
        """Leave the group."""
        self.client.close()
        self.watch.close()
