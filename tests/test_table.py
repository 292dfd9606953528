import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns import tracks_table
from features.context import past_weeks
from features.counts import summed
from features.history import History, counts_of
from features.table import FEATURES, build, tables
from tests.builders_history import track, weeks, write_catalogue, write_week

PLAYS, LIKES, SKIPS = 15, 16, 17


def four_weeks(tmp_path: Path) -> History:
    history = History(tmp_path)
    write_catalogue(history, [track("b", tempo=None), track("c", release_date="1929")])
    write_week(history, "2023-W01", {"a": (4, 3, 2)})
    write_week(history, "2023-W03", {"b": (2**40 + 1, 1, 0)})
    write_week(history, "2023-W05", {"z": 9})
    return history


def test_the_columns_are_the_eighteen_features_in_their_order() -> None:
    assert len(FEATURES) == 18
    assert FEATURES[:2] == ("popularity", "duration_ms")
    assert FEATURES[12:] == ("tempo", "release_date_year", "release_date_week", "plays", "likes", "skips")


def test_the_table_holds_the_tracks_of_the_catalogue_and_those_with_counts(tmp_path: Path) -> None:
    (table,) = tables(four_weeks(tmp_path), weeks(4))
    assert table.track_ids.tolist() == ["a", "b", "c"]
    assert table.names.tolist() == ["", "Song b", "Song c"]
    assert table.listed.tolist() == [False, True, True]
    assert table.features.shape == (3, 4, 18)
    assert table.features.dtype == np.float32


def test_counts_are_exact_where_float32_is_not(tmp_path: Path) -> None:
    (table,) = tables(four_weeks(tmp_path), weeks(4))
    assert table.counts.dtype == np.int64
    assert table.counts[0].tolist() == [[4, 3, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert table.counts[1, 2].tolist() == [2**40 + 1, 1, 0]
    assert table.features[0, 0, [PLAYS, LIKES, SKIPS]].tolist() == [4, 2, 3]


def test_what_is_not_known_is_missing_and_what_was_not_played_is_zero(tmp_path: Path) -> None:
    (table,) = tables(four_weeks(tmp_path), weeks(4))
    stranger, without_tempo, old = table.features
    assert np.isnan(stranger[:, :PLAYS]).all()
    assert np.isnan(without_tempo).sum() == 4
    assert np.isnan(without_tempo[:, FEATURES.index("tempo")]).all()
    assert without_tempo[0, 13:15].tolist() == [2019, 27]
    assert old[3, 13] == 1929
    assert np.isnan(old[:, 14]).all()
    assert old[:, PLAYS:].tolist() == [[0, 0, 0]] * 4


def test_a_missing_release_date_is_not_anothers(tmp_path: Path) -> None:
    write_catalogue(History(tmp_path), [track("a", release_date="2019-07-05"), track("b", release_date=None)])
    (table,) = tables(History(tmp_path), weeks(4))
    assert table.features[:, 0, 13].tolist() == pytest.approx([2019, np.nan], nan_ok=True)


def test_groups_are_summed(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.write_week("2023-W02", [counts_of([("a", "control", 1, 0, 5), ("a", "treatment", 2, 3, 0)])], {})
    (table,) = tables(history, weeks(4))
    assert table.counts[0, 1].tolist() == [3, 3, 5]


def test_a_week_after_the_last_changes_nothing(tmp_path: Path) -> None:
    (table,) = tables(four_weeks(tmp_path), weeks(4))
    assert "z" not in table.track_ids
    assert table.counts.sum() == 4 + 3 + 2 + 2**40 + 1 + 1


def test_an_empty_history_is_an_empty_table(tmp_path: Path) -> None:
    (table,) = tables(History(tmp_path), weeks(4))
    assert (table.features.shape, table.counts.shape) == ((0, 4, 18), (0, 4, 3))


def test_a_feature_beyond_float32_is_its_bound(tmp_path: Path) -> None:
    write_catalogue(History(tmp_path), [track("a", duration_ms=1e300)])
    (table,) = tables(History(tmp_path), weeks(4))
    assert table.features[0, 0, 1] == np.finfo(np.float32).max


@pytest.mark.parametrize("names", [weeks(3), weeks(5), weeks(4)[::-1], ["2023-W01"] * 4])
def test_anything_but_four_weeks_oldest_first_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="expected 4 weeks in a row, oldest first, found"):
        next(tables(four_weeks(tmp_path), names))


@pytest.mark.parametrize("names", [weeks(11), weeks(13), weeks(12)[::-1], weeks(4)])
def test_anything_but_the_counts_of_twelve_weeks_oldest_first_is_refused(tmp_path: Path, names: list[str]) -> None:
    history = four_weeks(tmp_path)
    with pytest.raises(ValueError, match="expected 12 weeks in a row, oldest first, found"):
        build(history.counts(names), history.tracks())


@pytest.mark.parametrize("rows_at_once", [1, 30, 10_000])
def test_tables_of_some_slices_hold_each_track_once_with_the_same_numbers(tmp_path: Path, rows_at_once: int) -> None:
    history = History(tmp_path)
    ids = [f"t{n}" for n in range(50)]
    write_catalogue(history, [track(i, energy=n) for n, i in enumerate(ids[:40])], n_slices=8)
    for week in weeks(4):
        write_week(history, week, {i: n for n, i in enumerate(ids[20:])}, n_slices=8)
    whole = build(history.counts(past_weeks(weeks(4)[-1])), history.tracks())
    parts = list(tables(history, weeks(4), rows_at_once))
    assert len(parts) == {1: 8, 30: 8, 10_000: 1}[rows_at_once]
    order = np.argsort(np.concatenate([part.track_ids for part in parts]))
    assert np.concatenate([part.track_ids for part in parts])[order].tolist() == whole.track_ids.tolist()
    np.testing.assert_array_equal(np.concatenate([part.features for part in parts])[order], whole.features)
    np.testing.assert_array_equal(np.concatenate([part.counts for part in parts])[order], whole.counts)
    np.testing.assert_array_equal(np.concatenate([part.context for part in parts])[order], whole.context)


ROWS = st.lists(
    st.tuples(st.sampled_from(weeks(5)), st.text("ab é", max_size=2), *[st.integers(0, 2**50)] * 3), max_size=12
)


@given(rows=ROWS, listed=st.sets(st.text("ab é", min_size=1, max_size=2)))
def test_counts_equal_a_slow_sum(rows: list[tuple[str, str, int, int, int]], listed: set[str]) -> None:
    catalogue = tracks_table([track(track_id).model_dump_json() for track_id in sorted(listed)])
    past = past_weeks(weeks(4)[-1])
    of_weeks = [counts_of((row[1], "all", *row[2:]) for row in rows if row[0] == name).drop("group") for name in past]
    table = build(summed(past, of_weeks), catalogue)
    assert table.track_ids.tolist() == sorted(
        listed | {row[1] for row in rows if row[0] != "2023-W05" and any(row[2:])}
    )
    for place, track_id in enumerate(table.track_ids):
        for week, name in enumerate(weeks(4)):
            found = [counts for in_week, of_track, *counts in rows if (in_week, of_track) == (name, track_id)]
            assert table.counts[place, week].tolist() == [sum(kind) for kind in zip((0, 0, 0), *found, strict=True)]


def test_the_table_needs_no_heavy_library() -> None:
    code = "import sys, features.table; print([m for m in ('pyarrow.parquet', 'torch', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
