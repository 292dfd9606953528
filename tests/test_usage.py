"""What each listener did, from the log: as counting decides it, week by week, and no week that is not whole."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaAdminClient, TopicPartition

import consumers.spills
from consumers.recount import Recount
from consumers.source import Batch
from consumers.spills import Lists, UserSums, merged, slice_of
from consumers.usage import NO_WEEK, ExtractionError
from features.history import counts_of
from features.mapping_file import parse_mapping
from features.reader import WeekError
from features.rules import Rules
from features.runners import in_processes
from features.weeks import Calendar, ChartWeek
from hitparade import wiring
from models.usage import SLICES, USAGE
from producers.files import read_lines
from producers.kafka import CLIENT
from producers.playlists import Entry, Playlist
from producers.publisher import Publisher
from producers.sessions import in_event_time
from tests.builders import MONDAY, Record, array, log_of, play, rules
from tests.builders_counting import PARTITIONS, Counted, counted_on
from tests.builders_plain import any_log
from tests.faults.known import TRACKS
from tests.faults.truth import group_of as group_in
from tests.faults.truth import read_back
from tests.oracle import Chart, Totals, recount
from tests.test_duplicates import event as with_id
from tests.test_exposures import seen

LISTED: Lists = {"even": frozenset({"a", "5", "\u00fc"}), "odd": frozenset({"b", "5"})}
LISTENERS = ["u", "v", "uu", "vv", "7"]
SUMS = USAGE.names[2:8]
Row = tuple[Any, ...]


class Anywhere(dict[str, Lists]):
    """The same lists in every week."""

    def __contains__(self, week: object) -> bool:
        return True

    def __missing__(self, week: str) -> Lists:
        return LISTED


def slowly(
    totals: Iterable[Totals], lists: Mapping[str, Lists], group_of: Any, zone: tzinfo = UTC
) -> dict[str, list[Row]]:
    """The rows of every week, event by event, from the oracle's verdicts."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 6)
    days, exposed = defaultdict(set), set()
    for total in totals:
        for week, (instant, user, track, kind) in total.events:
            sums[week, user][kind] += 1
            sums[week, user][3 + kind] += track in lists[week].get(group_of(week, user), ())
            days[week, user].add(instant.astimezone(zone).date())
        for week, exposure in total.exposures:
            if exposure.week == week:
                sums[week, exposure.user]
            if (exposure.week, exposure.group) == (week, group_of(week, exposure.user)):
                exposed.add((week, exposure.user))
    rows = defaultdict(list)
    for week, user in sorted(sums):
        found = sums[week, user], len(days[week, user]), (week, user) in exposed
        rows[week].append((user, group_of(week, user), *found[0], *found[1:]))
    return dict(rows)


def even_or_odd(week: str, user: str) -> str:
    return "even" if len(user) % 2 == 0 else "odd"


def spilled(
    log: Sequence[Record], folder: Path, of: Rules, most_users: int = 10**6, borders: Sequence[int] = ()
) -> None:
    """Have a log's use spilled into a folder."""
    sums = UserSums(folder, "0", of.calendar, Anywhere(), most_users)
    counting = Recount(of, 0, len, NO_WEEK, sums)
    ends = [*sorted({border for border in borders if 0 < border <= log[-1].offset}), log[-1].offset + 1]
    for start, end in zip([0, *ends], ends, strict=False):
        counting.add(Batch(0, start, end, [record for record in log if start <= record.offset < end]))
        assert sum(len(rows) for rows in sums._rows.values()) == sums._n_rows <= most_users
    sums.spill()


def slices_of(path: Path) -> list[pa.Table]:
    """The rows of a week's file, slice by slice."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return [file.read_row_group(n) for n in range(file.num_row_groups)]


def rows_of(tables: Iterable[pa.Table]) -> list[Row]:
    """The rows of a week's slices, by user; each in the slice of its user, and sorted there."""
    found = [list(zip(*(column.to_pylist() for column in table.columns), strict=True)) for table in tables]
    assert len(found) == SLICES
    for n, rows in enumerate(found):
        assert {crc32(row[0].encode()) % 16 for row in rows} <= {n}
        assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    return sorted(row for rows in found for row in rows)


