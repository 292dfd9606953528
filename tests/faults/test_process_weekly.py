"""What dies, hangs or comes twice is a weekly consumer or a scheduler of ours."""

import json
import signal
from collections import defaultdict
from typing import Any

import pytest

from tests.faults.truth import read_back
from tests.faults.world import Process, World
from tests.servers import wait_until

CLOSED = [f"2023-W{number}" for number in range(21, 26)]
"""The weeks of the known log that are kept and have closed."""
KEYS = {f"2023-W{number}/{group}" for number in range(22, 27) for group in ("control", "treatment")}


def counted(world: World) -> None:
    world.fill()
    assert world.consumer("--until-idle").wait() == 0
    world.catalogue()


def command_that(world: World, plan: str, *command: str) -> Process:
    return world.python("-m", "tests.faults.killed", plan, *command)


def records_of(world: World, topic: str) -> dict[str, list[bytes]]:
    """The values of a topic's records by key, in the order of publication."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for record in read_back(world.kafka, topic)[0]:
        found[record.key.decode()].append(record.value)
    return found


def published(world: World) -> dict[str, list[dict[str, Any]]]:
    """Every list that was published, by week and group."""
    records = records_of(world, world.settings.topics.playlists)
    return {key: [json.loads(value) for value in values] for key, values in records.items()}


def await_lists(world: World) -> None:
    wait_until(lambda: published(world).keys() >= KEYS, "every closed week to have its lists")


def check_each_once(world: World) -> None:
    """Whoever keeps the latest by key has every list once, the one that a count without faults gives."""
    found = published(world)
    assert found.keys() == KEYS
    ids = {key: {playlist["id"] for playlist in playlists} for key, playlists in found.items()}
    assert all(len(of_key) == 1 for of_key in ids.values()), ids
    assert {playlist["revision"] for playlists in found.values() for playlist in playlists} == {1}
    for topic in (world.settings.topics.playlists, world.settings.topics.evaluations):
        assert all(len(set(values)) == 1 for values in records_of(world, topic).values()), (
            "published again, differently"
        )
    assert {key: {id_} for key, id_ in world.lists().items()} == ids
    world.check()


def test_the_weekly_consumer_is_killed_between_publishing_and_committing(world: World) -> None:
    """Before and after it publishes, before and after it commits: the same lists come again, with the same ids."""
    counted(world)
    assert world.command("trigger", "--all").wait() == 0
    for plan in ("before publish 1", "after publish 1", "after done 1", "before done 2"):
        victim = command_that(world, f"SIGKILL {plan}", "consume", "weekly")
        assert victim.wait() == -signal.SIGKILL
        assert victim.said(plan)
    assert published(world).keys() < KEYS
    assert world.command("consume", "weekly", "--until-idle").wait() == 0
    times = {playlists[0]["closed_week"]: len(playlists) for playlists in published(world).values()}
    assert times == dict(zip(CLOSED, (2, 1, 2, 1, 1), strict=True))
    check_each_once(world)


@pytest.mark.full
def test_two_schedulers_fire_at_once_and_one_of_two_weekly_consumers_is_killed(world: World) -> None:
    """One scheduler hangs when it has decided what is due, so that both fire every week."""
    counted(world)
    hanging = command_that(world, "SIGSTOP before publish 1", "schedule", "--event-time")
    wait_until(lambda: hanging.said("SIGSTOP"), "a scheduler to find weeks that are due")
    other = world.command("schedule", "--event-time")
    killed = command_that(world, "SIGKILL before done 2", "consume", "weekly")
    assert killed.wait() == -signal.SIGKILL
    assert len(published(world)) == 4
    standby = world.command("consume", "weekly")
    await_lists(world)
    hanging.thaw()
    triggers = world.settings.topics.triggers
    wait_until(lambda: all(len(fired) == 2 for fired in records_of(world, triggers).values()), "both to have fired")
    assert sorted(records_of(world, triggers)) == CLOSED
    assert [process.terminate(10) for process in (hanging, other, standby)] == [0, 0, 0]
    assert world.command("consume", "weekly", "--until-idle").wait() == 0
    assert {len(playlists) for playlists in published(world).values()} >= {2}
    check_each_once(world)


@pytest.mark.full
def test_weeks_are_triggered_while_a_consumer_hangs_in_the_middle_of_the_log(world: World) -> None:
    """Nothing is published until the counters have passed the triggers' cuts."""
    world.fill()
    world.catalogue()
    consumer = command_that(world, "SIGSTOP before apply 3", "consume", "sessions")
    wait_until(lambda: consumer.said("SIGSTOP"), "the consumer to hang")
    n_decided = world.n_decided()
    assert world.command("trigger", "--all").wait() == 0
    weekly = world.command("consume", "weekly", env={"CUT_TIMEOUT_S": "1"})
    wait_until(lambda: weekly.said("the counters are behind the cut") or published(world), "the weekly run to wait")
    early = published(world)
    assert 0 < world.n_decided() == n_decided
    consumer.thaw()
    await_lists(world)
    assert weekly.terminate(10) == 0
    world.await_drained()
    assert consumer.terminate(10) == 0
    check_each_once(world)
    assert not early
