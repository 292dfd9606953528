"""What the service keeps of its topics, and the open week read slice by slice."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from redis import Redis

from features.parts import Bucket, CatalogueEntry, Part
from features.reader import CounterReader, WeekError
from features.store import CounterStore
from features.weeks import Calendar
from producers.playlists import Evaluation, Playlist, canonical
from service.judged import Judged
from service.lists import MOST_NEWS, MOST_REVISIONS, Lists
from service.live import N_PLACES, live_chart
from service.tracks import Catalogue
from tests.builders import MONDAY, WEEK
from tests.builders_history import track
from tests.serving import a_list
from tests.stored import numbers

NOW = datetime(2023, 6, 20, tzinfo=UTC)


def record(playlist: Playlist) -> bytes:
    return canonical(playlist.model_dump(mode="json"))


def taken(*playlists: Playlist) -> Lists:
    lists = Lists()
    for playlist in playlists:
        lists.take(record(playlist))
    return lists


def keys(playlists: list[Playlist]) -> list[str]:
    return [playlist.key for playlist in playlists]


def test_before_a_record_there_is_nothing() -> None:
    lists = Lists()
    assert (lists.weeks(), lists.latest(), lists.latest_of_each_group(), lists.of_week("2025-W12")) == ([], [], [], [])
    assert (lists.revisions("2025-W12", "control"), lists.n_published(), lists.since(0)) == ((), 0, [])


def test_weeks_and_groups_are_in_order_whatever_order_they_came_in() -> None:
    lists = taken(
        *(a_list("2025-W12", "x"), a_list("2025-W09", "y"), a_list("2025-W12", "a"), a_list("2024-W52", "z")),
    )
    assert lists.weeks() == ["2024-W52", "2025-W09", "2025-W12"]
    assert keys(lists.of_week("2025-W12")) == keys(lists.latest()) == ["2025-W12/a", "2025-W12/x"]
    assert keys(lists.latest_of_each_group()) == ["2025-W12/a", "2025-W12/x", "2025-W09/y", "2024-W52/z"]


def test_the_same_record_again_is_no_news() -> None:
    lists = taken(a_list(), a_list(), a_list())
    assert (lists.n_published(), len(lists.revisions("2025-W12", "control"))) == (1, 1)


def test_revisions_are_kept_oldest_first_and_the_last_stands() -> None:
    published = [a_list(ids=(f"t{n}",), revision=n) for n in range(1, MOST_REVISIONS + 3)]
    lists = taken(*published, a_list(group="other"))
    assert lists.revisions("2025-W12", "control") == tuple(published[-MOST_REVISIONS:])
    assert lists.of_week("2025-W12")[0] == published[-1]
    assert lists.n_published() == len(published) + 1


def test_what_was_taken_after_a_number_comes_with_its_number() -> None:
    first, second, third = a_list(ids=("a",)), a_list(ids=("b",), revision=2), a_list(group="treatment")
    lists = taken(first, first, second, third)
    assert lists.since(0) == [(1, first), (2, second), (3, third)]
    assert lists.since(2) == [(3, third)]
    assert lists.since(lists.n_published()) == lists.since(99) == []


def test_news_is_remembered_as_far_as_there_is_room() -> None:
    lists = taken(*(a_list(ids=(f"t{n}",), revision=n) for n in range(1, MOST_NEWS + 11)))
    assert [number for number, _ in lists.since(0)] == list(range(11, MOST_NEWS + 11))


def test_what_somebody_reads_does_not_change_under_him() -> None:
    lists = taken(a_list(ids=("a",)))
    seen, known = lists.revisions("2025-W12", "control"), lists._known
    lists.take(record(a_list(ids=("b",), revision=2)))
    assert len(seen) == len(known["2025-W12"]["control"]) == 1


@pytest.mark.parametrize("week", ["zzz", "2025-W99", "2025-W1"])
def test_a_list_of_a_week_that_is_none_is_refused(week: str) -> None:
    lists = Lists()
    record = a_list().model_copy(update={"week": week})
    with pytest.raises(ValueError, match=f"week '{week}'"):
        lists.take(canonical(record.model_dump(mode="json")))
    assert lists.weeks() == []


@pytest.mark.parametrize("value", [b"", b"{}", b"no JSON", b"[]", b'{"week": 1}'])
def test_what_is_no_record_is_refused_and_changes_nothing(value: bytes) -> None:
    lists, judged = taken(a_list()), Judged()
    for taking in (lists, judged):
        with pytest.raises(ValidationError):
            taking.take(value)
    assert (lists.n_published(), judged.all()) == (1, [])


def evaluation(week: str, group: str, exact: float) -> Evaluation:
    fields: dict[str, Any] = {"experiment": "e", "model": "m", "model_version": "1", "playlist_id": "", "revision": 1}
    return Evaluation(week=week, group=group, span_weeks=4, n_ranked=9, metrics={"e": exact}, naive={}, **fields)


def test_evaluations_are_the_last_of_each_week_and_group_in_order() -> None:
    judged = Judged()
    last = [evaluation("2025-W10", "a", 3), evaluation("2025-W10", "b", 2), evaluation("2025-W11", "a", 4)]
    for each in (evaluation("2025-W10", "a", 1), last[2], last[1], last[0], last[0]):
        judged.take(canonical(each.model_dump(mode="json")))
    assert judged.all() == last


# The open week

Counts = dict[str, list[int]]


def counted(
    redis: Redis, prefix: str, *partitions: Counts, names: dict[str, str] | None = None, slices: int = 3
) -> Any:
    """The chart of an open week that holds these counts of two groups, after one in which all was played more."""
    store, catalogue = CounterStore(redis, prefix, slices), CounterStore(redis, f"{prefix}.tracks", slices)
    for partition, counts in enumerate(partitions):
        store.init(partition, 0, "id", {})
        before = {track_id: [n + 7 for n in row] for track_id, row in counts.items()}
        buckets = [
            Bucket("2023-W24", ("a", "b"), "f", numbers(before), 1),
            Bucket("2023-W25", ("a", "b"), "f", numbers(counts), 2),
        ]
        store.apply(partition, "id", Part(0, 2, MONDAY + WEEK, buckets=buckets))
    catalogue.init(0, 0, "id", {})
    entries = [
        CatalogueEntry(track_id, 1, n, track(track_id, name=name).model_dump_json())
        for n, (track_id, name) in enumerate((names or {}).items())
    ]
    catalogue.apply(0, "id", Part(0, 1, None, entries=entries))
    reader = CounterReader(store, range(len(partitions)), Calendar(), 12)
    return live_chart(reader, reader.standing(), Catalogue(catalogue, [0]), NOW)


def by_plays(*partitions: Counts) -> list[tuple[str, int, int, int]]:
    """Every track of the week, the slow way."""
    sums: dict[str, Counter[str]] = {}
    for counts in partitions:
        for track_id, row in counts.items():
            for n, count in enumerate(row):
                sums.setdefault(track_id, Counter())[("plays", "skips", "likes")[n % 3]] += count
    found = [(i, n["plays"], n["skips"], n["likes"]) for i, n in sums.items() if n.total()]
    return sorted(found, key=lambda row: (-row[1], row[0]))


def test_the_open_week_is_the_sum_over_groups_and_partitions_with_names(redis: Redis, prefix: str) -> None:
    chart = counted(
        redis, prefix, {"x": [1, 0, 1, 2, 1, 0], "y": [3, 0, 0, 0, 0, 0]}, {"x": [1, 0, 0, 0, 0, 0]}, names={"x": "X"}
    )
    assert [(e.rank, e.track_id, e.name, e.plays, e.skips, e.likes) for e in chart.tracks] == [
        (1, "x", "X", 4, 1, 1),
        (2, "y", "", 3, 0, 0),
    ]
    assert (chart.week, chart.provisional, chart.n_tracks, chart.stream_time, chart.at) == (
        *("2023-W25", True, 2, MONDAY + WEEK, NOW),
    )


COUNT = st.integers(0, 3)
PARTITION = st.dictionaries(
    st.integers(0, 200).map("t{:03}".format),
    st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT).map(list),
    max_size=150,
)


def test_the_open_week_is_what_sorting_all_tracks_gives(redis: Redis, prefix: str) -> None:
    numbers = iter(range(10**6))

    @settings(deadline=None, max_examples=25)
    @given(PARTITION, PARTITION)
    def check(one: Counts, other: Counts) -> None:
        chart = counted(redis, f"{prefix}.{next(numbers)}", one, other)
        expected = by_plays(one, other)
        assert [(e.track_id, e.plays, e.skips, e.likes) for e in chart.tracks] == expected[:N_PLACES]
        assert chart.n_tracks == len(expected)
        assert [e.rank for e in chart.tracks] == list(range(1, len(chart.tracks) + 1))

    check()


def test_of_many_equal_tracks_the_first_by_id_are_in(redis: Redis, prefix: str) -> None:
    counts = {f"t{n:03}": [5, 0, 0, 0, 0, 0] for n in range(200)}
    assert [entry.track_id for entry in counted(redis, prefix, counts).tracks] == [f"t{n:03}" for n in range(50)]


def test_a_slice_may_hold_the_whole_top(redis: Redis, prefix: str) -> None:
    counts = {f"t{n:03}": [n, 0, 0, 0, 0, 0] for n in range(1, 201)}
    chart = counted(redis, prefix, counts, slices=1)
    assert [(entry.track_id, entry.plays) for entry in chart.tracks] == [(f"t{n:03}", n) for n in range(200, 150, -1)]


def test_nothing_counted_is_no_chart(redis: Redis, prefix: str) -> None:
    reader = CounterReader(CounterStore(redis, prefix, 3), [0], Calendar(), 12)
    with pytest.raises(WeekError, match="nothing has been counted yet"):
        live_chart(reader, reader.standing(), Catalogue(reader.store, [0]), NOW)
