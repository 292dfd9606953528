"""What both Bytewax scripts share: the source, and a sink that keeps the last value of each key."""

from typing import Any

import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import OFFSET_BEGINNING

from benchmarks.peer_scripts.task import Task

BATCH = 5000  # its default of 1000 is slower
CLIENT = {"fetch.queue.backoff.ms": "10", "isolation.level": "read_committed"}


class Event(msgspec.Struct):
    """The wire contract."""

    session_id: int
    timestamp: str
    user_id: int
    track_id: str
    event_type: str


decode = msgspec.json.Decoder(Event).decode


def source(task: Task) -> KafkaSource:
    """All partitions from their beginnings to their ends."""
    return KafkaSource(
        [task.kafka], [task.topic], tail=False, starting_offset=OFFSET_BEGINNING, add_config=CLIENT, batch_size=BATCH
    )


class Keeping(DynamicSink[Any]):
    """Keeps the last value of each key; tells of each item where each is an event."""

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.kept: list[Any] = []
        self.last: dict[str, Any] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        """One for the only worker."""
        return _Partition(self)


class _Partition(StatelessSinkPartition[Any]):
    def __init__(self, sink: Keeping) -> None:
        self.sink = sink

    def write_batch(self, items: list[Any]) -> None:
        if self.sink.task:
            self.sink.last.update(items)
            self.sink.task.add(len(items))
        else:
            self.sink.kept += items
