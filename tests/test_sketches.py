"""About how many different listeners a track had in a week: counted with everything else, by Redis' HyperLogLog."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from features.packing import listener_digest
from features.parts import Bucket
from features.reader import CounterReader
from features.store import CounterStore, Fenced
from features.tally import tally
from features.weeks import Calendar
from hitparade.settings import Settings
from tests.builders import array, log_of, play, rules, wire
from tests.builders_counting import Counted
from tests.builders_plain import any_log
from tests.commands import Command
from tests.oracle import recount
from tests.test_duplicates import TOPIC
from tests.test_plain import carefully
from tests.test_store import everything, part
from tests.test_store import store as store  # a fixture

WEEK = "2023-W24"


def heard(*listeners: dict[str, set[str]], week: str = WEEK) -> list[Bucket]:
    return [Bucket(week, ("all",), "f", {}, 1, some) for some in listeners]


def users(n: int, first: int = 0) -> set[str]:
    return {str(user) for user in range(first, first + n)}


# Who is a listener


def listeners_in(log: Any, **changes: Any) -> dict[tuple[str, str], set[str]]:
    """Who has played each track of a week that is kept, as the parts of one span have it."""
    found: dict[tuple[str, str], set[str]] = {}
    end = log[-1].offset + 1
    for done in tally(log, 0, end, None, rules(**{"listeners": True, "topic": TOPIC, **changes}), most_tracks=3):
        for bucket in done.buckets:
            for track_id, some in bucket.listeners.items():
                found.setdefault((bucket.week, track_id), set()).update(some)
        found = {name: some for name, some in found.items() if name[0] >= done.horizon}
    return found


def test_a_listener_has_a_play_that_counts() -> None:
    values = [play(0), play(0.1, user="v"), play(0, kind="skip", user="w"), wire(user_id=None), play(1)]
    assert listeners_in(log_of(values)) == {(WEEK, "a"): {"u", "v"}, ("2023-W25", "a"): {"u"}}
    assert listeners_in(log_of(values), listeners=False) == {}
    numbers = array(wire(user_id=0, track_id=5), wire(user_id="0", track_id="5"))
    assert listeners_in(log_of([numbers])) == {(WEEK, "5"): {"0"}}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64), st.sampled_from([0, 1, 2]), st.sampled_from([1, 3, 12]))
def test_listeners_are_those_of_the_slow_oracle(seed: int, cap: int, kept: int) -> None:
    log = any_log(random.Random(seed))
    expected = recount(log, kept, plays_cap=cap, topic=TOPIC).listeners
    assert listeners_in(log, plays_cap=cap, weeks_kept=kept) == expected
    with carefully():
        assert listeners_in(log, plays_cap=cap, weeks_kept=kept) == expected


# In Redis


def test_the_same_listener_counts_once_however_often_and_in_however_many_parts(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(0, 1, *heard({"a": users(3), "b": users(1)})))
    store.apply(0, "AAAA", part(1, 2, *heard({"a": users(3, first=2)}), *heard({"a": users(1)}, week="2023-W25")))
    assert store.listeners_of(0, [WEEK, "2023-W25", "2023-W26"], "a") == {WEEK: 5, "2023-W25": 1}
    assert store.listeners_of(0, [WEEK], "b") == {WEEK: 1}
    assert store.listeners_of(0, [WEEK], "c") == store.listeners_of(1, [WEEK], "a") == {}


@pytest.mark.parametrize("n", [1, 10, 300, 5000, 20_000])
def test_the_estimate_is_near_and_the_one_that_redis_makes_of_all_at_once(store: CounterStore, n: int) -> None:
    """Over the border between its two forms, too."""
    for first in range(0, n, 4001):
        some = users(min(4001, n - first), first)
        store.apply(0, "AAAA", part(first, first + 4001, *heard({"a": some}), since=None, stream_time=None))
    found = store.listeners_of(0, [WEEK], "a")[WEEK]
    whole = store.key(0, "whole")
    for first in range(0, n, 4000):
        store.client.pfadd(whole, *[listener_digest(user) for user in users(min(4000, n - first), first)])
    assert found == store.client.pfcount(whole)
    assert abs(found / n - 1) < 0.04  # five times the standard error


def test_of_what_is_written_on_the_way_nothing_stays(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(0, 1, *heard({"a": users(3), "b": users(5000)})))
    names = {key.decode().split("}:")[1].split(":")[0] for key in everything(store)}
    assert names == {"fence", "listeners"}


def test_a_listener_who_is_known_already_changes_no_sketch(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(0, 1, *heard({"a": users(9)})))
    sketch = store.client.hget(store.key(0, f"listeners:{WEEK}:{store.slice_of('a')}"), "a")
    store.client.config_resetstat()
    store.apply(0, "AAAA", part(1, 2, *heard({"a": users(4)})))
    assert store.client.hget(store.key(0, f"listeners:{WEEK}:{store.slice_of('a')}"), "a") == sketch
    assert store.client.info("commandstats")["cmdstat_hset"]["calls"] == 1, "the fence's"


def test_neither_replicas_nor_the_append_only_file_hear_of_what_is_on_the_way(store: CounterStore) -> None:
    store.apply(0, "AAAA", part(0, 1, *heard({"a": users(5000)})))
    before = (
        store.client.info("replication")["master_repl_offset"],
        store.client.info("persistence")["aof_current_size"],
    )
    for n in range(20):
        store.apply(0, "AAAA", part(n + 1, n + 2, *heard({"a": users(10)})))
    grown = store.client.info("persistence")["aof_current_size"] - before[1]
    assert grown < 20 * 1000, "a sketch has 12 kB"


@pytest.mark.parametrize("bad", [b"no sketch", b"HYLL\x00", b""])
def test_a_sketch_that_is_none_is_refused_before_anything_is_written(store: CounterStore, bad: bytes) -> None:
    store.apply(0, "AAAA", part(0, 1, *heard({"a": users(1)})))
    store.client.hset(store.key(0, f"listeners:{WEEK}:{store.slice_of('a')}"), "a", bad)
    before = everything(store)
    bucket = Bucket(WEEK, ("all",), "f", {"a": 1}, 1, {"b": users(2), "a": users(2)})
    with pytest.raises(ResponseError, match="a sketch of listeners"):
        store.apply(0, "AAAA", part(1, 2, bucket))
    assert everything(store) == before


def test_a_part_that_is_refused_hears_nothing(store: CounterStore) -> None:
    before = everything(store)
    with pytest.raises(Fenced):
        store.apply(0, "AAAA", part(3, 4, *heard({"a": users(1)})))
    assert everything(store) == before


def test_a_week_that_falls_out_takes_its_listeners_with_it(store: CounterStore) -> None:
    weeks = (WEEK, "2023-W25")
    store.apply(0, "AAAA", part(0, 1, *[bucket for week in weeks for bucket in heard({"a": users(2)}, week=week)]))
    store.apply(0, "AAAA", part(1, 2, horizon="2023-W25"))
    assert store.listeners_of(0, weeks, "a") == {"2023-W25": 2}


def test_the_listeners_of_a_track_are_those_of_all_partitions_where_any_looks_at_them(
    redis: Redis, prefix: str
) -> None:
    store = CounterStore(redis, prefix, 2)
    reader = CounterReader(store, [0, 1, 2], Calendar(), 12)
    for partition in (0, 1):
        store.init(partition, 0, "AAAA", {"slices": "2", "listeners": str(partition == 1)})
        assert reader.listeners_of("a") == (None if partition == 0 else {WEEK: 2})
        store.apply(partition, "AAAA", part(0, 1, *heard({"a": users(2 + partition, 10 * partition)})))
    assert reader.listeners_of("a") == {WEEK: 5}
    assert reader.listeners_of("b") == {}


# On a real broker


def test_listeners_are_counted_rebuilt_and_shown_by_why(log: Counted, command: Command) -> None:
    log.send(*((0, None, play(0, user=f"u{n % 7}", track="x")) for n in range(30)))
    log.consume()
    heard_of, unheard = log.other(LISTENERS="true"), log.other(LISTENERS="false")
    log.send((0, None, play(0, user="new", track="x")))
    assert "was counted with listeners False, this consumer has True" in heard_of.consume().stopped[0]
    assert command(heard_of, "rebuild").code == 0
    assert heard_of.consume().tallies == {"counted": 1}
    assert command(heard_of, "audit").code == 0
    assert log.store.listeners_of(0, [WEEK], "x") == {WEEK: 8}

    log.send((0, None, play(0, user="newer", track="x")))
    assert "was counted with listeners True, this consumer has False" in unheard.consume().stopped[0]
    assert command(unheard, "rebuild").code == 0
    assert not [name for name in log.keys() if name.startswith(("listeners:", "new:"))]


def test_listeners_are_a_setting_and_off_unless_they_are_asked_for() -> None:
    assert Settings.from_env({}).listeners is False
    assert Settings.from_env({"HITPARADE_LISTENERS": "true"}).listeners is True
