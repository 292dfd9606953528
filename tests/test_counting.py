"""Counting with real consumers, on both brokers and a real Redis; and what only Apache Kafka can do to them."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from consumers import loop
from consumers.kafka import TopicWatch, end_offsets, read_to_end
from consumers.loop import Consumer
from consumers.sessions import fence_settings
from features.fence import OUTCOMES
from features.store import CounterStore
from hitparade import wiring
from hitparade.settings import Settings
from producers.kafka import CLIENT, Sender, build_producer
from producers.sessions import send_sessions
from producers.topics import ensure_topics, topic_specs
from tests.builders import Record, array, play, wire
from tests.oracle import recount
from tests.servers import ROOT, wait_until
from tests.stored import stored

PARTITIONS = 2
DEAD = {
    "event_type": wire(event_type=None),
    "json": b"nonsense",
    "track_id": wire(track_id=None),
    "user_id": wire(user_id=""),
    "timestamp": wire(timestamp="noon"),
}


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def client(request: pytest.FixtureRequest) -> str:
    """Each client in turn: a test with this fixture, as all with an environment, runs on both."""
    name: str = request.param
    return name


@pytest.fixture
def env(kafka: str, client: str, redis_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    return environment(kafka, client, redis_url, prefix, tmp_path)


@pytest.fixture
def apache_env(apache: str, client: str, redis_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    return environment(apache, client, redis_url, prefix, tmp_path)


def environment(kafka: str, client: str, redis_url: str, prefix: str, folder: Path) -> dict[str, str]:
    env = {
        "HITPARADE_KAFKA_CLIENT": client,
        "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HITPARADE_REDIS_URL": redis_url,
        "HITPARADE_TOPIC_PREFIX": prefix,
        "HITPARADE_PARTITIONS": str(PARTITIONS),
        "HITPARADE_SESSION_TIMEOUT_MS": "6000",
        "HITPARADE_DATA_DIR": str(folder),
    }
    settings = Settings.from_env(env)
    ensure_topics(settings.kafka, topic_specs(settings.topics, PARTITIONS, settings.weeks_kept))
    return env


def count(settings: Settings, accept_loss: bool = False) -> Consumer:
    """Consume everything there is, in this process."""
    consumer = wiring.session_consumer(settings, accept_loss)
    consumer.run(threading.Event(), until_idle=True)
    return consumer


def send(settings: Settings, values: list[bytes], partition: int = 0) -> None:
    producer = build_producer(settings.kafka)
    for value in values:
        producer.send(settings.topics.sessions, value, partition=partition, key=b"key")
    producer.flush()
    producer.close()


def records(settings: Settings, topic: str) -> list[Any]:
    return read_to_end(settings.kafka, topic, range(PARTITIONS), {})


def check(settings: Settings) -> Counter[str]:
    """Redis equals a recount of the log as Kafka has it; return the tallies."""
    store = wiring.session_store(settings)
    total: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        log = [r for r in records(settings, settings.topics.sessions) if r.partition == partition]
        truth = recount([Record(r.offset, r.value, r.timestamp) for r in log])
        fence = store.fence(partition)
        assert fence
        assert fence.tallies == truth.outcomes
        plays: Counter[tuple[str, str]] = Counter()
        for (week, _, track), found in stored(store, partition).items():
            plays[week, track] += sum(found)
        expected: Counter[tuple[str, str]] = Counter()
        for (week, _, track), counts in truth.counts.items():
            expected[week, track] += sum(counts)
        assert plays == expected
        total += truth.outcomes
    return total


def test_what_is_not_counted_is_set_aside_with_its_bytes_and_its_place(env: dict[str, str]) -> None:
    settings = Settings.from_env(env)
    send(settings, [play(20), array(play(20), *DEAD.values(), wire(event_type="buy_premium"), play(0)), b"junk"])
    consumer = count(settings)
    late = records(settings, settings.topics.late)
    dead = records(settings, settings.topics.dead_sessions)
    assert [(r.value, r.partition, r.key) for r in late] == [(play(0), 0, b"key")]
    assert dict(late[0].headers) == {
        "hitparade-cause": b"late",
        "hitparade-topic": settings.topics.sessions.encode(),
        "hitparade-partition": b"0",
        "hitparade-offset": b"1",
        "hitparade-index": b"7",
    }
    causes = [(dict(r.headers)["hitparade-cause"].decode(), r.value) for r in dead]
    assert causes == [*DEAD.items(), ("json", b"junk")]
    assert [int(dict(r.headers)["hitparade-index"]) for r in dead] == [1, 2, 3, 4, 5, 0]
    assert {name: consumer.tallies[name] for name in OUTCOMES} == {"counted": 2, "late": 1, "dead": 6, "ignored": 1}
    assert check(settings) == consumer.tallies


def test_a_second_consumer_counts_nothing_twice_and_kafka_shows_no_lag(env: dict[str, str]) -> None:
    settings = Settings.from_env(env)
    send(settings, [play(n % 7, f"t{n}") for n in range(50)])
    assert count(settings).tallies["counted"] == 50
    send(settings, [play(6)])
    assert count(settings).tallies == Counter(counted=1)
    check(settings)
    ends = end_offsets(settings.kafka, {settings.topics.sessions: range(PARTITIONS)})[settings.topics.sessions]
    assert ends == {0: 51, 1: 0}
    with KafkaAdminClient(**CLIENT, **settings.kafka) as admin:
        (group,) = admin.list_group_offsets({settings.topics.group("sessions"): None}).values()
    committed = {at.partition: offset.offset for at, offset in group.items()}
    assert committed[0] == 51
    fence = wiring.session_store(settings).fence(1)
    assert fence, "an empty partition has a fence too"
    assert fence.next_offset == 0


def test_ends_are_right_while_somebody_is_writing(env: dict[str, str]) -> None:
    settings = Settings.from_env(env)
    topic, acknowledged, sent, stop = settings.topics.sessions, [0], [0], threading.Event()

    def write() -> None:
        producer = build_producer(settings.kafka, linger_ms=0)
        while not stop.is_set():
            sent[0] += 1
            producer.send(topic, play(), partition=0).get(timeout=60)
            acknowledged[0] += 1
        producer.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: acknowledged[0] > 5, what="the first records")
        for _ in range(5):
            before = acknowledged[0]
            end = end_offsets(settings.kafka, {topic: [0, 1]})[topic]
            assert before <= end[0] <= sent[0]
            assert end[1] == 0
    finally:
        stop.set()
        writer.join()


def transactional(settings: Settings) -> KafkaProducer:
    producer = build_producer(settings.kafka, transactional_id=settings.topic_prefix)
    producer.init_transactions()
    return producer


def test_transactions_stop_neither_the_fence_nor_the_cut(apache_env: dict[str, str]) -> None:
    settings = Settings.from_env(apache_env)
    producer = transactional(settings)
    for n in range(6):
        producer.begin_transaction()
        for m in range(3):
            producer.send(settings.topics.sessions, play(0, f"{n}-{m}"), partition=0).get(timeout=60)
        if n % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.close()
    assert count(settings).tallies == Counter(counted=9)
    ends = end_offsets(settings.kafka, {settings.topics.sessions: [0]})[settings.topics.sessions]
    fence = wiring.session_store(settings).fence(0)
    assert fence
    assert ends[0] == fence.next_offset == 24, "18 records and 6 markers; the last is an abort's"


def test_records_deleted_before_they_were_counted_are_refused_or_tallied(apache_env: dict[str, str]) -> None:
    settings = Settings.from_env(apache_env)
    send(settings, [play(track=f"t{n}") for n in range(10)])
    assert count(settings).tallies == Counter(counted=10)
    send(settings, [play(track=f"t{n}") for n in range(10)])
    with KafkaAdminClient(**CLIENT, **settings.kafka) as admin:
        admin.delete_records({TopicPartition(settings.topics.sessions, 0): 14})
    refused = count(settings)
    assert "the fence is at offset 10, but the log begins at 14: 4 offsets were deleted" in refused.stopped[0]
    assert count(settings, accept_loss=True).tallies == Counter(counted=6)
    fence = wiring.session_store(settings).fence(0)
    assert fence
    assert (fence.next_offset, fence.tallies) == (20, {"counted": 16, "lost": 4})


@pytest.mark.parametrize("seen", ["missing", "at once"])
def test_a_topic_created_anew_under_a_running_consumer_is_not_counted_on(
    apache_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    settings = Settings.from_env(apache_env)
    if seen == "missing":  # then the group gets its partitions anew, whatever is known of the topic's id
        monkeypatch.setattr("consumers.kafka.TOPIC_CHECK_S", 3600)
    topic = settings.topics.sessions
    send(settings, [play(track=f"t{n}") for n in range(10)])
    consumer, stop = wiring.session_consumer(settings, False), threading.Event()
    running = threading.Thread(target=consumer.run, args=(stop,))
    running.start()
    try:
        wait_until(lambda: consumer.tallies["counted"] == 10, "ten events")
        with KafkaAdminClient(**CLIENT, **settings.kafka) as admin:
            admin.delete_topics([topic])
        if seen == "missing":
            wait_until(lambda: not consumer.source.holds(0), "the topic to be missed")
        ensure_topics(settings.kafka, topic_specs(settings.topics, PARTITIONS, settings.weeks_kept))
        send(settings, [play(track=f"new{n}") for n in range(30)])
        wait_until(lambda: len(consumer.stopped) == PARTITIONS, "both partitions to stop")
    finally:
        stop.set()
        running.join()
    assert "Redis counts topic id" in consumer.stopped[0]
    assert f"hitparade drop {topic}" in consumer.stopped[0]
    fence = wiring.session_store(settings).fence(0)
    assert fence
    assert (fence.next_offset, fence.tallies) == (10, {"counted": 10})


def test_a_fence_beyond_the_end_of_its_log_is_refused_and_costs_the_others_nothing(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BEYOND_END_S", 1.0)
    settings = Settings.from_env(env)
    send(settings, [play()])
    store = wiring.session_store(settings)
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        topic_id = watch.facts(settings.topics.sessions).topic_id
    store.init(0, 99, topic_id, fence_settings(wiring.rules(settings), store.slices))
    send(settings, [play(track=f"t{n}") for n in range(5000)], partition=1)
    consumer = count(settings)
    assert "the fence is at offset 99, but the log ends at 1" in consumer.stopped[0]
    assert consumer.tallies == Counter(counted=5000)


def test_nothing_that_a_producer_can_write_stops_a_partition(apache_env: dict[str, str]) -> None:
    settings = Settings.from_env(apache_env)
    producer = build_producer(settings.kafka, compression_type="gzip", max_request_size=2**25)
    for key, value in ((b"key", b"x" * 10_000_000), (b"key", None), (None, b""), (None, b"[" + b"0," * 9999 + b"0]")):
        producer.send(settings.topics.sessions, value, key=key, partition=0)
    producer.send(settings.topics.sessions, play(), partition=0, headers=[("a", b"b")], timestamp_ms=1)
    producer.close()
    tallies = count(settings).tallies
    assert (tallies["counted"] + tallies["dead:future"], tallies["dead:json"]) == (1, 10_003)
    dead = Counter(
        record.value[:3] if record.value else None for record in records(settings, settings.topics.dead_sessions)
    )
    assert (dead[b"xxx"], dead[None], dead[b"0"]) == (1, 2, 10_000)


def test_consumers_that_come_and_go_count_every_event_once(apache_env: dict[str, str]) -> None:
    settings, now = Settings.from_env(apache_env), counted(Settings.from_env(apache_env))
    consumers = [wiring.session_consumer(settings, False) for _ in range(3)]
    stops = [threading.Event() for _ in consumers]
    running = [threading.Thread(target=one.run, args=(stop,)) for one, stop in zip(consumers, stops, strict=True)]
    n_sent, all_sent = 0, threading.Event()

    def produce() -> None:
        with Sender(settings.kafka, settings.topics.sessions, "events", linger_ms=5) as sender:
            for n in range(400):
                for partition in range(PARTITIONS):
                    sender.send(array(*[play(n % 5, f"t{n}", f"u{m}") for m in range(20)]), partition=partition)
                all_sent.wait(0.005)
            assert sender.finish().is_complete

    producer = threading.Thread(target=produce)
    try:
        for thread in (running[0], producer, running[1]):
            thread.start()
            wait_until(lambda aim=n_sent: now() >= aim, "some counts")  # type: ignore[misc]
            n_sent += 2000
        stops[0].set()
        running[0].join()
        running[2].start()
        producer.join()
        wait_until(lambda: now() == 16_000, "all events")
    finally:
        for stop, thread in zip(stops, running, strict=True):
            stop.set()
            thread.join()
    assert check(settings) == Counter(counted=16_000)
    assert sum((consumer.tallies for consumer in consumers), Counter()) == Counter(counted=16_000)
    assert all(consumer.tallies for consumer in consumers[:2])


CONSUME = ("-m", "hitparade", "consume", "sessions")
SOON_MISSED = """
import os
from consumers import confluent, kafka_python, loop
from hitparade import wiring
from hitparade.signals import stop_on_signals
confluent.MOST_RECORDS = kafka_python.MOST_RECORDS = loop.MOST_HELD = 500
from hitparade.settings import Settings
settings = Settings.from_env(os.environ).model_copy(update={"session_timeout_ms": 1500})
wiring.session_consumer(settings, False).run(stop_on_signals())
"""  # a consumer whose partitions go to the next one sooner than settings allow; it reads in small spans, holds few


@contextlib.contextmanager
def process(env: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        [sys.executable, *(arguments or CONSUME)], cwd=ROOT, env={**os.environ, **env}, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def resident_mib(running: subprocess.Popen[bytes]) -> float:
    """The memory that a process holds; 0 where the system does not tell."""
    status = Path(f"/proc/{running.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def counted(settings: Settings) -> Callable[[], int]:
    store: CounterStore = wiring.session_store(settings)
    return lambda: sum(fence.tallies.get("counted", 0) for fence in store.fences(range(PARTITIONS)).values())


@pytest.mark.timeout(120)
def test_a_consumer_killed_again_and_again_counts_every_event_once(apache_env: dict[str, str]) -> None:
    settings, moment = Settings.from_env(apache_env), random.Random(7)
    lines = [play(n % 5, f"t{n % 300}", f"u{n % 17}") for n in range(40_000)]
    send_sessions(lines, settings.kafka, settings.topics.sessions, batch=2)
    now = counted(settings)
    for _ in range(3):
        with process(apache_env, "-c", SOON_MISSED) as running:
            before = now()
            aim = before + moment.randrange(1, 8_000)
            wait_until(lambda aim=aim: now() >= aim or now() == len(lines), "some counts")  # type: ignore[misc]
            assert resident_mib(running) < 150
            running.kill()
    assert now() < len(lines), "the kills came too late to prove anything"
    with process(apache_env, *CONSUME, "--until-idle") as last:
        assert last.wait(60) == 0
    assert check(settings)["counted"] == len(lines)


def test_sigterm_finishes_the_batch_and_leaves_the_group(apache_env: dict[str, str]) -> None:
    settings = Settings.from_env(apache_env)
    send(settings, [play(track=f"t{n}") for n in range(100)])
    now = counted(settings)
    with process(apache_env) as running:
        wait_until(lambda: now() == 100, "a hundred events")
        assert resident_mib(running) < 80
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    with KafkaAdminClient(**CLIENT, **settings.kafka) as admin:
        (group,) = admin.describe_groups([settings.topics.group("sessions")]).values()
    assert group["members"] == []


def test_a_consumer_that_is_stopped_while_it_joins_leaves_the_group_to_the_next(env: dict[str, str]) -> None:
    settings = Settings.from_env(env)
    send(settings, [play()])
    hasty, stop = wiring.session_consumer(settings, False), threading.Event()
    hasty.source.poll(0.5)
    stop.set()
    assert hasty.run(stop) == 0
    assert count(settings).tallies == Counter(counted=1)
