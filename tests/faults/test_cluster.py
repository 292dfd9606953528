"""Redis is a cluster of three nodes: the same results as one, whatever moves or dies."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import NewWorld
from tests.faults.servers import Broker, Cluster, Node
from tests.faults.truth import ends_of
from tests.faults.world import World
from tests.servers import wait_until


@pytest.fixture
def cluster(tmp_path: Path, group: int) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster", group)
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture
def wide_world(new_world: NewWorld, broker: Broker, cluster: Cluster) -> World:
    """The usual world, on a cluster whose nodes have partitions 0 and 3, 1, and 2."""
    world = new_world(broker.address, cluster, settings_={"REDIS_URL": f"{cluster.url}?socket_timeout=2"})
    for partition in range(world.n_partitions):
        hand_over(cluster, slot_of(world, cluster, partition), cluster.nodes[partition % 3])
    assert world.n_decided() == 0  # from now on its client knows where they are
    return world


def key(world: World, partition: int, name: str) -> str:
    return f"{{hp:{world.topic}:{partition}}}:{name}"


def slot_of(world: World, cluster: Cluster, partition: int) -> int:
    return cluster.slot_of(key(world, partition, "fence"))


def hand_over(cluster: Cluster, slot: int, to: Node) -> None:
    """The last step of moving a slot: whoever served it does not any more."""
    to.ask("CLUSTER BUMPEPOCH")  # so that what the others said a moment ago is not believed
    for node in (to, *(node for node in cluster.nodes if node is not to)):
        node.ask("CLUSTER SETSLOT", slot, "NODE", to.id)


def move(source: Node, to: Node, keys: Sequence[str]) -> None:
    for one in keys:
        assert source.ask("MIGRATE", "127.0.0.1", to.port, one, 0, 5000) == b"OK"


@pytest.mark.full
def test_a_cluster_counts_as_one_node_does(wide_world: World, cluster: Cluster) -> None:
    """Counters, lists, and every command that looks at Redis or removes something from it."""
    world = wide_world
    consumers = [world.consumer() for _ in range(2)]
    with world.filling(over_s=5):
        world.await_decided(1000)
    world.await_drained()
    world.check()
    assert [consumer.terminate() for consumer in consumers] == [0, 0]
    assert all(node.ask("DBSIZE") for node in cluster.nodes)
    shown = world.command("counters", "--week", "2023-W24", "--json")
    assert shown.wait() == 0
    rows = [json.loads(line) for line in shown.log.read_text().splitlines()]
    counts = [counts for standing in world.standings().values() for counts in standing.counts.items()]
    assert sum(row["plays"] for row in rows) == sum(plays for (week, *_), (plays, *_) in counts if week == "2023-W24")
    assert world.command("audit").wait() == 0
    assert world.command("doctor").wait() == 0
    cluster.nodes[1].ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    unsafe = world.consumer("--until-idle")
    assert unsafe.wait() == 1
    assert unsafe.said(f"127.0.0.1:{cluster.nodes[1].port}: maxmemory-policy is allkeys-lru")
    assert world.command("drop", world.topic, "--yes").wait() == 0
    assert world.standings() == {}


@pytest.mark.parametrize("first", [pytest.param("fence", marks=pytest.mark.full), "counters"])
def test_a_slot_is_moved_while_it_is_counted_into(wide_world: World, cluster: Cluster, first: str) -> None:
    """Its partition waits as long as one half of it is here and one there; the others go on."""
    world = wide_world
    slot, to = slot_of(world, cluster, 0), cluster.nodes[1]
    consumer = world.consumer()
    with world.filling(over_s=30):
        wait_until(lambda: offset_of(world, 0) > 20, "a part of partition 0 to be counted")
        source = cluster.owner(slot)
        to.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", to.id)
        keys = source.ask("CLUSTER GETKEYSINSLOT", slot, 1000)
        fence = key(world, 0, "fence")
        keys.sort(key=lambda one: (one == fence) != (first == "fence"))
        assert (keys.index(fence) == 0) == (first == "fence")
        half = len(keys) // 2
        move(source, to, keys[:half])
        offset = world.standings()[0].next_offset
        n_decided = world.n_decided()
        world.await_decided(n_decided + 1500)
        assert world.standings()[0].next_offset == offset, "it was counted into while it was in two places"
        move(source, to, keys[half:])
        assert not source.ask("CLUSTER GETKEYSINSLOT", slot, 10)
        hand_over(cluster, slot, to)
        wait_until(lambda: world.standings()[0].next_offset > offset, "the partition to go on")
    world.await_drained()
    world.check()
    assert cluster.owner(slot) is to
    assert consumer.is_alive()


def test_a_node_is_killed_and_comes_back_while_the_others_are_counted_into(wide_world: World, cluster: Cluster) -> None:
    """Its partitions wait; the others do not wait for them."""
    world = wide_world
    consumer = world.consumer()
    victim = cluster.owner(slot_of(world, cluster, 1))
    others = [0, 2, 3]
    with world.filling(over_s=5):
        wait_until(lambda: offset_of(world, 1) > 20, "a part of partition 1 to be counted")
        before = offset_of(world, 1)
        victim.kill()
    ends = ends_of(world.kafka, world.topic)
    wait_until(lambda: all(offset_of(world, p) == ends[p] for p in others), "the others to be drained")
    victim.start()
    cluster.await_whole()
    assert 0 < before < ends[1], "it was killed too late"
    world.await_drained()
    world.check()
    assert consumer.is_alive()


def offset_of(world: World, partition: int) -> int:
    return int(world.client.hget(key(world, partition, "fence"), "next_offset") or 0)
