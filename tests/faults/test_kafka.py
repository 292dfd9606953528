"""What dies, hangs, fills up or is changed is the one Kafka broker there is, or a topic of it."""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.health import State
from features.fence import OUTCOMES
from hitparade import wiring
from tests.faults.known import known_log
from tests.faults.servers import Broker
from tests.faults.topics import configure, delete, delete_records, operator, reset
from tests.faults.truth import difference, ends_of, identities, read_back
from tests.faults.world import PATIENT, Process, World
from tests.servers import KAFKA, wait_until


def await_said(process: Process, text: str, timeout_s: float = 40) -> None:
    wait_until(lambda: process.said(text), f"{text!r} in {process.log}", timeout_s)


def fences(world: World) -> dict[int, int]:
    return {partition: standing.next_offset for partition, standing in world.standings().items()}


@contextlib.contextmanager
def consumer_inside(world: World) -> Iterator[Callable[[], State]]:
    """A counter consumer in a thread; gives what asks after its health."""
    consumer, stop = wiring.session_consumer(world.settings, accept_loss=False), threading.Event()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(consumer.run(stop)))
    thread.start()
    try:
        yield lambda: consumer.health.state(time.monotonic())
    finally:
        stop.set()
        thread.join(60)
        consumer.store.client.close()
    assert codes == [0]
    assert not consumer.health.state(time.monotonic()).live


@pytest.mark.full
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_broker_is_restarted_under_load(world: World, broker: Broker, how: str) -> None:
    consumer = world.consumer()
    with world.filling(over_s=12):
        world.await_decided(1000)
        broker.stop() if how == "stopped" else broker.kill()
        try:
            n_decided = world.n_decided()
        finally:
            broker.start()
        world.await_decided(n_decided + 1000)
    world.await_drained()
    assert consumer.terminate() == 0
    assert n_decided < world.check().events / 2, "it went down too late"


@pytest.mark.full
def test_the_broker_hangs_for_longer_than_time_outs(world: World, broker: Broker) -> None:
    """Sessions end, requests time out; the consumer says that it is not ready, and later that it is."""
    consumer = world.consumer()
    with world.filling(over_s=30):
        world.await_decided(1000)
        broker.freeze()
        try:
            await_said(consumer, "not ready: Kafka at")
            n_decided = world.n_decided()
        finally:
            broker.thaw()
        wait_until(lambda: consumer.log.read_text().count("health: ready after") == 2, "it to be ready again")
    world.await_drained()
    assert consumer.terminate() == 0
    assert n_decided < world.check().events


@pytest.mark.parametrize("for_s", [12, pytest.param(60, marks=pytest.mark.full)])
def test_every_broker_is_gone(world: World, broker: Broker, for_s: int) -> None:
    """The consumers live, are not ready, say so once a minute, and go on by themselves."""
    process = world.consumer()
    with consumer_inside(world) as state, world.filling(over_s=8 + for_s):
        world.await_decided(1000)
        wait_until(lambda: state().ready, "the consumer to be ready")
        told = process.log.read_text().count("not ready")  # a slow start may have been one
        broker.kill()
        try:
            n_decided, gone = world.n_decided(), time.monotonic()
            wait_until(lambda: not state().ready, "the consumer to know")
            while time.monotonic() < gone + for_s:
                assert state().live
                assert not state().ready
                assert re.search("Kafka at|did not take all of|one turn of the loop", state().reason)
                assert process.is_alive()
                threading.Event().wait(0.2)
            assert process.log.read_text().count("not ready") <= told + 1 + for_s // 60
        finally:
            broker.start()
        wait_until(lambda: state().ready, "the consumer to be ready again")
        world.await_decided(n_decided + 1000)
        world.await_drained()
    assert process.terminate() == 0
    assert n_decided < world.check().events


