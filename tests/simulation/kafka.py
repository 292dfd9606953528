"""A cluster without brokers: a topic, a group, and a client with what the product uses of kafka-python's."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, Protocol, TypeVar

from kafka import TopicPartition
from kafka.errors import IllegalStateError, KafkaTimeoutError, OffsetOutOfRangeError

from tests.builders import Record
from tests.simulation.logs import TOPIC, Log

T = TypeVar("T")
MOST_AT_ONCE = 4


class World(Protocol):
    """Where the clients live."""

    random: random.Random
    cluster: "Cluster"
    is_calm: bool

    def edge(self, name: str, call: Callable[[], T], failure: type[Exception] | None) -> T:
        """Do it; before and after, anything may happen."""

    def tick(self, seconds: float) -> None:
        """Let time pass."""


@dataclass
class PartitionLog:
    """What there is of a log by now: [start, end)."""

    log: Log
    start: int = 0
    end: int = 0

    def grow(self, by: int) -> None:
        self.end = min(len(self.log.records), self.end + by)

    def between(self, first: int, last: int) -> list[Record]:
        return [record for record in self.log.records[first:last] if record]


@dataclass
class Topic:
    """A topic from its creation to its deletion."""

    topic_id: str
    logs: list[PartitionLog]
    n_partitions: int
    is_deleted: bool = False

    @property
    def partitions(self) -> dict[int, PartitionLog]:
        return dict(enumerate(self.logs[: self.n_partitions]))


@dataclass
class Cluster:
    """The topic, the group's clients with their shares, and what the group has committed."""

    topic: Topic
    does_tell_beyond_end: bool = True
    """Tansu gives nothing where a log is read past its end."""
    generation: int = 0
    shares: dict["Client", list[int]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)

    def assign(self, owners: Mapping[int, Sequence["Client"]]) -> None:
        """Give every partition to its owners, who learn of it when they poll."""
        self.generation += 1
        self.shares = {client: [p for p, own in owners.items() if client in own] for client in self.shares}

    def share_out(self) -> None:
        """Give every partition to one client, all in turn."""
        clients = list(self.shares)
        self.assign(
            {p: [clients[(p + self.generation) % len(clients)]] for p in self.topic.partitions} if clients else {}
        )


@dataclass
class _State:
    position: int | None = None
    is_paused: bool = False
    highwater: int | None = None
    is_deaf: bool = False
    """The client does not get what there is, as clients sometimes do."""


