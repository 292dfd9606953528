from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.tally import Part, tally
from tests.builders import MONDAY, Record, array, log_of, millis, play, rules, wire
from tests.oracle import Totals, recount

ADVERTISEMENT = wire(event_type="advertisment", track_id=None)
NOBODY = wire(user_id=None)


def count(log: Sequence[Record], borders: Sequence[int] = (), most_tracks: int = 5000, weeks_kept: int = 12) -> Totals:
    """Count a log in spans cut at `borders`, as a store would add their parts up."""
    totals, start, end = Totals(), 0, len(log)
    for border in [*sorted({b for b in borders if 0 < b < end}), end]:
        span = log[start:border]
        for part in tally(span, start, border, totals.stream_time, rules(weeks_kept=weeks_kept), most_tracks):
            assert part.start == start
            start = part.end
            add(totals, part)
    assert start == end
    return totals


def add(totals: Totals, part: Part) -> None:
    totals.stream_time = part.stream_time
    totals.outcomes += part.tallies
    totals.aside += [(e.topic, e.cause, e.offset, e.index, e.value) for e in part.set_aside]
    for bucket in part.buckets:
        totals.touched[bucket.week, bucket.group] = bucket.touched
        for track, counts in bucket.counts.items():
            total = totals.counts.setdefault((bucket.week, bucket.group, track), [0, 0, 0])
            for kind, n in enumerate(counts):
                total[kind] += n
    if part.horizon:
        totals.counts = {b: c for b, c in totals.counts.items() if b[0] >= part.horizon}
        totals.touched = {b: offset for b, offset in totals.touched.items() if b[0] >= part.horizon}


events = st.builds(
    play,
    st.floats(-30, 30),
    st.sampled_from("abc"),
    st.sampled_from(["u", "vv"]),
    st.sampled_from(["play", "skip", "like"]),
)
elements = st.one_of(events, events, events, st.sampled_from([ADVERTISEMENT, NOBODY, b"5", b"{", b"null"]))
values = st.one_of(elements, st.lists(elements, max_size=4).map(lambda found: array(*found)), st.just(None))
stamps = st.one_of(st.just(-1), st.floats(-30, 30).map(lambda weeks: millis(MONDAY + timedelta(weeks=weeks))))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    found = draw(st.lists(st.tuples(values, stamps), max_size=12))
    return [Record(offset, value, stamp) for offset, (value, stamp) in enumerate(found)]


@given(logs(), st.lists(st.integers(1, 12)), st.integers(1, 5), st.integers(1, 20))
@example([Record(0, play(0)), Record(1, play(20)), Record(2, play(0))], [2], 5, 12)
@example([Record(0, array(play(0), play(20), play(0)))], [], 1, 12)
def test_batch_borders_change_no_count_and_no_outcome(
    log: list[Record], borders: list[int], most_tracks: int, weeks_kept: int
) -> None:
    assert count(log, borders, most_tracks, weeks_kept) == recount(log, weeks_kept)


@given(logs())
def test_every_event_ends_in_exactly_one_of_four(log: list[Record]) -> None:
    totals = count(log)
    read = recount(log).n_events
    assert sum(totals.outcomes[name] for name in ("counted", "late", "dead", "ignored")) == read
    assert len(totals.aside) == totals.outcomes["late"] + totals.outcomes["dead"]


@given(st.lists(events.map(lambda value: value), max_size=10), st.randoms())
def test_order_changes_no_count_while_nothing_is_late(found: list[bytes], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (count(log_of(values), weeks_kept=100) for values in (found, shuffled))
    assert (first.counts, first.outcomes) == (second.counts, second.outcomes)


def test_an_event_is_late_by_what_came_before_it_in_its_log() -> None:
    late = count(log_of([play(0), play(12), play(0)]))
    assert late.outcomes == Counter(counted=2, late=1)
    in_time = count(log_of([play(0), play(0), play(12)]))
    assert in_time.outcomes == Counter(counted=3)
    assert late.counts == in_time.counts == {("2023-W36", "odd", "a"): [1, 0, 0]}


def test_the_twelfth_week_back_is_kept_and_the_thirteenth_is_late() -> None:
    assert count(log_of([play(12), play(1)])).outcomes == Counter(counted=2)
    assert count(log_of([play(12), play(1 - 1e-9)])).outcomes == Counter(counted=1, late=1)


def test_an_event_beyond_its_records_tolerance_is_dead_and_moves_nothing() -> None:
    sent = millis(MONDAY)
    tolerated, too_far = (wire(timestamp=(MONDAY + timedelta(seconds=s)).isoformat()) for s in (600, 600.001))
    totals = count([Record(0, tolerated, sent), Record(1, too_far, sent)])
    assert totals.outcomes == Counter({"counted": 1, "dead": 1, "dead:future": 1})
    assert totals.stream_time == MONDAY + timedelta(seconds=600)


@pytest.mark.parametrize("stamp", [-1, 2**63 - 1])
def test_a_record_without_a_timestamp_has_no_future(stamp: int) -> None:
    assert count([Record(0, wire(timestamp="9000-01-01T00:00:00"), stamp)]).outcomes == Counter(counted=1)


def test_what_is_set_aside_are_the_events_own_bytes_with_their_place() -> None:
    spaced = b' { "event_type" : "dance" } '
    log = [Record(7, array(play(20), spaced, play(0)), key=b"key")]
    (part,) = tally(log, 7, 8, None, rules())
    dead, late = part.set_aside
    assert (dead.topic, dead.cause, dead.offset, dead.index, dead.key) == ("dead", "event_type", 7, 1, b"key")
    assert dead.value == spaced.strip()
    assert (late.topic, late.cause, late.index, late.value) == ("late", "late", 2, play(0))


def test_a_week_that_falls_out_within_a_span_is_tallied_and_not_kept() -> None:
    (part,) = tally(log_of([play(0), play(20)]), 0, 2, None, rules())
    assert part.tallies == Counter(counted=2)
    assert [bucket.week for bucket in part.buckets] == ["2023-W44"]
    assert part.horizon == "2023-W33"


def test_a_span_without_records_moves_the_offset_alone() -> None:
    noon = datetime(2023, 6, 14, tzinfo=UTC)
    (part,) = tally([], 5, 9, noon, rules())
    assert (part.start, part.end, part.stream_time, part.horizon) == (5, 9, noon, "")
    assert (part.buckets, part.tallies, part.set_aside) == ([], Counter(), [])


def test_parts_are_cut_between_records_at_about_so_many_tracks() -> None:
    log = log_of([array(*(play(track=f"{n}-{m}") for m in range(3))) for n in range(4)])
    parts = list(tally(log, 0, 6, None, rules(), most_tracks=5))
    assert [(part.start, part.end) for part in parts] == [(0, 2), (2, 4), (4, 6)]


def test_each_group_of_a_week_is_a_bucket_of_its_own() -> None:
    totals = count(log_of([play(user="u"), play(user="vv"), play(user="vv", kind="like")]))
    assert totals.counts == {("2023-W24", "odd", "a"): [1, 0, 0], ("2023-W24", "even", "a"): [1, 0, 1]}
    assert totals.touched == {("2023-W24", "odd"): 1, ("2023-W24", "even"): 3}