@pytest.mark.full
def test_the_broker_is_slow_again_and_again(world: World, broker: Broker) -> None:
    consumer, pause = world.consumer(), threading.Event()
    decided = []
    with world.filling(over_s=14):
        world.await_decided(500)
        for _ in range(6):
            broker.freeze()
            pause.wait(1.0)
            broker.thaw()
            pause.wait(0.7)
            decided.append(world.n_decided())
    world.await_drained()
    assert consumer.terminate() == 0
    events = world.check().events
    assert len(set(decided)) > 3, f"hardly anything was decided between the pauses: {decided}"
    assert decided[-1] < events


def test_partitions_are_added_while_counting(world: World) -> None:
    """The consumer takes up the new ones by itself; what keys move to them counts there."""
    consumer = world.consumer()
    with world.filling(8000, over_s=8):
        world.await_decided(1000)
        with operator(world.kafka) as admin:
            admin.create_partitions({world.topic: 6})
        n_decided = world.n_decided()
    world.n_partitions = 6
    with world.filling(8000, over_s=5):
        wait_until(lambda: len(world.standings()) == 6, "fences of the new partitions")
    world.await_drained()
    assert consumer.terminate() == 0
    assert n_decided < world.check().events / 2
    assert all(len(records) > 100 for records in world.read_back().values())


@pytest.mark.second
@pytest.mark.parametrize(
    "when", ["in hand", *(pytest.param(when, marks=pytest.mark.full) for when in ("idle", "away"))]
)
def test_the_topic_is_created_anew(world: World, when: str) -> None:
    """Nothing of the new topic is counted on top of the old; the error names both ways out, and one is taken."""
    world.fill(3000)
    if when == "in hand":
        consumer = world.python("-m", "tests.faults.killed", "SIGSTOP before apply 3", "consume", "sessions")
        await_said(consumer, "SIGSTOP before apply")
    else:
        consumer = world.consumer()
        world.await_drained()
        if when == "away":
            consumer.terminate()
    old = world.read_back()
    delete(world.kafka, world.topic)
    if when == "idle":
        await_said(consumer, f"not ready: topic {world.topic} does not exist: run `hitparade topics`")
    assert world.command("topics").wait() == 0
    world.fill(6000)
    if when == "away":
        consumer = world.consumer()
    consumer.thaw()
    wait_until(lambda: len(stops(consumer)) == 4, "every partition to be stopped")
    for reason in stops(consumer):
        assert re.search(r"Redis counts topic id (\S+), Kafka has (?!\1)", reason), reason
        assert f"`hitparade drop {world.topic}` removes what was counted" in reason
        assert "Otherwise point this consumer at the Kafka that Redis was counted from" in reason
    assert consumer.terminate() == 1
    for partition, standing in world.standings().items():
        counted = [record for record in old[partition] if record.offset < standing.next_offset]
        assert difference(world.truth(counted), standing) == 0
    assert world.command("drop", world.topic, "--yes").wait() == 0
    purge_letters(world)
    assert world.consumer("--until-idle").wait() == 0
    world.check()


def stops(process: Process) -> list[str]:
    """Why partitions were stopped."""
    return re.findall(r"ERROR.*partition \d+ of \S+ is stopped: (.*)", process.log.read_text())


def purge_letters(world: World) -> None:
    """Letters of a topic that is no more."""
    for topic in (world.settings.topics.late, world.settings.topics.dead_sessions):
        delete_records(world.kafka, topic, ends_of(world.kafka, topic))


@pytest.mark.second
def test_a_producer_writes_in_transactions_and_aborts_half_of_them(world: World, seed: int) -> None:
    """What was aborted does not count; an open transaction holds up what comes after it, which is no stall."""
    consumer = world.python("-m", "tests.faults.stalled", "-1", "1", "consume", "sessions")
    with transactional(world, "first") as producer:
        for n, some in enumerate(chunks(world, seed, 6000)):
            write(producer, world.topic, some)
            producer.flush()
            producer.abort_transaction() if n % 2 else producer.commit_transaction()
            producer.begin_transaction()
        world.await_drained()
        held_at = ends_of(world.kafka, world.topic)
        for some in chunks(world, seed, 2000):
            write(producer, world.topic, some)
        producer.flush()
        world.fill(2000)
        n_decided, pause = world.n_decided(), threading.Event()
        pause.wait(6.0)
        assert fences(world) == held_at
        assert world.n_decided() == n_decided
        assert all(end > held_at[partition] + 20 for partition, end in ends_of(world.kafka, world.topic).items())
        producer.commit_transaction()
    world.await_drained()
    assert consumer.terminate() == 0
    assert not consumer.said("rebuilding the consumer")
    world.check()
    n_records = sum(map(len, world.read_back().values()))
    assert n_records < sum(world_ends(world).values()) * 0.8, "hardly anything was aborted"


