import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.fence import OUTCOMES
from features.parts import Part
from features.plain import RUN_BYTES
from features.tally import LEAST_EVENT_BYTES, tally
from features.weeks import ChartWeek
from tests.builders import MONDAY, WEEK, Halves, Record, array, log_of, millis, play, rules, wire
from tests.oracle import Totals, recount, split
from tests.stored import by_group

LONG_AGO = "2001-01-01T00:00:00"


@dataclass
class Ledger:
    """A store that is a few dicts: applies parts as Redis does."""

    counts: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    aside: list[tuple[str, str, int, int, bytes | None]] = field(default_factory=list)
    stream_time: datetime | None = None
    next_offset: int = 0

    def apply(self, part: Part) -> None:
        assert part.start == self.next_offset
        for bucket in part.buckets:
            for name, deltas in by_group(bucket):
                self.counts[name] = [a + b for a, b in zip(self.counts.get(name, [0, 0, 0]), deltas, strict=True)]
            self.touched[bucket.week] = bucket.touched
        self.counts = {key: counts for key, counts in self.counts.items() if key[0] >= part.horizon}
        self.touched = {week: offset for week, offset in self.touched.items() if week >= part.horizon}
        self.outcomes += part.tallies
        self.aside += [(s.topic, s.cause, s.offset, s.index, s.value) for s in part.set_aside]
        self.stream_time, self.next_offset = part.stream_time, part.end

    def totals(self) -> Totals:
        return Totals(self.counts, self.outcomes, self.aside, self.touched, self.stream_time)


def count(
    records: Sequence[Record],
    borders: Sequence[int] = (),
    most_tracks: int = 5000,
    does_hold: bool = False,
    **changes: Any,
) -> Totals:
    """Tally a log in spans that end at these offsets, under rules with these changes; parts go on where they may."""
    ledger, of = Ledger(), rules(**changes)
    end = max((record.offset for record in records), default=-1) + 3  # as after control records
    held: Part | None = None
    for start, stop in itertools.pairwise([0, *sorted(borders), end]):
        span = [record for record in records if start <= record.offset < stop]
        stream_time = held.stream_time if held else ledger.stream_time
        *parts, last = tally(span, start, stop, stream_time, of, most_tracks, going_on=held)
        held = last if does_hold and last.has_only_counts and stop < end else None
        for part in parts if held else [*parts, last]:
            ledger.apply(part)
        assert (held.end if held else ledger.next_offset) == stop
    return ledger.totals()


def one(value: bytes | None, timestamp: int = -1) -> Totals:
    return count([Record(0, value, timestamp)])


def ends(values: Sequence[bytes | None], weeks_kept: int = 12) -> list[str]:
    """The causes of what was set aside."""
    return [cause for _, cause, *_ in count(log_of(values), weeks_kept=weeks_kept).aside]


def test_plays_skips_and_likes_are_counted_by_week_group_and_track() -> None:
    log = log_of([array(play(0), play(0), play(0, kind="skip")), play(1, track="b", user="me", kind="like"), play(1)])
    totals = count(log)
    assert totals.counts == {
        ("2023-W24", "odd", "a"): [2, 1, 0],
        ("2023-W25", "even", "b"): [0, 0, 1],
        ("2023-W25", "odd", "a"): [1, 0, 0],
    }
    assert totals.outcomes == {"counted": 5}
    assert totals.touched == {"2023-W24": 1, "2023-W25": 3}


def test_a_bucket_carries_the_fingerprint_of_its_assignment() -> None:
    def assignment(week: ChartWeek) -> Halves:
        return Halves(f"of {week}")

    (part,) = tally(log_of([play(0), play(1)]), 0, 2, None, rules(assignment_of=assignment))
    assert [(bucket.week, bucket.fingerprint) for bucket in part.buckets] == [
        ("2023-W24", "of 2023-W24"),
        ("2023-W25", "of 2023-W25"),
    ]


def test_every_event_ends_once_and_is_tallied_by_cause() -> None:
    values = [array(play(20), play(0), b"7"), None, b"[]", b"", wire(event_type="advertisment"), wire(track_id=None)]
    totals = count(log_of(values))
    assert totals.outcomes == {"counted": 1, "late": 1, "dead": 5, "dead:json": 4, "dead:track_id": 1, "ignored": 1}
    assert sum(totals.outcomes[name] for name in OUTCOMES) == 8


def test_an_event_is_late_once_its_week_is_no_longer_kept() -> None:
    assert ends([play(11), play(0), play(11.99), play(0)]) == []
    assert ends([play(12), play(0), play(1), play(0.99)]) == ["late", "late"]
    assert ends([play(3), play(0), play(1), play(2)], weeks_kept=2) == ["late", "late"]


