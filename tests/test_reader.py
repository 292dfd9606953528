"""Reading the counters: one look at the fences, and the rows of a week."""

import json
from datetime import datetime

import pytest
from redis import Redis

from features.fence import Fence
from features.parts import Bucket, CatalogueEntry, Part
from features.reader import CounterReader, Standing, WeekError, catalogue_of, catalogue_slices
from features.store import CounterStore
from features.weeks import Calendar, ChartWeek
from tests.builders import MONDAY, WEEK
from tests.stored import numbers


def week(name: str) -> ChartWeek:
    return Calendar().parse(name)


def fence(stream_time: datetime | None, **touched: int) -> Fence:
    """A fence with these weeks of 2023."""
    weeks = {"2023-" + name: offset for name, offset in touched.items()}
    return Fence(99, "id", stream_time, {}, {}, weeks, dict.fromkeys(weeks, "f"), dict.fromkeys(weeks, ("all", "odd")))


def standing(*fences: Fence, weeks_kept: int = 12) -> Standing:
    return Standing(dict(enumerate(fences)), Calendar(), weeks_kept)


def names(weeks: list[ChartWeek]) -> list[str]:
    return [each.name for each in weeks]


def test_the_newest_week_is_of_the_highest_stream_time_of_any_partition() -> None:
    found = standing(fence(MONDAY, W24=1), fence(MONDAY + 2 * WEEK, W26=1), fence(None))
    assert found.newest() == week("2023-W26")


@pytest.mark.parametrize("fences", [[], [fence(None)]])
def test_without_a_counted_event_there_is_no_week(fences: list[Fence]) -> None:
    with pytest.raises(WeekError, match="nothing has been counted yet"):
        standing(*fences).kept()


def test_kept_weeks_begin_with_the_first_counted_and_the_last_is_open() -> None:
    found = standing(fence(MONDAY, W24=1), fence(MONDAY + 3 * WEEK, W25=4, W27=5))
    assert names(found.kept()) == ["2023-W24", "2023-W25", "2023-W26", "2023-W27"]
    assert names(found.closed()) == ["2023-W24", "2023-W25", "2023-W26"]


def test_weeks_that_only_a_partition_behind_still_has_are_not_kept() -> None:
    found = standing(fence(MONDAY, W22=1, W24=3), fence(MONDAY + 3 * WEEK, W27=5), weeks_kept=3)
    assert names(found.kept()) == ["2023-W25", "2023-W26", "2023-W27"]


@pytest.mark.parametrize("name", ["2023-W23", "2023-W26"])
def test_a_week_that_is_not_kept_is_refused_with_those_that_are(name: str) -> None:
    found = standing(fence(MONDAY + WEEK, W24=1, W25=2))
    found.check_kept(week("2023-W24"))
    with pytest.raises(WeekError, match=f"week {name} is not counted: expected one of 2023-W24 to 2023-W25"):
        found.check_kept(week(name))


def test_a_stamp_names_the_last_touch_of_every_partition() -> None:
    found = standing(fence(MONDAY, W24=7, W23=3), fence(MONDAY, W24=9), fence(MONDAY, W23=8))
    assert found.stamp(week("2023-W24")) == {"id:0": "7", "id:1": "9"}
    assert found.touched(week("2023-W24")) == {0: 7, 1: 9}
    assert found.touched(week("2023-W22")) == {}


@pytest.fixture
def store(redis: Redis, prefix: str) -> CounterStore:
    store = CounterStore(redis, prefix, slices=3)
    for partition in (0, 1):
        store.init(partition, 0, "id", {})
    return store


def test_rows_are_sums_over_partitions_by_group_each_track_in_its_slice(store: CounterStore) -> None:
    """Whatever the order in which a partition has the groups; a group in which nothing was counted has no row."""
    for partition, plays in ((0, 1), (1, 2**32 - 1)):
        rows = {"all": [plays, 0, 1], "none": [0, 0, 0], "odd": [0, 1, 0]}
        groups = ("all", "odd") if partition else ("odd", "none", "all")
        counts = {
            "a": [n for group in groups for n in rows[group]],
            f"only {partition}": [n for group in groups for n in ([5, 6, 7] if group == "all" else [0, 0, 0])],
        }
        buckets = [Bucket(name, groups, "f", numbers(counts), 1) for name in ("2023-W23", "2023-W24")]
        store.apply(partition, "id", Part(0, 1, MONDAY, buckets=buckets))
    reader = CounterReader(store, [0, 1, 2], Calendar(), 12)
    tables = reader.slices(week("2023-W24"), reader.standing())
    slices = [[tuple(row.values()) for row in table.to_pylist()] for table in tables]
    assert [row for rows in slices for row in rows if row[0] == "a"] == [
        ("a", "all", 2**32, 0, 2),
        ("a", "odd", 0, 2, 0),
    ]
    assert sorted(row[0] for rows in slices for row in rows) == ["a", "a", "only 0", "only 1"]
    assert all(store.slice_of(row[0]) == slice_ for slice_, rows in enumerate(slices) for row in rows)
    assert all(rows == sorted(rows) for rows in slices)