WHERE = st.sampled_from([(UTC, Calendar()), (ZoneInfo("Europe/Berlin"), Calendar(0, ZoneInfo("Europe/Berlin")))])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**64),
    WHERE,
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([3, 12]),
)
def test_rows_are_those_of_a_slow_recount_however_often_they_are_spilled(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    where: tuple[tzinfo, Calendar],
    borders: list[int],
    most_users: int,
    weeks_kept: int,
) -> None:
    """Event by event, or runs together; with what is late, dead, ignored, and seen."""
    folder, log, (zone, calendar) = tmp_path_factory.mktemp("spills"), any_log(random.Random(seed)), where
    of = rules(weeks_kept=weeks_kept, exposures=True, calendar=calendar)
    spilled(log, folder, of, most_users, borders)
    chart = Chart(calendar.first_weekday, calendar.zone)
    expected = slowly([recount(log, weeks_kept, chart=chart, exposures=True)], Anywhere(), even_or_odd, zone)
    assert {path.name for path in folder.iterdir()} == set(expected)
    for week, rows in expected.items():
        assert rows_of(merged(folder, week, most_users)) == rows


def test_no_more_listeners_are_held_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 listeners and 12,000 rows of parts, 50 while reading; while merging, those of a slice and 50 more."""
    n_users, most_users, held = 2000, 50, list[int]()
    chance = random.Random(7)
    users = [str(n) for n in range(n_users)] * 6
    chance.shuffle(users)
    log = log_of([play(chance.random(), user=user) for user in users])
    spilled(log, tmp_path, rules(), most_users, range(0, len(log), 10))
    n_rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "2023-W24").iterdir())
    assert n_rows > 5 * n_users

    summed = consumers.spills._summed

    def noting(tables: Sequence[pa.Table]) -> pa.Table:
        held.append(sum(map(len, tables)))
        return summed(tables)

    monkeypatch.setattr(consumers.spills, "_summed", noting)
    rows = rows_of(merged(tmp_path, "2023-W24", most_users))
    assert [(row[0], sum(row[2:5])) for row in rows] == [(user, 6) for user in sorted(set(users))]
    largest = max(sum(slice_of(user) == n for user in set(users)) for n in range(SLICES))
    assert max(held) <= largest + 2 * most_users, "and the rows of one file"


def test_an_exposure_alone_is_a_row_of_zeros_and_one_of_another_list_marks_nobody(tmp_path: Path) -> None:
    log = log_of(
        [
            array(seen(0, "u"), seen(0.5, "u"), seen(0, "uu", group="odd"), seen(1, "v"), play(0, user="w")),
            seen(1, "x", week="2023-W25", group="odd"),
        ]
    )
    spilled(log, tmp_path, rules(exposures=True))
    nothing = [0] * 7
    assert rows_of(merged(tmp_path, "2023-W24")) == [
        ("u", "odd", *nothing, True),
        ("uu", "even", *nothing, False),
        ("w", "odd", 1, 0, 0, 0, 0, 0, 1, False),
    ]
    assert rows_of(merged(tmp_path, "2023-W25")) == [("x", "odd", *nothing, True)]


def test_days_are_those_of_the_charts_zone(tmp_path: Path) -> None:
    """A week of 169 hours in Berlin: an hour that comes twice is one day; the first and the last instant are in it."""
    berlin = ZoneInfo("Europe/Berlin")
    times = ["2023-10-22T22:00:00", "2023-10-23T21:59:59", "2023-10-23T22:00:00", "2023-10-29T00:30:00"]
    times += ["2023-10-29T01:30:00", "2023-10-29T22:59:59.999999"]
    log = log_of([play().replace(MONDAY.isoformat().encode(), f"{time}Z".encode()) for time in times])
    spilled(log, tmp_path, rules(calendar=Calendar(0, berlin)))
    assert [path.name for path in tmp_path.iterdir()] == ["2023-W43"]
    assert rows_of(merged(tmp_path, "2023-W43")) == [("u", "odd", 6, 0, 0, 0, 0, 0, 3, False)]


# From a real broker

SALT = "hitparade-1"


def usage_of(counted: Counted, **changes: Any) -> Any:
    return replace(wiring.usage(counted.settings), **changes)


def closed_weeks(counted: Counted) -> list[ChartWeek]:
    return wiring.counter_reader(counted.settings).standing().closed()


def published(counted: Counted, week: str, group: str, *tracks: str, revision: int = 1) -> None:
    entries = tuple(Entry(rank=n, track_id=t, name=t, score=1.0, plays=(0, 0, 0, 0)) for n, t in enumerate(tracks, 1))
    fields: dict[str, Any] = {"experiment": "e", "model": "naive", "model_version": "1", "fallback": None, "cut": {}}
    listed = Playlist(week=week, closed_week="", group=group, revision=revision, tracks=entries, **fields)
    listed = listed.model_copy(update={"id": listed.content_id()})
    publisher = Publisher(counted.settings.kafka)
    publisher.publish([listed.message(counted.settings.topics.playlists)])
    publisher.close()


def counters_of(counted: Counted, week: ChartWeek) -> dict[str, list[int]]:
    """Plays, skips and likes of each group, as Redis has them."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for _, group, *counts in wiring.counter_reader(counted.settings).at_one_instant(week):
        sums[group] = [a + b for a, b in zip(sums[group], counts, strict=True)]
    return dict(sums)


