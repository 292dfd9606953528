"""Lines of logs: fields of their own in JSON, and no line over and over."""

import io
import json
import logging
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from consumers.beginning import Stopped
from consumers.loop import LOOK_EVERY_S
from consumers.scoring import Failure
from consumers.triggers import TriggerConsumer
from consumers.weekly import Opened
from features.connect import StoreUnavailable
from features.reader import WeekError
from hitparade.logs import FIELDS, MOST_LINES, PER_S, JsonFormatter, Sparing
from service.subscription import Subscription
from tests.servers import ROOT
from tests.test_health import Clock, timed
from tests.test_holding import spans_of
from tests.test_loop import World, drain, world  # noqa: F401
from tests.test_triggers import Given, Hasty, failing, wire

Row = dict[str, Any]


@dataclass
class Written:
    """A logger that writes as `hitparade` does, and what it has written."""

    clock: Clock = field(default_factory=Clock)
    stream: io.StringIO = field(default_factory=io.StringIO)

    def handler(self) -> logging.Handler:
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(JsonFormatter())
        handler.addFilter(Sparing(self.clock))
        return handler

    @property
    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def fields(self, words: str) -> Row:
        """The fields of the one line whose message has these words."""
        (row,) = [row for row in self.rows if words in row["message"]]
        return {name: row[name] for name in FIELDS if name in row}


@pytest.fixture
def written() -> Iterator[Written]:
    found, root = Written(), logging.getLogger()
    handler, level = found.handler(), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


def say(message: str, *arguments: object, level: int = logging.WARNING, **fields: object) -> None:
    logging.getLogger("test").log(level, message, *arguments, extra=fields)


# What is said over and over


def test_a_line_that_comes_over_and_over_is_cut_short_and_the_next_one_says_how_often(written: Written) -> None:
    def complain(n: int) -> None:
        say("try %d failed", n)

    for n in range(100):
        complain(n)
    written.clock.advance(PER_S)
    complain(100)
    complain(101)
    assert [row["message"] for row in written.rows] == [
        *(f"try {n} failed" for n in range(MOST_LINES - 1)),
        f"try {MOST_LINES - 1} failed (more like this are left out for up to 60 s)",
        "try 100 failed (95 more like this were left out)",
        "try 101 failed",
    ]


def test_lines_of_other_partitions_weeks_and_groups_are_other_lines(written: Written) -> None:
    for n in range(3 * MOST_LINES):
        say("it stopped", topic="t", partition=n)
        say("no list", week=f"2025-W{n}", group="control")
        say("%s", f"note {n}")
    assert len(written.rows) == 9 * MOST_LINES


def test_two_offsets_of_one_partition_are_no_two_things(written: Written) -> None:
    for n in range(3 * MOST_LINES):
        say("a record is none", topic="t", partition=0, offset=n)
    assert [row["offset"] for row in written.rows] == list(range(MOST_LINES))


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_lines_below_warnings_are_all_there(level: int, written: Written) -> None:
    for n in range(3 * MOST_LINES):
        say("batch %d", n, level=level)
    assert len(written.rows) == 3 * MOST_LINES


def test_what_is_remembered_of_lines_does_not_grow_without_bound(written: Written) -> None:
    clock = Clock()
    sparing = Sparing(clock)
    for n in range(5000):
        clock.advance(1)
        assert sparing(logging.makeLogRecord({"levelno": logging.WARNING, "partition": n}))
    assert len(sparing._spells) <= 1000


# Fields


def test_a_line_of_json_has_the_fields_that_apply_and_no_others(written: Written) -> None:
    say("here", week="2025-W12", group="control", topic="t", partition=3, offset=17, nonsense=1)
    say("nowhere")
    first, second = ({name: row for name, row in row.items() if name != "time"} for row in written.rows)
    where = {"week": "2025-W12", "group": "control", "topic": "t", "partition": 3, "offset": 17}
    assert first == {"level": "warning", "logger": "test", "message": "here", **where}
    assert second == {"level": "warning", "logger": "test", "message": "nowhere"}