def world_ends(world: World) -> dict[int, int]:
    return ends_of(world.kafka, world.topic)


@contextlib.contextmanager
def transactional(world: World, name: str) -> Iterator[Any]:
    with contextlib.closing(
        KafkaProducer(bootstrap_servers=world.kafka, transactional_id=f"{world.prefix}.{name}", **PATIENT)
    ) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer


def chunks(world: World, seed: int, n_events: int, n_records: int = 40) -> Iterator[list[Any]]:
    sendings = list(known_log(seed + 1, n_events, world.n_partitions))
    return (sendings[first : first + n_records] for first in range(0, len(sendings), n_records))


def write(producer: Any, topic: str, sendings: list[Any]) -> None:
    for sending in sendings:
        value = b"" if sending.key is None and sending.value is None else sending.value
        producer.send(topic, value, sending.key, partition=sending.partition)


@pytest.mark.second
def test_the_log_is_compacted_before_it_is_counted(world: World, seed: int) -> None:
    """The fence passes over offsets that are not there any more; the truth is what compaction has left."""
    compacting = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.001",
        "segment.ms": "1000",
        "max.compaction.lag.ms": "1000",
    }
    configure(world.kafka, world.topic, compacting)
    with contextlib.closing(KafkaProducer(bootstrap_servers=world.kafka, **PATIENT)) as producer:
        for n, sending in enumerate(known_log(seed, 6000, 4)):
            producer.send(world.topic, sending.value, b"%d" % (n % 100), partition=sending.partition)
        producer.flush()
        n_sent = sum(world_ends(world).values())
        # What is written last rolls the segments, so that the cleaner may have all but these.
        threading.Event().wait(1.5)
        for partition in range(4):
            producer.send(world.topic, b"[]", b"last", partition=partition)
        producer.flush()
    wait_until(lambda: n_records(world) < n_sent / 2, "the cleaner")
    configure(world.kafka, world.topic, {"min.compaction.lag.ms": "3600000", "max.compaction.lag.ms": "7200000"})
    assert world.consumer("--until-idle").wait() == 0
    world.check()
    assert n_records(world) < n_sent / 2


def n_records(world: World) -> int:
    return sum(map(len, world.read_back().values()))


@pytest.mark.second
@pytest.mark.parametrize("when", ["running", pytest.param("away", marks=pytest.mark.full)])
def test_records_are_deleted_before_they_were_counted(world: World, when: str) -> None:
    """The partition is refused, with numbers, the others go on; --accept-loss goes on and tallies what is lost."""
    world.fill(5000)
    if when == "away":
        assert world.consumer("--until-idle").wait() == 0
    else:
        consumer = world.python("-m", "tests.faults.killed", "SIGSTOP before apply 3", "consume", "sessions")
        await_said(consumer, "SIGSTOP before apply")
    before = ends_of(world.kafka, world.topic)
    world.fill(7000)
    log = world.read_back()
    lost_to = before[1] + 50
    delete_records(world.kafka, world.topic, {1: lost_to})
    if when == "away":
        consumer = world.consumer()
    consumer.thaw()
    ends = ends_of(world.kafka, world.topic)
    wait_until(lambda: stops(consumer), "the partition to be stopped")
    wait_until(lambda: {p: o for p, o in fences(world).items() if p != 1} == {p: ends[p] for p in (0, 2, 3)})
    fence = fences(world)[1]
    lost = lost_to - fence
    assert 0 < fence < lost_to
    (reason,) = stops(consumer)
    assert (
        f"partition 1: the fence is at offset {fence}, but the log begins at {lost_to}: {lost} offsets were" in reason
    )
    assert consumer.terminate() == 1
    assert world.consumer("--until-idle").wait() == 1
    assert fences(world)[1] == fence
    assert world.consumer("--until-idle", "--accept-loss").wait() == 0
    assert world.standings()[1].tally("lost") == lost
    world.check({**log, 1: [r for r in log[1] if r.offset < fence or r.offset >= lost_to]}, lists=False)


