"""The weekly consumer's loop: what is tried again, what is passed over, and when a trigger is done with."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from errno import ENOSPC
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import consumers.group
from consumers.group import GroupReader
from consumers.kafka import KafkaRefused, KafkaUnavailable, build_consumer
from consumers.snapshot import CutTimeout, WrongTopic
from consumers.triggers import TriggerConsumer
from features.connect import StoreRefused, StoreUnavailable
from features.history import HistoryError
from features.reader import WeekError
from hitparade.embedded import Embedded
from producers.kafka import KafkaRefused as WriterRefused
from producers.publisher import Message, NotAcknowledged, Publisher
from producers.topics import TopicSpec, ensure_topics
from producers.triggers import Trigger
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.servers import wait_until


def fields(week: str = "2023-W24", **changes: Any) -> dict[str, Any]:
    trigger = {
        "closed_week": week,
        "reason": "manual",
        "topic_ids": {"sessions": "s", "tracks": "t"},
        "cut": {"sessions": {"0": 5, "1": 0}, "tracks": {"0": 2}},
    }
    return trigger | changes


def wire(week: str = "2023-W24") -> bytes:
    return json.dumps(fields(week)).encode()


def test_a_trigger_is_read_as_it_was_written_under_its_week() -> None:
    trigger = Trigger.model_validate(fields())
    message = trigger.message("triggers")
    assert message.key == b"2023-W24"
    assert message.value == json.dumps(fields(), sort_keys=True, separators=(",", ":")).encode()
    assert Trigger.model_validate_json(message.value) == trigger


@pytest.mark.parametrize(
    "changes",
    [
        {"closed_week": "soon"},
        {"closed_week": "2023-W53"},
        {"reason": "whim"},
        {"topic_ids": {"sessions": "s"}},
        {"cut": {"sessions": {"0": 5}}},
        {"cut": {"sessions": {"first": 5}, "tracks": {}}},
        {"cut": {"sessions": {"0": -1}, "tracks": {}}},
        {"cut": {"sessions": {"0": 5}, "tracks": {}, "likes": {}}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_trigger_that_no_run_could_follow_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Trigger.model_validate(fields() | changes)


@dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None
    topic: str = "triggers"
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class Given(GroupReader):
    """Records out of a list, instead of a group's topic; what is committed is noted."""

    def __init__(self, *values: bytes | None) -> None:
        self.records = [Record(offset, value) for offset, value in enumerate(values)]
        self.n_polls = self.n_kept = 0
        self.committed: list[int] = []
        self.is_closed = False

    def poll(self, timeout_s: float) -> Any:
        self.n_polls += 1
        return self.records.pop(0) if self.records else None

    def keep_membership(self) -> None:
        self.n_kept += 1

    def commit(self, record: Any) -> None:
        self.committed.append(record.offset)

    def has_read_everything(self) -> bool:
        return not self.records

    def close(self) -> None:
        self.is_closed = True


