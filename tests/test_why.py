"""Why a track is where it is, from what a run and the history keep, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runs import TRACKS, RunError, Runs, rows_of
from consumers.why import Explanations
from features.history import History
from features.weeks import Calendar
from models.ranking import ranked
from tests.builders_history import table, write_catalogue, write_week
from tests.builders_history import track as a_track
from tests.serving import a_list

WEEK = Calendar().parse("2023-W25")


def keep(folder: Path, scores: Mapping[str, float], unlisted: str = "", revision: int = 1, at_once: int = 2) -> Path:
    """A run whose model `naive` gives these scores, written so many tracks at a time."""
    run = Runs(folder / "runs").start(WEEK.name)
    ids = sorted(scores)
    for first in range(0, len(ids), at_once):
        part = table({track_id: (1, 2, 3, 4) for track_id in ids[first : first + at_once]})
        part.listed[:] = [track_id not in unlisted for track_id in part.track_ids]
        given_scores = np.array([scores[track_id] for track_id in part.track_ids])
        run.add(rows_of(part, {"naive": given_scores - 6}, {"naive": given_scores}))
    run.keep(revision, {})
    run.discard()
    return folder / "runs" / WEEK.name / str(revision) / TRACKS


def explanations(folder: Path) -> Explanations:
    return Explanations(Runs(folder / "runs"), History(folder / "history"))


def rank(folder: Path, track_id: str) -> tuple[int | None, int]:
    found = explanations(folder).of(track_id, WEEK, [])
    assert found is not None
    (place,) = found.models
    return place.rank, place.of


def test_a_rank_counts_those_with_a_higher_score_and_those_with_the_same_and_a_smaller_id(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 5.0, "c": 5.0, "d": 7.0, "z": 99.0}, unlisted="z")
    assert [rank(tmp_path, track_id) for track_id in "abcd"] == [(4, 4), (2, 4), (3, 4), (1, 4)]


def test_a_track_that_is_in_no_catalogue_has_a_score_and_no_rank(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "z": 99.0}, unlisted="z")
    found = explanations(tmp_path).of("z", WEEK, [])
    assert found is not None
    assert (found.in_catalogue, found.models[0].score, found.models[0].rank) == (False, 99.0, None)


def test_a_model_that_failed_ranks_nothing(tmp_path: Path) -> None:
    keep(tmp_path, {"a": float("nan"), "b": float("nan")})
    found = explanations(tmp_path).of("b", WEEK, [])
    assert found is not None
    assert [(m.prediction, m.score, m.rank, m.of) for m in found.models] == [(None, None, None, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("why")


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.text("ab\u00e9\uffff\U0001f600", min_size=1, max_size=3), st.integers(0, 3), min_size=1))
def test_ranks_are_those_of_the_rule_that_lists_are_made_by(folder: Path, scores: dict[str, int]) -> None:
    keep(folder, {track_id: float(score) for track_id, score in scores.items()}, at_once=3)
    ids = sorted(scores)
    ordered = ranked(np.array(ids, object), np.array([float(scores[track_id]) for track_id in ids]))
    asked = explanations(folder)
    found = [asked.of(track_id, WEEK, []) for track_id in ordered]
    assert [why.models[0].rank for why in found if why] == list(range(1, len(ordered) + 1))


def test_counts_are_those_of_the_four_closed_weeks_by_group_whatever_slice_holds_the_track(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 2.0})
    history = History(tmp_path / "history")
    write_catalogue(history, [a_track("a"), a_track("b")], n_slices=4)
    for n, name in enumerate(("2023-W20", "2023-W21", "2023-W23", "2023-W24", "2023-W25")):
        write_week(history, name, {"a": (n, 2, 3), "b": 9}, n_slices=2 if n == 2 else 4)
    found = explanations(tmp_path).of("a", WEEK, [])
    assert found is not None
    assert [(c.week, c.group, c.plays, c.skips, c.likes) for c in found.counts] == [
        ("2023-W21", "all", 1, 2, 3),
        ("2023-W23", "all", 2, 2, 3),
        ("2023-W24", "all", 3, 2, 3),
    ]


def test_nothing_is_none_and_no_run_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run for week 2023-W25 is kept here"):
        explanations(tmp_path).of("a", WEEK, [])
    keep(tmp_path, {"a": 1.0})
    assert explanations(tmp_path).of("b", WEEK, []) is None


def test_a_broken_run_is_an_error_that_does_not_say_where_it_lies(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0}).write_bytes(b"no parquet")
    with pytest.raises(RunError, match="the last run for week 2023-W25 cannot be read: ArrowInvalid") as error:
        explanations(tmp_path).of("a", WEEK, [])
    assert str(tmp_path) not in str(error.value)


def test_a_run_that_is_made_anew_or_followed_by_another_is_seen(tmp_path: Path) -> None:
    asked = explanations(tmp_path)

    def seen() -> tuple[float | None, int | None, int]:
        found = asked.of("a", WEEK, [])
        assert found is not None
        return found.models[0].score, found.models[0].rank, found.models[0].of

    keep(tmp_path, {"a": 1.0})
    assert seen() == (1.0, 1, 1)
    keep(tmp_path, {"a": 2.0, "b": 3.0})
    assert seen() == (2.0, 2, 2)
    keep(tmp_path, {"a": 3.0}, revision=10)
    assert seen() == (3.0, 1, 1)


def test_the_scores_of_a_run_are_read_once(tmp_path: Path) -> None:
    asked = explanations(tmp_path)
    keep(tmp_path, {"a": 1.0, "b": 2.0})
    asked.of("a", WEEK, [])
    scores = asked._scores
    asked.of("b", WEEK, [])
    assert asked._scores is scores


def test_lists_say_where_the_track_stands_or_what_it_would_take(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0})
    lists = [a_list(ids=("b", "a")), a_list(group="treatment", ids=("b",)), a_list(group="x", ids=())]
    found = explanations(tmp_path).of("a", WEEK, lists)
    assert found is not None
    assert [(place.group, place.rank, place.score_of_last_place) for place in found.lists] == [
        ("control", 2, 98.0),
        ("treatment", None, 99.0),
        ("x", None, None),
    ]
