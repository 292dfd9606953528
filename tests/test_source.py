"""What the watchdog rests on, on both brokers: another client's word, and a new client for the old one."""

import contextlib
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from consumers.kafka import readable
from consumers.source import Batch, Source
from producers.publisher import Message, Publisher
from producers.topics import TopicSpec, ensure_topics
from tests.servers import wait_until


@pytest.fixture
def topic(kafka: str, prefix: str) -> str:
    return two_partitions(kafka, prefix)


def two_partitions(kafka: str, name: str) -> str:
    ensure_topics({"bootstrap_servers": kafka}, [TopicSpec(name, 2, {})], -1)
    return name


def send(kafka: str, topic: str, *values: bytes) -> None:
    """To partition 0."""
    with contextlib.closing(Publisher({"bootstrap_servers": kafka})) as publisher:
        publisher.publish([Message(topic, b"key", value, partition=0) for value in values])


@pytest.fixture
def source(kafka: str, topic: str) -> Iterator[Source]:
    with contextlib.closing(Source({"bootstrap_servers": kafka}, topic, topic, 6000)) as source:
        yield source


def polled(source: Source, wanted: int) -> list[Batch]:
    """Poll until both partitions have begun and one batch has come to the offset."""
    found: list[Batch] = []

    def is_there() -> bool:
        for partition in list(source.waiting):
            source.start(partition, 0)
        found.extend(source.poll(0.2))
        return len(source.positions) == 2 and any(batch.end >= wanted for batch in found)

    wait_until(is_there, 30, f"records up to offset {wanted}")
    return found


def test_a_partition_is_readable_where_there_is_more_than_has_come(kafka: str, topic: str) -> None:
    config = {"bootstrap_servers": kafka}
    assert readable(config, topic, {0: 0, 1: 0}) == {}
    send(kafka, topic, b"a", b"b", b"c")
    assert readable(config, topic, {0: 0, 1: 0}) == {0: 3}
    assert readable(config, topic, {0: 2}) == {0: 3}
    assert readable(config, topic, {0: 3, 1: 0}) == {}


def test_what_an_open_transaction_holds_back_is_not_readable(apache: str, prefix: str) -> None:
    topic, config = two_partitions(apache, prefix), {"bootstrap_servers": apache}
    with contextlib.closing(KafkaProducer(bootstrap_servers=apache, transactional_id=prefix)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"open", partition=0).get(timeout=30)
        send(apache, topic, b"behind it")
        assert readable(config, topic, {0: 0, 1: 0}) == {}
        producer.abort_transaction()
    wait_until(lambda: readable(config, topic, {0: 0, 1: 0}) == {0: 3}, 10, "the marker")
    assert readable(config, topic, {0: 2}) == {0: 3}, "a marker alone moves a fence"


def test_a_source_that_is_rebuilt_gets_its_partitions_anew(kafka: str, topic: str, source: Source) -> None:
    send(kafka, topic, b"a", b"b")
    assert [record.value for batch in polled(source, 2) for record in batch.records] == [b"a", b"b"]
    source.applied(0, 2)
    old = source.consumer
    old.pause(*old.assignment())  # and nothing more comes
    send(kafka, topic, b"c")
    assert source.poll(0.5) == []
    assert source.withheld([0, 1]) == {0: 3}
    source.rebuild()
    assert source.consumer is not old
    assert not source.positions
    assert [record.value for batch in polled(source, 3) for record in batch.records] == [b"a", b"b", b"c"]
    assert source.holds(0)
    assert not source.holds(7)
