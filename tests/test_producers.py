"""Files into Kafka: everything arrives once, in order, where Kafka's own clients would put it, or is counted."""

import gc
import gzip
import json
import socket
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic
from kafka.net.inet import create_connection
from kafka.partitioner import DefaultPartitioner

from consumers.kafka import build_consumer
from features.events import BadRecord, decode
from features.topics import Topics
from hitparade.embedded import Embedded, embedded
from hitparade.processes import HOST
from producers.arrays import Key, paced, partition_of, place
from producers.connection import _Wide
from producers.files import SourceError, read_all_lines
from producers.kafka import CLIENT, DeliveryError, KafkaUnreachable, Sender, Sent, TopicMissing, build_producer
from producers.sessions import in_event_time, produce_sessions, send_sessions
from producers.tracks import produce_tracks
from tests.servers import free_port_pair

N_PARTITIONS = 3
PLAY = b'{"session_id": 125, "timestamp": "2023-06-17T10:09:50", "user_id": 101, "track_id": "a", "event_type": "play"}'
AT = '{{"timestamp": {}, "user_id": 1, "track_id": "t", "event_type": "play"}}'


def make_topic(kafka: str, name: str, **configs: str) -> str:
    with KafkaAdminClient(**CLIENT, bootstrap_servers=kafka) as admin:
        admin.create_topics([NewTopic(name, N_PARTITIONS, 1, topic_configs=configs)])
        admin.wait_for_topics([name])
    return name


def topics_of(kafka: str) -> list[str]:
    with KafkaAdminClient(**CLIENT, bootstrap_servers=kafka) as admin:
        names: list[str] = admin.list_topics()
        return names


@pytest.fixture
def topic(kafka: str, prefix: str) -> str:
    return make_topic(kafka, Topics(prefix).sessions)


def read_logs(kafka: str, topic: str) -> list[list[Any]]:
    """Every record of each partition up to its high watermark."""
    consumer = build_consumer({"bootstrap_servers": kafka})
    partitions = [TopicPartition(topic, n) for n in range(N_PARTITIONS)]
    logs: list[list[Any]] = [[] for _ in partitions]
    try:
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        while any(consumer.highwater(p) is None or consumer.position(p) < consumer.highwater(p) for p in partitions):
            for partition, records in consumer.poll(timeout_ms=200).items():
                logs[partition.partition] += records
    finally:
        consumer.close()
    return logs


def events_of(log: list[Any]) -> list[bytes]:
    """The lines of a partition, out of their arrays."""
    return [event for record in log for event in split(record.value)]


def split(value: bytes) -> list[bytes]:
    if not value.startswith(b'[{"session_id"'):
        return [value]
    return [line if line.endswith(b"}") else line + b"}" for line in value[1:-1].split(b"},")]


def config(kafka: str) -> dict[str, Any]:
    return {"bootstrap_servers": kafka}


def test_a_file_of_the_field_arrives_once_in_the_order_of_event_time_in_arrays_of_one_partition(
    kafka: str, topic: str, listening_data: Path
) -> None:
    file = listening_data / "sessions" / "sessions_dirty.jsonl"
    told: list[int] = []
    sent = produce_sessions([file], config(kafka), topic, progress=told.append)
    logs = read_logs(kafka, topic)
    lines = file.read_bytes().splitlines()
    assert sum(told) == sent.items == len(lines)
    assert sent.is_complete
    assert sent.records == sum(map(len, logs)) < len(lines) / 20
    assert Counter(event for log in logs for event in events_of(log)) == Counter(lines)
    for n, log in enumerate(logs):
        events = events_of(log)
        assert events == [line for line in in_event_time(lines) if place(line, "track", N_PARTITIONS).partition == n]
        times = [json.loads(event)["timestamp"] for event in events]
        assert times == sorted(times)
        assert all(1 <= len(split(record.value)) <= 25 for record in log)


def test_a_record_is_keyed_by_the_first_key_in_it_and_lies_where_the_default_partitioner_puts_that_key(
    kafka: str, topic: str, listening_data: Path
) -> None:
    lines = list(read_all_lines([listening_data / "sessions" / "sessions.jsonl"]))[:3000]
    send_sessions(lines, config(kafka), topic, key="user", batch=10)
    default = DefaultPartitioner()
    cluster = PartitionsOf(topic)
    n_records = 0
    for n, log in enumerate(read_logs(kafka, topic)):
        for record in log:
            users = [str(json.loads(event)["user_id"]).encode() for event in split(record.value)]
            assert record.key == users[0]
            assert {default.partition(topic, None, user, None, None, cluster) for user in users} == {n}
            n_records += 1
    assert n_records >= 300


