"""What a consumer says of itself, and when it says it."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from consumers import loop, rests, watchdog
from consumers.client import OutOfRange
from consumers.health import REMIND_S, SLOW_S, STUCK_S, Health
from consumers.kafka import KafkaUnavailable
from consumers.loop import BEYOND_END_S, LOOK_EVERY_S, Consumer
from consumers.watchdog import WATCHDOG_S, Watchdog
from features.connect import StoreUnavailable
from features.weeks import Calendar
from producers.publisher import NotAcknowledged
from tests.builders import Record, play
from tests.test_loop import World, drain, world  # noqa: F401


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def timed(consumer: Consumer) -> Clock:
    """Give the consumer a clock that stands still."""
    clock = Clock()
    consumer.clock, consumer.health = clock, Health(clock())
    return clock


def failing_once(action: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """The action, but for its first call."""
    errors = [error]

    def call(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return action(*arguments)

    return call


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def test_health_is_logged_when_it_changes_and_once_a_minute_while_it_is_bad(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    health = Health(0.0)
    assert not health.state(0.0).ready
    health.recovered(2.0)
    health.recovered(3.0)
    for second in range(10, 10 + int(2.5 * REMIND_S)):
        health.failed("Kafka is away", float(second))
    health.recovered(200.0)
    health.failed("Redis is away", 201.0)
    assert messages(caplog) == [
        "ready after 2.0 s",
        "not ready: Kafka is away; trying again until it works",
        "not ready for 60 s: Kafka is away",
        "not ready for 120 s: Kafka is away",
        "ready after 190.0 s",
        "not ready: Redis is away; trying again until it works",
    ]


def test_a_state_says_since_when_and_why() -> None:
    health = Health(0.0)
    health.recovered(1.0)
    health.failed("Kafka is away", 10.0)
    health.failed("no answer", 12.0)
    health.progressed(4.0)
    health.turned(12.0)
    state = health.state(15.0)
    assert (state.live, state.ready, state.reason, state.for_s, state.progressed_s_ago) == (
        True,
        False,
        "no answer",
        5.0,
        11.0,
    )
    health.recovered(16.0)
    assert health.state(18.0).for_s == 2.0


def test_a_loop_that_hangs_is_not_ready_and_in_the_end_not_alive() -> None:
    health = Health(0.0)
    health.turned(0.0)
    health.recovered(0.0)
    assert health.state(SLOW_S - 1).ready
    state = health.state(SLOW_S)
    assert (state.live, state.ready, state.reason) == (True, False, "one turn of the loop has taken 15 s so far")
    assert health.state(STUCK_S - 1).live
    assert not health.state(STUCK_S).live
    health.turned(STUCK_S)
    assert health.state(STUCK_S).ready


def test_a_loop_that_has_ended_is_not_alive(world: World) -> None:  # noqa: F811
    consumer, stop = world.consumer(), threading.Event()
    clock = timed(consumer)
    stop.set()
    consumer.run(stop)
    state = consumer.health.state(clock())
    assert (state.live, state.ready, state.reason) == (False, False, "it has ended")


def test_a_consumer_is_ready_once_it_has_worked(world: World) -> None:  # noqa: F811
    consumer = world.consumer()
    clock = timed(consumer)
    consumer.step()
    clock.advance(3.0)
    state = consumer.health.state(clock())
    assert (state.live, state.ready, state.for_s, state.progressed_s_ago) == (True, True, 3.0, 3.0)
    clock.advance(STUCK_S)
    assert not consumer.health.state(clock()).live
    consumer.step()
    assert consumer.health.state(clock()).live


@pytest.mark.parametrize("error", [StoreUnavailable("Redis is away"), NotAcknowledged("the topic is full")])
def test_a_consumer_is_not_ready_until_what_failed_has_worked(world: World, error: Exception) -> None:  # noqa: F811
    """Not when a poll has brought nothing, nor when another partition could be counted."""
    consumer, stop = world.consumer(), threading.Event()
    clock = timed(consumer)
    decide, poll, seen = consumer.decide, consumer.source.poll, []

    def only(partitions: set[int]) -> Callable[[float], Any]:
        return lambda timeout_s: [batch for batch in poll(timeout_s) if batch.partition in partitions]

    consumer.step()
    consumer.decide = failing_once(decide, error)
    consumer.source.poll = only({0})  # type: ignore[assignment, method-assign]
    with pytest.raises(type(error)):
        consumer.step()
    consumer.health.failed(str(error), clock())  # as run() does
    for partitions in (set(), {1}, {0}):
        clock.advance(10 * len(partitions & {0}))  # until then it rests
        consumer.source.poll = only(partitions)  # type: ignore[assignment, method-assign]
        consumer.step()
        seen.append(consumer.health.state(clock()).ready)
    assert seen == [False, False, True]
    assert not stop.is_set()


def test_an_outage_is_known_although_polls_bring_nothing_and_no_error(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kafka's client goes on as if nothing were written; the loop asks, once every few seconds."""
    consumer, stop, asked = world.consumer(), threading.Event(), []
    clock = timed(consumer)
    drain(consumer)
    clock.advance(LOOK_EVERY_S - 1)

    def away() -> str:
        asked.append(clock())
        if len(asked) > 3:
            stop.set()
        raise KafkaUnavailable("Kafka is away")

    consumer.source.topic_id = away  # type: ignore[method-assign]
    consumer.step()
    assert not asked
    clock.advance(1)
    monkeypatch.setattr(rests, "LONGEST_PAUSE_S", 0.0)
    consumer.run(stop)
    assert len(asked) == 4
    assert messages(caplog, logging.WARNING) == ["not ready: Kafka is away; trying again until it works"]