def check(counted: Counted, files: Mapping[str, Path], lists: Mapping[str, Lists], halves_: Mapping[str, float]) -> int:
    """Each file is the slow recount's, and its sums are the counters; return how many rows there are."""
    of, n_rows = wiring.rules(counted.settings), 0
    logs = read_back(counted.settings.kafka["bootstrap_servers"][0], counted.topic)
    assigned = partial(group_in, SALT, halves_)
    totals = [
        recount(
            log,
            of.weeks_kept,
            group_of=assigned,
            topic=of.topic,
            duplicate_hours=of.duplicate_hours,
            exposures=of.exposures,
            plays_cap=of.plays_cap,
        )
        for log in logs.values()
    ]
    expected = slowly(totals, defaultdict(dict, lists), lambda week, user: assigned(user))
    for week, path in files.items():
        rows = rows_of(slices_of(path))
        assert rows == expected[week]
        n_rows += len(rows)
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in rows:
            sums[row[1]] = [a + b for a, b in zip(sums[row[1]], row[2:5], strict=True)]
        counters = counters_of(counted, Calendar().parse(week))
        assert {group: found for group, found in sums.items() if any(found)} == counters
    return n_rows


HALVES = {"control": 0.5, "treatment": 0.5}


def test_of_a_real_log_with_dirt_the_sums_over_listeners_are_the_counters(log: Counted) -> None:
    log = log.other(EXPOSURES="true", DUPLICATE_HOURS="24", PLAYS_CAP="20")
    log.fill(700)
    weeks = ("2023-W23", "2023-W24")
    exposures = [
        seen(week, n, week=name, group=group)
        for n in range(60)
        for group in HALVES
        for week, name in [(0.5, "2023-W24"), (-0.5, "2023-W23"), (-0.5, "2023-W24")]
    ]
    log.send((0, None, array(*exposures[::2])), (1, None, array(*exposures[1::2])))
    twice = [with_id(n % 40, 0.5, user_id=f"twice{n % 3}") for n in range(90)]
    log.send((0, None, array(*twice[:50])), *((0, None, event) for event in twice[50:]))
    log.send((0, None, array(*[play(0.5, track="x", user="bot")] * 30)))
    lists = {week: {"control": frozenset(TRACKS[:9]), "treatment": frozenset(TRACKS[3:30])} for week in weeks}
    for week, groups in lists.items():
        for group, tracks in groups.items():
            published(log, week, group, "old")
            published(log, week, group, *sorted(tracks), revision=2)
    log.consume()
    tallies = log.store.fences([0])[0].tallies
    assert (tallies["duplicate"], tallies["capped"]) == (50, 10)
    with pytest.raises(ExtractionError, match="counted with plays_cap 20, the settings have 0"):
        usage_of(log.other(PLAYS_CAP="0")).extract(closed_weeks(log))
    closed = closed_weeks(log)
    assert len(closed) == 5
    found = usage_of(log).extract(closed)
    assert (set(found.files), found.notes) == ({week.name for week in closed}, {})
    assert check(log, found.files, lists, HALVES) > 300
    rows = rows_of(slices_of(found.files["2023-W24"]))
    assert sum(row[-1] for row in rows) > 20
    assert sum(row[5] for row in rows) > 10