def test_an_event_is_late_by_what_came_before_it_and_not_by_what_follows() -> None:
    assert ends([play(0), play(12), play(0)]) == ["late"]
    assert ends([array(play(0), play(12), play(0))]) == ["late"]


def test_late_dead_and_ignored_events_do_not_move_stream_time() -> None:
    tomorrow = millis(MONDAY) + 1000
    ignored = play(90, kind="exposure")
    totals = count([Record(0, play(0), tomorrow), Record(1, play(50), tomorrow), Record(2, ignored), Record(3, b"x")])
    assert totals.stream_time == MONDAY
    assert count(log_of([play(12), play(0)])).stream_time == MONDAY + 12 * WEEK


def test_an_event_is_from_the_future_by_its_records_timestamp_plus_ten_minutes() -> None:
    stamped = millis(MONDAY - timedelta(minutes=10))
    assert one(play(0), stamped).outcomes == {"counted": 1}
    assert one(play(0), stamped - 1).outcomes == {"dead": 1, "dead:future": 1}
    assert one(wire(timestamp=LONG_AGO), stamped).outcomes == {"counted": 1}


@pytest.mark.parametrize("timestamp", [-1, 10**15, 2**63 - 1])
def test_a_record_without_a_readable_timestamp_sets_no_limit(timestamp: int) -> None:
    assert one(wire(timestamp="9999-01-01T00:00:00"), timestamp).outcomes == {"counted": 1}


def test_a_week_that_does_not_end_before_the_year_10000_is_dead() -> None:
    assert ends([wire(timestamp="9999-12-31T00:00:00"), wire(timestamp="9999-12-20T00:00:00")]) == ["timestamp"]


def test_the_first_weeks_of_the_calendar_are_counted() -> None:
    totals = one(array(wire(timestamp="0001-01-01T00:00:00"), wire(timestamp="0001-02-01T00:00:00")))
    assert totals.outcomes == {"counted": 2}
    assert {week for week, _, _ in totals.counts} == {"0001-W01", "0001-W05"}


def test_what_is_set_aside_is_the_events_own_bytes_with_offset_and_place() -> None:
    broken = b'{ "track_id":"\xff" }'
    values = [play(20), b"[ " + play(20) + b" ,\n" + play(0) + b"\t," + broken + b"]", None, b"[]"]
    log = [Record(2 * n, value, key=b"its key") for n, value in enumerate(values)]
    (part,) = tally(log, 0, 9, None, rules())
    assert [(s.topic, s.cause, s.offset, s.index, s.value) for s in part.set_aside] == [
        ("late", "late", 2, 1, play(0)),
        ("dead", "json", 2, 2, broken),
        ("dead", "json", 4, 0, None),
        ("dead", "json", 6, 0, b"[]"),
    ]
    assert {s.key for s in part.set_aside} == {b"its key"}


def test_a_span_without_records_still_moves_to_its_end() -> None:
    assert list(tally([], 5, 9, MONDAY, rules())) == [Part(5, 9, MONDAY, since=MONDAY)]


def test_a_large_batch_is_split_between_records() -> None:
    log = log_of([array(*[play(0, track=f"{n}-{m}") for m in range(3)]) for n in range(4)])
    parts = list(tally(log, 0, 4, None, rules(), most_tracks=4))
    assert [(part.start, part.end, part.tallies["counted"]) for part in parts] == [(0, 2, 6), (2, 4, 6)]


def test_a_batch_with_much_to_set_aside_is_split_too() -> None:
    long = b"x" * 3 * 64
    parts = list(tally(log_of([b"x", array(long, b"x"), long]), 0, 3, None, rules(), most_tracks=3))
    assert [(part.start, part.end, len(part.set_aside)) for part in parts] == [(0, 2, 3), (2, 3, 1)]


@pytest.mark.parametrize(("most_tracks", "n_bytes"), [(10_000, RUN_BYTES), (100, 100 * LEAST_EVENT_BYTES)])
def test_a_part_is_larger_than_wanted_by_a_run_of_records_at_most(most_tracks: int, n_bytes: int) -> None:
    log = log_of([play(0, track=str(n)) for n in range(3000)])
    parts = list(tally(log, 0, 3000, None, rules(), most_tracks))
    sizes = [sum(len(bucket.counts) for bucket in part.buckets) for part in parts]
    assert sum(sizes) == 3000
    assert max(sizes) <= most_tracks + n_bytes // len(play(0)) + 1
    assert all(most_tracks <= size for size in sizes[:-1])