def test_after_a_failure_a_turn_that_brought_nothing_is_not_taken_for_success(
    world: World,  # noqa: F811
) -> None:
    consumer, stop = world.consumer(), threading.Event()
    clock = timed(consumer)
    drain(consumer)
    reasons = []

    def away() -> str:
        raise KafkaUnavailable("still away")

    def nothing(timeout_s: float) -> Any:
        reasons.append(consumer.health.state(clock()).reason)
        if len(reasons) == 3:
            stop.set()
        return []

    consumer.source.topic_id = away  # type: ignore[method-assign]
    consumer.source.poll = failing_once(nothing, KafkaUnavailable("away"))  # type: ignore[method-assign]
    consumer.run(stop)
    assert reasons == ["away", "still away", "still away"]


def test_a_redis_that_was_emptied_is_counted_anew_although_nothing_comes(world: World) -> None:  # noqa: F811
    consumer = world.consumer()
    clock = timed(consumer)
    drain(consumer)
    for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*"):
        world.redis.delete(key)
    assert drain(consumer).store.fence(0) is None
    clock.advance(LOOK_EVERY_S)
    world.letters.sent.clear()
    drain(consumer)
    world.check()


def test_a_topic_that_was_created_anew_is_noticed_although_nothing_comes(world: World) -> None:  # noqa: F811
    consumer = world.consumer()
    clock = timed(consumer)
    drain(consumer)
    consumer.source.identity = "id-2"  # type: ignore[attr-defined]
    clock.advance(LOOK_EVERY_S)
    drain(consumer)
    assert set(consumer.stopped) == {0, 1, 2}


def test_a_stopped_partition_is_why_a_consumer_is_not_ready(world: World) -> None:  # noqa: F811
    drain(world.consumer())
    consumer = world.consumer(calendar=Calendar(4))
    clock = timed(consumer)
    drain(consumer)
    state = consumer.health.state(clock())
    assert state.live
    assert "partition 2 is stopped: " in state.reason
    assert "first_day monday, this consumer has friday" in state.reason
    consumer.source.holds = lambda partition: False  # type: ignore[method-assign]
    consumer.step()
    assert consumer.health.state(clock()).ready


def silent(consumer: Consumer, partition: int) -> None:
    """The client gives nothing more of a partition until it is rebuilt."""
    poll, rebuild, is_silent = consumer.source.poll, consumer.source.rebuild, [True]

    def some(timeout_s: float) -> Any:
        return [batch for batch in poll(timeout_s) if not (is_silent and batch.partition == partition)]

    def rebuilt() -> None:
        is_silent.clear()
        rebuild()

    consumer.source.poll, consumer.source.rebuild = some, rebuilt  # type: ignore[method-assign]