class Client:
    """A consumer: a member of the group where it has a group_id."""

    config: Mapping[str, Any] = MappingProxyType({"api_version": (3, 9)})
    """Whose joins a stop waits for."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        self._fetcher = SimpleNamespace()  # whose records are decoded elsewhere
        self._coordinator = SimpleNamespace(rejoining=False)
        self._net = SimpleNamespace(run=None)  # by which no call goes
        self.is_member = "group_id" in settings
        self.states: dict[TopicPartition, _State] = {}
        self.generation = -1
        self.told_committed: dict[int, int | None] = {}
        """What it was told last that the group has committed."""
        self.is_between = False
        """Its partitions were revoked, and it has not been told yet what it gets."""
        world.edge("connect", lambda: None, KafkaTimeoutError)

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        self.listener = listener

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.states = {at: _State() for at in partitions}

    def assignment(self) -> set[TopicPartition]:
        return set(self.states)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.world.edge("metadata", lambda: set(self.world.cluster.topic.partitions), KafkaTimeoutError)

    def poll(self, timeout_ms: int = 0) -> dict[TopicPartition, list[Record]]:
        return self.world.edge("poll", self._poll, KafkaTimeoutError)

    def _poll(self) -> dict[TopicPartition, list[Record]]:
        if self.is_member:
            self._follow_the_group()
        found = {} if self.is_between else dict(self._fetch())
        self.world.tick(0.05 if found else 0.5 if self.states else 2.0)
        return found

    def _follow_the_group(self) -> None:
        """Take up what the group has decided since: all is revoked, then all is assigned, maybe a poll later."""
        cluster = self.world.cluster
        if self not in cluster.shares:
            cluster.shares[self] = []
            if self.world.is_calm or self.world.random.random() < 0.7:
                cluster.share_out()
        if self.generation == cluster.generation:
            return
        if self.states and not self.is_between:
            self.is_between = True
            self.listener.on_partitions_revoked(list(self.states))
            if not self.world.is_calm and self.world.random.random() < 0.3:
                return
        share = [TopicPartition(TOPIC, partition) for partition in cluster.shares[self]]
        self.generation, self.is_between = cluster.generation, False
        self.states = {at: self.states.get(at) or _State() for at in share}
        self.listener.on_partitions_assigned(share)

    def _fetch(self) -> Iterator[tuple[TopicPartition, list[Record]]]:
        topic = self.world.cluster.topic
        for at, state in self.states.items():
            log = topic.partitions.get(at.partition)
            if log is None or state.is_paused or state.position is None or topic.is_deleted:
                continue
            if state.position < log.start and not self.is_member:
                state.position = log.start
            if state.position < log.start or (state.position > log.end and self.world.cluster.does_tell_beyond_end):
                raise OffsetOutOfRangeError({at: state.position})
            state.highwater = log.end
            end = min(log.end, state.position + self._n_offsets())
            if end > state.position and not state.is_deaf:
                records = log.between(state.position, end)
                state.position = end
                if records:
                    yield at, records

    def _n_offsets(self) -> int:
        if self.world.is_calm or not self.is_member:
            return MOST_AT_ONCE
        return self.world.random.randint(0, MOST_AT_ONCE)

    def position(self, at: TopicPartition, timeout_ms: int = 0) -> int | None:
        return self.world.edge("position", lambda: self._at(at).position, KafkaTimeoutError)

    def highwater(self, at: TopicPartition) -> int | None:
        return self._at(at).highwater

    def _at(self, at: TopicPartition) -> _State:
        if at not in self.states:
            raise IllegalStateError("Partition is not assigned")
        return self.states[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        if at not in self.states:
            raise ValueError("Unassigned partition")
        self.states[at].position = offset

    def pause(self, *partitions: TopicPartition) -> None:
        for at in partitions:
            self.states[at].is_paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        for at in partitions:
            self.states[at].is_paused = False

    def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return self.world.edge("log start", lambda: {at: self._log(at).start for at in partitions}, KafkaTimeoutError)

    def _log(self, at: TopicPartition) -> PartitionLog:
        topic = self.world.cluster.topic
        if topic.is_deleted or at.partition not in topic.partitions:
            raise KafkaTimeoutError("there is no such partition")
        return topic.partitions[at.partition]

    def committed(self, at: TopicPartition, timeout_ms: int = 0) -> int | None:
        return self.world.edge("committed", lambda: self._committed(at.partition), KafkaTimeoutError)

    def _committed(self, partition: int) -> int | None:
        self.told_committed[partition] = self.world.cluster.committed.get(partition)
        return self.told_committed[partition]

    def commit_async(self, offsets: Mapping[TopicPartition, Any]) -> None:
        self.world.edge("commit", lambda: self._commit(offsets), None)

    def _commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        """What the group does not take, nobody is told of."""
        is_lost = not self.world.is_calm and self.world.random.random() < 0.2
        if self.generation == self.world.cluster.generation and not is_lost:
            self.world.cluster.committed.update({at.partition: found.offset for at, found in offsets.items()})

    def close(self, timeout_ms: int = 0) -> None:
        if self.world.cluster.shares.pop(self, None) is not None:
            self.world.cluster.share_out()


class Admin:
    """A client that knows what topics there are."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world

    def describe_topics(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        return self.world.edge("describe", self._describe, KafkaTimeoutError)

    def _describe(self) -> list[dict[str, Any]]:
        topic = self.world.cluster.topic
        partitions = [] if topic.is_deleted else [{"partition_index": p} for p in topic.partitions]
        return [{"error_code": 3 if topic.is_deleted else 0, "topic_id": topic.topic_id, "partitions": partitions}]

    def close(self) -> None:
        """Nothing is open."""
