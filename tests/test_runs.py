"""What a weekly run keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from consumers.runs import TRACKS, Runs, rows_of
from features.table import FeatureTable
from tests.builders_history import table

WEEK = "2023-W25"
NOTHING = np.array([np.nan])


def one_track(track_id: str, n_plays: int) -> FeatureTable:
    return replace(table({track_id: (1, 2, 3, n_plays)}), listed=np.array([True]))


def keep(runs: Runs, revision: int, n_plays: int, record: bytes = b"{}") -> None:
    run = runs.start(WEEK)
    run.add(rows_of(one_track("a", n_plays), {"naive": np.array([n_plays])}, {"naive": np.array([n_plays + 6.0])}))
    run.keep(revision, {"control": record})
    run.discard()


def test_a_run_is_kept_table_by_table_with_counts_features_predictions_and_scores(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    run = runs.start(WEEK)
    run.add(rows_of(one_track("a", 4), {"naive": np.array([4.0]), "linear": NOTHING}, {"naive": np.array([10.0])}))
    run.add(rows_of(one_track("b", 7), {"naive": np.array([7.0]), "linear": NOTHING}, {"naive": np.array([13.0])}))
    run.keep(1, {"control": b'{"id":1}'})
    tracks = runs.tracks(WEEK, 1)
    assert tracks is not None
    assert tracks["track_id"].tolist() == ["a", "b"]
    assert tracks["listed"].tolist() == [True, True]
    assert tracks[[f"plays_week_{n}" for n in (1, 2, 3, 4)]].to_numpy().tolist() == [[1, 2, 3, 4], [1, 2, 3, 7]]
    assert tracks["likes_week_4"].tolist() == [0, 0]
    assert tracks["tempo"].isna().all()
    assert tracks["prediction_naive"].tolist() == [4.0, 7.0]
    assert tracks["score_naive"].tolist() == [10.0, 13.0]
    assert json.loads((tmp_path / WEEK / "1" / "control.json").read_text()) == {"id": 1}


def test_a_model_that_failed_is_kept_as_nothing(tmp_path: Path) -> None:
    run = Runs(tmp_path).start(WEEK)
    run.add(rows_of(one_track("a", 4), {"linear": NOTHING}, {"linear": NOTHING}))
    run.keep(1, {})
    tracks = Runs(tmp_path).tracks(WEEK, 1)
    assert tracks is not None
    assert tracks[["prediction_linear", "score_linear"]].isna().all(axis=None)


def test_the_latest_run_is_that_of_the_highest_revision_as_a_number(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for revision in (9, 10, 2):
        keep(runs, revision, n_plays=revision)
    latest = runs.latest(WEEK)
    assert latest is not None
    assert latest["plays_week_4"].tolist() == [10]


def test_a_run_of_the_same_revision_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    keep(runs, 1, n_plays=4)
    keep(runs, 1, n_plays=5, record=b"[]")
    tracks = runs.tracks(WEEK, 1)
    assert tracks is not None
    assert tracks["plays_week_4"].tolist() == [5]
    assert (tmp_path / WEEK / "1" / "control.json").read_bytes() == b"[]"
    assert [path.name for path in (tmp_path / WEEK).iterdir()] == ["1"]


def test_a_run_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    run = Runs(tmp_path).start(WEEK)
    run.add(rows_of(one_track("a", 4), {}, {}))
    run.discard()
    assert list((tmp_path / WEEK).iterdir()) == []
    assert Runs(tmp_path).latest(WEEK) is None


def test_a_run_that_is_missing_or_broken_is_none(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert runs.latest(WEEK) is None
    keep(runs, 1, n_plays=4)
    assert runs.tracks(WEEK, 2) is None
    (tmp_path / WEEK / "1" / TRACKS).write_bytes(b"PAR1")
    assert runs.tracks(WEEK, 1) is None