@pytest.mark.parametrize("name", ["sessions.jsonl", "sessions_dirty.jsonl"])
def test_of_the_fields_own_sessions_the_sums_over_listeners_are_the_counters(
    name: str, counted_year: Counted, listening_data: Path
) -> None:
    log = counted_year
    events = in_event_time(line for _, line in read_lines(listening_data / "sessions" / name))
    arrays = [array(*events[n : n + 50]) for n in range(0, len(events), 50)]
    log.send(*((n % PARTITIONS, None, value) for n, value in enumerate(arrays)))
    log.consume()
    closed = closed_weeks(log)
    found = usage_of(log, most_users=300).extract(closed)
    assert (set(found.files), found.notes) == ({week.name for week in closed}, {})
    assert check(log, found.files, {}, HALVES) > 1000
    plays = sum(sum(counts[0] for counts in counters_of(log, week).values()) for week in closed)
    assert plays == sum(row[2] for path in found.files.values() for row in rows_of(slices_of(path))) > 8000


@pytest.fixture
def counted_year(counted: Counted) -> Counted:
    """The embedded stack, with a topic of its own where weeks are kept for longer than a year."""
    settings = counted.settings
    return counted_on(
        *(settings.kafka["bootstrap_servers"][0], counted.redis, settings.redis_url.get_secret_value()),
        *(f"{settings.topic_prefix}y", settings.data_dir / "year"),
        WEEKS_KEPT="70",
        USAGE_WEEKS="70",
    )


def test_processes_make_the_files_that_one_makes(counted: Counted, tmp_path: Path) -> None:
    closed, told = closed_weeks(counted), list[int]()
    alone = usage_of(counted, folder=tmp_path / "one").extract(closed, told.append)
    shared = usage_of(counted, folder=tmp_path / "two", runner=in_processes(2)).extract(closed)
    assert alone.files.keys() == shared.files.keys()
    for week, path in alone.files.items():
        assert pq.read_table(path) == pq.read_table(shared.files[week])
    assert sum(told) == sum(fence.next_offset for fence in counted.store.fences(range(PARTITIONS)).values())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"{week}.parquet" for week in closed]


def inodes(files: Mapping[str, Path]) -> dict[str, int]:
    return {week: path.stat().st_ino for week, path in files.items()}


def test_a_file_is_made_anew_only_where_its_week_has_moved(counted: Counted) -> None:
    """By an event in it, by another list; not by what comes in other weeks."""
    usage, closed = usage_of(counted), closed_weeks(counted)
    before = inodes(usage.extract(closed).files)
    assert inodes(usage.extract(closed).files) == before
    late_in = "2023-W23"
    counted.send((0, None, play(-1, track="new")), (0, None, play(1.9)))
    counted.count()
    after = inodes(usage_of(counted).extract(closed).files)
    assert {week for week in before if after[week] != before[week]} == {late_in}
    published(counted, "2023-W24", "control", "track001")
    listed = inodes(usage_of(counted).extract(closed).files)
    assert {week for week in before if listed[week] != after[week]} == {"2023-W24"}


