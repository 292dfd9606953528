"""What dies, hangs, comes and goes is a consumer of ours."""

import itertools
import random
import re
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError

from tests.faults.world import Process, World
from tests.servers import wait_until

PATIENT = {"SESSION_TIMEOUT_MS": "60000"}
"""Whoever gets partitions in time did not wait until somebody's session was over."""
EDGES = [f"{when} {edge}" for edge in ("poll", "flush", "apply", "commit") for when in ("before", "after")]


def consumer_that(world: World, plan: str, env: Mapping[str, str] | None = None) -> Process:
    """A counter consumer that sends itself signals: `SIGKILL before apply 2`."""
    return world.python("-m", "tests.faults.killed", plan, "consume", "sessions", env=env)


def group_of(world: World) -> dict[str, Any]:
    """The counter consumers' group as Kafka has it."""
    name = world.settings.topics.group("sessions")
    group: dict[str, Any] = {"group_state": "", "members": []}
    with closing(KafkaAdminClient(bootstrap_servers=world.kafka)) as admin:
        with suppress(CoordinatorNotAvailableError):  # of a broker's very first group
            group = admin.describe_groups([name])[name]
    return group


def n_members(world: World) -> int:
    return len(group_of(world)["members"])


def is_rebalancing(world: World) -> bool:
    return bool(group_of(world)["group_state"] == "PreparingRebalance")


def await_said(process: Process, text: str, timeout_s: float = 30) -> None:
    wait_until(lambda: process.said(text), f"{text!r} in {process.log}", timeout_s)


def in_hand(process: Process) -> tuple[int, int, int]:
    """Partition, start and end of the batch that it had in hand at its signal."""
    found = re.search(r"apply \d+: partition (\d+) \[(\d+), (\d+)\)", process.log.read_text())
    assert found, process.log.read_text()
    return int(found[1]), int(found[2]), int(found[3])


def n_read(process: Process) -> int:
    """How many events a consumer that has ended says it decided."""
    found = re.search(r"read from .*: (.+)", process.log.read_text())
    assert found, process.log.read_text()
    numbers = re.findall(r"([\d,]+) (?:counted|late|dead|ignored)\b", found[1])
    return sum(int(number.replace(",", "")) for number in numbers)


def test_nothing_happens(world: World) -> None:
    world.fill()
    assert world.consumer("--until-idle").wait() == 0
    world.check()


@pytest.mark.second
@pytest.mark.parametrize("nth", [1, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 6))])
def test_consumers_are_killed_at_every_edge_of_the_loop(world: World, seed: int, nth: int) -> None:
    """Before and after poll, flush, apply and commit; three at work at a time, and when one dies the next begins."""
    plans = [f"SIGKILL {edge} {nth}" for edge in EDGES]
    random.Random(seed).shuffle(plans)
    victims: list[Process] = []
    with world.filling(over_s=90):
        for plan in plans:
            wait_until(lambda: sum(victim.is_alive() for victim in victims) < 3, f"a kill, before {plan}")
            victims.append(consumer_that(world, plan))
        wait_until(lambda: not any(victim.is_alive() for victim in victims), "the last kill")
        n_decided = world.n_decided()
    for plan, victim in zip(plans, victims, strict=True):
        assert victim.said(plan), plan
        assert victim.wait() == -signal.SIGKILL
    assert world.consumer("--until-idle").wait() == 0
    verdict = world.check()
    assert 0 < n_decided < verdict.events / 2, "the kills came too late"


@pytest.mark.full
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_consumer_is_killed_between_the_first_fences_of_two_partitions(world: World, when: str) -> None:
    world.fill()
    victim = consumer_that(world, f"SIGKILL {when} init 2")
    assert victim.wait() == -signal.SIGKILL
    assert len(world.standings()) == (1 if when == "before" else 2)
    assert world.consumer("--until-idle").wait() == 0
    world.check()


@pytest.mark.parametrize(
    "over_s", [10, pytest.param(60, marks=[pytest.mark.full, pytest.mark.timeout(300)])], ids=["10 s", "a minute"]
)
def test_one_of_four_consumers_is_killed_every_1_to_3_s_for(world: World, seed: int, over_s: float) -> None:
    draw, pause = random.Random(seed), threading.Event()
    consumers = [world.consumer() for _ in range(4)]
    decided = [0]
    with world.filling(int(over_s * 2000), 1.3 * over_s):
        world.await_decided(1)
        ends_at = time.monotonic() + over_s
        while time.monotonic() < ends_at:
            pause.wait(draw.uniform(1.0, 3.0))
            n = draw.randrange(4)
            assert consumers[n].is_alive(), f"it ended on its own: {consumers[n].log}"
            consumers[n].kill()
            decided.append(world.n_decided())
            consumers[n] = world.consumer()
    world.await_drained()
    verdict = world.check()
    assert decided[-1] < verdict.events, "the last kill came too late"
    n_useful = sum(before < after for before, after in itertools.pairwise(decided))
    assert n_useful > len(decided) / 5, f"hardly anything was decided between kills: {decided}"


