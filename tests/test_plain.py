"""The fast way of counting, runs of plain events together, is the careful one and the oracle's, and is really taken."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counting import Counting
from features.duplicates import Origin
from features.events import CAUSES, KINDS, Kind
from features.fence import OUTCOMES
from features.parts import one_of
from features.plain import RUN_BYTES, UsualEvent, plain_run
from features.records import Record as Fields
from features.records import Records, Run, runs
from features.rules import LEAST_BIG_ID, MOST_OTHERS, MOST_USERS, MOST_WEEKS, Units
from features.tally import tally
from features.weeks import Calendar, ChartWeek
from tests.builders import MONDAY, WEEK, Halves, Record, array, log_of, millis, play, rules, wire
from tests.builders_plain import any_log
from tests.oracle import Chart, recount
from tests.stored import counts_of
from tests.test_tally import count

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
INSTANT = timedelta(microseconds=1)
DEEP = b'{"a":' * 98 + b"[1]" + b"}" * 98  # one bracket less than an event may have
ALL_WEEKS = 200
ODD_IDS: list[Any] = [None, "", True, False, 5.0, 1e300, [], {}, "\ud800"]


@contextmanager
def noting_ways() -> Iterator[Counter[bool]]:
    """How many runs are counted together, and how many are not, while the block runs."""
    found: Counter[bool] = Counter()
    add_together = Counting._add_together

    def noted(counting: Counting, records: Run) -> bool:
        answer = add_together(counting, records)
        found[answer] += 1
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "_add_together", noted)
        yield found


@contextmanager
def carefully() -> Iterator[None]:
    """No run is counted together while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "_add_together", lambda *_: False)
        yield


def ways(records: Sequence[Record], **changes: Any) -> tuple[int, int]:
    """How many runs of a log are counted together, and how many are not; in any case as the oracle counts."""
    zone, kept, seen = changes.get("event_zone", UTC), changes.get("weeks_kept", 12), changes.get("exposures", False)
    with noting_ways() as found:
        assert count(records, **changes) == recount(records, kept, chart=Chart(event_zone=zone), exposures=seen)
    return found[True], found[False]


TOGETHER, ONE_BY_ONE = (1, 0), (0, 1)


@pytest.mark.parametrize(
    "values",
    [
        [play(0), play(0.1, kind="skip"), play(0.2, kind="like")],
        [array(play(0), play(1)), play(2), array(play(3))],
        [wire(track_id=5), wire(track_id="5"), wire(user_id=7), wire(user_id="7")],
        [play(0), wire(event_type="advertisment", track_id=None)],
        [array(play(0), wire(event_type="buy_premium", track_id=None, timestamp=None)), b'{"event_type":"exposure"}'],
        [wire(timestamp="2023-06-17T10:09:50Z"), wire(timestamp="2023-06-17 10:09:50.123456789+02:00")],
        [wire(timestamp="2023-06-17t10:09:50z")],
        [
            wire(track_id="\u00fc", user_id="\N{GRINNING FACE}"),
            wire(track_id="\u00fc").replace(b"\\u00fc", b"\xc3\xbc"),
        ],
        [play(9), play(0), play(5), play(11.99)],
        [b'{"x":' + DEEP + b"," + play(0)[1:]],
        [b'{"x":{"y":[{}]},' + play(0)[1:]] * 100,
        [b" [\n" + play(0) + b"\t,\r" + play(1) + b" ] "],
        [b'{"tr\\u0061ck_id":"a",' + play(0)[1:]],
        [b'{"track_id":"z","timestamp":"2001-01-01T00:00:00Z",' + play(0)[1:]],
    ],
)
def test_plain_events_are_counted_together(values: list[bytes]) -> None:
    assert ways(log_of(values)) == TOGETHER


@pytest.mark.parametrize("timestamp", [-1, 0, millis(MONDAY), 2**63 - 1])
def test_plain_events_are_counted_together_whatever_their_records_timestamps(timestamp: int) -> None:
    event = wire(timestamp="1970-01-01T00:10:00")
    assert ways([Record(0, event, timestamp), Record(1, event, -1), Record(2, event, 1)]) == TOGETHER


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"", b"x", b"[]", b"[[]]", b"7", b"null", b"{}", array(play(0), b"null"), b"\xef\xbb\xbf" + play(0)),
        *(wire(track_id=odd) for odd in ODD_IDS),
        *(wire(user_id=odd) for odd in ODD_IDS),
        *(wire(timestamp=odd) for odd in (None, "", 1, "20230617T100950", "2023-W24-6", "2023-06-17T24:00:00")),
        *(wire(timestamp=odd) for odd in ("2023-06-17T23:59:60", "0001-01-01T00:00:00+01:00", "9999-12-31T00:00:00")),
        *(wire(event_type=odd) for odd in (None, "", "Play", "jump", 1, ["play"])),
        b"{" + play(0)[:0:-1][::-1].replace(b'"track_id": "a", ', b""),
        b'{"x":"\xff",' + play(0)[1:],
        b'{"x":NaN,' + play(0)[1:],
        b'{"x":[' + DEEP + b"]," + play(0)[1:],
    ],
)
def test_a_run_with_anything_odd_in_it_is_counted_one_by_one(value: bytes | None) -> None:
    assert ways(log_of([value])) == ONE_BY_ONE
    assert ways(log_of([play(0), value, play(1)])) == ONE_BY_ONE


