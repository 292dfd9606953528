"""What every scorer must do; and the ranking of what they say."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.table import FeatureTable, tables
from models import linear, naive, neural, training
from models.examples import linear_examples
from models.scoring import Scorer, Scores, ScoringError, checked, top_tracks
from tests.builders_history import listening, rows_of, table, weeks

Cut = Callable[[Scorer, FeatureTable], Scores]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    """Every scorer, learned from the same nine weeks and read back from where it was saved."""
    folder = tmp_path_factory.mktemp("fitted")
    history = listening(folder, 9)
    linear.fit(linear_examples(history, "2023-W09")).save(folder / "linear.json")
    training.train(history, "2023-W09").save(folder)
    return {
        "naive": naive.score,
        "linear": linear.load(folder / "linear.json").score,
        "neural": neural.load(folder).score,
    }


@pytest.fixture(params=["naive", "linear", "neural"])
def score(request: pytest.FixtureRequest, fitted: dict[str, Scorer]) -> Scorer:
    return fitted[request.param]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    """Sixty tracks: six that no catalogue knows, all without a tempo."""
    (found,) = tables(listening(tmp_path_factory.mktemp("whole"), 13), weeks(13)[-4:])
    return found


def test_a_scorer_gives_one_finite_float64_a_track(score: Scorer, whole: FeatureTable) -> None:
    scores = score(whole)
    assert scores.shape == whole.track_ids.shape
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


def test_a_scorer_says_the_same_again(score: Scorer, whole: FeatureTable) -> None:
    assert score(whole).tobytes() == score(whole).tobytes()


def test_the_order_of_tracks_changes_no_score(score: Scorer, whole: FeatureTable) -> None:
    order = np.random.default_rng(3).permutation(len(whole.track_ids))
    np.testing.assert_array_equal(score(rows_of(whole, order)).round(3), score(whole)[order].round(3))


@pytest.mark.parametrize("at_once", [1, 7, 59])
def test_slicing_the_table_changes_no_score(score: Scorer, whole: FeatureTable, at_once: int) -> None:
    starts = range(0, len(whole.track_ids), at_once)
    parts = [score(rows_of(whole, slice(start, start + at_once))) for start in starts]
    np.testing.assert_array_equal(np.concatenate(parts).round(3), score(whole).round(3))


def test_an_empty_table_has_no_scores(score: Scorer) -> None:
    assert score(table({})).shape == (0,)


def test_nothing_but_counts_need_be_known(score: Scorer) -> None:
    assert np.isfinite(score(table({"a": [1, 2, 3, 4], "b": [0, 0, 0, 0]}))).all()


@pytest.mark.parametrize("plays", [2**31, 2**53])
def test_huge_counts_have_finite_scores_that_follow_them(score: Scorer, plays: int) -> None:
    scores = score(table({"huge": [plays] * 4, "large": [plays // 8] * 4, "none": [0] * 4}))
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1] > scores[2]


def test_extreme_features_have_finite_scores(score: Scorer) -> None:
    wild = table({"a": [1, 1, 1, 1], "b": [1, 1, 1, 1]})
    wild.features[0, :, :15], wild.features[1, :, :15] = np.finfo(np.float32).max, np.finfo(np.float32).min
    assert np.isfinite(score(wild)).all()


def test_a_scorer_follows_what_is_played(score: Scorer, whole: FeatureTable) -> None:
    """Against the plays of a week that none has seen; the rates of the builder hold from week to week."""
    before = score(rows_of(whole, slice(None)))
    rates = 300 / np.arange(1, 61)
    assert np.corrcoef(np.log1p(before.clip(0)), np.log1p(rates))[0, 1] > 0.9


def test_a_scorer_leaves_the_table_as_it_was(score: Scorer, whole: FeatureTable) -> None:
    features, counts = whole.features.tobytes(), whole.counts.tobytes()
    score(whole)
    assert (whole.features.tobytes(), whole.counts.tobytes()) == (features, counts)


def test_naive_is_last_week_again_exactly() -> None:
    assert naive.score(table({"a": [9, 9, 9, 1], "b": [0, 0, 0, 2**53 - 1]})).tolist() == [1, 2**53 - 1]


def test_the_best_come_first_and_equal_scores_go_by_id() -> None:
    assert top_tracks(["d", "b", "c", "a"], np.array([1.0, 2.0, 2.0, -5.0])) == ["b", "c", "d", "a"]
    assert top_tracks(["d", "b", "c", "a"], np.array([1.0, 2.0, 2.0, 2.0]), k=2) == ["a", "b"]
    assert top_tracks([], np.array([])) == []


@given(
    scores=st.dictionaries(st.text(max_size=3), st.sampled_from([-0.0, 0.0, 1.0, 1.5, -3.0, 1e300]), max_size=30),
    k=st.integers(0, 35),
)
def test_the_top_is_the_head_of_a_slow_sort(scores: dict[str, float], k: int) -> None:
    slow = sorted(scores, key=lambda track_id: (-scores[track_id], track_id))
    assert top_tracks(list(scores), np.array(list(scores.values()), np.float64), k) == slow[:k]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(ScoringError, match=re.escape("2 of 3 scores are not finite")):
        top_tracks(["a", "b", "c"], np.array([wrong, 1.0, np.nan]))


@pytest.mark.parametrize("shape", [(2,), (3, 1), (0,)])
def test_anything_but_one_score_a_track_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScoringError, match=re.escape(f"expected scores of shape (3,), found {shape}")):
        checked(np.zeros(shape), 3)
