"""What lists were worth, on weeks so small that the answers can be worked out by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumers.evaluations import evaluate_lists
from consumers.runs import Runs
from features.history import History
from features.weeks import Calendar
from producers.playlists import Evaluation, Playlist
from tests.builders_history import table, track, write_catalogue, write_week

LIST_WEEK = Calendar().parse("2023-W05")
PLAYS: Mapping[str, Mapping[str, int]] = {
    "2023-W01": {"c": 100},
    "2023-W02": {"a": 4, "b": 1},
    "2023-W03": {"a": 2},
    "2023-W04": {"a": 1, "b": 3, "z": 50},
    "2023-W05": {"b": 8, "c": 1, "z": 60},
    "2023-W06": {"c": 900},
}
"""Over W02 to W05: b 12, a 7, c 1. z is in no catalogue, so in no list: neither the true one nor naive's."""


@pytest.fixture
def history(tmp_path: Path) -> History:
    history = History(tmp_path / "history")
    for week, plays in PLAYS.items():
        write_week(history, week, plays)
    write_catalogue(history, [track(track_id) for track_id in "abc"])
    return history


def a_list(*ids: str, group: str = "control") -> Playlist:
    entries = [
        {"rank": rank, "track_id": track_id, "name": "", "score": 9.0 - rank, "plays": [0, 0, 0, 0]}
        for rank, track_id in enumerate(ids, 1)
    ]
    fields = {"week": LIST_WEEK.name, "closed_week": "2023-W04", "group": group, "experiment": "e", "model": "linear"}
    more: dict[str, object] = {"model_version": "v", "fallback": None, "cut": {}, "tracks": entries}
    return Playlist.model_validate(fields | more).following(None)


def kept(folder: Path, scores: Mapping[str, float], revision: int = 1) -> Runs:
    """A run with these scores; z is scored and not listed."""
    runs = Runs(folder / "runs")
    run = runs.start(LIST_WEEK.name)
    whole = table(dict.fromkeys(scores, (0, 0, 0, 0)))
    found = {"linear": np.array([scores[track_id] for track_id in whole.track_ids])}
    run.add(replace(whole, listed=whole.track_ids != "z"), found, found)
    run.keep(revision, {})
    return runs


def evaluation(history: History, runs: Runs, playlist: Playlist, span_weeks: int = 4) -> Evaluation:
    (found,) = evaluate_lists(LIST_WEEK, history, runs, [playlist], span_weeks)
    return found


def test_a_list_is_judged_by_the_plays_over_its_span_beside_naive(history: History, tmp_path: Path) -> None:
    found = evaluation(history, kept(tmp_path, {"a": 8.0, "c": 7.0, "b": 6.0, "z": 99.0}), a_list("a", "c"))
    log3 = math.log2(3)
    ideal = 12 + 7 / log3 + 1 / 2
    assert found.n_ranked == 3
    assert 0 < found.metrics.pop("rbo") < 1
    assert found.metrics == {  # a, c, b
        "precision_at_50": 1.0,
        "ndcg_at_50": round((7 + 1 / log3 + 12 / 2) / ideal, 6),
        "captured_plays": 1.0,
        "criterion": 48.333333,  # 10 * (4/1 + 1/2 + 1/3)
        "exact_places": 0,
    }
    assert 0 < found.naive.pop("rbo") < 1
    assert found.naive == {  # a 8, b 7, c 0
        "precision_at_50": 1.0,
        "ndcg_at_50": round((7 + 12 / log3 + 1 / 2) / ideal, 6),
        "captured_plays": 1.0,
        "criterion": 15.0,  # 10 * (1/1 + 1/2 + 0)
        "exact_places": 1,
    }


def test_an_evaluation_says_which_list_it_judges(history: History, tmp_path: Path) -> None:
    playlist = a_list("a", group="treatment")
    found = evaluation(history, Runs(tmp_path), playlist)
    names = ("week", "group", "experiment", "model", "model_version", "revision")
    assert [getattr(found, name) for name in names] == [getattr(playlist, name) for name in names]
    assert found.playlist_id == playlist.id
    message = found.message("evaluations")
    assert (message.topic, message.key) == ("evaluations", b"2023-W05/treatment")
    assert Evaluation.model_validate_json(message.value or b"") == found


def test_a_list_of_span_1_is_judged_by_its_own_week_alone(history: History, tmp_path: Path) -> None:
    found = evaluation(history, Runs(tmp_path), a_list("b", "c"), span_weeks=1)
    assert found.span_weeks == 1
    assert found.metrics["precision_at_50"] == found.metrics["ndcg_at_50"] == 1.0
    assert found.naive["precision_at_50"] == 0.5  # b 3, a 1


def test_without_its_run_a_list_is_all_that_is_ranked(history: History, tmp_path: Path) -> None:
    found = evaluation(history, Runs(tmp_path), a_list("a", "c"))
    assert found.n_ranked == 2
    assert found.metrics["captured_plays"] == 0.4


def test_a_run_that_ranks_otherwise_is_not_the_lists(history: History, tmp_path: Path) -> None:
    runs = kept(tmp_path, {"c": 9.0, "a": 8.0, "b": 7.0})
    assert evaluation(history, runs, a_list("a", "c")).n_ranked == 2


def test_a_list_is_judged_by_the_ranking_of_the_last_run(history: History, tmp_path: Path) -> None:
    runs = kept(tmp_path, {"c": 9.0, "a": 8.0, "b": 7.0})
    kept(tmp_path, {"a": 9.0, "c": 8.0, "b": 7.0}, revision=2)
    assert evaluation(history, runs, a_list("a", "c")).n_ranked == 3


def test_every_list_of_the_week_is_judged_and_no_list_is_no_evaluation(history: History, tmp_path: Path) -> None:
    lists = [a_list("a"), a_list("b", group="treatment")]
    found = evaluate_lists(LIST_WEEK, history, Runs(tmp_path), lists, 4)
    assert [evaluation.group for evaluation in found] == ["control", "treatment"]
    assert [evaluation.metrics["captured_plays"] for evaluation in found] == [0.35, 0.6]
    assert evaluate_lists(LIST_WEEK, history, Runs(tmp_path), [], 4) == []
