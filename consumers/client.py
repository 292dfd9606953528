"""What counting asks of a Kafka client: a member of a group that shares one topic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from features.records import LogRecord
from producers.kafka import KafkaConfig

Found = Mapping[int, tuple[int, Sequence[LogRecord]]]
"""By partition: up to where it was read, and the records on the way."""


class OutOfRange(Exception):
    """The log does not hold the offsets at which these partitions are read."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(f"partitions {partitions} are read outside their logs")
        self.partitions = partitions


class Client(Protocol):
    """A member of a group; it reads only those of its partitions that are started, and only what is committed."""

    def poll(self, timeout_s: float) -> Found:
        """What came of each partition that is read; it waits for the first record, and for no other.

        Offsets without a record of ours, as of an aborted transaction, are passed over.

        Raises:
            OutOfRange: an offset is not in its partition's log any more, or not yet.
            KafkaUnavailable: nobody answers.
        """

    def changes(self) -> Iterator[tuple[bool, int]]:
        """Which partitions were assigned (they wait to be started), and which were taken away, since the last call."""

    def start(self, partition: int, offset: int) -> None:
        """Read an assigned partition from an offset on, whatever was read of it before."""

    def stop(self, partition: int) -> None:
        """Read the partition no more."""

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""

    def end(self, partition: int) -> int | None:
        """The end of the log as the last answer told it; nobody is asked, and any thread may ask."""

    def committed(self, partition: int) -> int | None:
        """What the group last committed, if it ever did."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far the partitions are; nothing depends on its success."""

    def close(self) -> None:
        """Leave the group."""


OpenClient = Callable[[KafkaConfig, str, str, int], Client]
"""Joins a group on a topic: the cluster, the topic, the group, and after how many ms of silence a member is out."""