def test_a_partition_stops_giving_records(world: World) -> None:
    """The watchdog sees lag without progress, says so, and has the partition read by a new client."""
    consumer = world.python("-m", "tests.faults.stalled", "1", "3", "consume", "sessions")
    with world.filling(over_s=30):
        await_said(consumer, "partition 1 has given nothing for")
    stalled = re.search(r"it stands at offset (\d+), its log goes on to (\d+) \(lag (\d+)\)", consumer.log.read_text())
    assert stalled
    offset, end, lag = map(int, stalled.groups())
    assert 0 < offset < end == offset + lag
    world.await_drained()
    assert consumer.terminate() == 0
    assert consumer.log.read_text().count("rebuilding the consumer") == 1
    world.check()


@pytest.mark.parametrize(
    ("which", "how"),
    [("dead", "gone"), *(pytest.param(which, "full", marks=pytest.mark.full) for which in ("dead", "late"))],
)
def test_a_topic_for_what_is_set_aside_takes_nothing(world: World, which: str, how: str) -> None:
    """Nothing is counted past an event that cannot be set aside; once the topic is put right, everything goes on."""
    topics = world.settings.topics
    topic = topics.late if which == "late" else topics.dead_sessions
    if how == "gone":
        delete(world.kafka, topic)  # before it holds any letter
    consumer = world.consumer()
    with world.filling(over_s=8):
        if how == "full":
            world.await_decided(1000)
            configure(world.kafka, topic, {"max.message.bytes": "1"})
        await_said(consumer, "did not take all of")
    stuck = fences(world)
    truth = {p: world.truth(records) for p, records in world.read_back().items()}
    expected = {
        (cause, world.topic, p, offset, index, value or None)
        for p, totals in truth.items()
        for name, cause, offset, index, value in totals.aside
        if name == which and offset < stuck.get(p, 0)
    }
    there = set() if how == "gone" else identities([r for rs in read_back(world.kafka, topic).values() for r in rs])
    assert expected <= there
    assert world.n_decided() < sum(totals.outcomes[name] for totals in truth.values() for name in OUTCOMES) / 2
    if how == "gone":
        assert world.command("topics").wait() == 0
    else:
        reset(world.kafka, topic, "max.message.bytes")
    world.await_drained()
    # The line is written at the end of the turn that drains.
    wait_until(lambda: consumer.log.read_text().count("health: ready after") == 2, "it to be ready a second time")
    assert consumer.terminate() == 0
    world.check()


@pytest.mark.full
@pytest.mark.parametrize("to", ["--to-earliest", "--to-latest"])
def test_somebody_resets_the_groups_offsets(world: World, to: str) -> None:
    """It changes nothing: a consumer begins where Redis says."""
    world.fill(5000)
    assert world.consumer("--until-idle").wait() == 0
    world.fill(5000)
    group = world.settings.topics.group("sessions")
    tool = [str(KAFKA / "tool"), "kafka-consumer-groups", "--bootstrap-server", world.kafka, "--group", group]
    run = subprocess.run([*tool, "--topic", world.topic, "--reset-offsets", to, "--execute"], check=False)
    assert run.returncode == 0
    with contextlib.closing(KafkaConsumer(bootstrap_servers=world.kafka, group_id=group)) as consumer:
        committed = {p: consumer.committed(TopicPartition(world.topic, p)) for p in range(4)}
    ends = ends_of(world.kafka, world.topic)
    assert committed == (dict.fromkeys(range(4), 0) if to == "--to-earliest" else ends)
    assert all(0 < fence < ends[partition] for partition, fence in fences(world).items())
    assert world.consumer("--until-idle").wait() == 0
    world.check()
