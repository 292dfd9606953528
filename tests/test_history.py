import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.history import History, HistoryError, counts_of
from tests.builders_history import track, weeks, write_catalogue, write_week

COLUMNS = ["week", "track_id", "group", "plays", "skips", "likes"]


def as_rows(history: History, names: list[str], slices: list[int] | None = None) -> list[tuple[object, ...]]:
    return list(history.read(names, slices).itertuples(index=False, name=None))


def test_what_is_written_is_read_sorted_by_week_track_and_group(tmp_path: Path) -> None:
    history = History(tmp_path)
    rows = [[("b", "treatment", 1, 0, 2), ("b", "control", 3, 1, 0)], [("a", "all", 5, 0, 0)]]
    history.write_week("2023-W02", map(counts_of, rows), {})
    history.write_week("2023-W01", map(counts_of, [[("a", "all", 2**40, 0, 0)], []]), {})
    frame = history.read(["2023-W02", "2023-W01"])
    assert list(frame.columns) == COLUMNS
    assert list(frame.itertuples(index=False, name=None)) == [
        ("2023-W01", "a", "all", 2**40, 0, 0),
        ("2023-W02", "a", "all", 5, 0, 0),
        ("2023-W02", "b", "control", 3, 1, 0),
        ("2023-W02", "b", "treatment", 1, 0, 2),
    ]


def test_ids_are_sorted_by_code_point_as_python_sorts_them(tmp_path: Path) -> None:
    ids = ["é", "a", "Z", "a\x00", "\U0001f600", "\uffff", "10", "9"]
    write_week(History(tmp_path), "2023-W01", dict.fromkeys(ids, 1), n_slices=1)
    assert History(tmp_path).read(["2023-W01"])["track_id"].to_list() == sorted(ids)


def test_a_week_without_a_file_has_no_rows_and_the_columns_keep_their_types(tmp_path: Path) -> None:
    history = History(tmp_path)
    write_week(history, "2023-W01", {"a": 1})
    assert as_rows(history, ["2023-W01", "2023-W09"]) == [("2023-W01", "a", "all", 1, 0, 0)]
    empty = history.read(["2023-W09"])
    assert (list(empty.columns), len(empty)) == (COLUMNS, 0)
    assert empty.dtypes.to_list() == history.read(["2023-W01"]).dtypes.to_list()
    assert len(History(tmp_path / "nowhere").catalogue()) == 0


def test_only_the_kinds_asked_for_are_read(tmp_path: Path) -> None:
    write_week(History(tmp_path), "2023-W01", {"a": (3, 2, 1)})
    frame = History(tmp_path).read(["2023-W01"], kinds=("plays",))
    assert list(frame.columns) == ["week", "track_id", "group", "plays"]


def test_weeks_are_those_with_a_file_oldest_first(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.weeks() == []
    for week in ("2023-W10", "2022-W52", "2023-W09"):
        write_week(history, week, {})
    (tmp_path / "weeks" / "notes.parquet").touch()
    assert history.weeks() == ["2022-W52", "2023-W09", "2023-W10"]


def test_the_catalogue_comes_back_by_id_with_what_is_missing_missing(tmp_path: Path) -> None:
    history = History(tmp_path)
    write_catalogue(history, [track("b", tempo=None, release_date=None), track("a", id_artist=7, name="Ä")])
    frame = history.catalogue()
    assert frame["id"].to_list() == ["a", "b"]
    assert frame["id_artist"].iloc[0] == "7"
    assert frame["name"].iloc[0] == "Ä"
    assert frame["tempo"].isna().to_list() == [False, True]
    assert frame["release_date"].isna().to_list() == [False, True]


def test_the_stamp_is_what_was_given_and_goes_with_the_file(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.stamp("2023-W01") is None
    assert history.catalogue_stamp() is None
    history.write_week("2023-W01", [], {"0:control": "17", "topic": "ä"})
    history.write_catalogue([], {"0": "4"})
    assert history.stamp("2023-W01") == {"0:control": "17", "topic": "ä"}
    assert history.catalogue_stamp() == {"0": "4"}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_counts_as_absent_until_it_is_read(tmp_path: Path, share: float) -> None:
    history = History(tmp_path)
    write_week(history, "2023-W01", {f"t{n}": n for n in range(100)})
    path = tmp_path / "weeks" / "2023-W01.parquet"
    os.truncate(path, int(path.stat().st_size * share))
    assert history.stamp("2023-W01") is None
    with pytest.raises(HistoryError, match=r"2023-W01\.parquet cannot be read .*delete it"):
        history.read(["2023-W01"])
    write_week(history, "2023-W01", {"a": 1})
    assert as_rows(history, ["2023-W01"]) == [("2023-W01", "a", "all", 1, 0, 0)]


def test_a_parquet_file_of_another_form_is_refused_with_both_forms(tmp_path: Path) -> None:
    history = History(tmp_path)
    write_catalogue(history, [track("a")])
    write_week(history, "2023-W01", {})
    (tmp_path / "catalogue.parquet").replace(tmp_path / "weeks" / "2023-W01.parquet")
    with pytest.raises(HistoryError, match=r"expected the columns .*'plays'.*found .*'tempo'"):
        history.read(["2023-W01"])


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def power_cut() -> Iterator[pa.Table]:
        yield counts_of([("b", "all", 9, 9, 9)])
        raise KeyboardInterrupt

    history = History(tmp_path)
    write_week(history, "2023-W01", {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        history.write_week("2023-W01", power_cut(), {})
    assert as_rows(history, ["2023-W01"]) == [("2023-W01", "a", "all", 1, 0, 0)]
    assert [path.name for path in (tmp_path / "weeks").iterdir()] == ["2023-W01.parquet"]


def test_a_slice_is_a_row_group_and_the_slices_of_all_files_hold_whole_tracks(tmp_path: Path) -> None:
    history = History(tmp_path)
    ids = [f"t{n}" for n in range(40)]
    write_catalogue(history, [track(i) for i in ids])
    for week in weeks(2):
        write_week(history, week, dict.fromkeys(ids, 1))
    assert history.n_slices() == 4
    assert pq.read_metadata(tmp_path / "weeks" / "2023-W01.parquet").num_row_groups == 4
    found = []
    for slice_ in range(4):
        tracks = history.catalogue([slice_])["id"].to_list()
        assert set(history.read(weeks(2), [slice_])["track_id"]) == set(tracks)
        found += tracks
    assert sorted(found) == sorted(ids)


def test_a_week_of_another_number_of_slices_is_sifted(tmp_path: Path) -> None:
    history = History(tmp_path)
    ids = [f"t{n}" for n in range(40)]
    write_catalogue(history, [track(i) for i in ids], n_slices=4)
    write_week(history, "2023-W01", dict.fromkeys(ids, 1), n_slices=16)
    for slice_ in range(4):
        expected = history.catalogue([slice_])["id"].to_list()
        assert history.read(["2023-W01"], [slice_])["track_id"].to_list() == expected


def test_the_number_of_slices_is_the_newest_weeks_where_there_is_no_catalogue(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.n_slices() == 1
    write_week(history, "2023-W01", {}, n_slices=8)
    write_week(history, "2023-W02", {}, n_slices=2)
    assert history.n_slices() == 2