def test_times_with_a_zone_and_without_are_not_counted_together() -> None:
    assert ways(log_of([wire(), wire(timestamp="2023-06-17T10:09:50Z")])) == ONE_BY_ONE


@pytest.mark.parametrize(("exposures", "expected"), [(False, TOGETHER), (True, ONE_BY_ONE)])
def test_a_run_with_an_exposure_is_counted_one_by_one_only_where_they_are_told_of(
    exposures: bool, expected: tuple[int, int]
) -> None:
    seen = wire(event_type="exposure", track_id=None, week="2023-W24", group="even")
    assert ways(log_of([play(0), seen]), exposures=exposures) == expected
    assert ways(log_of([play(0), wire(event_type="advertisment")]), exposures=exposures) == TOGETHER


@pytest.mark.parametrize(("oldest", "expected"), [(1, TOGETHER), (0.99, ONE_BY_ONE)])
def test_a_run_that_holds_what_is_late_by_its_end_is_counted_one_by_one(
    oldest: float, expected: tuple[int, int]
) -> None:
    """Whichever comes first: in the order of the log it may not be late at all."""
    assert ways(log_of([play(oldest), play(12)])) == expected
    assert ways(log_of([play(12), play(oldest)])) == expected


def test_what_was_late_before_the_run_is_late_in_it() -> None:
    before = MONDAY + 12 * WEEK
    for weeks, expected in ((1, {"counted": 1}), (0.99, {"late": 1})):
        (part,) = tally(log_of([play(weeks)]), 0, 1, before, rules())
        assert (part.tallies, part.stream_time) == (expected, before)


@pytest.mark.parametrize(("after", "expected"), [(timedelta(), TOGETHER), (INSTANT, ONE_BY_ONE)])
def test_a_run_with_an_event_after_the_earliest_of_its_records_limits_is_counted_one_by_one(
    after: timedelta, expected: tuple[int, int]
) -> None:
    stamped = millis(MONDAY - timedelta(minutes=10))
    event = wire(timestamp=(MONDAY + after).isoformat())
    records = [Record(0, event, stamped + 5000), Record(1, event, -1), Record(2, event, stamped), Record(3, event, -7)]
    assert ways(records) == expected
    assert count(records).outcomes["dead:future"] == (after > timedelta())


