"""A cap on one user's plays of one track in a week: exact, whatever the borders of batches are and whoever dies."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from consumers.loop import Consumer
from consumers.sessions import session_consumer
from features.caps import pair_digest, pairs_in
from features.connect import connect
from features.duplicates import ids_in
from features.fence import OPTIONAL, OUTCOMES, accounted
from features.mapping_file import parse_mapping
from features.parts import Bucket, Part
from features.store import CounterStore, Fenced
from features.tally import tally
from hitparade.processes import HOST
from hitparade.settings import Settings
from tests.builders import MONDAY, WEEK, Record, array, log_of, millis, play, rules, wire
from tests.builders_counting import Counted
from tests.builders_plain import any_log
from tests.commands import Command
from tests.oracle import Totals, recount
from tests.stored import stored
from tests.test_duplicates import LOGS, TOPIC, RememberingLedger, event
from tests.test_loop import TOPIC_ID, Cut, CutStore, LogSource, PowerCut, World, a_zombie_changes_nothing, drain
from tests.test_plain import carefully, noting_ways
from tests.test_store import SETTINGS, bucket, everything, part
from tests.test_store import loose as loose  # fixtures
from tests.test_store import store as store


@dataclass
class CappingLedger(RememberingLedger):
    """A store that also remembers how many plays of a user and a track have counted."""

    plays: dict[str, dict[bytes, int]] = field(default_factory=dict)

    def apply(self, part: Part) -> None:
        super().apply(part)
        for week, pairs in part.plays.items():
            self.plays.setdefault(week, {}).update(pairs)
        self.plays = {week: pairs for week, pairs in self.plays.items() if week >= part.horizon}

    def played(self, wanted: Mapping[str, set[bytes]]) -> dict[str, dict[bytes, int]]:
        every = {week: self.plays.get(week, {}) for week in wanted}
        return {
            week: {pair: every[week][pair] for pair in pairs & every[week].keys()} for week, pairs in wanted.items()
        }


def count(
    records: Sequence[Record], borders: Sequence[int] = (), most_tracks: int = 5000, **changes: Any
) -> CappingLedger:
    """Tally a log in spans that end at these offsets."""
    ledger, of = CappingLedger(), rules(**{"plays_cap": 2, "topic": TOPIC, **changes})
    end = max((record.offset for record in records), default=-1) + 1
    for start, stop in itertools.pairwise([0, *sorted(borders), end]):
        span = [record for record in records if start <= record.offset < stop]
        known, played = ledger.known(ids_in(span, TOPIC, of.duplicate_hours)), ledger.played(pairs_in(span, of))
        for done in tally(span, start, stop, ledger.stream_time, of, most_tracks, known, played=played):
            ledger.apply(done)
    return ledger


def outcomes(*values: bytes | None, **changes: Any) -> Counter[str]:
    return count(log_of(values), **changes).outcomes


# What is capped


def test_so_many_plays_of_one_track_by_one_user_count_in_a_week() -> None:
    bot = [play(n / 100) for n in range(9)]
    assert outcomes(*bot) == {"counted": 2, "capped": 7}
    assert outcomes(*bot, plays_cap=1) == {"counted": 1, "capped": 8}
    assert outcomes(*bot, plays_cap=9) == {"counted": 9}
    assert outcomes(*bot, plays_cap=0) == {"counted": 9}
    assert count(log_of(bot)).counts == {("2023-W24", "odd", "a"): [2, 0, 0]}


def test_other_users_other_tracks_and_other_weeks_have_caps_of_their_own() -> None:
    values = [play(0), play(0), play(0, user="v"), play(0, track="b"), play(1), play(1), play(2)]
    assert outcomes(*values) == {"counted": 7}
    assert outcomes(*values, play(0, user="v"), play(0.5), play(1.5)) == {"counted": 8, "capped": 2}
    assert pair_digest("ab", "c") != pair_digest("a", "bc")


def test_an_id_that_is_an_integer_is_its_decimal_text() -> None:
    def of(user: object, track: object) -> bytes:
        return wire(user_id=user, track_id=track)

    assert outcomes(of(0, 5), of("0", "5"), of(0, "5"), of("", 5)) == {
        **{"counted": 2, "capped": 1, "dead": 1, "dead:user_id": 1}
    }
    assert outcomes(array(of(0, 5), of("0", "5"), of(0, "5"), of("0", 5))) == {"counted": 2, "capped": 2}


def test_skips_and_likes_count_whatever_was_played() -> None:
    values = [play(0), play(0), play(0)] + [play(0, kind=kind) for kind in ("skip", "like")] * 3
    assert outcomes(*values) == {"counted": 8, "capped": 1}
    assert count(log_of(values)).counts == {("2023-W24", "odd", "a"): [2, 3, 3]}


def test_what_is_dead_late_ignored_or_a_duplicate_takes_no_place_and_is_not_capped() -> None:
    dead, ignored = wire(user_id="u", track_id="a", timestamp=None), wire(event_type="exposure")
    assert outcomes(dead, dead, ignored, play(0), play(0)) == {
        **{"counted": 2, "dead": 2, "dead:timestamp": 2, "ignored": 1}
    }
    early = [Record(n, play(1), millis(MONDAY)) for n in range(3)]
    assert count([*early, *(Record(n, play(1)) for n in (3, 4))]).outcomes["counted"] == 2
    assert outcomes(play(12), play(0), play(0), play(0)) == {"counted": 1, "late": 3}
    twice = [event("x"), event("x"), event("x"), event("y"), event("y"), event("z"), event("z")]
    assert outcomes(*twice, duplicate_hours=24) == {"counted": 2, "duplicate": 3, "capped": 2}


@pytest.mark.parametrize("odd", [(), (b"x",)])
def test_a_capped_play_changes_nothing_but_its_tally(odd: tuple[bytes, ...]) -> None:
    """It moves no stream time and touches no week, in a run that is counted together as in one that is not."""
    values = [play(0), play(0.1), *odd]
    once, more = count(log_of(values)), count(log_of([*values, play(0.2), array(play(0.3), play(0.4))]))
    assert (more.counts, more.touched, more.stream_time) == (once.counts, once.touched, once.stream_time)
    assert more.outcomes - once.outcomes == {"capped": 3}
    assert more.aside == once.aside


def test_of_a_run_over_a_weeks_end_that_is_capped_in_the_newer_week_stream_time_is_that_of_the_older() -> None:
    log = log_of([array(play(1), play(1)), array(play(0.9), play(1), play(0.5))])
    first = count(log, [1])
    assert first.outcomes == {"counted": 4, "capped": 1}
    alone = count(log_of([array(play(0.9), play(0.9)), array(play(0.95), play(0.8, user="v"))]))
    assert alone.stream_time == MONDAY + 0.9 * WEEK


def test_a_cap_is_forgotten_with_its_week() -> None:
    values = [play(0), play(0), play(0), play(1), play(11.9), play(12)]
    assert count(log_of(values[:-1])).plays.keys() == {"2023-W24", "2023-W25", "2023-W35"}
    assert count(log_of(values)).plays.keys() == {"2023-W25", "2023-W35", "2023-W36"}
    (only,) = tally(log_of(values), 0, 6, None, rules(plays_cap=2))
    assert only.plays.keys() == {"2023-W25", "2023-W35", "2023-W36"}


def test_where_it_is_off_nothing_is_looked_up_or_remembered() -> None:
    log = log_of([play(0), play(0), play(0)])
    assert pairs_in(log, rules()) == {}
    (done,) = tally(log, 0, 3, None, rules())
    assert (done.plays, done.tallies) == ({}, {"counted": 3})


def test_a_part_holds_so_many_pairs_as_it_may_hold_tracks() -> None:
    log = log_of([array(*[play(user=f"{n}-{m}") for m in range(3)]) for n in range(4)])
    parts = list(tally(log, 0, 4, None, rules(plays_cap=1), most_tracks=4))
    assert [(done.end, len(done.plays["2023-W24"])) for done in parts] == [(1, 3), (2, 3), (3, 3), (4, 3)]


def test_a_capped_run_is_still_counted_together() -> None:
    with noting_ways() as found:
        count(log_of([array(*[play(n / 1000) for n in range(500)])] * 20), [5, 9])
    assert found.keys() == {True}


def test_under_a_mapping_pairs_are_those_of_what_is_mapped() -> None:
    theirs = json.dumps(
        {"event_type": "listen", "user_id": "u", "track_id": "a", "song": "b", "timestamp": "2023-06-17"}
    )
    mapping = parse_mapping('[fields]\ntrack_id = "song"\n[event_types]\nlisten = "play"\n')
    log = log_of([theirs.encode()] * 4)
    assert pairs_in(log, rules(plays_cap=2, mapping=mapping)) == {"2023-W24": {pair_digest("u", "b")}}
    found = count(log, [1, 2, 3], mapping=mapping)
    assert (found.outcomes, found.counts) == ({"counted": 2, "capped": 2}, {("2023-W24", "odd", "b"): [2, 0, 0]})


def test_every_pair_that_is_decided_by_was_looked_up() -> None:
    log = log_of([play(0), array(play(1, user="v"), b"x"), array(play(60, kind="skip"), wire(event_type="PLAY")), None])
    week = pairs_in(log, rules(plays_cap=1))
    assert week == {"2023-W24": {pair_digest("u", "a"), pair_digest("101", "a")}, "2023-W25": {pair_digest("v", "a")}}
    far = log_of([array(play(0), play(-2000), wire(timestamp="9999-12-31T12:00:00"))])
    assert {len(pairs) for pairs in pairs_in(far, rules(plays_cap=1)).values()} == {1}


# Laws

CAPS = st.sampled_from([0, 1, 2, 3])
MOST = st.sampled_from([1, 2, 3, 10, 5000])
BORDERS = st.lists(st.integers(0, 60), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64), BORDERS, MOST, CAPS, st.sampled_from([1, 3, 12]))
def test_a_log_of_anything_is_capped_as_the_slow_oracle_does(
    seed: int, borders: list[int], most: int, cap: int, kept: int
) -> None:
    log = any_log(random.Random(seed))
    expected = recount(log, kept, plays_cap=cap, topic=TOPIC)
    within = [border for border in borders if border <= log[-1].offset]
    for cut in (within, [], range(log[-1].offset)):
        assert count(log, cut, most, plays_cap=cap, weeks_kept=kept).totals() == expected
    with carefully():
        assert count(log, within, most, plays_cap=cap, weeks_kept=kept).totals() == expected


@settings(max_examples=200, deadline=None)
@given(LOGS, BORDERS, MOST, CAPS, st.sampled_from([0, 24, 8760]), st.booleans())
def test_caps_go_with_duplicates_replays_and_exposures(
    log: list[Record], borders: list[int], most: int, cap: int, hours: int, exposures: bool
) -> None:
    changes: dict[str, Any] = {"plays_cap": cap, "duplicate_hours": hours, "exposures": exposures}
    expected = recount(log, 5, topic=TOPIC, **changes)
    for cut in ([border for border in borders if border <= log[-1].offset], [], range(log[-1].offset)):
        assert count(log, cut, most, weeks_kept=5, **changes).totals() == expected


PLAYS = st.lists(
    st.lists(
        st.builds(play, st.integers(0, 12).map(lambda n: n / 6), st.sampled_from("ab"), st.sampled_from(["u", "uu"])),
        min_size=1,
        max_size=8,
    ).map(lambda found: array(*found)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(PLAYS, BORDERS, MOST, st.integers(1, 5))
def test_no_week_holds_more_of_a_pair_than_the_cap_and_less_only_where_there_was_less(
    values: list[bytes], borders: list[int], most: int, cap: int
) -> None:
    log = log_of(values)
    found = count(log, [border for border in borders if border < len(log)], most, plays_cap=cap)
    weeks = Counter(
        (e["user_id"], e["track_id"], e["timestamp"][:10] >= "2023-06-19", e["timestamp"][:10] >= "2023-06-26")
        for value in values
        for e in json.loads(value)
    )
    assert found.outcomes["counted"] == sum(min(n, cap) for n in weeks.values())
    assert found.outcomes["capped"] == sum(max(0, n - cap) for n in weeks.values())
    assert {n for pairs in found.plays.values() for n in pairs.values()} <= set(range(1, cap + 1))


# On a real Redis, whatever dies


@dataclass
class CappingWorld(World):
    """A log, a Redis, and letters, counted with a cap."""

    cap: int = 2

    def consumer(self, cut: Cut | None = None, *, identity: str = TOPIC_ID, **changes: Any) -> Consumer:
        cut = cut or Cut()
        store = CutStore(self.redis, self.topic, 2)
        store.cut = self.letters.cut = cut
        source: Any = LogSource(self.logs, cut, identity, committed_offsets=self.committed)
        letters: Any = self.letters
        of = rules(topic=TOPIC, plays_cap=changes.pop("cap", self.cap))
        return session_consumer(source, store, letters, of, most_tracks=changes.get("most_tracks", 5000))

    def check(self) -> None:
        """Redis equals the recount of every partition, and holds as many plays of each pair as count."""
        store = CounterStore(self.redis, self.topic, 2)
        for partition, log in self.logs.items():
            truth = recount(log, topic=TOPIC, plays_cap=self.cap)
            fence = store.fence(partition)
            assert fence
            found = Totals(stored(store, partition), Counter(fence.tallies), [], dict(fence.touched), fence.stream_time)
            assert found == Totals(truth.counts, truth.outcomes, [], truth.touched, truth.stream_time)
            assert fence.next_offset == len(log)
            assert sum(fence.tallies.get(name, 0) for name in (*OUTCOMES, *OPTIONAL)) == sum(
                n for name, n in truth.outcomes.items() if ":" not in name
            )
            assert plays_of(store, partition) == {
                (week, pair_digest(user, track)): n for (week, user, track), n in _plays(truth).items()
            }


def _plays(truth: Totals) -> Counter[tuple[str, str, str]]:
    return Counter((week, user, track) for week, (_, user, track, kind) in truth.events if kind == 0)


def plays_of(store: CounterStore, partition: int) -> dict[tuple[str, bytes], int]:
    """Every count of plays that Redis has of a partition, by week and pair."""
    begins = store.key(partition, "plays:")
    return {
        (key.decode().removeprefix(begins), pair): int(n)
        for key in store.client.scan_iter(match=f"{begins}*")
        for pair, n in cast(dict[bytes, bytes], store.client.hgetall(key)).items()
    }


@pytest.fixture
def world(redis: Redis, prefix: str) -> CappingWorld:
    """Two partitions with a bot in each, across batches and parts, plain and not."""
    mixed = [
        Record(0, array(play(0), play(0.1), b"x", play(0.2))),
        Record(1, play(1)),
        Record(2, array(play(0.3), play(0.3, user="v"), play(1, track="b"))),
        Record(3, play(1.1, kind="skip")),
        Record(4, array(*[play(1 + n / 100) for n in range(5)])),
        Record(5, None),
        Record(6, array(play(0.9), play(0.9, user="v"), play(0.9, user="v"))),
    ]
    bot = [Record(n, play(n / 60, track=f"t{n % 2}")) for n in range(80)]
    return CappingWorld(redis, f"{prefix}.sessions.v1", {0: mixed, 1: bot})


def test_a_log_with_bots_is_counted_as_it_stands(world: CappingWorld) -> None:
    consumer = drain(world.consumer())
    world.check()
    assert consumer.tallies["capped"] > 70


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_power_cut_anywhere_caps_every_play_once(world: CappingWorld, when: str, nth: int) -> None:
    with pytest.raises(PowerCut):
        drain(world.consumer(Cut("apply", when, nth), most_tracks=1))
    drain(world.consumer(most_tracks=3))
    world.check()


def test_one_power_cut_after_another_caps_every_play_once(world: CappingWorld) -> None:
    world.cap = 3
    for nth in range(1, 12):
        with pytest.raises(PowerCut):
            drain(world.consumer(Cut("apply", "after" if nth % 2 else "before", 1 + nth % 3), most_tracks=1))
    drain(world.consumer())
    world.check()


def test_a_zombie_that_looked_plays_up_before_its_successor_counted_changes_nothing(world: CappingWorld) -> None:
    a_zombie_changes_nothing(world)


@pytest.mark.parametrize("cap", [0, 1, 5])
def test_who_has_another_cap_stops_and_says_what_to_do(world: CappingWorld, cap: int) -> None:
    drain(world.consumer())
    before = {key: world.redis.dump(key) for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*")}
    other = drain(world.consumer(cap=cap))
    assert other.stopped.keys() == {0, 1}
    assert f"was counted with plays_cap 2, this consumer has {cap}. Set it back to 2, or count anew" in other.stopped[0]
    assert "hitparade rebuild" in other.stopped[0]
    assert {key: world.redis.dump(key) for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*")} == before


def test_counters_from_before_there_was_a_cap_are_counted_on_without_one(world: CappingWorld) -> None:
    world.cap = 0
    drain(world.consumer())
    for partition in world.logs:
        world.redis.hdel(f"{{hp:{world.topic}:{partition}}}:fence", "plays_cap", "listeners")
    assert drain(world.consumer()).stopped == {}
    assert drain(world.consumer(cap=2)).stopped.keys() == {0, 1}


# On a real Redis, the scripts


def test_plays_are_remembered_with_the_counts_and_found_by_week(store: CounterStore) -> None:
    a, b, c = (bytes([n]) * 16 for n in (0, 255, 7))
    store.apply(0, "AAAA", part(0, 5, bucket({"t": [1, 0, 0]}), plays={"2023-W24": {a: 1, b: 1_000_000}}))
    store.apply(0, "AAAA", part(5, 6, plays={"2023-W24": {a: 2}, "2023-W25": {c: 1}}))
    wanted = {"2023-W24": {a, b, c}, "2023-W25": {c, a}, "2023-W26": {a}}
    assert store.played(0, 6, wanted) == {"2023-W24": {a: 2, b: 1_000_000}, "2023-W25": {c: 1}, "2023-W26": {}}
    with pytest.raises(Fenced, match="expected the fence at offset 5, found 6"):
        store.played(0, 5, wanted)
    with pytest.raises(Fenced, match="found NOFENCE"):
        store.played(1, 0, wanted)


def test_a_part_may_remember_and_a_batch_look_up_more_plays_than_luas_stack_holds(store: CounterStore) -> None:
    many = {n.to_bytes(16): 1 + n % 9 for n in range(20_001)}
    store.apply(0, "AAAA", part(plays={"2023-W24": many}))
    assert store.played(0, 1, {"2023-W24": {*many, b"x" * 16}}) == {"2023-W24": many}


def test_plays_of_another_type_and_a_fence_elsewhere_are_refused_before_anything_is_written(
    store: CounterStore,
) -> None:
    store.client.set(store.key(0, "plays:2023-W25"), "in the way")
    before = everything(store)
    plays = {"2023-W24": {b"x" * 16: 1}, "2023-W25": {b"x" * 16: 1}}
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.apply(0, "AAAA", part(0, 1, bucket({"a": [1, 0, 0]}), plays=plays))
    with pytest.raises(Fenced):
        store.apply(0, "AAAA", part(3, 4, plays={"2023-W24": {b"x" * 16: 1}}))
    assert everything(store) == before


def test_a_week_that_falls_out_takes_its_plays_with_it(store: CounterStore) -> None:
    weeks = ("2023-W24", "2023-W25")
    buckets = [bucket({"t": [1, 0, 0]}, week) for week in weeks]
    store.apply(0, "AAAA", part(0, 1, *buckets, plays={week: {b"x" * 16: 1} for week in weeks}))
    store.apply(0, "AAAA", part(1, 2, horizon="2023-W25"))
    assert {week for week, _ in plays_of(store, 0)} == {"2023-W25"}


def test_a_cluster_remembers_plays_and_listeners_when_it_has_forgotten_the_scripts(loose: Redis, prefix: str) -> None:
    port = loose.connection_pool.connection_kwargs["port"]
    cluster = CounterStore(connect(f"redis+cluster://{HOST}:{port}"), prefix, 4)
    cluster.init(0, 0, "AAAA", SETTINGS)
    for start in (0, 1):
        heard = Bucket("2023-W24", ("all",), "f", {}, 1, {"t": {f"u{start}", "u"}})
        cluster.apply(0, "AAAA", part(start, start + 1, heard, plays={"2023-W24": {b"x" * 16: start + 1}}))
        loose.script_flush()
        assert cluster.played(0, start + 1, {"2023-W24": {b"x" * 16}}) == {"2023-W24": {b"x" * 16: start + 1}}
        assert cluster.listeners_of(0, ["2023-W24"], "t") == {"2023-W24": start + 2}
    cluster.client.close()


# On a real broker


def test_a_cap_is_counted_audited_and_rebuilt_as_any_other_rule(log: Counted, command: Command) -> None:
    bot = [array(*[play(n / 20, user="bot", track="x") for n in range(10 * m, 10 * m + 10)]) for m in range(2)]
    log.fill(300)
    log.send(*((0, None, value) for value in bot))
    log.consume()
    before = sum(fence.tallies["counted"] for fence in log.store.fences([0, 1]).values())

    capped, uncapped = log.other(PLAYS_CAP="3"), log.other(PLAYS_CAP="0")
    audited = command(capped, "audit", "--json")
    assert audited.code == 1
    assert "counted with plays_cap 0, the settings have 3" in audited.out
    capped.send((0, None, array(play(0.99, user="bot", track="x"), play(0.99, user="new", track="x"))))
    assert "was counted with plays_cap 0, this consumer has 3" in capped.consume().stopped[0]
    assert command(capped, "rebuild").code == 0
    fences = log.store.fences([0, 1]).values()
    tallies = accounted([fence.tallies for fence in fences])
    assert tallies["capped"] >= 17
    assert tallies["counted"] + tallies["capped"] == before
    assert {fence.settings["plays_cap"] for fence in fences} == {"3"}
    assert capped.consume().tallies == {"counted": 1, "capped": 1}
    assert command(capped, "audit").code == 0

    log.send((0, None, play(0.99, user="bot", track="x")))
    assert "was counted with plays_cap 3, this consumer has 0" in log.consume().stopped[0]
    assert command(uncapped, "rebuild").code == 0
    assert not [name for name in log.keys() if name.startswith(("plays:", "new:"))]
    assert log.consume().tallies == {"counted": 1}
    assert command(uncapped, "audit").code == 0


# Where it is shown


def test_the_cap_is_a_setting_and_off_unless_it_is_asked_for() -> None:
    assert Settings.from_env({}).plays_cap == 0
    assert Settings.from_env({"HITPARADE_PLAYS_CAP": "10"}).plays_cap == 10


def test_what_is_capped_is_accounted_for_only_where_there_is_something() -> None:
    tallies = [{"counted": 2, "capped": 3}, {"counted": 1, "duplicate": 1}]
    expected = {"counted": 3, "late": 0, "dead": 0, "ignored": 0, "duplicate": 1, "capped": 3}
    assert list(accounted(tallies).items()) == list(expected.items())