def test_where_exposures_are_told_of_one_more_makes_the_files_anew(counted: Counted) -> None:
    told = counted.other(EXPOSURES="true")
    closed = closed_weeks(told)
    before = usage_of(counted).extract(closed).files
    kept = inodes(usage_of(told).extract(closed).files)
    assert all(kept[week] != 0 for week in before)
    assert inodes(usage_of(told).extract(closed).files) == kept
    told.send((1, None, seen(0.2, "9", group="control")))
    told.count()
    assert inodes(usage_of(told).extract(closed).files) != kept


def test_under_another_mapping_every_file_is_made_anew(counted: Counted) -> None:
    usage, closed = usage_of(counted), closed_weeks(counted)
    before = inodes(usage.extract(closed).files)
    mapping = parse_mapping('[event_types]\nstarted = "play"')
    mapped = replace(usage, rules=replace(usage.rules, mapping=mapping))
    after = inodes(mapped.extract(closed).files)
    assert {week for week in before if after[week] != before[week]} == before.keys()
    assert inodes(mapped.extract(closed).files) == after


def test_the_open_week_is_not_extracted(counted: Counted) -> None:
    *_, last = closed_weeks(counted)
    found = usage_of(counted).extract([last, last.after(), last.after(2)])
    assert list(found.files) == [last.name]
    assert found.notes == {week.name: f"week {week} is still open" for week in (last.after(), last.after(2))}


def test_a_week_that_has_fallen_out_of_redis_is_still_extracted_and_then_stays(counted: Counted) -> None:
    """Whatever comes: all of it would be late."""
    counted = counted.other(EXPOSURES="true")
    first = Calendar().parse("2023-W18")
    assert first not in wiring.counter_reader(counted.settings).standing().kept()
    files = usage_of(counted).extract([first]).files
    assert rows_of(slices_of(files["2023-W18"]))
    before = inodes(files)
    counted.send((0, None, play(0.9)), (1, None, play(0.9)), (1, None, seen(0.9)))
    counted.count()
    assert inodes(usage_of(counted).extract([first]).files) == before


def delete_before(counted: Counted, offset: int) -> None:
    with KafkaAdminClient(**CLIENT, **counted.settings.kafka) as admin:
        admin.delete_records({TopicPartition(counted.topic, 0): offset})


def test_a_week_that_the_log_has_lost_a_part_of_is_said_and_not_counted_as_less(apache_log: Counted) -> None:
    log = apache_log
    log.send(*[(0, None, play(week, user=f"u{n}")) for week in (0, 1, 2, 3) for n in range(5)], (1, None, play(3)))
    log.count()
    w24, w25, w26 = closed_weeks(log)
    usage_of(log).extract([w24])
    delete_before(log, 7)
    found = usage_of(log).extract([w24, w25, w26])
    assert set(found.files) == {"2023-W24", "2023-W26"}
    assert len(rows_of(slices_of(found.files["2023-W24"]))) == 5
    assert found.notes.keys() == {"2023-W25"}
    says = found.notes["2023-W25"]
    assert says.startswith("week 2023-W25: the log holds ")
    assert says.endswith("; the log has lost its first 7 offsets; it is left out")

    log.send((0, None, play(0, user="u9")))
    log.count()
    found = usage_of(log).extract([w24])
    assert len(rows_of(slices_of(found.files["2023-W24"]))) == 5
    assert found.notes["2023-W24"].endswith("offsets; what was extracted before is used")
    published(log, "2023-W24", "control", "a")
    found = usage_of(log).extract([w24])
    assert found.files == {}
    assert found.notes["2023-W24"].endswith("it is left out")
    assert not usage_of(log).path(w24).exists(), "a file that means something else is read by nobody"