class Hasty(threading.Event):
    """A stop that nobody waits for; what is to happen meanwhile happens."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        self.meanwhile()
        return self.is_set()


def failing(*causes: Exception) -> tuple[Callable[[Trigger], None], list[str]]:
    """A run that fails for each cause in turn and then goes well; and the weeks that it was asked for."""
    left, asked = list(causes), list[str]()

    def run(trigger: Trigger) -> None:
        asked.append(trigger.closed_week)
        if left:
            raise left.pop(0)

    return run, asked


def a_broken_model() -> ValidationError:
    with pytest.raises(ValidationError) as error:
        Trigger.model_validate({})
    return error.value


def test_triggers_are_run_in_their_order_and_each_is_committed() -> None:
    run, asked = failing()
    reader = Given(wire("2023-W20"), wire("2023-W21"))
    assert TriggerConsumer(reader, run, Hasty()).consume(until_idle=True) == 0
    assert asked == ["2023-W20", "2023-W21"]
    assert reader.committed == [0, 1]
    assert reader.is_closed


@pytest.mark.parametrize(
    "cause", [WeekError("gone"), WrongTopic("gone"), HistoryError("gone")], ids=lambda cause: type(cause).__name__
)
def test_a_trigger_that_can_never_be_run_is_told_of_and_passed_over_and_the_next_one_runs(
    cause: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    run, asked = failing(cause)
    reader = Given(wire("2023-W20"), wire("2023-W21"))
    with caplog.at_level(logging.ERROR):
        assert TriggerConsumer(reader, run, Hasty()).consume(until_idle=True) == 1
    assert asked == ["2023-W20", "2023-W21"]
    assert reader.committed == [0, 1]
    assert "the trigger at offset 0 of triggers is passed over: gone" in caplog.text


@pytest.mark.parametrize(
    "value",
    [b"junk", b"{}", b"\xff", b"[" * 5000, None, wire("2023-W54")],
    ids=["junk", "empty", "no UTF-8", "deep", "null", "no such week"],
)
def test_an_unreadable_trigger_is_told_of_and_passed_over_and_the_next_one_runs(
    value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    run, asked = failing()
    reader = Given(value, wire("2023-W21"))
    with caplog.at_level(logging.ERROR):
        assert TriggerConsumer(reader, run, Hasty()).consume(until_idle=True) == 1
    assert asked == ["2023-W21"]
    assert reader.committed == [0, 1]
    assert "the trigger at offset 0 of triggers is passed over" in caplog.text


@pytest.mark.parametrize(
    "cause",
    [
        StoreUnavailable("away"),
        CutTimeout("behind"),
        KafkaUnavailable("away"),
        NotAcknowledged("some"),
        OSError(ENOSPC, "No space left on device"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_what_may_pass_is_tried_again_ever_more_slowly_until_it_does(cause: Exception) -> None:
    run, asked = failing(*[cause] * 8)
    reader, stop = Given(wire("2023-W20"), wire("2023-W21")), Hasty()
    assert TriggerConsumer(reader, run, stop).consume(until_idle=True) == 0
    assert asked == ["2023-W20"] * 9 + ["2023-W21"]
    assert reader.committed == [0, 1]
    longest = [1, 2, 4, 8, 16, 30, 30, 30]
    assert all(most / 2 <= pause <= most for pause, most in zip(stop.pauses, longest, strict=True))


@pytest.mark.parametrize(
    "cause",
    [
        pytest.param(KeyError("a bug"), id="a bug"),
        pytest.param(a_broken_model(), id="not the trigger's fault"),
        pytest.param(StoreRefused("no right"), id="Redis refuses"),
        pytest.param(KafkaRefused("no right"), id="Kafka refuses who reads"),
        pytest.param(WriterRefused("no right"), id="Kafka refuses who writes"),
    ],
)
def test_what_no_trying_again_mends_ends_the_consumer_and_commits_nothing(cause: Exception) -> None:
    run, _ = failing(cause)
    reader = Given(wire())
    with pytest.raises(type(cause)):
        TriggerConsumer(reader, run, Hasty()).consume(until_idle=True)
    assert reader.committed == []


def test_a_consumer_that_is_told_to_stop_leaves_a_trigger_that_has_not_succeeded() -> None:
    stop = Hasty(lambda: stop.set())
    run, asked = failing(CutTimeout("behind"))
    reader = Given(wire())
    assert TriggerConsumer(reader, run, stop).consume() == 0
    assert asked == ["2023-W24"]
    assert reader.committed == []
    assert reader.is_closed


def test_kafka_being_away_between_triggers_is_waited_for() -> None:
    class Away(Given):
        def poll(self, timeout_s: float) -> Any:
            record = super().poll(timeout_s)
            if self.n_polls == 1:
                self.records.insert(0, record)
                raise KafkaUnavailable("away")
            return record

    run, asked = failing()
    assert TriggerConsumer(Away(wire()), run, Hasty()).consume(until_idle=True) == 0
    assert asked == ["2023-W24"]


def test_the_membership_is_kept_while_a_run_goes_on() -> None:
    polled = threading.Event()

    class Polled(Given):
        def keep_membership(self) -> None:
            super().keep_membership()
            polled.set()

    reader = Polled(wire())
    ended = TriggerConsumer(reader, lambda trigger: polled.wait(60), Hasty()).consume(until_idle=True)
    assert (ended, reader.n_kept, reader.committed) == (0, 1, [0])


def test_a_cut_that_is_not_reached_publishes_nothing_and_succeeds_once_the_counters_come(
    embedded_stack: Embedded, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, HITPARADE_CUT_TIMEOUT_S="1") as stage:
        stage.catalogue("a", "b")
        stage.send(plays(20, {"a": 1}), plays(21, {"a": 1}))
        stage.count()
        stage.send(plays(21, {"b": 1}), plays(21, {"b": 1}), partition=1)
        trigger = stage.triggers.fire(chart_week(20), "manual")
        published: list[int] = []

        def count_at_last() -> None:
            published.append(len(stage.published()))
            stage.count()

        reader = Given(trigger.message("triggers").value)
        with caplog.at_level(logging.WARNING):
            run = replace(stage.weekly_run(), cut_timeout_s=0).run
            assert TriggerConsumer(reader, run, Hasty(count_at_last)).consume(until_idle=True) == 0
        assert f"{stage.settings.topics.sessions} partition 1: want 2, have 0" in caplog.text
        assert published == [0]
        assert len(stage.published()) == 1
        assert reader.committed == [0]


class PowerCut(Exception):
    """The process is gone."""


class CutBeforeCommit(GroupReader):
    def commit(self, record: Any) -> None:
        raise PowerCut


@pytest.fixture
def stage(apache: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(apache, redis_url, prefix, tmp_path) as stage:
        yield stage


def member(
    stage: Stage, kind: type[GroupReader] = GroupReader, forget: Callable[[], None] = lambda: None
) -> GroupReader:
    topics = stage.settings.topics
    return kind(stage.settings.kafka, topics.triggers, topics.group("weekly"), 6000, forget)


def test_a_crash_between_publishing_and_committing_publishes_the_same_bytes_again(stage: Stage) -> None:
    stage.catalogue("a", "b")
    stage.send(*[plays(week, {"a": 1, "b": week}) for week in (20, 21)])
    stage.count()
    stage.triggers.fire(chart_week(20), "schedule")

    crashing, run = member(stage, CutBeforeCommit), stage.weekly_run()
    with pytest.raises(PowerCut):
        TriggerConsumer(crashing, run.run, threading.Event()).consume(until_idle=True)
    crashing.close()
    assert len(stage.published()) == 1

    run = stage.weekly_run()
    restarted = TriggerConsumer(member(stage, forget=run.playlists.forget), run.run, threading.Event())
    assert restarted.consume(until_idle=True) == 0
    assert len(stage.published()) == 2
    assert len(set(stage.published())) == 1

    run = stage.weekly_run()
    assert TriggerConsumer(member(stage), run.run, threading.Event()).consume(until_idle=True) == 0
    assert len(stage.published()) == 2


def test_a_run_longer_than_the_poll_interval_costs_no_membership(
    apache: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that does not poll for so long is put out of its group, and another one runs its trigger too."""
    monkeypatch.setattr(consumers.group, "build_consumer", partial(build_consumer, max_poll_interval_ms=2000))
    config = {"bootstrap_servers": apache}
    ensure_topics(config, [TopicSpec(prefix, 1, {})])
    n_assigned: list[int] = []
    reader = GroupReader(config, prefix, prefix, 2000, lambda: n_assigned.append(1))
    with closing(Publisher(config)) as publisher:
        publisher.publish([Message(prefix, b"k", wire(week)) for week in ("2023-W20", "2023-W21")])
    asked: list[str] = []

    def long_run(trigger: Trigger) -> None:
        asked.append(trigger.closed_week)
        if len(asked) == 1:
            threading.Event().wait(3.5)

    assert TriggerConsumer(reader, long_run, threading.Event()).consume(until_idle=True) == 0
    assert asked == ["2023-W20", "2023-W21"]
    assert len(n_assigned) == 1