def test_every_record_of_a_long_log_is_counted_in_a_run_of_its_bytes() -> None:
    log = log_of([play(n / 5000, track=str(n % 50)) for n in range(5000)])
    n_runs, none = ways(log)
    assert none == 0
    assert n_runs == -(-sum(len(record.value or b"") for record in log) // RUN_BYTES) > 5


def test_one_odd_event_costs_only_its_run_the_speed() -> None:
    log = log_of([b"x" if n == 2500 else play(n / 5000, track=str(n % 50)) for n in range(5000)])
    n_runs, none = ways(log)
    assert (n_runs > 5, none) == (True, 1)


def test_a_week_is_touched_by_the_last_record_that_has_an_event_in_it_and_by_no_other() -> None:
    values = [
        array(play(2), play(0)),
        array(play(1.5), play(2.9)),
        array(play(2.9), play(0.5, kind="exposure")),
        array(play(0.2), play(0.2), play(2)),
        wire(event_type="exposure"),
        play(2.1),
        array(wire(event_type="advertisment")),
    ]
    assert ways(log_of(values)) == TOGETHER
    assert count(log_of(values)).touched == {"2023-W24": 4, "2023-W25": 2, "2023-W26": 6}


def test_an_integer_and_its_text_are_one_track_and_one_user_in_any_order() -> None:
    values = [wire(track_id=track, user_id=user) for track in (5, "5", 5) for user in (12, "12", 7)]
    for log in itertools.permutations(log_of(values[:5])):
        (part,) = tally(log, 0, 9, None, rules())
        (bucket,) = part.buckets
        assert counts_of(bucket) == {"5": (4, 0, 0, 1, 0, 0)}
    parts = list(tally(log_of(values), 0, 9, None, rules(), most_tracks=2))
    assert len(parts) > 1
    assert all(set(bucket.counts) == {"5"} for part in parts for bucket in part.buckets)


def test_weeks_may_be_more_than_are_remembered() -> None:
    """Those in between have no event, and are not remembered yet when they are come to."""
    assert ALL_WEEKS > 2 * MOST_WEEKS
    spans = [[play(0), play(ALL_WEEKS - 1)], [play(n) for n in range(ALL_WEEKS)]]
    for values in (*spans, [*spans[1][:62], play(70), play(72)]):
        assert ways(log_of(values), weeks_kept=ALL_WEEKS) == TOGETHER


def test_each_week_of_a_run_is_counted_by_its_own_experiment() -> None:
    def assignment_of(week: ChartWeek) -> Halves:
        is_first = week.name == "2023-W24"
        return Halves("first") if is_first else Halves("second", ("none", "odd", "even"))

    (part,) = tally(
        log_of([array(play(0), play(1), play(1, user="uu"))]), 0, 1, None, rules(assignment_of=assignment_of)
    )
    assert [(bucket.week, bucket.fingerprint, bucket.groups, counts_of(bucket)) for bucket in part.buckets] == [
        ("2023-W24", "first", ("even", "odd"), {"a": (0, 0, 0, 1, 0, 0)}),
        ("2023-W25", "second", ("none", "odd", "even"), {"a": (0, 0, 0, 1, 0, 0, 1, 0, 0)}),
    ]


def test_users_may_be_more_than_are_remembered() -> None:
    units = Units(Halves())
    for user in range(MOST_USERS):
        assert units[user]["play"] == one_of(len(str(user)) % 2, Kind.PLAY)
    assert len(units.any) == MOST_USERS
    assert [units[user] for user in ("new", 5)] == [{kind: one_of(1, kind_) for kind, kind_ in KINDS.items()}] * 2
    assert len(units.any) == 2


def test_a_log_may_come_field_by_field() -> None:
    """With gaps between its offsets; what is set aside is so with its key and its origin."""
    headers = Origin(0, 5, 0).headers("sessions.late")
    log = [Record(3 * n, play(n / 9, f"t{n}"), n, b"key") for n in range(9)]
    log += [Record(40, b"x", 9, b"odd"), Record(41, play(-30), 9, None, headers), Record(60, None), Record(61, play(2))]
    columns: Any = [[getattr(record, name) for record in log] for name in Fields.__struct_fields__]
    fields = Records(*columns)
    changes = rules(topic="sessions.late")
    parts = [[*tally(one, 0, 70, None, changes, most_tracks=2, known={})] for one in (log, fields)]
    assert parts[0] == parts[1]
    assert len(parts[0]) > 2
    assert [(record.offset, record.key) for record in fields] == [(record.offset, record.key) for record in log]
    assert (len(fields), fields[1].offset, [record.value for record in fields[-2:]]) == (13, 3, [None, play(2)])


@pytest.mark.parametrize(
    "ids",
    [
        [LEAST_BIG_ID - 1, -1, 0, -LEAST_BIG_ID],
        [LEAST_BIG_ID, 7, -LEAST_BIG_ID],
        [-2 * LEAST_BIG_ID - 1, -(10**30), 7],
        ["7", 7, -7, 10**30],
    ],
)
def test_users_whose_ids_are_any_integers_are_in_their_groups(ids: list[Any]) -> None:
    assert ways(log_of([wire(user_id=user) for user in ids * 2])) == TOGETHER


def test_users_who_are_no_small_integers_are_looked_for_elsewhere_once_they_are_many() -> None:
    units = Units(Halves())
    expected = {user: units[user] for user in ("7", 7, "77", 77, 9)}
    for _ in range(MOST_OTHERS - 1):
        assert units.learn("77") == expected["77"]
    assert (units.learn(7), units.of_place[units.places[7]]) == (expected[7], expected[7])
    assert units.places is not units.any
    assert units.learn("7") == expected["7"]
    assert units.places is units.any
    assert [units.learn(user) for user in (9, "77")] == [expected[9], expected["77"]]
    assert ways(log_of([wire(user_id=user) for user in ("7", 7, -7, LEAST_BIG_ID)] * MOST_OTHERS)) == (8, 0)


def test_groups_may_be_more_than_a_byte_can_tell() -> None:
    units = Units(Halves(group_names=(*map(str, range(254)), "even", "odd")))
    assert units.learn(3) == units["3"] == {kind: one_of(255, n) for kind, n in KINDS.items()}
    assert units.of_place[units.places[3]] == units["3"]


def test_a_local_time_that_comes_twice_is_the_first_and_one_that_never_comes_is_before_the_change() -> None:
    values = [wire(timestamp=f"2023-{day}T02:30:00") for day in ("10-29", "03-26")]
    assert ways(log_of(values), event_zone=BERLIN, weeks_kept=60) == TOGETHER
    last = [count(log_of([value]), event_zone=BERLIN).stream_time for value in values]
    assert last == [datetime(2023, 10, 29, 0, 30, tzinfo=UTC), datetime(2023, 3, 26, 1, 30, tzinfo=UTC)]
    clocks_show_later = wire(timestamp="2023-03-26T03:10:00")
    assert ways(log_of([values[1], clocks_show_later]), event_zone=BERLIN) == TOGETHER
    assert count(log_of([values[1], clocks_show_later]), event_zone=BERLIN).stream_time == last[1]


def test_what_a_run_holds_is_told_in_the_order_of_its_records() -> None:
    records = log_of([array(play(1), play(0, kind="exposure")), play(0), array(play(0.5))])
    (whole,) = runs(records, RUN_BYTES)
    run = plain_run(whole, UTC)
    assert run
    assert (run.first, run.last, run.n_ignored) == (MONDAY, MONDAY + WEEK, 1)
    assert [run.offset_after(event) for event in run.events] == [1, 2, 3]
    assert run.within(MONDAY, MONDAY + WEEK) == list(run.events[1:])
    assert run.within(MONDAY + WEEK, MONDAY + 2 * WEEK) == [run.events[0]]
    assert run.within(MONDAY, MONDAY + WEEK + INSTANT) == run.events


USUAL = [play(0), array(play(0, kind="skip"), play(0, kind="like")), play(0)]
NUMBERED = play(0).replace(b'"a"', b"5")


@pytest.mark.parametrize(
    ("odd", "n_events", "n_ignored"),
    [(NUMBERED, 9, 0), (play(0, kind="exposure"), 8, 1), (array(play(0), NUMBERED), 10, 0)],
)
def test_what_is_not_usual_costs_only_what_follows_it_a_second_look(odd: bytes, n_events: int, n_ignored: int) -> None:
    """What was decoded before stays, and is in the run once."""
    (whole,) = runs(log_of([*USUAL, odd, *USUAL]), RUN_BYTES)
    run = plain_run(whole, UTC)
    assert run
    assert [type(event) is UsualEvent for event in run.events] == [True] * 4 + [False] * (n_events - 4)
    assert (run.n_ignored, run.has_numbers) == (n_ignored, n_ignored == 0)


def test_usual_events_need_one_look() -> None:
    (whole,) = runs(log_of(USUAL), RUN_BYTES)
    run = plain_run(whole, UTC)
    assert run
    assert {type(event) for event in run.events} == {UsualEvent}


@dataclass(frozen=True)
class Where:
    """Where events happen, and weeks begin."""

    event_zone: tzinfo
    calendar: Calendar

    @property
    def chart(self) -> Chart:
        return Chart(self.calendar.first_weekday, self.calendar.zone, self.event_zone)


WHERE = st.builds(
    Where,
    st.sampled_from([UTC, UTC, BERLIN, ZoneInfo("UTC")]),
    st.sampled_from([Calendar(), Calendar(), Calendar(4, NEW_YORK), Calendar(4), Calendar(0, BERLIN)]),
)
MOST = st.sampled_from([1, 2, 3, 10, 5000])
KEPT = st.sampled_from([1, 2, 3, 5, 12, 30])


def test_the_fast_way_and_the_careful_one_are_the_slow_oracles() -> None:
    met: Counter[bool] = Counter()
    ends: Counter[str] = Counter()

    @settings(max_examples=1500, deadline=None)
    @given(st.integers(0, 2**64), WHERE, st.lists(st.integers(0, 40), max_size=4), MOST, KEPT, st.booleans())
    def law(seed: int, where: Where, borders: list[int], most: int, weeks_kept: int, exposures: bool) -> None:
        log = any_log(random.Random(seed))
        changes: dict[str, Any] = {"event_zone": where.event_zone, "calendar": where.calendar, "weeks_kept": weeks_kept}
        changes["exposures"] = exposures
        expected = recount(log, weeks_kept, chart=where.chart, exposures=exposures)
        within = [border for border in borders if border <= log[-1].offset]
        with noting_ways() as found:
            assert count(log, within, most, **changes) == expected
            assert count(log, **changes) == expected
        with carefully():
            assert count(log, within, most, **changes) == expected
        met.update(found)
        ends.update(expected.outcomes.keys())

    law()
    assert min(met[True], met[False]) > 500, "both ways are taken"
    assert ends.keys() == {*OUTCOMES, "exposure", *(f"dead:{cause}" for cause in CAUSES)}
    assert min(ends.values()) > 20, "every event's end is met"
