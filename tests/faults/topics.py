"""What an operator does to topics, and to whom leads them."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from tests.servers import wait_until


@contextlib.contextmanager
def operator(kafka: str) -> Iterator[Any]:
    """An operator's connection, which soon gives up on a broker that hangs."""
    patience = {"request_timeout_ms": 8000, "bootstrap_timeout_ms": 8000}
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=kafka, **patience)) as admin:
        yield admin


def configure(kafka: str, topic: str, settings: Mapping[str, str]) -> None:
    """Change settings of a topic."""
    with operator(kafka) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


def reset(kafka: str, topic: str, *names: str) -> None:
    """Give a topic's settings the values that the broker has for them."""
    with operator(kafka) as admin:
        admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names))])


def delete(kafka: str, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    with operator(kafka) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), f"{topic} to be gone")


def delete_records(kafka: str, topic: str, before: Mapping[int, int]) -> None:
    """Delete every record before an offset, by partition."""
    with operator(kafka) as admin:
        admin.delete_records({TopicPartition(topic, partition): offset for partition, offset in before.items()})


def leaders(kafka: str, topic: str) -> dict[int, int]:
    """The broker that leads each partition; -1 where there is none."""
    with operator(kafka) as admin:
        (found,) = admin.describe_topics([topic])
    return {partition["partition_index"]: partition["leader_id"] for partition in found["partitions"]}
