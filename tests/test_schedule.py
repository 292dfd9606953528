"""When a week is due, and what a trigger says."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from consumers.kafka import end_offsets
from consumers.schedule import due_weeks, missed_weeks
from features.fence import Fence
from features.reader import Standing, WeekError
from features.weeks import Calendar
from hitparade.__main__ import main
from hitparade.embedded import Embedded
from producers.kafka import CLIENT, build_producer
from producers.publisher import Message
from producers.topics import TopicSpec, ensure_topics, topic_specs
from tests.builders_weekly import Stage, chart_week, moment, plays, staged
from tests.servers import wait_until

HOUR = timedelta(hours=1)


def fence(*weeks: int) -> Fence:
    """A partition that has counted these weeks of 2023."""
    touched = {chart_week(week).name: 1 for week in weeks}
    return Fence(1, "id", moment(max(weeks)), {}, {}, touched, {}, {})


def standing(*partitions: Fence, weeks_kept: int = 12) -> Standing:
    return Standing(dict(enumerate(partitions)), Calendar(), weeks_kept)


def names(weeks: list[int]) -> list[str]:
    return [chart_week(week).name for week in weeks]


def due(found: Standing, triggered: set[str] | None = None, now: datetime | None = None) -> list[str]:
    return [week.name for week in due_weeks(found, triggered or set(), now, HOUR)]


def test_by_event_time_every_week_is_due_that_the_stream_time_of_any_partition_has_passed_oldest_first() -> None:
    assert due(standing(fence(20, 22), fence(20, 24))) == names([20, 21, 22, 23])
    assert due(standing(fence(20))) == []


@pytest.mark.parametrize(
    ("now", "weeks"),
    [
        (datetime(2023, 5, 22, 0, 59, 59, tzinfo=UTC), []),
        (datetime(2023, 5, 22, 1, tzinfo=UTC), [20]),
        (datetime(2023, 5, 29, 0, 59, 59, tzinfo=UTC), [20]),
        (datetime(2023, 5, 29, 1, tzinfo=UTC), [20, 21]),
        (datetime(2024, 1, 1, tzinfo=UTC), [20, 21]),
    ],
)
def test_by_the_clock_a_week_is_due_when_it_has_ended_and_the_grace_is_over(now: datetime, weeks: list[int]) -> None:
    assert due(standing(fence(20, 21)), now=now) == names(weeks)


def test_a_week_that_has_its_trigger_is_not_due_again() -> None:
    assert due(standing(fence(20, 24)), {"2023-W20", "2023-W22"}) == names([21, 23])


def test_a_week_that_is_not_kept_any_more_is_not_due_but_missed() -> None:
    found = standing(fence(10, 24), weeks_kept=5)
    assert due(found, {"2023-W16"}) == names([20, 21, 22, 23])
    assert missed_weeks(found, {"2023-W10", "2023-W16"}) == names([17, 18, 19])


def test_nothing_is_missed_before_the_first_trigger_or_while_weeks_are_kept() -> None:
    found = standing(fence(10, 24), weeks_kept=5)
    assert missed_weeks(found, set()) == []
    assert missed_weeks(found, {"2023-W19"}) == []
    assert missed_weeks(found, {"2023-W23"}) == []


def test_before_anything_is_counted_no_week_is_known() -> None:
    with pytest.raises(WeekError, match="nothing has been counted yet"):
        due(standing())


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        yield stage


def counted(stage: Stage, *weeks: int) -> Stage:
    stage.catalogue("a", "b", "c")
    for week in weeks:
        stage.send(plays(week, {"a": 2, "b": week}))
    stage.count()
    return stage


def closed_weeks(stage: Stage) -> list[str]:
    return [record.key.decode() for record in stage.records(stage.settings.topics.triggers)]


def test_what_is_due_is_fired_once_oldest_first(stage: Stage) -> None:
    counted(stage, 20, 22, 23)
    fired = stage.triggers.fire_due(None, HOUR)
    assert [week.name for week in fired] == closed_weeks(stage) == names([20, 21, 22])
    assert stage.triggers.fire_due(None, HOUR) == []
    assert closed_weeks(stage) == names([20, 21, 22])


def test_a_trigger_carries_the_topics_ids_and_the_end_of_every_partition_of_both(stage: Stage) -> None:
    counted(stage, 20, 21)
    stage.send(plays(21, {"a": 1}), partition=1)
    stage.triggers.fire(chart_week(20), "manual")
    (record,) = stage.records(stage.settings.topics.triggers)
    assert json.loads(record.value) == {
        "closed_week": "2023-W20",
        "reason": "manual",
        "topic_ids": {
            "sessions": stage.facts(stage.settings.topics.sessions).topic_id,
            "tracks": stage.facts(stage.settings.topics.tracks).topic_id,
        },
        "cut": {"sessions": {"0": 2, "1": 1}, "tracks": {"0": 3, "1": 0}},
    }


def test_triggers_of_a_topic_that_was_created_anew_do_not_count_nor_does_what_is_no_trigger(
    apache: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with staged(apache, redis_url, prefix, tmp_path) as stage:
        triggers = stage.settings.topics.triggers
        stage.publisher.publish([Message(triggers, b"2023-W20", b"junk"), Message(triggers, b"2023-W20", None)])
        assert stage.triggers.triggered() == set()
        stage.triggers.fire(chart_week(20), "schedule")
        assert stage.triggers.triggered() == {"2023-W20"}
        recreate(stage, stage.settings.topics.sessions)
        wait_until(lambda: stage.triggers.triggered() == set(), what="the trigger to count no more")
        stage.triggers.fire(chart_week(21), "schedule")
        assert stage.triggers.triggered() == {"2023-W21"}


def recreate(stage: Stage, topic: str) -> None:
    before = stage.facts(topic).topic_id
    kafka = stage.settings.kafka
    with KafkaAdminClient(**CLIENT, **kafka) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), what="the topic to go")
    ensure_topics(kafka, topic_specs(stage.settings.topics, 2, 12))
    assert stage.facts(topic).topic_id != before


def test_missed_weeks_are_reported_and_the_others_fired(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    counted(stage, 1, 2)
    stage.triggers.fire(chart_week(1), "schedule")
    counted(stage, 6, 17)
    with caplog.at_level(logging.WARNING):
        fired = stage.triggers.fire_due(None, HOUR)
    assert [week.name for week in fired] == names([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
    assert "weeks 2023-W02, 2023-W03, 2023-W04, 2023-W05 were missed" in caplog.text


def test_two_schedulers_at_once_publish_the_same_bytes_twice(stage: Stage) -> None:
    counted(stage, 20, 21)
    first = stage.triggers.fire(chart_week(20), "schedule")
    stage.send(plays(21, {"c": 9}), partition=1)  # so the second has seen a longer log
    second = stage.triggers.fire(chart_week(20), "schedule")
    assert first.cut != second.cut
    stage.count()
    run = stage.weekly_run()
    run.run(first)
    run.run(second)
    assert len(stage.published()) == 2
    assert len(set(stage.published())) == 1


def test_the_scheduler_goes_on_until_it_is_told_to_stop_and_waits_for_the_first_event(stage: Stage) -> None:
    stop = threading.Event()
    scheduler = threading.Thread(target=stage.triggers.run, args=(stop, HOUR, True, 0.05))
    scheduler.start()
    try:
        counted(stage, 20, 21)
        wait_until(lambda: closed_weeks(stage) == names([20]), what="the trigger of the first week")
        stage.send(plays(22, {"a": 1}))
        stage.count()
        wait_until(lambda: closed_weeks(stage) == names([20, 21]), what="the trigger of the second week")
    finally:
        stop.set()
        scheduler.join()


@pytest.fixture
def command_line(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage's settings in the environment, where the commands look."""
    for name, value in stage.env.items():
        monkeypatch.setenv(name, value)
    return stage