def test_a_consumer_is_told_to_stop_with_a_batch_in_hand(world: World) -> None:
    """It applies what it has, leaves the group, and ends with 0; its successor has the partitions at once."""
    with world.filling(over_s=60):
        stopped = consumer_that(world, "SIGTERM before apply 9", PATIENT)
        await_said(stopped, "SIGTERM before apply")
        assert stopped.wait(10) == 0
        partition, _, end = in_hand(stopped)
        assert world.standings()[partition].next_offset >= end
        assert n_members(world) == 0
        assert n_read(stopped) == world.n_decided()
        successor = world.consumer(env=PATIENT)
        world.await_decided(world.n_decided() + 100, 10)
    world.await_drained()
    assert successor.terminate(10) == 0
    assert n_read(stopped) + n_read(successor) == world.check().events


@pytest.mark.full
def test_consumers_under_load_are_told_to_stop_one_after_the_other(world: World) -> None:
    consumers = [world.consumer(env=PATIENT) for _ in range(3)]
    with world.filling(over_s=60):
        wait_until(lambda: n_members(world) == 3 and not is_rebalancing(world), "three members")
        world.await_decided(world.n_decided() + 300)
        for n_left in (2, 1):
            consumer = consumers[n_left]
            assert consumer.terminate(10) == 0
            assert n_members(world) == n_left
            wait_until(lambda: not is_rebalancing(world), "the others to share its partitions")
            world.await_decided(world.n_decided() + 300, 10)
    world.await_drained()
    assert consumers[0].terminate(10) == 0
    verdict = world.check()
    shares = [n_read(consumer) for consumer in consumers]
    assert sum(shares) == verdict.events
    assert all(shares)


@pytest.mark.second
def test_a_consumer_hangs_past_its_session_and_wakes_up_with_a_batch_in_hand(world: World) -> None:
    """The zombie's write is refused; then it goes on as any other member, and the others can leave."""
    with world.filling(over_s=60):
        zombie = consumer_that(world, "SIGSTOP before apply 5")
        await_said(zombie, "SIGSTOP before apply")
        partition, start, end = in_hand(zombie)
        heir = world.consumer()
        wait_until(lambda: world.standings()[partition].next_offset >= end, "the heir to count the zombie's batch")
        zombie.thaw()
        heir.kill()
        world.await_decided(world.n_decided() + 500)
    world.await_drained()
    world.check()
    assert zombie.said(f"expected the fence at offset {start}, found")


@pytest.mark.full
def test_four_replicas_start_at_once(world: World) -> None:
    world.fill(3000)
    consumers = [world.consumer() for _ in range(4)]
    with world.filling(6000, over_s=60):
        wait_until(lambda: n_members(world) == 4 and not is_rebalancing(world), "four members")
        world.await_decided(world.n_decided() + 500)
    world.await_drained()
    assert [consumer.terminate(10) for consumer in consumers] == [0] * 4
    shares = [n_read(consumer) for consumer in consumers]
    assert all(shares)
    assert sum(shares) == world.check().events


@pytest.mark.full
def test_one_leaves_and_one_joins_while_a_batch_is_in_hand(world: World) -> None:
    """The batch is applied, not refused: whoever has it keeps its partitions until it has asked for its new share."""
    with world.filling(over_s=60):
        leaver = world.consumer(env=PATIENT)
        world.await_decided(200)
        busy = consumer_that(world, "SIGSTOP before apply 5", {"SESSION_TIMEOUT_MS": "20000"})
        await_said(busy, "SIGSTOP before apply")
        partition, start, end = in_hand(busy)
        assert leaver.terminate(10) == 0
        newcomer = world.consumer(env=PATIENT)
        wait_until(lambda: n_members(world) == 2 and is_rebalancing(world), "the newcomer to ask for its share")
        assert world.standings()[partition].next_offset == start
        busy.thaw()
        wait_until(lambda: not is_rebalancing(world), "the group to settle")
        assert world.standings()[partition].next_offset >= end
        world.await_decided(world.n_decided() + 500)
    world.await_drained()
    assert not busy.said("expected the fence")
    assert [consumer.terminate(10) for consumer in (busy, newcomer)] == [0, 0]
    shares = [n_read(consumer) for consumer in (leaver, busy, newcomer)]
    assert all(shares)
    assert sum(shares) == world.check().events


@pytest.mark.full
def test_one_is_killed_and_one_told_to_stop_while_the_group_rebalances(world: World) -> None:
    """Both wait for their share, which the group cannot give out, since a third hangs with a batch in hand."""
    with world.filling(over_s=60):
        busy = consumer_that(world, "SIGSTOP before apply 5", {"SESSION_TIMEOUT_MS": "30000"})
        await_said(busy, "SIGSTOP before apply")
        killed, stopped, heir = (world.consumer() for _ in range(3))
        wait_until(lambda: n_members(world) == 4 and is_rebalancing(world), "three to ask for their share")
        n_decided = world.n_decided()
        killed.kill()
        assert stopped.terminate(10) == 0
        assert is_rebalancing(world)
        assert n_decided == world.n_decided() > 0
        busy.thaw()
        world.await_decided(n_decided + 500)
        assert busy.terminate(10) == 0
    world.await_drained()
    assert heir.terminate(10) == 0
    assert n_read(busy) + n_read(heir) == world.check().events