def test_what_a_counting_consumer_says_of_a_partition_has_its_fields(world: World, written: Written) -> None:  # noqa: F811
    consumer = world.consumer()
    clock = timed(consumer)
    drain(consumer)
    consumer.store.drop(1)  # Redis went back
    clock.advance(LOOK_EVERY_S)
    consumer.step()
    consumer.step()
    assert written.fields("reading the fence again") == {"topic": "sessions", "partition": 1}
    assert written.fields("Redis went back from offset 17 to 0") == {"topic": "sessions", "partition": 1, "offset": 0}
    consumer._guarded(0, raising(Stopped("it must not go on")))
    assert written.fields("is stopped") == {"topic": "sessions", "partition": 0}


def test_a_step_is_one_line_of_debug_that_accounts_for_every_event(world: World, written: Written) -> None:  # noqa: F811
    consumer = world.consumer(most_tracks=1)  # so that a batch is several steps
    steps = spans_of(consumer)
    drain(consumer)
    assert written.fields("ready after") == {"topic": "sessions"}
    lines = [row for row in written.rows if "are {" in row["message"]]
    assert {row["level"] for row in lines} == {"debug"}
    assert [row["offset"] for row in lines] == [start for start, _ in steps]
    told = Counter[str]()
    for row in lines:
        told += Counter(literal_eval(row["message"].partition(" are ")[2]))
    assert told == consumer.tallies


def test_a_partition_that_gives_nothing_is_told_with_where_it_stands(world: World, written: Written) -> None:  # noqa: F811
    consumer = world.consumer()
    timed(consumer)
    drain(consumer)
    consumer._cure({1: 20}, 1040.0)
    assert written.fields("has given nothing for 40 s") == {"topic": "sessions", "partition": 1, "offset": 17}


def test_what_is_said_of_a_trigger_has_its_week_and_where_it_lies(written: Written) -> None:
    run, _ = failing(StoreUnavailable("away"), WeekError("gone"))
    TriggerConsumer(Given(b"junk", wire("2023-W20")), run, Hasty()).consume(until_idle=True)
    where = {"topic": "triggers", "partition": 0}
    assert written.fields("trying again") == {"week": "2023-W20", **where, "offset": 1}
    assert written.fields("passed over: gone") == {"week": "2023-W20", **where, "offset": 1}
    assert written.fields("at offset 0 of triggers is passed over") == {**where, "offset": 0}


def test_a_model_that_fails_is_told_with_the_week(written: Written) -> None:
    Opened("2023-W20", {}, {}).fail("neural", Failure("it has no weights", "Traceback …"))
    assert written.fields("neural failed") == written.fields("falls back to naive") == {"week": "2023-W20"}


def test_a_record_that_is_none_is_told_with_where_it_lies(written: Written) -> None:
    subscription = Subscription({}, "lists", raising(ValueError("no list")))
    subscription._take(SimpleNamespace(topic="lists", partition=2, offset=9, value=b"{}"))
    assert written.fields("is passed over: no list") == {"topic": "lists", "partition": 2, "offset": 9}


def raising(error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        raise error

    return call


LOG = re.compile(r"\blog\.(?:info|warning|error|exception|debug)\((.*?)\)\n", re.DOTALL)


def test_every_line_about_a_topic_a_week_or_a_group_has_fields() -> None:
    """Read from the sources: a line whose words name one has `extra`."""
    files = [
        path for package in ("features", "consumers", "service", "hitparade") for path in (ROOT / package).glob("*.py")
    ]
    told = [(path.name, found) for path in files for found in LOG.findall(path.read_text())]
    about = [
        (name, words) for name, words in told if re.search(r"(?:week|group|topic|partition|offset|trigger) %", words)
    ]
    assert len(about) >= 10
    assert not [(name, words) for name, words in about if "extra=" not in words]