def test_the_catalogue_is_the_newest_record_of_each_track_that_is_not_taken_down(store: CounterStore) -> None:
    def entry(track_id: str, timestamp: int, offset: int, name: str = "") -> CatalogueEntry:
        value = f'{{"id": "{track_id}", "name": "{name}"}}' if name else ""
        return CatalogueEntry(track_id, timestamp, offset, value)

    store.apply(0, "id", Part(0, 1, None, entries=[entry("a", 5, 1, "old"), entry("b", 9, 0), entry("c", 1, 1, "c")]))
    store.apply(1, "id", Part(0, 1, None, entries=[entry("a", 6, 0, "new"), entry("b", 8, 4, "b"), entry("d", 1, 2)]))
    slices = [[json.loads(track) for track in tracks] for tracks in catalogue_slices(store, [0, 1])]
    assert sorted((track["id"], track["name"]) for tracks in slices for track in tracks) == [("a", "new"), ("c", "c")]
    assert all(store.slice_of(track["id"]) == slice_ for slice_, tracks in enumerate(slices) for track in tracks)


def one_by_one(reader: CounterReader, track_id: str) -> list[tuple[object, ...]]:
    """What of_track promises, from every row of every week that is kept."""
    return [
        (kept.name, *row[1:])
        for kept in reader.standing().kept()
        for row in sorted(reader.at_one_instant(kept))
        if row[0] == track_id
    ]


def test_the_counts_of_one_track_are_those_that_all_rows_of_the_kept_weeks_have(store: CounterStore) -> None:
    """Whatever the order of a partition's groups; without weeks that only a partition behind still has."""
    for partition, groups in ((0, ("odd", "all")), (1, ("all", "odd"))):
        counts = {"a": [1 + partition, 2, 3, 0, 0, 0], "b": [0, 0, 0, 0, 0, 0], f"only {partition}": [5, 0, 0, 0, 1, 0]}
        names = ("2023-W22", "2023-W24") if partition == 0 else ("2023-W24", "2023-W25")
        buckets = [Bucket(name, groups, "f", numbers(counts), 1) for name in names]
        store.apply(partition, "id", Part(0, 1, MONDAY + partition * WEEK, buckets=buckets))
    reader = CounterReader(store, [0, 1, 2], Calendar(), weeks_kept=3)
    assert reader.of_track("a") == [
        ("2023-W24", "all", 2, 2, 3),
        ("2023-W24", "odd", 1, 2, 3),
        ("2023-W25", "all", 2, 2, 3),
    ]
    for track_id in ("a", "b", "only 0", "only 1", "nobody"):
        assert reader.of_track(track_id) == one_by_one(reader, track_id)


def test_a_track_has_no_counts_before_anything_is_counted(store: CounterStore) -> None:
    assert CounterReader(store, [0, 1], Calendar(), 12).of_track("a") == []
    assert CounterReader(store, [7], Calendar(), 12).of_track("a") == []


def test_tracks_looked_up_in_the_catalogue_are_as_all_of_its_slices_have_them(store: CounterStore) -> None:
    def entry(track_id: str, timestamp: int, offset: int, value: str) -> CatalogueEntry:
        return CatalogueEntry(track_id, timestamp, offset, value)

    store.apply(
        0, "id", Part(0, 1, None, entries=[entry("a", 5, 1, "old"), entry("b", 9, 0, ""), entry("c", 1, 1, "c")])
    )
    store.apply(
        1, "id", Part(0, 1, None, entries=[entry("a", 5, 2, "new"), entry("b", 8, 4, "b"), entry("é", 1, 2, "é")])
    )
    whole = [value for values in catalogue_slices(store, [0, 1]) for value in values]
    found = catalogue_of(store, [0, 1], ["é", "c", "b", "a", "nobody"])
    assert found == {"a": "new", "c": "c", "é": "é"}
    assert sorted(found.values()) == sorted(whole)
    assert catalogue_of(store, [0, 1], []) == {}


def test_what_a_partition_has_of_a_track_is_asked_for_by_name(store: CounterStore) -> None:
    bucket = Bucket("2023-W24", ("all",), "f", numbers({"a": [1, 2, 3], "b": [4, 5, 6]}), 1)
    entries = [CatalogueEntry("a", 5, 1, "{}"), CatalogueEntry("b", 6, 2, "")]
    store.apply(0, "id", Part(0, 1, MONDAY, buckets=[bucket], entries=entries))
    assert store.counts_of(0, ["2023-W23", "2023-W24"], "a") == {"2023-W24": (1, 2, 3)}
    assert store.counts_of(0, [], "a") == store.counts_of(1, ["2023-W24"], "a") == {}
    assert store.entries_of(0, ["b", "nobody", "a"]) == [entries[1], entries[0]]
