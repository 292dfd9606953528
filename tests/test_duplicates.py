"""What comes twice counts once: by the id of its producer, or by the place of origin that a replay names."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from consumers.loop import Consumer
from consumers.sessions import session_consumer
from features.connect import connect
from features.contracts import SessionEventContract
from features.duplicates import Origin, ids_in
from features.events import RawEvent, decode, event_id
from features.fence import OUTCOMES, accounted
from features.parts import Part, SetAside
from features.records import Headers
from features.store import CounterStore, Fenced
from features.tally import tally
from hitparade.pipeline import accounting
from hitparade.processes import HOST
from hitparade.settings import Settings
from tests.builders import MONDAY, WEEK, Record, array, log_of, millis, play, rules, wire
from tests.oracle import Totals, recount, split
from tests.stored import stored
from tests.test_events import IDS, JUNK
from tests.test_loop import TOPIC_ID, Cut, CutStore, LogSource, PowerCut, World, a_zombie_changes_nothing, drain
from tests.test_store import SETTINGS, bucket, everything, part
from tests.test_store import loose as loose  # fixtures
from tests.test_store import store as store
from tests.test_tally import Ledger

TOPIC = "sessions"
HOUR = timedelta(hours=1) / WEEK


def event(id_: Any, weeks: float = 0, **changes: Any) -> bytes:
    """A play that carries an id."""
    return json.dumps({**json.loads(play(weeks)), "event_id": id_, **changes}).encode()


def headers(partition: int = 0, offset: int = 0, index: int = 0, topic: str = TOPIC) -> Headers:
    return tuple(Origin(partition, offset, index).headers(topic))


def identity(letter: SetAside) -> tuple[str, str, int, int, bytes | None]:
    """A letter as the oracle has it: at the place of its origin, where it is a replay."""
    place = (letter.origin.offset, letter.origin.index) if letter.origin else (letter.offset, letter.index)
    return (letter.topic, letter.cause, *place, letter.value)


@dataclass
class RememberingLedger(Ledger):
    """A store that also remembers ids, as the Redis scripts do."""

    sets: dict[str, set[bytes]] = field(default_factory=dict)

    def apply(self, part: Part) -> None:
        n_before = len(self.aside)
        super().apply(part)
        self.aside[n_before:] = [identity(letter) for letter in part.set_aside]
        if part.horizon or part.kept:
            self.sets = {name: ids for name, ids in self.sets.items() if self._stays(name, part)}
        for name, ids in part.ids.items():
            assert not self.sets.setdefault(name, set()) & set(ids), "an id is remembered once"
            self.sets[name] |= set(ids)

    def _stays(self, name: str, part: Part) -> bool:
        family, week = name.split(":")
        return week >= part.horizon if family == "replayed" else name in part.kept

    def known(self, wanted: Mapping[str, set[bytes]]) -> dict[str, set[bytes]]:
        families = {name: name.split(":")[0] for name in self.sets}
        return {name: self.sets[name] & wanted[family] for name, family in families.items() if family in wanted}


def count(
    records: Sequence[Record],
    borders: Sequence[int] = (),
    most_tracks: int = 5000,
    hours: int | Sequence[int] = 24,
    weeks_kept: int = 12,
    exposures: bool = False,
) -> RememberingLedger:
    """Tally a log in spans that end at these offsets; hours may change from span to span."""
    ledger = RememberingLedger()
    every = itertools.cycle([hours] if isinstance(hours, int) else hours)
    end = max((record.offset for record in records), default=-1) + 1
    for start, stop in itertools.pairwise([0, *sorted(borders), end]):
        span = [record for record in records if start <= record.offset < stop]
        of = rules(weeks_kept=weeks_kept, topic=TOPIC, duplicate_hours=next(every), exposures=exposures)
        known = ledger.known(ids_in(span, of.topic, of.duplicate_hours))
        for counted in tally(span, start, stop, ledger.stream_time, of, most_tracks, known):
            ledger.apply(counted)
    return ledger


def outcomes(values: Sequence[bytes | None], **more: Any) -> Counter[str]:
    return count(log_of(values), **more).outcomes


# What an id is


@pytest.mark.parametrize(
    ("id_", "text"), [("a", "a"), (7, "7"), ("7", "7"), (2**70, str(2**70)), (-1, "-1"), (" ", " "), ("ü", "ü")]
)
def test_an_id_is_text_or_an_integer(id_: object, text: str) -> None:
    (raw,) = decode(wire(event_id=id_))
    assert isinstance(raw, RawEvent)
    assert event_id(raw) == text
    assert outcomes([event(id_), event(text)]) == {"counted": 1, "duplicate": 1}


@pytest.mark.parametrize("id_", [None, "", True, False, 1.5, 1e300, {}, {"a": "b"}, [], ["a"], "\ud800"])
def test_an_event_whose_id_cannot_be_one_counts_as_one_without(id_: object) -> None:
    assert outcomes([event(id_), event(id_)]) == {"counted": 2}


def test_an_id_may_be_of_any_length() -> None:
    long = "x" * 100_000
    assert outcomes([event(long), event(long), event(long + "x")]) == {"counted": 2, "duplicate": 1}
    digits = array(b'{"event_id": ' + b"7" * 9999 + b"," + play()[1:])
    assert outcomes([digits, digits]) == {"counted": 1, "duplicate": 1}


@settings(max_examples=300, deadline=None)
@given(IDS | JUNK)
def test_both_decoders_read_the_same_id(id_: Any) -> None:
    (raw,) = decode(wire(event_id=id_))
    if isinstance(raw, RawEvent):  # NaN is not JSON
        assert SessionEventContract.model_validate(json.loads(wire(event_id=id_))).event_id == event_id(raw)


def test_where_it_is_off_ids_are_not_looked_at() -> None:
    ledger = count(log_of([event("x"), event("x")]), hours=0)
    assert ledger.outcomes == {"counted": 2}
    assert ledger.sets == {}
    assert ids_in(log_of([event("x")]), TOPIC, 0) == {}


# When an event is a duplicate


def test_an_event_counts_once_within_an_array_a_batch_and_a_log() -> None:
    log = log_of([array(event("x"), event("x"), event("y")), event("x"), event("y")])
    for borders in ([], [1], [2], [1, 2]):
        assert count(log, borders).outcomes == {"counted": 2, "duplicate": 3}


def test_an_id_is_remembered_for_at_least_its_hours_and_at_most_twice_those() -> None:
    def again_after(hours: float, begin: float = 0) -> Counter[str]:
        first, clock = event("x", begin * HOUR), play((begin + hours) * HOUR)
        return outcomes([first, clock, event("x", begin * HOUR)], hours=10)

    for begin in (0, 3, 9.9, 10):
        assert again_after(9.999, begin) == {"counted": 2, "duplicate": 1}
        assert again_after(20, begin) == {"counted": 3}


def test_hours_are_those_of_stream_time_and_not_of_the_event() -> None:
    old = event("x", -5 * 24 * HOUR)
    assert outcomes([play(), old, old]) == {"counted": 2, "duplicate": 1}
    ahead = event("x", 30 * HOUR)  # moves stream time by itself, and is remembered where it has moved it to
    assert outcomes([play(), ahead, play(53 * HOUR), ahead]) == {"counted": 3, "duplicate": 1}


def test_a_duplicate_changes_nothing_but_its_tally() -> None:
    twice, once = ([event("x"), *more, play(0.1)] for more in ([event("x", 1, track_id="b")], []))
    one, other = count(log_of(twice)), count(log_of(once))
    assert (one.counts, one.stream_time, one.aside) == (other.counts, other.stream_time, [])
    assert one.touched == {"2023-W24": 3}
    assert count(log_of([event("x"), event("x")])).touched == {"2023-W24": 1}


def test_dead_comes_before_late_and_late_before_duplicate() -> None:
    assert outcomes([event("x"), event("x", user_id=None)]) == {"counted": 1, "dead": 1, "dead:user_id": 1}
    assert outcomes([event("x"), event("x", event_type="exposure")]) == {"counted": 1, "ignored": 1}
    late = outcomes([play(12), event("x"), event("x")], hours=8760)
    assert late == {"counted": 1, "late": 2}
    assert outcomes([event("x"), play(12), event("x")], hours=8760) == {"counted": 2, "late": 1}


def test_only_what_was_counted_is_remembered() -> None:
    refused = [event("x", user_id=None), event("x", event_type="exposure")]
    assert outcomes([*refused, event("x")])["counted"] == 1
    assert outcomes([play(12), event("x"), event("x", 12)]) == {"counted": 2, "late": 1}
    early = Record(0, event("x", 1), millis(MONDAY))
    assert count([early, Record(1, event("x", 1))]).outcomes == {"counted": 1, "dead": 1, "dead:future": 1}


def test_a_part_holds_so_many_ids_as_it_may_hold_tracks() -> None:
    log = log_of([array(*[event(f"{n}-{m}") for m in range(3)]) for n in range(4)])
    parts = list(tally(log, 0, 4, None, rules(duplicate_hours=1), most_tracks=4))
    assert [(counted.end, [len(ids) for ids in counted.ids.values()]) for counted in parts] == [
        (1, [3]),
        (2, [3]),
        (3, [3]),
        (4, [3]),
    ]


def test_sets_that_no_id_is_looked_for_in_are_removed() -> None:
    ledger = count(log_of([event(n, n * 10 * HOUR) for n in range(20)]), [5, 11], hours=10)
    assert len(ledger.sets) == 2
    assert sum(map(len, ledger.sets.values())) <= 3


@pytest.mark.parametrize("hours", [[24, 0, 24], [24, 48, 24], [0, 24, 24], [24, 24, 0]])
def test_hours_may_change_at_any_time_and_nothing_that_came_once_is_a_duplicate(hours: list[int]) -> None:
    log = log_of([event(n, n * HOUR) for n in range(60)])
    assert count(log, [20, 40], hours=hours).outcomes == {"counted": 60}


def test_hours_that_were_set_back_know_what_they_knew() -> None:
    log = log_of([event("x"), event("y"), event("x")])
    assert count(log, [1, 2], hours=[24, 0, 24]).outcomes == {"counted": 2, "duplicate": 1}
    assert count(log, [1, 2], hours=[24, 48, 24]).outcomes == {"counted": 2, "duplicate": 1}
    assert count(log, [1, 2], hours=[24, 48, 48]).outcomes == {"counted": 3}


def test_what_was_remembered_goes_within_a_week_of_switching_off() -> None:
    log = log_of([event("x"), play(11.9), play(12)])
    assert count(log, [1, 2], hours=[24, 0, 0]).sets == {}


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "1969-12-31T23:00:00", "9999-12-20T00:00:00"])
def test_ids_are_remembered_at_any_time(time: str) -> None:
    assert outcomes([wire(timestamp=time, event_id=1)] * 2) == {"counted": 1, "duplicate": 1}


# When a record is a replay


def test_a_replay_counts_once_however_often_it_comes() -> None:
    log = [Record(n, play(), headers=headers(0, 7, 2)) for n in range(8, 12)]
    for hours in (0, 24):
        for borders in ([], [9], [9, 10, 11]):
            assert count(log, borders, hours=hours).outcomes == {"counted": 1, "duplicate": 3}


def test_replays_of_other_places_or_of_other_bytes_are_other_events() -> None:
    places = [headers(0, 7, 2), headers(0, 7, 3), headers(0, 8, 2), headers(1, 7, 2), headers(0, 72), headers(7, 2, 0)]
    log = [Record(n, play(), headers=place) for n, place in enumerate(places)]
    assert count(log).outcomes == {"counted": len(places)}
    assert count([Record(n, play(n), headers=headers()) for n in range(3)]).outcomes == {"counted": 3}


def test_the_original_and_its_replay_are_not_told_apart_by_their_bytes() -> None:
    log = [Record(0, play()), Record(1, play(), headers=headers(0, 0, 0))]
    assert count(log).outcomes == {"counted": 2}, "a replay is of what was not counted"


@pytest.mark.parametrize(
    "broken",
    [
        headers(topic="other"),
        headers()[1:],
        headers()[:-1],
        [*headers()[:-1], ("hitparade-index", b"")],
        [*headers()[:-1], ("hitparade-index", b"-1")],
        [*headers()[:-1], ("hitparade-index", b"1.0")],
        [*headers()[:-1], ("hitparade-index", "٣".encode())],
        [*headers()[:-1], ("hitparade-index", b"1" * 20)],
        [*headers()[:-1], ("hitparade-index", None)],
        [("hitparade-cause", b"json")],
        [("traceparent", b"\xff")],
    ],
)
def test_headers_that_name_no_place_in_this_topic_make_no_replay(broken: Any) -> None:
    log = [Record(n, array(play(), b"x"), headers=broken) for n in range(2)]
    ledger = count(log)
    assert ledger.outcomes == {"counted": 2, "dead": 2, "dead:json": 2}
    assert ledger.sets == {}
    assert ledger.aside == [("dead", "json", 0, 1, b"x"), ("dead", "json", 1, 1, b"x")]


def test_the_events_of_an_array_are_each_replayed_once() -> None:
    value = array(play(), play(), b"x")
    log = [Record(n, value, headers=headers(0, 3, 1)) for n in (5, 6)]
    ledger = count(log)
    assert ledger.outcomes == {"counted": 2, "duplicate": 2, "dead": 2, "dead:json": 2}
    assert ledger.aside == [("dead", "json", 5, 2, b"x"), ("dead", "json", 6, 2, b"x")]


def test_what_is_set_aside_again_keeps_its_first_origin() -> None:
    for value, cause in ((b"x", "json"), (play(0), "late"), (None, "json"), (wire(track_id=None), "track_id")):
        log = [Record(0, play(12)), Record(1, value, headers=headers(3, 7, 2))]
        (counted,) = tally(log, 0, 2, None, rules(topic=TOPIC))
        (aside,) = counted.set_aside
        assert (aside.cause, aside.value, aside.offset, aside.index) == (cause, value, 1, 0)
        assert aside.origin == Origin(3, 7, 2)


def test_a_replay_is_known_for_as_long_as_it_would_not_be_late() -> None:
    def replay(offset: int) -> Record:
        return Record(offset, play(0), headers=headers())

    for weeks in (1, 11, 11.99):
        ledger = count([replay(1), Record(2, play(weeks)), replay(3)], [2, 3])
        assert ledger.outcomes == {"counted": 2, "duplicate": 1}
    ledger = count([replay(1), Record(2, play(12)), replay(3)], [2, 3])
    assert ledger.outcomes == {"counted": 2, "late": 1}
    assert ledger.sets == {}
    assert count([replay(1), Record(2, play(12))]).sets == {}, "what falls out within a part is not remembered at all"


def test_a_replay_is_a_duplicate_by_either_of_its_names() -> None:
    first = Record(0, event("x"))
    assert count([first, Record(1, event("x"), headers=headers())]).outcomes == {"counted": 1, "duplicate": 1}
    log = [Record(0, event("x"), headers=headers()), Record(1, event("x")), Record(2, event("x"), headers=headers())]
    assert count(log).outcomes == {"counted": 1, "duplicate": 2}
    assert count(log, hours=0).outcomes == {"counted": 2, "duplicate": 1}


# Laws

WEEKS = st.integers(0, 20).map(float) | st.floats(0, 20).map(lambda weeks: round(weeks, 3)) | st.floats(0, 0.2)
EVENTS = st.builds(
    event,
    st.sampled_from(["x", "y", "z", 1, "1", None, True]),
    WEEKS,
    user_id=st.sampled_from(["u", "uu", None]),
    event_type=st.sampled_from(["play", "play", "play", "exposure"]),
    week=st.sampled_from(["2023-W24", "2023-W24", None]),
    group=st.just("g"),
)
VALUES = EVENTS | st.lists(EVENTS | st.just(b"x"), min_size=1, max_size=5).map(lambda found: array(*found)) | st.none()
ORIGINS = st.just(()) | st.builds(headers, st.just(0), st.integers(0, 1), st.integers(0, 1))
STAMPS = st.just(-1) | st.integers(0, 20).map(lambda weeks: millis(MONDAY + weeks * WEEK))
LOGS = st.lists(st.tuples(st.integers(1, 3), STAMPS, VALUES, ORIGINS), min_size=1, max_size=25).map(
    lambda rows: [
        Record(offset, value, timestamp, headers=origin)
        for offset, (_, timestamp, value, origin) in zip(
            itertools.accumulate(gap for gap, *_ in rows), rows, strict=True
        )
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    LOGS,
    st.lists(st.integers(0, 70), max_size=6),
    st.integers(1, 4),
    st.sampled_from([0, 1, 24, 200, 8760]),
    st.booleans(),
)
def test_borders_of_batches_change_no_duplicate(
    log: list[Record], borders: list[int], most: int, hours: int, exposures: bool
) -> None:
    expected = recount(log, 5, topic=TOPIC, duplicate_hours=hours, exposures=exposures)
    for cut in ([], [border for border in borders if border <= log[-1].offset], range(log[-1].offset)):
        ledger = count(log, cut, most, hours, weeks_kept=5, exposures=exposures)
        assert ledger.totals() == expected
    n_events = sum(1 if record.value is None else len(split(record.value)) for record in log)
    assert sum(expected.outcomes[name] for name in (*OUTCOMES, "duplicate", "exposure")) == n_events


# On a real Redis, whatever dies


@dataclass
class RememberingWorld(World):
    """A log, a Redis, and letters, counted with ids."""

    hours: int = 24

    def consumer(self, cut: Cut | None = None, *, identity: str = TOPIC_ID, **changes: Any) -> Consumer:
        cut = cut or Cut()
        store = CutStore(self.redis, self.topic, 2)
        store.cut = self.letters.cut = cut
        source: Any = LogSource(self.logs, cut, identity, committed_offsets=self.committed)
        letters: Any = self.letters
        of = rules(topic=TOPIC, duplicate_hours=self.hours)
        return session_consumer(source, store, letters, of, most_tracks=changes.get("most_tracks", 5000))

    def check(self) -> None:
        """Redis equals the recount of every partition."""
        store = CounterStore(self.redis, self.topic, 2)
        for partition, log in self.logs.items():
            truth = recount(log, topic=TOPIC, duplicate_hours=self.hours)
            fence = store.fence(partition)
            assert fence
            found = Totals(stored(store, partition), Counter(fence.tallies), [], dict(fence.touched), fence.stream_time)
            assert found == Totals(truth.counts, truth.outcomes, [], truth.touched, truth.stream_time)
            assert fence.next_offset == len(log)
            assert {identity(letter) for p, letter in self.letters.sent if p == partition} == set(truth.aside)
            check_sets(store, partition)


def check_sets(store: CounterStore, partition: int) -> None:
    """The fence names every set of ids there is, and no other."""
    prefix = store.key(partition, "")
    found = {key.decode().removeprefix(prefix) for key in store.client.scan_iter(match=store.key(partition, "ids:*"))}
    fields: Sequence[Any] = store.client.hkeys(store.key(partition, "fence"))
    named = {name.decode() for name in fields}
    assert found == {name for name in named if name.startswith("ids:")}


@pytest.fixture
def world(redis: Redis, prefix: str) -> RememberingWorld:
    """Two partitions with duplicates next to each other, across batches and parts, and replays among them."""
    replay, dead = headers(0, 1, 1), headers(0, 4, 0)
    twice = array(event("x"), event("y"), b"x", event("x"))
    mixed = [
        Record(0, twice),
        Record(1, event("z", 1)),
        Record(2, twice, headers=replay),
        Record(3, play(1), headers=headers(0, 9, 9)),
        Record(4, b"x", headers=dead),
        Record(5, play(1), headers=headers(0, 9, 9)),
        Record(6, b"x", headers=dead),
        Record(7, array(event("z", 1.001), event("w", 1.2), event("w", 1.2), play(1.2))),
        Record(8, event("w", 1.2)),
        Record(9, play(1), headers=headers(0, 9, 9)),
        Record(10, event("z", 1.001)),
        Record(11, event("w", 1.2), headers=headers(0, 2, 0)),
    ]
    same = [Record(n, event(n % 3, n * HOUR, track_id=f"t{n}")) for n in range(80)]
    return RememberingWorld(redis, f"{prefix}.sessions.v1", {0: mixed, 1: same})


def test_a_log_with_duplicates_is_counted_as_it_stands(world: RememberingWorld) -> None:
    consumer = drain(world.consumer())
    world.check()
    assert consumer.tallies["duplicate"] > 50
    assert {sum(consumer.tallies[name] for name in (*OUTCOMES, "duplicate"))} == {21 + 80}


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("edge", ["letters", "apply"])
def test_a_power_cut_anywhere_counts_every_duplicate_once(
    world: RememberingWorld, edge: str, when: str, nth: int
) -> None:
    with pytest.raises(PowerCut):
        drain(world.consumer(Cut(edge, when, nth), most_tracks=2))
    drain(world.consumer(most_tracks=3))
    world.check()


def test_one_power_cut_after_another_counts_every_duplicate_once(world: RememberingWorld) -> None:
    world.hours = 1
    for nth in range(1, 12):
        with pytest.raises(PowerCut):
            drain(world.consumer(Cut("apply", "after" if nth % 2 else "before", 1 + nth % 3), most_tracks=1))
    drain(world.consumer())
    world.check()


def test_a_zombie_that_looked_ids_up_before_its_successor_counted_changes_nothing(world: RememberingWorld) -> None:
    a_zombie_changes_nothing(world)


def test_ids_of_a_redis_that_has_lost_its_last_second_are_not_believed(world: RememberingWorld) -> None:
    """The fence has gone back as the ids are looked up, and is where it was again when they have been."""
    consumer = world.consumer(most_tracks=1)
    consumer.step()
    saved = {key: world.redis.dump(key) for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*")}
    consumer.step()
    known_ids = consumer.store.known_ids

    def look_up(partition: int, start: int, wanted: Mapping[str, set[bytes]]) -> dict[str, set[bytes]]:
        for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*"):
            world.redis.delete(key)
        for key, dump in saved.items():
            assert dump
            world.redis.restore(key, 0, dump)
        try:
            return known_ids(partition, start, wanted)
        finally:
            consumer.store.known_ids = known_ids  # type: ignore[method-assign]
            other = world.consumer()
            other.step()

    consumer.store.known_ids = look_up  # type: ignore[method-assign,assignment]
    drain(consumer)
    world.check()


def test_ids_that_were_looked_up_elsewhere_than_at_the_fence_are_refused(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(0, 5))
    with pytest.raises(Fenced, match="expected the fence at offset 4, found 5"):
        store.known_ids(0, 4, {"24h": {b"x" * 16}})
    with pytest.raises(Fenced, match="found NOFENCE"):
        store.known_ids(1, 0, {"24h": {b"x" * 16}})


# On a real Redis, the scripts


def digests(*texts: str) -> list[bytes]:
    return [text.encode().rjust(16, b"\xff") for text in texts]


def test_ids_are_remembered_with_the_counts_and_found_by_the_family_of_their_set(store: CounterStore) -> None:
    a, b, c = digests("a", "b", "c")
    store.apply(0, "AAAA", part(0, 5, bucket({"t": [1, 0, 0]}), ids={"24h:7": [a], "replayed:2023-W24": [a, b]}))
    store.apply(0, "AAAA", part(5, 6, ids={"24h:7": [b], "24h:8": [c], "2h:1": [c], "4h:1": [c]}))
    wanted = {"24h": {a, b, c, *digests("d")}, "replayed": {b, c}}
    assert store.known_ids(0, 6, wanted) == {"24h:7": {a, b}, "24h:8": {c}, "replayed:2023-W24": {b}}
    assert store.client.hmget(store.key(0, "fence"), "ids:24h:7", "ids:24h:8", "ids:replayed:2023-W24") == [
        b"6",
        b"6",
        b"5",
    ]
    check_sets(store, 0)


def test_ids_are_sixteen_bytes_and_any_of_them(store: CounterStore) -> None:
    ids = [bytes([n] * 16) for n in range(256)]
    store.apply(0, "AAAA", part(ids={"24h:-7": ids}))
    assert store.known_ids(0, 1, {"24h": set(ids)}) == {"24h:-7": set(ids)}
    assert store.client.smembers(store.key(0, "ids:24h:-7")) == set(ids)


def test_a_part_may_remember_and_a_batch_look_up_more_ids_than_luas_stack_holds(store: CounterStore) -> None:
    many = digests(*map(str, range(20_001)))
    store.apply(0, "AAAA", part(ids={"24h:1": many, "replayed:2023-W24": many[:9000]}))
    wanted = {"24h": {*many, *digests("x")}, "replayed": set(many)}
    assert store.known_ids(0, 1, wanted) == {"24h:1": set(many), "replayed:2023-W24": set(many[:9000])}


@pytest.mark.parametrize("name", ["ids:24h:1", "ids:24h:2"])
def test_a_set_of_another_type_is_refused_before_anything_is_written(store: CounterStore, name: str) -> None:
    store.client.set(store.key(0, name), "in the way")
    before = everything(store)
    ids = {"24h:1": digests("a"), "24h:2": digests("b")}
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.apply(0, "AAAA", part(0, 1, bucket({"a": [1, 0, 0]}), ids=ids))
    assert everything(store) == before


def test_a_part_that_is_refused_remembers_nothing(store: CounterStore) -> None:
    before = everything(store)
    with pytest.raises(Fenced):
        store.apply(0, "AAAA", part(3, 4, ids={"24h:1": digests("a")}))
    assert everything(store) == before


def test_counts_ids_and_fence_are_written_by_one_command(store: CounterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Any] = []
    execute: Any = store.client.execute_command

    def noted(*arguments: Any, **options: Any) -> Any:
        commands.append(arguments[0])
        return execute(*arguments, **options)

    store.apply(0, "AAAA", part(0, 1))  # the script is there by now
    monkeypatch.setattr(store.client, "execute_command", noted)
    store.apply(0, "AAAA", part(1, 2, bucket({"t": [1, 0, 0]}), ids={"24h:7": digests("a")}, kept=("24h:7",)))
    assert commands == ["EVALSHA"]


def test_a_cluster_remembers_as_one_node_does_and_when_it_has_forgotten_the_script(loose: Redis, prefix: str) -> None:
    port = loose.connection_pool.connection_kwargs["port"]
    cluster = CounterStore(connect(f"redis+cluster://{HOST}:{port}"), prefix, 4)
    cluster.init(0, 0, "AAAA", SETTINGS)
    a, b = digests("a", "b")
    for start in (0, 1):
        cluster.apply(0, "AAAA", part(start, start + 1, ids={f"24h:{start}": [a]}))
        loose.script_flush()
        found = cluster.known_ids(0, start + 1, {"24h": {a, b}})
        assert found == {f"24h:{n}": {a} for n in range(start + 1)}
    cluster.apply(0, "AAAA", part(2, 3, kept=("24h:1",)))
    assert cluster.known_ids(0, 3, {"24h": {a, b}}) == {"24h:1": {a}}
    cluster.client.close()


def test_a_new_generation_removes_those_that_do_not_stay_and_no_replays(store: CounterStore) -> None:
    names = ["24h:5", "24h:6", "24h:-7", "2h:6", "replayed:2023-W01", "replayed:2023-W02"]
    store.init(1, 0, "AAAA", SETTINGS)
    for partition in (0, 1):
        store.apply(partition, "AAAA", part(0, 1, ids={name: digests("a") for name in names}))
    store.apply(0, "AAAA", part(1, 2, ids={"24h:7": digests("b")}, kept=("24h:7", "24h:6")))
    assert sets_of(store) == {"24h:6", "24h:7", "replayed:2023-W01", "replayed:2023-W02"}
    store.apply(0, "AAAA", part(2, 3, horizon="2023-W02", kept=("24h:7", "24h:6")))
    assert sets_of(store) == {"24h:6", "24h:7", "replayed:2023-W02"}
    store.apply(0, "AAAA", part(3, 4, horizon="2023-W03"))
    assert sets_of(store) == set()
    assert sets_of(store, 1) == set(names)


def sets_of(store: CounterStore, partition: int = 0) -> set[str]:
    check_sets(store, partition)
    keys = store.client.scan_iter(match=store.key(partition, "ids:*"))
    return {key.decode().removeprefix(store.key(partition, "ids:")) for key in keys}


def test_drop_removes_what_is_remembered(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(ids={"24h:1": digests("a")}))
    assert store.drop(0) == 2
    assert everything(store) == {}


def test_hours_are_a_setting() -> None:
    assert Settings.from_env({}).duplicate_hours == 0
    assert Settings.from_env({"HITPARADE_DUPLICATE_HOURS": "24"}).duplicate_hours == 24


def test_duplicates_are_named_in_the_accounting_only_where_there_are_some() -> None:
    assert accounted([]) == dict.fromkeys(OUTCOMES, 0)
    tallies = [{"counted": 2, "dead": 1, "dead:json": 1, "lost": 9}, {"counted": 1, "ignored": 4}]
    assert accounted(tallies) == {"counted": 3, "late": 0, "dead": 1, "ignored": 4}
    assert accounted([*tallies, {"duplicate": 5}]) == {
        "counted": 3,
        "late": 0,
        "dead": 1,
        "ignored": 4,
        "duplicate": 5,
    }
    assert accounting({"counted": 3, "duplicate": 5}) == "3 counted, 5 duplicate"
