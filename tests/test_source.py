"""What a source promises, with each client on each broker; and what the watchdog rests on."""

import contextlib
import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.future import Future

from consumers.client import OpenClient, OutOfRange
from consumers.confluent import Confluent
from consumers.kafka import KafkaUnavailable, TopicFacts, TopicWatch, build_consumer, readable
from consumers.kafka_python import KafkaPython
from consumers.source import Batch, Source
from producers.kafka import CLIENT, build_producer
from producers.publisher import Message, Publisher
from producers.topics import TopicSpec, ensure_topics
from tests.servers import wait_until

CLIENTS: list[OpenClient] = [KafkaPython, Confluent]


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


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> OpenClient:
    """Each client in turn."""
    chosen: OpenClient = request.param
    return chosen


@pytest.fixture
def source(kafka: str, topic: str, client: OpenClient) -> Iterator[Source]:
    with contextlib.closing(Source({"bootstrap_servers": kafka}, topic, topic, 6000, client)) as source:
        yield source


def polled(source: Source, wanted: int) -> list[Batch]:
    """Poll until both partitions have begun and one batch has come to the offset."""
    found: list[Batch] = []

    def is_there() -> bool:
        for partition in list(source.waiting):
            source.start(partition, 0)
        found.extend(source.poll(0.2))
        return len(source.positions) == 2 and any(batch.end >= wanted for batch in found)

    wait_until(is_there, f"records up to offset {wanted}")
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
    with contextlib.closing(KafkaProducer(**CLIENT, bootstrap_servers=apache, transactional_id=prefix)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"open", partition=0).get(timeout=60)
        send(apache, topic, b"behind it")
        assert readable(config, topic, {0: 0, 1: 0}) == {}
        producer.abort_transaction()
    wait_until(lambda: readable(config, topic, {0: 0, 1: 0}) == {0: 3}, "the marker")
    assert readable(config, topic, {0: 2}) == {0: 3}, "a marker alone moves a fence"


def test_a_source_that_is_rebuilt_gets_its_partitions_anew(kafka: str, topic: str, source: Source) -> None:
    send(kafka, topic, b"a", b"b")
    assert [record.value for batch in polled(source, 2) for record in batch.records] == [b"a", b"b"]
    source.goes_on(0, 2)
    old = source.client
    for partition in (0, 1):
        old.stop(partition)  # and nothing more comes
    send(kafka, topic, b"c")
    assert source.poll(0.5) == []
    assert source.withheld([0, 1]) == {0: 3}
    source.rebuild()
    assert source.client is not old
    assert not source.positions
    assert [record.value for batch in polled(source, 3) for record in batch.records] == [b"a", b"b", b"c"]
    assert source.holds(0)
    assert not source.holds(7)


def test_records_come_as_they_were_written(kafka: str, topic: str, source: Source) -> None:
    headers = [("a", b"\xff"), ("", b""), ("a", b"again")]
    with contextlib.closing(build_producer({"bootstrap_servers": kafka})) as producer:
        producer.send(topic, b"value", b"key", headers=headers, partition=0, timestamp_ms=1_700_000_000_123)
        producer.send(topic, None, b"key", partition=0, timestamp_ms=0)
        producer.send(topic, b"", partition=0, timestamp_ms=5)
    records = [record for batch in polled(source, 3) for record in batch.records]
    assert [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records] == [
        (0, 1_700_000_000_123, b"key", b"value", headers),
        (1, 0, b"key", None, []),
        (2, 5, None, b"", []),
    ]


def test_what_was_read_ahead_of_a_new_start_does_not_come(kafka: str, topic: str, source: Source) -> None:
    send(kafka, topic, *[b"%d" % n for n in range(3000)])
    polled(source, 1)
    source.start(0, 7)
    (batch,) = polled(source, 8)
    assert (batch.start, batch.records[0].offset, batch.records[0].value) == (7, 7, b"7")
    assert [record.offset for record in batch.records] == list(range(7, batch.end))


