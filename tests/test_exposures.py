"""Who has seen a list: told of only where that is asked for, and never a change to anything else."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import CAUSES, BadRecord, Exposure, RawEvent, decode, parse, parse_exposure
from features.fence import OUTCOMES, accounted
from features.tally import tally
from hitparade.settings import Settings
from tests.builders import MONDAY, WEEK, Record, array, log_of, millis, play, rules, wire
from tests.builders_counting import Counted, letters_of
from tests.builders_plain import any_log
from tests.commands import Command
from tests.oracle import Totals, judge, judge_exposure, split
from tests.test_duplicates import event as with_id
from tests.test_duplicates import outcomes as outcomes_of
from tests.test_tally import count

NO_GROUPS: list[Any] = [None, "", 1, True, {}, [], "\ud800"]


def seen(weeks: float = 0, user: Any = "u", **changes: Any) -> bytes:
    """An exposure so many weeks after MONDAY, as it comes from outside: without a track."""
    when = (MONDAY + weeks * WEEK).isoformat()
    fields = {"event_type": "exposure", "track_id": None, "week": "2023-W24", "group": "odd", "timestamp": when}
    return wire(**{"user_id": user, **fields, **changes})


def outcomes(*values: bytes, **changes: Any) -> Counter[str]:
    return count(log_of(values), exposures=True, **changes).outcomes


# What an exposure is


def test_an_exposure_is_its_time_user_week_and_group() -> None:
    (raw,) = decode(seen(0.5, user=101, week="2023-W25", group="treatment"))
    assert isinstance(raw, RawEvent)
    assert parse_exposure(raw) == Exposure(MONDAY + 0.5 * WEEK, "101", "2023-W25", "treatment")
    assert parse(raw) is None


@pytest.mark.parametrize("kind", ["play", "Skip", "like", "advertisment", "buy_premium"])
def test_another_kind_is_no_exposure(kind: str) -> None:
    (raw,) = decode(wire(event_type=kind))
    assert isinstance(raw, RawEvent)
    assert parse_exposure(raw) is None


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"user_id": None, "timestamp": "noon", "week": 1}, "user_id"),
        ({"timestamp": "noon", "week": None}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp"),
        *(
            ({"week": week}, "exposure")
            for week in (None, "", "2023-W53", "2023-24", 202324, ["2023-W24"], "2023-W24 ")
        ),
        *(({"group": group}, "exposure") for group in NO_GROUPS),
        ({"week": None, "group": "g", "timestamp": "2023-09-12T00:00:00"}, "exposure"),
    ],
)
def test_a_dead_exposure_has_the_first_cause_that_holds(changes: dict[str, Any], cause: str) -> None:
    """Its week and group come after its time, and before what its record says."""
    log = [Record(0, seen(**changes), millis(MONDAY + WEEK))]
    assert count(log, exposures=True).outcomes == {"dead": 1, f"dead:{cause}": 1}
    assert count(log).outcomes == {"ignored": 1}
    assert cause in CAUSES


@pytest.mark.parametrize("week", ["2023-W24", "2020-W53", "9999-W01", "0001-W01"])
def test_a_week_that_exists_may_be_any(week: str) -> None:
    assert outcomes(seen(week=week)) == {"exposure": 1}


# How it ends


def test_without_the_setting_an_exposure_is_ignored_whatever_it_holds() -> None:
    values = [seen(), seen(user_id=None, week=None), seen(timestamp=None), seen(event_type="Exposure")]
    assert count(log_of(values)).outcomes == {"ignored": 4}
    assert outcomes(*values) == {"exposure": 2, "dead": 2, "dead:user_id": 1, "dead:timestamp": 1}


def test_an_exposure_of_the_future_is_dead_and_an_old_one_late() -> None:
    log = [Record(0, play(12), -1), Record(1, array(seen(0), seen(1))), Record(2, seen(12), millis(MONDAY))]
    totals = count(log, exposures=True)
    assert totals.outcomes == {"counted": 1, "late": 1, "exposure": 1, "dead": 1, "dead:future": 1}
    assert totals.aside == [("late", "late", 1, 0, seen(0)), ("dead", "future", 2, 0, seen(12))]


def test_an_exposure_in_no_week_is_dead() -> None:
    assert outcomes(seen(timestamp="9999-12-31T12:00:00")) == {"dead": 1, "dead:timestamp": 1}


def test_an_exposure_moves_no_stream_time_and_opens_no_week() -> None:
    totals = count(log_of([play(0), seen(30), play(0.1), seen(30)]), exposures=True)
    assert totals.outcomes == {"counted": 2, "exposure": 2}
    assert (totals.stream_time, totals.touched) == (MONDAY + 0.1 * WEEK, {"2023-W24": 3})
    (part,) = tally(log_of([seen(0)]), 0, 1, None, rules(exposures=True))
    assert (part.stream_time, part.buckets, part.tallies) == (None, [], {"exposure": 1})


def test_an_exposure_takes_no_events_id_and_is_no_duplicate() -> None:
    """Seen twice is seen: nothing need be remembered of it, even before there is a stream time."""
    exposure = with_id("x", event_type="exposure", week="2023-W24", group="odd")
    found = outcomes_of([exposure, exposure, with_id("x"), exposure, with_id("x")], exposures=True)
    assert found == {"exposure": 3, "counted": 1, "duplicate": 1}


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**64), st.lists(st.integers(0, 40), max_size=4), st.sampled_from([1, 3, 12]))
def test_telling_of_exposures_changes_nothing_but_how_they_end(seed: int, borders: Sequence[int], kept: int) -> None:
    log = any_log(random.Random(seed))
    within = [border for border in borders if border <= log[-1].offset]
    without, told = (count(log, within, weeks_kept=kept, exposures=exposures) for exposures in (False, True))
    assert (told.counts, told.touched, told.stream_time) == (without.counts, without.touched, without.stream_time)
    n_told = sum(_is_exposure(element) for record in log if record.value is not None for element in split(record.value))
    assert _others(without, n_told) == _others(told, 0)
    moved = Counter(told.outcomes[name] - without.outcomes[name] for name in ("exposure", "late", "dead"))
    assert sum(number * n for number, n in moved.items()) == n_told
    theirs = [letter for letter in told.aside if _is_exposure(letter[4])]
    assert [letter for letter in told.aside if letter not in theirs] == without.aside


def _is_exposure(element: bytes | None) -> bool:
    return judge(element) == "ignored" and judge_exposure(element) != "ignored"


def _others(totals: Totals, n_told: int) -> tuple[int, int]:
    """The events that count, and those that are ignored without so many."""
    return totals.outcomes["counted"], totals.outcomes["ignored"] - n_told


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64))
def test_exposures_are_read_as_the_slow_oracle_reads_them(seed: int) -> None:
    for record in any_log(random.Random(seed)):
        elements = [] if record.value is None else split(record.value)
        for raw, element in zip(decode(record.value) if elements else [], elements, strict=True):
            if judge(element) == "ignored":
                assert _read(raw) == judge_exposure(element)


def _read(raw: RawEvent | BadRecord) -> object:
    assert isinstance(raw, RawEvent)
    try:
        exposure = parse_exposure(raw)
    except BadRecord as cause:
        return cause.cause
    return "ignored" if exposure is None else tuple(exposure)


# Where it is shown


def test_the_setting_is_off_unless_it_is_asked_for() -> None:
    assert Settings.from_env({}).exposures is False
    assert Settings.from_env({"HITPARADE_EXPOSURES": "true"}).exposures is True


def test_exposures_are_accounted_for_only_where_there_are_any() -> None:
    tallies = [{"counted": 2, "exposure": 3}, {"counted": 1, "duplicate": 1, "dead": 1, "dead:exposure": 1}]
    expected = {"counted": 3, "late": 0, "dead": 1, "ignored": 0}
    assert accounted(tallies) == {**expected, "duplicate": 1, "exposure": 3}
    assert list(accounted([{"counted": 1}])) == list(OUTCOMES)


# On a real broker and a real Redis


def test_they_are_counted_audited_and_rebuilt_as_any_other_outcome(log: Counted, command: Command) -> None:
    log.fill(300)
    log.send(*((0, None, seen(-2, user=f"u{n}", week="2023-W22")) for n in range(7)), (1, None, seen(week="x")))
    log.consume()
    before = {name: log.redis.hgetall(log.key(name)) for name in _buckets(log)}
    assert [fence.tallies.get("exposure") for fence in log.store.fences([0, 1]).values()] == [None, None]

    kept = log.other(EXPOSURES="true")
    audited = command(kept, "audit", "--json")
    told = [row["tally_differences"].get("exposure") for row in audited.rows()]
    assert (audited.code, told) == (1, [{"log": 7, "redis": 0}, None])
    assert command(kept, "rebuild").code == 0
    assert command(kept, "audit").code == 0
    fences = log.store.fences([0, 1])
    assert fences[0].tallies["exposure"] == 7
    assert fences[1].tallies["dead:exposure"] == 1
    assert {name: log.redis.hgetall(log.key(name)) for name in _buckets(log)} == before
    dead = letters_of(kept, kept.settings.topics.dead_sessions)
    assert [dict(letter.headers)["hitparade-cause"] for letter in dead].count(b"exposure") == 1


def _buckets(counted: Counted) -> list[str]:
    return sorted(name for name in counted.keys() if name.startswith("week:"))