def test_one_record_is_never_split() -> None:
    log = log_of([array(*[play(0, track=str(n)) for n in range(100)]), play(0)])
    assert [part.end for part in tally(log, 0, 2, None, rules(), most_tracks=10)] == [1, 2]
    assert [part.end for part in tally(log[:1], 0, 1, None, rules(), most_tracks=10)] == [1]


def test_counts_of_a_week_that_falls_out_within_a_span_are_tallied_and_not_kept() -> None:
    (part,) = tally(log_of([play(0), play(1), play(12)]), 0, 3, None, rules())
    assert [bucket.week for bucket in part.buckets] == ["2023-W25", "2023-W36"]
    assert (part.tallies, part.horizon) == ({"counted": 3}, "2023-W25")


def test_the_horizon_is_named_only_by_the_part_that_moves_it() -> None:
    parts = list(tally(log_of([play(12), play(12.5), play(13)]), 0, 3, None, rules(), most_tracks=1))
    assert [part.horizon for part in parts] == ["2023-W25", "", "2023-W26"]
    (later,) = tally(log_of([play(13.5)]), 0, 1, MONDAY + 13 * WEEK, rules())
    assert later.horizon == ""


def test_stream_time_begins_at_the_fences() -> None:
    (part,) = tally(log_of([play(0), play(1)]), 0, 2, MONDAY + 12.5 * WEEK, rules())
    assert part.tallies == {"late": 1, "counted": 1}
    assert part.stream_time == MONDAY + 12.5 * WEEK


WEEKS = st.integers(0, 30).map(float) | st.floats(0, 30).map(lambda weeks: round(weeks, 3))
EVENTS = st.builds(
    play, WEEKS, st.sampled_from("abc"), st.sampled_from(["u", "uu", "vv"]), st.sampled_from(["play", "skip", "like"])
)
OTHERS = st.sampled_from(
    [b"x", wire(event_type="BUY_PREMIUM"), wire(track_id=None), wire(user_id=""), wire(timestamp=1)]
)
ANY_EVENT = st.one_of(EVENTS, EVENTS, EVENTS, EVENTS, OTHERS)
ANY_VALUE = ANY_EVENT | st.lists(ANY_EVENT, max_size=6).map(lambda found: array(*found)) | st.none()
STAMPS = st.just(-1) | st.integers(0, 30).map(lambda weeks: millis(MONDAY + weeks * WEEK))
LOGS = st.lists(st.tuples(st.integers(1, 3), STAMPS, ANY_VALUE), max_size=25).map(
    lambda rows: [
        Record(offset, value, timestamp)
        for offset, (_, timestamp, value) in zip(itertools.accumulate(gap for gap, *_ in rows), rows, strict=True)
    ]
)


@settings(max_examples=400, deadline=None)
@given(LOGS, st.lists(st.integers(0, 70), max_size=6), st.integers(1, 4), st.integers(1, 14), st.booleans())
def test_borders_of_batches_change_nothing(
    log: list[Record], borders: list[int], most: int, weeks_kept: int, does_hold: bool
) -> None:
    within = [border for border in borders if not log or border <= log[-1].offset]
    expected = recount(log, weeks_kept)
    assert count(log, within if log else [], most, does_hold, weeks_kept=weeks_kept) == expected
    assert count(log, weeks_kept=weeks_kept) == expected
    n_events = sum(1 if record.value is None else len(split(record.value)) for record in log)
    assert sum(expected.outcomes[name] for name in OUTCOMES) == n_events


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=20).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_order_changes_no_count_as_long_as_nothing_is_late(orders: tuple[list[bytes], list[bytes]]) -> None:
    in_order, shuffled = (count(log_of(values), weeks_kept=31) for values in orders)
    assert (in_order.counts, in_order.outcomes, in_order.stream_time) == (
        shuffled.counts,
        shuffled.outcomes,
        shuffled.stream_time,
    )
    assert in_order.outcomes["late"] == 0


def test_the_slow_oracle_agrees_with_hand_counting() -> None:
    log = [Record(0, array(play(0), play(12), play(0))), Record(1, play(50), millis(MONDAY)), Record(2, None)]
    totals = recount(log)
    assert totals.counts == {("2023-W36", "odd", "a"): [1, 0, 0]}
    assert totals.outcomes == {"counted": 2, "late": 1, "dead": 2, "dead:future": 1, "dead:json": 1}
    assert totals.aside == [
        ("late", "late", 0, 2, play(0)),
        ("dead", "future", 1, 0, play(50)),
        ("dead", "json", 2, 0, None),
    ]
    assert totals.stream_time == datetime(2023, 9, 4, tzinfo=UTC)