def test_a_partition_that_is_stopped_gives_nothing_and_the_others_go_on(kafka: str, topic: str, source: Source) -> None:
    send(kafka, topic, b"first")
    polled(source, 1)
    source.stop(0)
    send(kafka, topic, b"second")
    with contextlib.closing(Publisher({"bootstrap_servers": kafka})) as publisher:
        publisher.publish([Message(topic, b"key", b"other", partition=1)])
    found: list[Batch] = []
    wait_until(lambda: found.extend(source.poll(0.2)) or found, "the other partition")  # type: ignore[func-returns-value]
    assert [(batch.partition, batch.end) for batch in found] == [(1, 1)]
    assert source.holds(0)


def test_a_poll_brings_a_bounded_number_of_records(
    kafka: str, topic: str, client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.confluent.MOST_RECORDS", 20)
    monkeypatch.setattr("consumers.confluent.AT_ONCE", 10)
    monkeypatch.setattr("consumers.kafka_python.MOST_RECORDS", 20)
    send(kafka, topic, *[b"%d" % n for n in range(200)])
    with contextlib.closing(Source({"bootstrap_servers": kafka}, topic, topic, 6000, client)) as source:
        batches = polled(source, 1)
        assert 0 < len(batches[-1].records) <= 30
        assert all(len(batch.records) <= 30 for batch in polled(source, 200))


def test_a_join_for_more_partitions_that_outlasts_a_poll_is_finished(apache: str, prefix: str) -> None:
    config = {"bootstrap_servers": apache}
    ensure_topics(config, [TopicSpec(prefix, 1, {})], -1)
    with contextlib.closing(Source(config, prefix, prefix, 6000)) as source:

        def holds(partition: int) -> bool:
            source.poll(0.2)
            return source.holds(partition)

        wait_until(lambda: holds(0), "the first partition")
        client: Any = source.client
        coordinator = client.consumer._coordinator
        join = coordinator._do_join_and_sync_async

        async def slowly() -> Any:
            answer = await join()
            await coordinator._net.sleep(0.3)
            return answer

        coordinator._do_join_and_sync_async = slowly
        with contextlib.closing(KafkaAdminClient(**CLIENT, **config)) as admin:
            admin.create_partitions({prefix: 2})
        wait_until(lambda: holds(1), "the other one")


def test_nothing_stays_of_a_wait_that_timed_out(kafka: str) -> None:
    """It would be with the answers that a poll has got, megabytes, until the garbage collector comes by."""
    with contextlib.closing(build_consumer({"bootstrap_servers": kafka})) as consumer:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                answer = Future()
                with contextlib.suppress(KafkaTimeoutError):  # as a poll waits for what it fetches
                    consumer._net.run(consumer._manager.wait_for, answer, 1)
                answer.success(None)
            assert sum(type(one) is KafkaTimeoutError for one in gc.get_objects()) <= 1
        finally:
            gc.enable()


def test_a_topic_is_asked_after_anew_once_what_is_known_of_it_could_be_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How old it is counts from the question: nobody knows how long the answer was on its way."""
    now, ids, watch = [0.0], iter("abc"), TopicWatch({})

    def ask(topic: str) -> TopicFacts:
        now[0] += 0.2
        return TopicFacts(next(ids), (0,))

    monkeypatch.setattr("consumers.kafka.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(watch, "_ask", ask)
    seen = []
    for at in (0.0, 0.29, 0.31, 0.6, 0.62):
        now[0] = at
        seen.append(watch.facts("t").topic_id)
    assert seen == ["a", "a", "b", "b", "c"]


def test_an_offset_that_the_log_does_not_hold_is_told_of(kafka: str, topic: str, source: Source) -> None:
    send(kafka, topic, b"a", b"b", b"c")
    polled(source, 3)
    source.start(0, 99)

    def fails() -> bool:
        with contextlib.suppress(KafkaUnavailable):
            assert [batch for batch in source.poll(0.5) if batch.partition == 0] == []
        return False

    with pytest.raises(OutOfRange) as caught:
        wait_until(fails, "it to be told")
    assert caught.value.partitions == [0]
    source.rewind()
    source.start(0, 1)
    assert [record.value for batch in polled(source, 3) for record in batch.records] == [b"b", b"c"]


def test_an_offset_that_the_log_holds_no_more_is_told_of(apache: str, prefix: str, client: OpenClient) -> None:
    topic, config = two_partitions(apache, prefix), {"bootstrap_servers": apache}
    send(apache, topic, b"a", b"b", b"c")
    with KafkaAdminClient(**CLIENT, **config) as admin:
        admin.delete_records({TopicPartition(topic, 0): 2})
    with contextlib.closing(Source(config, topic, prefix, 6000, client)) as source:
        with pytest.raises(OutOfRange):
            polled(source, 3)
        assert source.log_start(0) == 2
        source.start(0, 2)
        assert [(b.start, b.end, [r.value for r in b.records]) for b in polled(source, 3)] == [(2, 3, [b"c"])]


def test_a_span_goes_on_past_what_is_not_a_record_of_ours(apache: str, prefix: str, client: OpenClient) -> None:
    """What was aborted, and the markers of the log's end."""
    topic, config = two_partitions(apache, prefix), {"bootstrap_servers": apache}
    with contextlib.closing(KafkaProducer(**CLIENT, bootstrap_servers=apache, transactional_id=prefix)) as producer:
        producer.init_transactions()
        for value in (b"aborted", b"first", b"second", b"third", b"aborted"):
            producer.begin_transaction()
            producer.send(topic, value, partition=0).get(timeout=60)
            producer.abort_transaction() if value == b"aborted" else producer.commit_transaction()
    with contextlib.closing(Source(config, topic, prefix, 6000, client)) as source:
        records = [record for batch in polled(source, 10) for record in batch.records]
        assert {record.offset: record.value for record in records[:3]} == {2: b"first", 4: b"second", 6: b"third"}
        source.goes_on(0, 10)
        assert source.poll(0.5) == []


def test_the_end_of_a_log_is_known_though_it_came_with_the_last_records(
    apache: str, prefix: str, client: OpenClient
) -> None:
    topic, config, pause = two_partitions(apache, prefix), {"bootstrap_servers": apache}, threading.Event()
    with contextlib.closing(KafkaProducer(**CLIENT, bootstrap_servers=apache, transactional_id=prefix)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for value in (b"a", b"b", b"c"):
            producer.send(topic, value, partition=0)
        producer.commit_transaction()
    with contextlib.closing(Source(config, topic, prefix, 6000, client)) as source:
        polled(source, 4)

        def comes_at_once() -> bool:
            source.start(0, 0)
            source.poll(0)
            pause.wait(0.3)
            return [(batch.end, len(batch.records)) for batch in source.poll(0.2)] == [(4, 3)]

        wait_until(comes_at_once, "the marker with the records before it")
        source.start(0, 3)
        assert polled(source, 4)[-1] == Batch(0, 3, 4, ()), "and again, where it is all there is"


def poll_until(source: Source, stop: threading.Event) -> None:
    while not stop.is_set():
        source.poll(0.2)


def test_members_with_either_client_share_a_topic(kafka: str, topic: str) -> None:
    with contextlib.ExitStack() as stack:
        config = {"bootstrap_servers": kafka}
        sources = [
            stack.enter_context(contextlib.closing(Source(config, topic, topic, 6000, client))) for client in CLIENTS
        ]

        def have_one_each() -> bool:
            return sorted(source.holds(0) + 2 * source.holds(1) for source in sources) == [1, 2]

        stop = threading.Event()
        for source in sources:  # each at its own pace, as in processes of their own
            thread = threading.Thread(target=poll_until, args=(source, stop))
            stack.callback(thread.join)
            thread.start()
        stack.callback(stop.set)
        wait_until(have_one_each, "one partition for each", 90)
