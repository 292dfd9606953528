"""What a Kafka cluster says of itself, for who looks for what is wrong with it; nothing is changed."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from consumers.kafka import ADMIN, KafkaUnavailable, TopicWatch, available, end_offsets, readable
from consumers.log import log_starts
from producers.kafka import KafkaConfig
from producers.topics import configs_of

BOOTSTRAP_MS = 5_000
LONGEST_LOAD_S = 5.0  # of what a broker that was just started knows of its groups
UNTOLD = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    TopicAuthorizationFailedError,
)
NO_MEMBER = ("Dead", "Empty")


class NotTold(Exception):
    """This broker does not know the question, or does not answer it to this user."""


class Unreadable(Exception):
    """Records are compressed with what is not installed here."""


@dataclass(frozen=True, slots=True)
class Replication:
    """How a partition is replicated: who leads (-1: nobody), who should have it, who is in step."""

    partition: int
    leader: int
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder of a broker, and its bytes."""

    broker: int
    folder: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class SeenLog:
    """A topic as it was at one look, by partition: where its log begins and ends, and what its group has committed."""

    topic: str
    id: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    offsets: Mapping[int, int]

    def topic_id(self) -> str:
        """Its id."""
        return self.id

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""
        return self.starts[partition]

    def committed(self, partition: int) -> int | None:
        """What the group last committed, if it ever did."""
        return self.offsets.get(partition)


class Brokers:
    """A cluster; one connection, opened at the first question."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self.kafka = kafka

    @cached_property
    def _admin(self) -> KafkaAdminClient:
        with available(self.kafka):
            return KafkaAdminClient(**{**ADMIN, "bootstrap_timeout_ms": BOOTSTRAP_MS, **self.kafka})

    def addresses(self) -> dict[int, str]:
        """Where each broker tells clients to come; nothing but the first address has been used yet."""
        return {node.node_id: f"{node.host}:{node.port}" for node in self._admin._manager.cluster.brokers()}

    def unreached(self) -> list[int]:
        """The brokers that do not answer at the address that they advertise; they are all asked at once."""
        brokers = sorted(self.addresses())
        with ThreadPoolExecutor(len(brokers)) as pool:
            reached = list(pool.map(self._is_reached, brokers))
        return [broker for broker, is_reached in zip(brokers, reached, strict=True) if not is_reached]

    def _is_reached(self, broker: int) -> bool:
        try:
            self._admin.get_broker_version_data(broker)
        except KafkaError:
            return False
        return True

    def hidden(self, topics: Sequence[str]) -> list[str]:
        """Those of the topics of which this user may not even know whether they are there."""
        with available(self.kafka):
            found = self._admin.describe_topics(list(topics))
        return sorted(topic["name"] for topic in found if topic["error_code"] == TopicAuthorizationFailedError.errno)

    def names(self) -> list[str]:
        """Every topic that there is."""
        with available(self.kafka):
            return sorted(self._admin.list_topics())

    def replication(self, topics: Sequence[str]) -> dict[str, list[Replication]]:
        """The partitions of those topics that are there, ascending."""
        with available(self.kafka):
            found = self._admin.describe_topics(list(topics))
        return {t["name"]: sorted(map(_replication, t["partitions"]), key=_number) for t in found if t["partitions"]}

    def configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """What topics are set to; none is known where the brokers do not tell, or not this user."""
        try:
            with self._told():
                return configs_of(self._admin, topics)
        except NotTold:
            return {}

    def idle(self, groups: Sequence[str]) -> list[str]:
        """The groups without a member.

        Raises:
            NotTold: this user may not know.
        """
        with available(self.kafka):
            found = self._admin.list_groups()
        busy = {group["group_id"] for group in found if group.get("group_state") not in NO_MEMBER}
        idle = [group for group in groups if group not in busy]
        for group in idle:  # the list leaves out what this user may not see
            self._offsets(group)
        return idle

    def time(self) -> float:
        """What the leader of the controllers takes for the present, in seconds since 1970.

        Source: KIP-836; a leader reports its own clock as when it was last caught up with itself.

        Raises:
            NotTold: it is no KRaft cluster, or this user may not ask.
        """
        with self._told():
            (metadata,) = self._admin.describe_metadata_quorum()["topics"]
        (quorum,) = metadata["partitions"]
        times = {voter["replica_id"]: voter.get("last_caught_up_timestamp", -1) for voter in quorum["current_voters"]}
        millis = times.get(quorum["leader_id"], -1)
        if millis < 0:
            raise NotTold("the controllers do not tell")
        return float(millis) / 1000

    def disks(self) -> list[Disk]:
        """Where the brokers keep their logs.

        Raises:
            NotTold: they are too old to tell, or this user may not ask.
        """
        with self._told():
            found = self._admin.describe_log_dirs([])
        disks = [
            Disk(answer["broker"], folder["log_dir"], folder.get("total_bytes", -1), folder.get("usable_bytes", -1))
            for answer in found
            for folder in answer["log_dirs"]
        ]
        if not disks or any(disk.total < 0 for disk in disks):
            raise NotTold("the brokers do not tell")
        return disks

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with available(self.kafka):
                yield
        except KafkaUnavailable as cause:
            if isinstance(cause.__cause__, UNTOLD):
                raise NotTold(f"the brokers do not tell: {type(cause.__cause__).__name__}") from cause
            raise

    def log(self, topic: str, group: str) -> SeenLog:
        """A topic, and how far a group has come.

        Raises:
            NoSuchTopic: there is none of that name.
        """
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            facts = watch.facts(topic)
        starts = log_starts(self.kafka, topic, facts.partitions)
        ends = end_offsets(self.kafka, {topic: facts.partitions})[topic]
        return SeenLog(topic, facts.topic_id, starts, ends, self._committed(topic, group))

    def _committed(self, topic: str, group: str) -> dict[int, int]:
        try:
            return {at.partition: done.offset for at, done in self._offsets(group).items() if at.topic == topic}
        except NotTold:
            return {}

    def _offsets(self, group: str) -> dict[Any, Any]:
        deadline = time.monotonic() + LONGEST_LOAD_S
        while True:
            try:
                with self._told():
                    found: dict[Any, Any] = self._admin.list_group_offsets({group: None}).get(group, {})
                return found
            except KafkaUnavailable as cause:
                if isinstance(cause.__cause__, CoordinatorNotAvailableError):  # no group has ever committed anything
                    return {}
                if not isinstance(cause.__cause__, CoordinatorLoadInProgressError) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Where each partition's log ends, now."""
        return end_offsets(self.kafka, {topic: sorted(partitions)})[topic]

    def held_back(self, topic: str, partitions: Sequence[int]) -> list[int]:
        """The partitions whose newest record cannot be read, because a transaction before it is still open.

        Raises:
            Unreadable: one is compressed with what is not installed here.
        """
        try:
            newest = {p: end - 1 for p, end in self.ends(topic, partitions).items() if end}
            return sorted(newest.keys() - readable(self.kafka, topic, newest))
        except KafkaUnavailable as cause:
            if isinstance(cause.__cause__, UnsupportedCodecError):
                raise Unreadable(str(cause.__cause__.args[0])) from cause
            raise

    def close(self) -> None:
        """Let go of the connection, if one was opened."""
        if "_admin" in self.__dict__:
            self._admin.close()


def _replication(partition: Mapping[str, Any]) -> Replication:
    return Replication(
        partition["partition_index"],
        partition["leader_id"],
        len(partition["replica_nodes"]),
        len(partition["isr_nodes"]),
    )


def _number(replication: Replication) -> int:
    return replication.partition
