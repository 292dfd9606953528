"""What dies, hangs or hands over is one of three brokers that replicate, or whoever leads a partition."""

import contextlib
import threading
from collections.abc import Callable

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError

from tests.faults.conftest import NewWorld
from tests.faults.servers import Broker, Redis
from tests.faults.topics import leaders, operator
from tests.faults.world import World
from tests.servers import wait_until

pytestmark = pytest.mark.xdist_group("three brokers")


@pytest.fixture
def world(new_world: NewWorld, three: list[Broker], redis: Redis) -> World:
    """Every partition on all three brokers; two must have a record before it is acknowledged."""
    return new_world(",".join(broker.address for broker in three), redis, replication=3)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for it, whoever of the brokers is asked and has died."""

    def asked() -> bool:
        with contextlib.suppress(KafkaError):
            return holds()
        return False

    wait_until(asked, what)


def in_sync(world: World) -> dict[int, set[int]]:
    """The brokers that have all of a partition, and may lead it."""
    with operator(world.kafka) as admin:
        (found,) = admin.describe_topics([world.topic])
    return {partition["partition_index"]: set(partition["isr_nodes"]) for partition in found["partitions"]}


def await_in_sync(world: World) -> None:
    eventually(lambda: all(len(nodes) == 3 for nodes in in_sync(world).values()), "the replicas to be in sync")


def await_others_lead(world: World, broker: int) -> None:
    eventually(lambda: not {broker, -1} & set(leaders(world.kafka, world.topic).values()), "others to lead")


def coordinator_of(world: World) -> int:
    """The broker that looks after the group of the counter consumers."""
    group = world.settings.topics.group("sessions")
    with operator(world.kafka) as admin:
        found: dict[str, int] = admin._manager.run(admin._find_coordinator_ids, [group])
    return found[group]


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.full)])
def test_a_broker_that_leads_dies_while_counting(world: World, three: list[Broker], how: str) -> None:
    """Others lead, the consumer follows them; with one broker of three away everything goes on."""
    consumer = world.consumer()
    with world.filling(over_s=30):
        world.await_decided(1000)
        victim = leaders(world.kafka, world.topic)[0]
        broker = three[victim - 1]
        broker.kill() if how == "killed" else broker.freeze()
        try:
            await_others_lead(world, victim)
            n_decided = world.n_decided()
            world.await_decided(n_decided + 1000, 120)
        finally:
            broker.start() if how == "killed" else broker.thaw()
        await_in_sync(world)
    world.await_drained()
    assert consumer.terminate() == 0
    assert n_decided < world.check().events - 1000


@pytest.mark.full
def test_the_broker_that_coordinates_the_group_dies(world: World, three: list[Broker]) -> None:
    consumer = world.consumer()
    with world.filling(over_s=30):
        world.await_decided(1000)
        victim = coordinator_of(world)
        three[victim - 1].kill()
        try:
            eventually(lambda: coordinator_of(world) != victim, "another coordinator")
            n_decided = world.n_decided()
            heir = world.consumer()
            wait_until(lambda: heir.said("ready after"), "a second consumer to join")
            world.await_decided(n_decided + 1000, 60)
        finally:
            three[victim - 1].start()
        await_in_sync(world)
    world.await_drained()
    assert consumer.terminate() == heir.terminate() == 0
    assert n_decided < world.check().events - 1000


@pytest.mark.full
def test_leaders_are_moved_while_counting(world: World) -> None:
    """By reassignment, as when brokers are taken out of service, and back to the preferred ones by election."""
    consumer, seen = world.consumer(), []
    with world.filling(over_s=30):
        await_in_sync(world)
        world.await_decided(500)
        before = leaders(world.kafka, world.topic)
        for shift in (1, 2, 3):
            wanted = {partition: 1 + (leader - 1 + shift) % 3 for partition, leader in before.items()}
            lead(world, wanted)
            n_decided = world.n_decided()
            seen.append(n_decided)
            world.await_decided(n_decided + 500, 60)
    world.await_drained()
    assert consumer.terminate() == 0
    assert seen[-1] < world.check().events - 500


def lead(world: World, wanted: dict[int, int]) -> None:
    """Have these brokers lead: each becomes the first of its partition's replicas, which is then elected."""
    orders = {
        TopicPartition(world.topic, partition): [broker, *({1, 2, 3} - {broker})]
        for partition, broker in wanted.items()
    }
    with operator(world.kafka) as admin:
        admin.alter_partition_reassignments(orders)
        wait_until(lambda: not admin.list_partition_reassignments({world.topic: list(wanted)}), "the reassignment")
        admin.elect_leaders(0, {world.topic: list(wanted)})
    wait_until(lambda: leaders(world.kafka, world.topic) == wanted, f"the leaders to be {wanted}")


@pytest.mark.full
@pytest.mark.timeout(400)
def test_each_broker_is_killed_and_restarted_in_its_turn(world: World, three: list[Broker]) -> None:
    consumer, seen = world.consumer(), []
    with world.filling(over_s=90):
        for victim, broker in enumerate(three, 1):
            await_in_sync(world)
            world.await_decided(world.n_decided() + 300)
            broker.kill()
            try:
                await_others_lead(world, victim)
                seen.append(world.n_decided())
                world.await_decided(seen[-1] + 300, 60)
            finally:
                broker.start()
        await_in_sync(world)
    world.await_drained()
    assert consumer.terminate() == 0
    assert seen[-1] < world.check().events - 300


@pytest.mark.full
def test_two_of_three_brokers_die(world: World, three: list[Broker]) -> None:
    """Too few are left to acknowledge a record or to elect: everything waits, and goes on when they are back.

    For a while a leader may know less of what was committed than the fences say; that is waited for.
    """
    consumer = world.consumer()
    with world.filling(over_s=30):
        world.await_decided(1000)
        three[1].kill()
        three[2].kill()
        try:
            threading.Event().wait(5.0)
            n_decided = world.n_decided()
            threading.Event().wait(3.0)
            assert world.n_decided() == n_decided, "one broker acknowledges records"
        finally:
            for broker in three[1:]:
                broker.launch()
            for broker in three[1:]:
                broker.await_up()
        world.await_decided(n_decided + 1000, 60)
        await_in_sync(world)
    world.await_drained()
    assert consumer.terminate() == 0
    assert n_decided < world.check().events - 1000