def test_a_partition_that_gives_nothing_is_logged_counted_and_cured(
    world: World,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    consumer = world.consumer()
    clock = timed(consumer)
    consumer.step()
    silent(consumer, 1)
    drain(consumer)
    clock.advance(WATCHDOG_S - 1)
    drain(consumer)
    assert consumer.n_stalls == 0
    for _ in range(2):  # who is accused is given the time to say something yet
        assert consumer.n_stalls == 0
        clock.advance(LOOK_EVERY_S)
        drain(consumer)
    assert messages(caplog, logging.WARNING) == [
        f"{consumer.source.topic} partition 1 has given nothing for 39 s: it stands at offset 4, its log goes on to 17 "
        "(lag 13); rebuilding the consumer"
    ]
    assert consumer.n_stalls == 1
    world.check()


def test_a_partition_that_stays_silent_is_rebuilt_once_a_period(world: World) -> None:  # noqa: F811
    consumer = world.consumer()
    clock = timed(consumer)
    consumer.source.poll = lambda timeout_s: []  # type: ignore[method-assign]
    for _ in range(120):
        consumer.step()
        clock.advance(1.0)
    assert consumer.n_stalls == 2 * 3  # two partitions have records; 120 s hold three periods


def test_an_idle_topic_is_asked_after_once_a_period_and_left_alone(world: World) -> None:  # noqa: F811
    consumer = world.consumer()
    clock, asked = timed(consumer), []
    drain(consumer)
    withheld = consumer.source.withheld
    consumer.source.withheld = lambda partitions: asked.append(clock()) or withheld(partitions)  # type: ignore
    consumer.source.rebuild = lambda: pytest.fail("there is nothing to cure")  # type: ignore[method-assign]
    for _ in range(100):
        consumer.step()
        clock.advance(1.0)
    assert len(asked) == 3


def test_what_comes_just_when_another_client_is_asked_is_no_stall(world: World) -> None:  # noqa: F811
    """A rare record, or what a transaction has held back."""
    consumer = world.consumer()
    clock = timed(consumer)
    consumer.source.rebuild = lambda: pytest.fail("it gives what it has")  # type: ignore[method-assign]
    drain(consumer)

    def comes(partitions: Sequence[int]) -> dict[int, int]:
        world.logs[1].append(Record(len(world.logs[1]), play(20)))
        return {1: len(world.logs[1])}

    world.logs = {**world.logs, 1: [*world.logs[1]]}
    consumer.source.logs, consumer.source.withheld = world.logs, comes  # type: ignore[attr-defined, method-assign]
    for _ in range(100):
        consumer.step()
        clock.advance(1.0)
    assert consumer.n_stalls == 0
    assert len(world.logs[1]) == 17 + 3


def test_an_outage_is_no_stall(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    consumer, stop = world.consumer(), threading.Event()
    clock = timed(consumer)
    consumer.step()
    poll, polls = consumer.source.poll, [KafkaUnavailable("away"), [], stop]

    def once_away(timeout_s: float) -> Any:
        match polls.pop(0):
            case KafkaUnavailable() as error:
                clock.advance(10 * WATCHDOG_S)
                raise error
            case threading.Event():
                stop.set()
                return poll(timeout_s)
        return []

    consumer.source.poll = once_away  # type: ignore[method-assign]
    consumer.source.rebuild = lambda: pytest.fail("nothing was wrong with it")  # type: ignore[method-assign]
    consumer.run(stop)
    assert polls == []
    assert consumer.n_stalls == 0


def test_a_watchdog_suspects_who_stands_still_and_no_one_else() -> None:
    dog = Watchdog()
    dog.note({0: 5, 1: 5, 2: 5}, 0.0)
    dog.note({0: 5, 1: 6, 3: 0}, 10.0)
    assert dog.suspects(watchdog.WATCHDOG_S - 1) == []
    assert dog.suspects(watchdog.WATCHDOG_S) == [0]
    assert dog.suspects(watchdog.WATCHDOG_S + 10) == []
    assert dog.still_s(1, watchdog.WATCHDOG_S) == 20.0
    assert sorted(dog.suspects(2 * watchdog.WATCHDOG_S)) == [0, 1, 3]


def test_a_log_that_ends_before_the_fence_is_waited_for_before_it_is_refused(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new leader may not know at once how far its log was committed."""
    world.logs = {0: [Record(n, play(0)) for n in range(5)]}
    consumer = world.consumer()
    clock = timed(consumer)
    drain(consumer)
    ends = {0: 4}
    monkeypatch.setattr(loop, "end_offsets", lambda kafka, topics: {consumer.source.topic: ends})
    consumer.source.kafka = {}
    consumer.source.poll = failing_once(consumer.source.poll, OutOfRange([0]))  # type: ignore[method-assign]
    consumer.step()
    assert consumer.source.positions == {}
    assert "partition 0 waits, because its log ends before its fence" in consumer.health.state(clock()).reason
    ends[0] = 5
    clock.advance(LOOK_EVERY_S)
    consumer.step()
    assert consumer.source.positions == {0: 5}
    assert consumer.health.state(clock()).ready
    ends[0] = 4
    consumer.source.poll = failing_once(consumer.source.poll, OutOfRange([0]))  # type: ignore[method-assign]
    clock.advance(BEYOND_END_S)
    consumer.step()
    assert not consumer.stopped
    clock.advance(BEYOND_END_S)
    consumer.step()
    assert "the fence is at offset 5, but the log ends at 4: the log was cut" in consumer.stopped[0]