def test_schedule_once_fires_what_is_due_and_says_so(command_line: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    counted(command_line, 20, 21, 22)
    assert main(["schedule", "--once", "--event-time"]) == 0
    assert capsys.readouterr().out == "triggered 2023-W20, 2023-W21\n"
    assert main(["schedule", "--once", "--event-time"]) == 0
    assert capsys.readouterr().out == "triggered nothing: no closed week is without a trigger\n"
    assert main(["schedule", "--once"]) == 0  # by the clock, the week of stream time is long over
    assert closed_weeks(command_line) == names([20, 21, 22])


def test_trigger_fires_the_last_closed_week_the_one_given_or_all(command_line: Stage) -> None:
    counted(command_line, 20, 21, 22)
    assert main(["trigger"]) == 0
    assert main(["trigger", "2023-W20"]) == 0
    assert closed_weeks(command_line) == names([21, 20])
    assert main(["trigger", "--all"]) == 0
    assert closed_weeks(command_line) == names([21, 20, 20, 21])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["2023-W22"], 1, "week 2023-W22 is not closed, or not kept: expected one of 2023-W20 to 2023-W21"),
        (["2023-W19"], 1, "week 2023-W19 is not closed, or not kept"),
        (["2023-W54"], 2, "week '2023-W54' does not exist"),
        (["2023-W20", "--all"], 2, "expected a week or --all, found both"),
    ],
    ids=["open", "never counted", "no such week", "both"],
)
def test_a_week_that_cannot_be_triggered_is_refused_in_a_sentence(
    command_line: Stage, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted(command_line, 20, 21, 22)
    assert main(["trigger", *arguments]) == code
    assert message in capsys.readouterr().err
    assert closed_weeks(command_line) == []


def test_nothing_can_be_triggered_before_anything_is_counted(
    command_line: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trigger"]) == 1
    assert "nothing has been counted yet: send events" in capsys.readouterr().err
    assert main(["schedule", "--once"]) == 0
    assert capsys.readouterr().out.startswith("triggered nothing: nothing has been counted yet: send events")


def test_end_offsets_taken_while_a_producer_writes_lie_between_what_was_acknowledged_and_what_was_sent(
    kafka: str, prefix: str
) -> None:
    config = {"bootstrap_servers": kafka}
    ensure_topics(config, [TopicSpec(prefix, 2, {})])
    sent, acknowledged, stop = [0, 0], [0, 0], threading.Event()

    def write() -> None:
        producer = build_producer(config, linger_ms=0)
        while not stop.is_set():
            futures = []
            for partition in (0, 1):
                for _ in range(10):
                    sent[partition] += 1
                    futures.append(producer.send(prefix, b"x", partition=partition))
            for future in futures:
                acknowledged[future.get(60).partition] += 1
        producer.close()

    writer = threading.Thread(target=write)
    writer.start()
    looks: list[tuple[list[int], Mapping[int, int], list[int]]] = []
    try:
        wait_until(lambda: min(acknowledged) > 0, what="the first records")
        while len(looks) < 10:
            before = list(acknowledged)
            ends = end_offsets(config, {prefix: (0, 1)})[prefix]
            looks.append((before, ends, list(sent)))
    finally:
        stop.set()
        writer.join()
    assert all(before[p] <= ends[p] <= after[p] for before, ends, after in looks for p in (0, 1))
    assert looks[0][0] < looks[-1][0]
    assert end_offsets(config, {prefix: (0, 1)})[prefix] == dict(enumerate(sent)) == dict(enumerate(acknowledged))