class PartitionsOf:
    """What the default partitioner asks of the cluster."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def topics(self) -> set[str]:
        return {self._topic}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(N_PARTITIONS))

    available_partitions_for_topic = partitions_for_topic


def test_the_size_of_arrays_changes_no_partitions_sequence_of_events(
    kafka: str, prefix: str, listening_data: Path
) -> None:
    lines = list(read_all_lines([listening_data / "sessions" / "sessions.jsonl"]))[:2000]
    lines[500:500] = [b"{broken", b'["array"]']
    sequences = []
    for batch in (1, 50):
        name = make_topic(kafka, f"{prefix}.{batch}")
        sent = send_sessions(lines, config(kafka), name, batch=batch)
        assert sent.items == len(lines)
        assert (sent.records == len(lines)) == (batch == 1)
        sequences.append([events_of(log) for log in read_logs(kafka, name)])
    assert sequences[0] == sequences[1]
    assert sum(map(len, sequences[0])) == len(lines)


def test_what_is_no_json_object_travels_alone_and_spoils_no_array(kafka: str, topic: str) -> None:
    broken = [b"{", b"nonsense", b'{"a": NaN}', b'{"name": "\xff"}', b"[]", b"7", b"null", b"[" * 50_000]
    lines = [line for one in broken for line in (PLAY, one, PLAY)]
    sent = send_sessions(lines, config(kafka), topic, batch=50)
    values = [record.value for log in read_logs(kafka, topic) for record in log]
    assert sent.items == len(lines)
    assert [value for value in values if value in broken] == broken
    arrays = [value for value in values if value not in broken]
    assert sum(len(split(value)) for value in arrays) == 2 * len(broken)
    assert not any(isinstance(event, BadRecord) for value in arrays for event in decode(value))


def test_gzip_is_known_by_its_first_bytes_and_several_files_are_one_stream(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    early, late = AT.format('"2023-06-17T10:00:00"').encode(), AT.format('"2023-06-18T10:00:00"').encode()
    plain, packed = tmp_path / "one.gz", tmp_path / "two.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + late + b"\r\n\n  \r\n")
    packed.write_bytes(gzip.compress(early))
    sent = produce_sessions([plain, packed], config(kafka), topic, batch=1)
    values = [record.value for log in read_logs(kafka, topic) for record in log]
    assert values == [early, late]
    assert str(sent) == f"sent 2 events in 2 records to {topic}"


def test_records_are_stamped_with_the_time_of_sending(kafka: str, topic: str) -> None:
    send_sessions([PLAY], config(kafka), topic)
    assert all(record.timestamp > 1_700_000_000_000 for log in read_logs(kafka, topic) for record in log)


def test_no_more_is_in_flight_than_the_bound(kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.kafka.MOST_RECORDS", 10)
    monkeypatch.setattr("producers.kafka.MOST_BYTES", 5 * len(PLAY))
    in_flight = []
    with Sender(config(kafka), topic, "events", linger_ms=5) as sender:
        for _ in range(30):
            sender.send(b"x", partition=0)
            in_flight.append(sender.n_in_flight)
        for _ in range(30):
            sender.send(PLAY, partition=0)
            in_flight.append(sender.n_in_flight)
        assert sender.finish().items == 60
    assert 5 < max(in_flight[:30]) <= 10
    assert in_flight[-1] <= 5


def test_a_record_that_is_too_large_is_counted_and_the_others_arrive(kafka: str, topic: str) -> None:
    large = PLAY[:-1] + b', "note": "' + b"x" * 1_200_000 + b'"}'
    sent = send_sessions([PLAY, large, PLAY], config(kafka), topic)
    assert (sent.items, sent.failed, sent.is_complete) == (2, 1, False)
    assert "1 failed, the first with MessageSizeTooLargeError" in str(sent)
    assert [event for log in read_logs(kafka, topic) for event in events_of(log)] == [PLAY, PLAY]


def test_a_record_that_the_topic_refuses_is_counted_and_the_others_arrive(apache: str, prefix: str) -> None:
    topic = make_topic(apache, Topics(prefix).sessions, **{"max.message.bytes": "2000"})
    large = PLAY[:-1] + b', "note": "' + b"x" * 3000 + b'"}'
    lines = [PLAY, large] * 5 + [PLAY] * 200
    sent = send_sessions(lines, config(apache), topic, batch=1)
    assert (sent.items, sent.failed) == (205, 5)
    assert sum(len(log) for log in read_logs(apache, topic)) == 205


def test_a_missing_topic_is_named_within_seconds(kafka: str, prefix: str) -> None:
    with pytest.raises(TopicMissing, match=rf"no topic {prefix}\.nowhere .*hitparade topics"):
        send_sessions([PLAY], config(kafka), f"{prefix}.nowhere")
    assert f"{prefix}.nowhere" not in topics_of(kafka)


def test_a_client_that_is_closed_while_it_connects_leaves_no_socket_open(embedded_stack: Embedded) -> None:
    with socket.create_server((HOST, 0), backlog=0) as busy, socket.create_connection(busy.getsockname()):
        consumer = build_consumer({"bootstrap_servers": embedded_stack.kafka})
        net = consumer._client._net
        net.stop()
        net.call_soon(partial(create_connection, net, *busy.getsockname()))  # it waits in the kernel's line for good
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            consumer.close()
            del consumer, net
            gc.collect()
    assert [str(each.message) for each in told] == []


@pytest.mark.usefixtures("leaky")
def test_a_client_that_cannot_be_made_leaves_no_descriptor_open() -> None:
    before = descriptors()
    with pytest.raises(KafkaUnreachable):
        build_producer({"bootstrap_servers": f"{HOST}:{free_port_pair()}"}, bootstrap_timeout_ms=300)
    assert descriptors() <= before  # what others have left may be collected meanwhile


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_what_has_come_is_read_at_once(embedded_stack: Embedded) -> None:
    with closing(build_consumer({"bootstrap_servers": embedded_stack.kafka})) as consumer:
        consumer.topics()
        (connection,) = consumer._client._manager._conns.values()
        assert type(connection.transport._sock) is _Wide
    here, there = socket.socketpair()
    with _Wide(fileno=here.detach()) as wide, there:
        there.sendall(b"x" * 50_000)
        assert len(wide.recv(4096)) == 50_000


@pytest.mark.usefixtures("leaky")
def test_a_broker_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{free_port_pair()}"
    with pytest.raises(KafkaUnreachable, match=f"{address} within 0.3 s"):
        Sender({"bootstrap_servers": address, "bootstrap_timeout_ms": 300}, "any", "events")


@pytest.mark.usefixtures("leaky")
def test_a_broker_that_goes_away_ends_the_sending_with_what_was_sent(prefix: str) -> None:
    quick = {"request_timeout_ms": 300, "delivery_timeout_ms": 600, "linger_ms": 0}
    with ExitStack() as until_half:
        stack = until_half.enter_context(embedded())
        name = make_topic(stack.kafka, Topics(prefix).sessions)

        def lines() -> Iterator[bytes]:
            yield from [PLAY] * 100
            until_half.close()
            while True:
                yield PLAY

        with pytest.raises(DeliveryError, match=r"failed, the first with .*; what came after was not sent") as stopped:
            send_sessions(lines(), config(stack.kafka) | quick, name, batch=1)
    assert stopped.value.sent.failed > 0


def test_an_answer_that_never_comes_is_not_waited_for_for_good(kafka: str, prefix: str) -> None:
    name, quick = make_topic(kafka, prefix), {"request_timeout_ms": 300, "delivery_timeout_ms": 600}
    with Sender(config(kafka) | quick, name, "events") as sender, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender._producer._sender, "run_once", partial(Event().wait, 0.01))  # as without a producer id
        sender.send(PLAY)
        sent = sender.finish()
    assert (sent.items, sent.failed) == (0, 1)
    assert "Timeout" in sent.first_failure


def test_lines_sort_by_instant_stably_and_one_without_a_time_stays_behind_the_line_before_it() -> None:
    times = ['"2023-06-17T12:00:00+02:00"', '"2023-06-17T09:59:59.5"', "null", '"2023-06-17T10:00:00Z"', '"x"', "7"]
    lines = [AT.format(time).encode() for time in times]
    bad = b"\xff{"
    assert in_event_time([bad, *lines]) == [bad, lines[1], lines[2], lines[0], lines[3], lines[4], lines[5]]


def test_a_time_without_a_zone_is_in_the_zone_of_events() -> None:
    local, utc = AT.format('"2023-06-17T11:30:00"').encode(), AT.format('"2023-06-17T10:00:00Z"').encode()
    assert in_event_time([local, utc]) == [utc, local]
    assert in_event_time([local, utc], ZoneInfo("Europe/Berlin")) == [local, utc]


@pytest.mark.parametrize(
    ("event", "key", "expected"),
    [
        ({"track_id": "t", "user_id": 7}, "track", (b"t", b"t")),
        ({"track_id": 42, "user_id": 7}, "track", (b"42", b"42")),
        ({"track_id": "t", "user_id": 7}, "user", (b"7", b"7")),
        ({"track_id": None, "user_id": 7}, "track", (None, b"7")),
        ({"track_id": "t", "user_id": ""}, "user", (None, b"t")),
        ({"track_id": True, "user_id": 1.5}, "track", (None, None)),
        ({"track_id": "\ud800", "user_id": "ü"}, "track", (None, "ü".encode())),
    ],
)
def test_an_event_without_its_key_goes_by_its_other_id_and_without_either_to_partition_0(
    event: dict[str, Any], key: Key, expected: tuple[bytes | None, bytes | None]
) -> None:
    own, decisive = expected
    placed = place(json.dumps(event).encode(), key, 6)
    assert placed.key == own
    assert placed.partition == (0 if decisive is None else partition_of(decisive, 6))


def test_keys_land_where_java_puts_them() -> None:
    """Source: org.apache.kafka.common.utils.UtilsTest.testMurmur2."""
    murmur2 = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: partition_of(key, 1_000_003) for key in murmur2} == {
        key: (value & 0x7FFFFFFF) % 1_000_003 for key, value in murmur2.items()
    }


def test_a_pace_is_kept_and_no_event_waits_long_in_its_array() -> None:
    now, slept, flushed = [100.0], list[float](), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    lines = paced([PLAY] * 9, 4.0, lambda: flushed.append(now[0]), lambda: now[0], sleep)
    assert [round(now[0] - 100, 3) for _ in lines] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert len(slept) == 8
    assert len(flushed) == 1
    with pytest.raises(ValueError, match="rate is -1"):
        next(paced([PLAY], -1, lambda: None))


def test_an_array_of_no_event_is_refused(kafka: str, topic: str) -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        send_sessions([PLAY], config(kafka), topic, batch=0)


def test_a_source_that_cannot_be_read_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    damaged, trailing = tmp_path / "damaged.gz", tmp_path / "trailing.gz"
    damaged.write_bytes(gzip.compress(PLAY * 1000)[:-20])
    trailing.write_bytes(gzip.compress(PLAY) + b"junk")
    for path, message in [
        (tmp_path / "nowhere.jsonl", "nowhere.jsonl cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (damaged, "damaged.gz is damaged after line 0"),
        (trailing, "trailing.gz is damaged after line"),
    ]:
        with pytest.raises(SourceError, match=message):
            produce_sessions([path], {}, "any")


def test_tracks_are_keyed_by_id_and_what_is_no_track_is_named_but_stops_no_other(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    topic = make_topic(kafka, Topics(prefix).tracks)
    file = tmp_path / "tracks.jsonl"
    good = [b'{"id": "4p8QcNkaq2FQj8uGJ7HEDK", "name": "A", "more": [1]}', b'{"id": 7}']
    bad = [b"{", b"[1]", b'{"name": "no id"}', b'{"id": ""}', b'{"id": true}']
    file.write_bytes(b"\n".join([good[0], *bad, good[1]]))
    told: list[int] = []
    sent = produce_tracks(file, config(kafka), topic, progress=told.append)
    records = {record.key: record.value for log in read_logs(kafka, topic) for record in log}
    assert records == {b"4p8QcNkaq2FQj8uGJ7HEDK": good[0], b"7": good[1]}
    assert (sent.items, sent.refused, sent.is_complete, sum(told)) == (2, 5, False, 7)
    assert f"5 not sent, the first: {file} line 2 is not JSON" in str(sent)


def test_sent_reads_as_one_line() -> None:
    assert str(Sent("t", "events", 26_347, 1_204)) == "sent 26,347 events in 1,204 records to t"
