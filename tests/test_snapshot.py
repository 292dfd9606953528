"""Counters and catalogue from a real Redis into history, each week as it stood at one instant."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from consumers.snapshot import MOST_READINGS, CutTimeout, Snapshot, WrongTopic
from features.connect import StoreUnavailable
from features.fence import Fence
from features.history import History, HistoryError
from features.parts import Bucket, CatalogueEntry, Part
from features.reader import CounterReader, WeekError
from features.store import CounterStore
from features.weeks import Calendar
from tests.builders_weekly import chart_week, entry, moment, part
from tests.stored import numbers

TOPIC_ID = "topic-1"
GROUPS = ("treatment", "control")
W20, W21, W22 = (chart_week(n) for n in (20, 21, 22))
Counts = Mapping[str, int]


class Restless(CounterStore):
    """A store in which something happens when it is read."""

    def __init__(self, client: Redis, topic: str) -> None:
        super().__init__(client, topic, 4)
        self.before_bucket: Callable[[str], None] = lambda week: None
        self.before_entries: Callable[[], None] = lambda: None
        self.before_freeze: Callable[[], None] = lambda: None
        self.n_buckets_read = 0

    def packed(self, partition: int, week: str, slice_: int, copies: str = "") -> dict[bytes, bytes]:
        self.n_buckets_read += 1
        self.before_bucket(week)
        return super().packed(partition, week, slice_, copies)

    def freeze(self, partition: int, weeks: Sequence[str], copies: str) -> Fence | None:
        self.before_freeze()
        return super().freeze(partition, weeks, copies)

    def entries(self, partition: int, slice_: int) -> list[CatalogueEntry]:
        self.before_entries()
        return super().entries(partition, slice_)


@dataclass
class Counted:
    """Two partitions of sessions and of tracks, counted by hand."""

    sessions: Restless
    tracks: Restless
    history: History
    weeks_kept: int = 12
    stream_time: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def snapshot(self) -> Snapshot:
        reader = CounterReader(self.sessions, (0, 1), Calendar(), self.weeks_kept)
        return Snapshot(reader, self.tracks, (0, 1), self.history)

    def count(self, week: int, counts: Counts, partition: int = 0, group: str = "control", horizon: str = "") -> None:
        """One record of plays in a week."""
        fence = self.sessions.init(partition, 0, TOPIC_ID, {})
        start, end = fence.next_offset, fence.next_offset + 1
        rows = {i: [n * (name == group) for name in GROUPS for n in (plays, 0, 0)] for i, plays in counts.items()}
        bucket = Bucket(chart_week(week).name, GROUPS, "f", numbers(rows), end)
        self.stream_time = max(self.stream_time, moment(week))
        self.sessions.apply(
            partition, TOPIC_ID, Part(start, end, self.stream_time, horizon, [bucket], since=fence.stream_time)
        )

    def enter(self, *entries: CatalogueEntry, partition: int = 0) -> None:
        start = self.tracks.init(partition, 0, TOPIC_ID, {}).next_offset
        self.tracks.apply(partition, TOPIC_ID, part(start, start + len(entries), entries=list(entries)))

    def plays(self, week: int) -> Counts:
        rows = self.history.read([chart_week(week).name])
        return dict(zip(rows["track_id"], rows["plays"].tolist(), strict=True))

    def catalogue(self) -> list[str]:
        return list(self.history.catalogue()["id"])


@pytest.fixture
def counted(redis: Redis, prefix: str, tmp_path: Path) -> Iterator[Counted]:
    stores = Restless(redis, f"{prefix}.sessions"), Restless(redis, f"{prefix}.tracks")
    yield Counted(*stores, History(tmp_path))
    for store in stores:
        for partition in (0, 1):
            store.drop(partition)


def written(folder: Path) -> dict[str, int]:
    """Which file stands there now; one that is replaced is another."""
    return {path.name: path.stat().st_ino for path in folder.rglob("*.parquet")}


def test_every_kept_week_up_to_the_wanted_one_is_written_summed_over_partitions(counted: Counted) -> None:
    counted.count(20, {"a": 1, "b": 2})
    counted.count(20, {"b": 40}, partition=1)
    counted.count(22, {"a": 5}, partition=1)
    counted.count(23, {"a": 6})
    counted.snapshot().bring_up_to_date(W22)
    assert counted.history.weeks() == ["2023-W20", "2023-W21", "2023-W22"]
    assert [counted.plays(week) for week in (20, 21, 22)] == [{"a": 1, "b": 42}, {}, {"a": 5}]


def test_the_rows_of_a_week_are_kept_by_group(counted: Counted) -> None:
    counted.count(20, {"a": 1}, group="treatment")
    counted.count(20, {"a": 2}, group="control")
    counted.snapshot().bring_up_to_date(W20)
    rows = counted.history.read(["2023-W20"])
    assert rows[["track_id", "group", "plays"]].to_numpy().tolist() == [["a", "control", 2], ["a", "treatment", 1]]


def test_only_weeks_whose_counts_have_changed_are_written_again(counted: Counted, tmp_path: Path) -> None:
    for week in (20, 21, 22):
        counted.count(week, {"a": week})
    counted.snapshot().bring_up_to_date(W21)
    before, counted.sessions.n_buckets_read = written(tmp_path), 0
    counted.snapshot().bring_up_to_date(W21)
    assert written(tmp_path) == before
    assert counted.sessions.n_buckets_read == 0

    counted.count(20, {"a": 1}, partition=1)
    counted.count(22, {"a": 1})
    counted.snapshot().bring_up_to_date(W21)
    after = written(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"2023-W20.parquet"}
    assert counted.plays(20) == {"a": 21}


def test_a_truncated_file_is_written_again_while_its_week_is_kept(counted: Counted, tmp_path: Path) -> None:
    counted.count(20, {"a": 1})
    counted.enter(entry("a", 0, 0))
    counted.snapshot().bring_up_to_date(W20)
    for path in tmp_path.rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-20])
    counted.snapshot().bring_up_to_date(W20)
    assert counted.plays(20) == {"a": 1}
    assert counted.catalogue() == ["a"]


def test_a_week_that_is_counted_on_while_it_is_read_is_read_again_and_never_torn(counted: Counted) -> None:
    every_slice = [f"t{n}" for n in range(30)]
    assert {counted.sessions.slice_of(track_id) for track_id in every_slice} == {0, 1, 2, 3}
    counted.count(20, dict.fromkeys(every_slice, 1))

    def count_on(week: str) -> None:
        if counted.sessions.n_buckets_read in (3, 5):
            counted.count(20, dict.fromkeys(every_slice, 10))

    counted.sessions.before_bucket = count_on
    standing = counted.snapshot().bring_up_to_date(W20)
    assert counted.plays(20) == dict.fromkeys(every_slice, 21)
    assert counted.history.stamp("2023-W20") == standing.stamp(W20) == {f"{TOPIC_ID}:0": "3"}


def test_a_week_that_never_stands_still_is_read_from_a_copy_of_one_instant(counted: Counted) -> None:
    every_slice = [f"t{n}" for n in range(30)]
    counted.count(20, dict.fromkeys(every_slice, 1))
    counted.count(20, dict.fromkeys(every_slice, 1), partition=1)
    counted.count(21, {"a": 1})
    times = iter(range(1000))

    def count_on(week: str) -> None:
        counted.count(20, dict.fromkeys(every_slice, 1), partition=next(times) % 2)
        counted.count(21, {"a": 1})

    counted.sessions.before_bucket = count_on
    standing = counted.snapshot().bring_up_to_date(W21)
    (plays,) = set(counted.plays(20).values())
    assert plays > 2 * MOST_READINGS
    first, second = max(standing.touched(W20)[0], standing.touched(W21)[0]), standing.touched(W20)[1]
    assert plays + counted.plays(21)["a"] == first + second  # every record up to there, and none after
    assert [counted.history.stamp(week.name) for week in (W20, W21)] == [standing.stamp(W20), standing.stamp(W21)]
    assert not list(counted.sessions.client.scan_iter(match=f"{{hp:{counted.sessions.topic}:*copy*"))


def test_a_week_that_changes_while_others_are_copied_is_copied_with_them_the_next_time(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    counted.count(21, {"a": 1})
    late = iter([{"a": 10}, {"a": 100}])

    def count_another_week() -> None:
        for counts in itertools.islice(late, 1):
            counted.count(21, counts)

    counted.sessions.before_bucket = lambda week: counted.count(20, {"a": 1})
    counted.sessions.before_freeze = count_another_week
    standing = counted.snapshot().bring_up_to_date(W21)
    assert counted.plays(21)["a"] == 111
    assert [counted.history.stamp(week.name) for week in (W20, W21)] == [standing.stamp(W20), standing.stamp(W21)]
    assert not list(counted.sessions.client.scan_iter(match=f"{{hp:{counted.sessions.topic}:*copy*"))


def test_a_copy_that_redis_has_lost_is_an_outage_and_leaves_nothing_torn(counted: Counted) -> None:
    counted.count(20, {"a": 1})

    def lose(week: str) -> None:
        copies = list(counted.sessions.client.scan_iter(match=f"{{hp:{counted.sessions.topic}:0}}:copy:*"))
        counted.sessions.client.delete(*copies) if copies else counted.count(20, {"a": 1})

    counted.sessions.before_bucket = lose
    with pytest.raises(StoreUnavailable, match="week 2023-W20: Redis has lost the copy"):
        counted.snapshot().bring_up_to_date(W20)
    assert counted.history.weeks() == []


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_file_broken_in_its_middle_is_written_again_while_its_week_is_kept(
    counted: Counted, tmp_path: Path, share: float
) -> None:
    counted.count(20, {f"t{n}": n + 1 for n in range(300)})
    counted.enter(*(entry(f"t{n}", 0, n) for n in range(300)))
    counted.snapshot().bring_up_to_date(W20)
    for path in tmp_path.rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        middle = int(len(content) * share)
        content[middle : middle + 40] = bytes(40)
        path.write_bytes(content)
    assert counted.history.stamp("2023-W20") is not None
    with pytest.raises(HistoryError, match="cannot be read"):
        counted.plays(20)
    counted.snapshot().bring_up_to_date(W20)
    assert counted.plays(20)["t299"] == 300
    assert len(counted.catalogue()) == 300


def test_all_weeks_stand_in_history_as_the_fences_had_them_at_one_instant(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    counted.count(21, {"a": 2})
    late = iter([{"a": 100}])

    def count_into_the_week_that_was_read_before(week: str) -> None:
        if week == "2023-W21" and (counts := next(late, None)):
            counted.count(20, counts)

    counted.sessions.before_bucket = count_into_the_week_that_was_read_before
    standing = counted.snapshot().bring_up_to_date(W21)
    assert counted.plays(20) == {"a": 101}
    assert standing.touched(W20) == {0: 3}


def test_a_week_that_falls_out_while_it_is_read_is_missing_in_history_and_not_empty(counted: Counted) -> None:
    counted.weeks_kept = 5
    counted.count(20, {"a": 1})
    counted.count(21, {"a": 2})

    def move_on(week: str) -> None:
        if week == "2023-W20":
            counted.sessions.before_bucket = lambda week: None
            counted.count(25, {"a": 1}, horizon="2023-W21")

    counted.sessions.before_bucket = move_on
    counted.snapshot().bring_up_to_date(W21)
    assert counted.history.weeks() == ["2023-W21"]
    assert counted.plays(21) == {"a": 2}


def test_a_week_that_is_not_counted_is_refused(counted: Counted) -> None:
    with pytest.raises(WeekError, match="nothing has been counted yet"):
        counted.snapshot().bring_up_to_date(W20)
    counted.count(21, {"a": 1})
    with pytest.raises(WeekError, match="week 2023-W20 is not counted: expected one of 2023-W21 to 2023-W21"):
        counted.snapshot().bring_up_to_date(W20)
    with pytest.raises(WeekError, match="week 2023-W22 is not counted"):
        counted.snapshot().bring_up_to_date(W22)
    assert counted.history.weeks() == []


def test_a_track_of_two_partitions_is_its_newest_record_and_one_taken_down_is_gone(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    old, new = '{"id":"moved","name":"old"}', '{"id":"moved","name":"new"}'
    counted.enter(entry("moved", 10, 0, old), entry("a", 10, 1), entry("back", 10, 2, ""))
    counted.enter(entry("moved", 20, 0, new), entry("a", 20, 1, ""), entry("stays", 20, 2, ""), partition=1)
    counted.enter(entry("back", 30, 3), entry("stays", 30, 4))
    counted.snapshot().bring_up_to_date(W20)
    catalogue = counted.history.catalogue()
    assert dict(zip(catalogue["id"], catalogue["name"], strict=True)) == {
        "moved": "new",
        "back": "Song back",
        "stays": "Song stays",
    }


def test_the_catalogue_is_written_again_only_when_its_topic_has_been_read_on(counted: Counted, tmp_path: Path) -> None:
    counted.count(20, {"a": 1})
    counted.enter(entry("a", 0, 0))
    counted.snapshot().bring_up_to_date(W20)
    before = written(tmp_path)
    counted.snapshot().bring_up_to_date(W20)
    assert written(tmp_path) == before
    counted.enter(entry("b", 0, 1))
    counted.snapshot().bring_up_to_date(W20)
    assert counted.catalogue() == ["a", "b"]


def test_a_catalogue_that_is_read_on_meanwhile_is_written_again_as_far_as_it_says(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    counted.enter(entry("a", 0, 0))

    def read_on() -> None:
        counted.tracks.before_entries = lambda: None
        counted.enter(entry("b", 0, 1))

    counted.tracks.before_entries = read_on
    snapshot = counted.snapshot()
    snapshot.bring_up_to_date(W20)
    assert counted.catalogue() == ["a", "b"]
    assert snapshot.catalogue_ends() == {0: 2}


def test_what_is_behind_a_cut_is_named_by_partition_with_want_and_have(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    topic = counted.sessions.topic
    passes = counted.snapshot().passes
    assert passes(counted.sessions, TOPIC_ID, {0: 1, 1: 0}) == []
    assert passes(counted.sessions, TOPIC_ID, {0: 2, 1: 3}) == [
        f"{topic} partition 0: want 2, have 1",
        f"{topic} partition 1: want 3, have 0",
    ]


def test_a_cut_that_is_never_reached_names_what_is_missing(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    cuts = [(counted.sessions, TOPIC_ID, {0: 5}), (counted.tracks, TOPIC_ID, {0: 0, 1: 2})]
    with pytest.raises(CutTimeout, match=r"after 0 s: \S+ partition 0: want 5, have 1; \S+ partition 1: want 2, have"):
        counted.snapshot().wait_for(cuts, 0, threading.Event())


def test_the_cut_is_waited_for_until_the_counters_pass_it(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    later = threading.Timer(0.15, counted.count, (20, {"a": 1}))
    later.start()
    counted.snapshot().wait_for([(counted.sessions, TOPIC_ID, {0: 2})], 10, threading.Event())
    assert not counted.snapshot().passes(counted.sessions, TOPIC_ID, {0: 2})
    later.join()


@pytest.mark.parametrize("end", [0, 1])
def test_counters_of_another_topic_than_the_cuts_are_refused_even_where_the_cut_is_empty(
    counted: Counted, end: int
) -> None:
    counted.count(20, {"a": 1})
    with pytest.raises(WrongTopic, match="with id topic-2, Redis counts id topic-1"):
        counted.snapshot().wait_for([(counted.sessions, "topic-2", {0: end})], 0, threading.Event())


def test_partitions_that_a_topic_was_given_since_are_read_too(counted: Counted) -> None:
    counted.count(20, {"a": 1})
    counted.count(20, {"a": 30}, partition=2)
    counted.enter(entry("a", 0, 0), partition=2)
    counted.snapshot().over({"sessions": {0: 1, 1: 0, 2: 1}, "tracks": {0: 0, 2: 1}}).bring_up_to_date(W20)
    assert counted.plays(20) == {"a": 31}
    assert counted.catalogue() == ["a"]
    counted.sessions.drop(2)
    counted.tracks.drop(2)