def test_a_stop_ends_the_wait_for_a_cut_and_leaves_the_trigger_uncommitted(
    embedded_stack: Embedded, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with staged(embedded_stack.kafka, redis_url, prefix, tmp_path) as stage:
        stage.send(plays(20, {"a": 1}), plays(21, {"a": 1}))
        stage.count()
        stage.send(plays(21, {"a": 1}))
        trigger, stop = stage.triggers.fire(chart_week(20), "manual"), threading.Event()
        run = replace(stage.weekly_run(), stop=stop)
        reader: Any = OneTrigger(trigger.message("triggers").value or b"")
        consuming = threading.Thread(target=TriggerConsumer(reader, run.run, stop).consume)
        consuming.start()
        wait_until(lambda: reader.n_polls > 0, what="the trigger to be taken")
        stop.set()
        consuming.join(60)
        assert not consuming.is_alive()
        assert not reader.committed
        assert stage.published() == []


@dataclass
class OneTrigger:
    """A group reader that has one record."""

    value: bytes
    n_polls: int = 0
    committed: bool = False
    topic: str = "triggers"
    partition: int = 0
    offset: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()

    def poll(self, timeout_s: float) -> Any:
        self.n_polls += 1
        return self if self.n_polls == 1 else None

    def keep_membership(self) -> None:
        """Nobody asks."""

    def commit(self, record: Any) -> None:
        self.committed = True

    def close(self) -> None:
        """Nothing is open."""