def test_of_a_week_that_nobody_else_knows_a_cut_log_is_not_believed(apache_log: Counted) -> None:
    log = apache_log
    log.send(*[(0, None, play(week, user=f"u{n}")) for week in (0, 1, 9) for n in range(5)], (1, None, play(9)))
    log.count()
    w24, w25 = Calendar().parse("2023-W24"), Calendar().parse("2023-W25")
    assert set(usage_of(log, folder=log.settings.data_dir / "whole").extract([w24, w25]).files) == {
        "2023-W24",
        "2023-W25",
    }
    delete_before(log, 2)
    found = usage_of(log).extract([w24, w25])
    assert found.files == {}
    unknown = "neither Redis nor the history knows how much of it was counted; the log has lost its first 2 offsets"
    assert found.notes == {week: f"week {week}: {unknown}; it is left out" for week in ("2023-W24", "2023-W25")}
    wiring.history(log.settings).write_week("2023-W25", [counts(5)], {})
    wiring.history(log.settings).write_week("2023-W24", [counts(5)], {})
    found = usage_of(log).extract([w24, w25])
    assert set(found.files) == {"2023-W25"}
    assert "the log holds" in found.notes["2023-W24"]


def counts(n_plays: int) -> pa.Table:
    """A history of one track, of the listeners of play() in their groups."""
    groups = Counter(group_in(SALT, HALVES, f"u{n}") for n in range(n_plays))
    return counts_of([("a", group, n, 0, 0) for group, n in sorted(groups.items())])


def test_counters_of_another_log_or_of_other_settings_are_refused(counted: Counted, tmp_path: Path) -> None:
    closed = closed_weeks(counted)
    other = usage_of(counted, topic=replace(usage_of(counted).topic, topic_id="another"))
    with pytest.raises(ExtractionError, match="Kafka has another: the topic was created anew"):
        other.extract(closed)
    with pytest.raises(ExtractionError, match="counted with first_day monday, the settings have friday"):
        usage_of(counted.other(WEEK_START="friday")).extract(closed)
    (tmp_path / "e.toml").write_text(
        '[[experiment]]\nname = "x"\nsalt = "y"\ngroups.a = { weight = 1, model = "naive" }'
    )
    with pytest.raises(ExtractionError, match="counted under experiment"):
        usage_of(counted.other(EXPERIMENT_FILE=str(tmp_path / "e.toml"))).extract(closed)


def test_before_anything_is_counted_there_is_nothing_to_extract(log: Counted) -> None:
    with pytest.raises(WeekError, match="nothing has been counted yet"):
        usage_of(log).extract([Calendar().parse("2023-W24")])


def test_a_week_before_anything_was_counted_is_left_out(counted: Counted) -> None:
    found = usage_of(counted).extract([Calendar().parse("2023-W01")])
    why = "nothing of it was ever counted, as far as is known; it is left out"
    assert (found.files, found.notes) == ({}, {"2023-W01": f"week 2023-W01: {why}"})


def test_what_is_not_counted_yet_is_said(counted: Counted) -> None:
    closed = closed_weeks(counted)
    assert usage_of(counted).extract(closed).n_waiting == 0
    counted.send((0, None, play(-1)), (1, None, play(-1)), (1, None, play(-1)))
    assert usage_of(counted).extract(closed).n_waiting == 3


def test_a_week_of_which_the_log_has_less_than_redis_is_left_out(counted: Counted) -> None:
    week, group, *_ = counted.change(2)
    found = usage_of(counted).extract(closed_weeks(counted))
    assert week not in found.files
    held = sum(counts[0] for name, counts in counters_of(counted, Calendar().parse(week)).items() if name == group)
    assert found.notes == {
        week: f"week {week}: the log holds {held - 2} plays of group {group}, {held} were counted; it is left out"
    }


def test_a_file_that_is_broken_is_made_anew(counted: Counted) -> None:
    closed = closed_weeks(counted)
    path = usage_of(counted).extract(closed).files["2023-W24"]
    right = pq.read_table(path)
    path.write_bytes(b"PAR1")
    assert pq.read_table(usage_of(counted).extract(closed).files["2023-W24"]) == right
