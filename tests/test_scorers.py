"""What every scorer must do; and the ranking of what they say."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.history import History
from features.table import FeatureTable, tables
from models import linear, naive, neural, training
from models.examples import linear_examples
from models.promotion import as_judged
from models.registry import Registry
from models.scorers import Fitted, load, load_trial, open_model
from models.scoring import ArtefactError, Scorer, Scores, ScoringError, checked, top_tracks
from tests.builders_history import listening, rows_of, table, weeks
from tests.servers import ROOT

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


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Two versions of the network, of which the older one is in use."""
    folder = tmp_path_factory.mktemp("registry")
    history, registry = listening(folder / "history", 8, n_tracks=20), Registry(folder / "models")
    for week in ("2023-W07", "2023-W08"):
        trained = training.train(history, week)
        registry.publish("neural", trained.model.version, trained.save)
    registry.promote("neural", registry.versions("neural")[0])
    return registry


def opened(name: str, registry: Registry, closed_week: str = "2023-W08") -> Fitted:
    return open_model(name, History(Path("nowhere")), registry, closed_week)


def test_neural_is_the_version_in_use_and_a_version_may_be_pinned(registry: Registry) -> None:
    older, newer = registry.versions("neural")
    for name in ("neural", "neural@champion"):
        found = opened(name, registry)
        assert (found.model, found.version, found.name) == ("neural", older, "neural")
    for version in (older, newer):
        found = opened(f"neural@{version}", registry)
        assert (found.model, found.version, found.name) == ("neural", version, f"neural@{version}")
    assert (opened("naive", registry).model, opened("naive", registry).name) == ("naive", "naive")


def test_two_versions_in_one_run_score_as_they_learned(registry: Registry, whole: FeatureTable) -> None:
    older, newer = (opened(f"neural@{version}", registry).score(whole) for version in registry.versions("neural"))
    assert older.tolist() != newer.tolist()
    assert opened("neural", registry).score(whole).tolist() == older.tolist()


@pytest.mark.parametrize("name", ["neural", "neural@{newer}"])
def test_a_version_that_has_learned_from_later_weeks_than_the_list_may_know_is_refused(
    registry: Registry, name: str
) -> None:
    older, newer = registry.versions("neural")
    reasons = {
        "neural": "no neural model in use was trained on weeks up to 2023-W06: run `hitparade train`",
        "neural@{newer}": f"neural {newer} has learned from weeks after 2023-W06",
    }
    with pytest.raises(ArtefactError) as error:
        opened(name.format(newer=newer), registry, "2023-W06")
    assert str(error.value) == reasons[name]
    assert opened("neural", registry, "2023-W07").version == older


def test_a_pinned_version_that_is_not_there_is_refused_without_telling_of_others(registry: Registry) -> None:
    for version in ("2023-W07-00000000", "nope", "..", "."):
        with pytest.raises(ArtefactError) as error:
            opened(f"neural@{version}", registry)
        assert str(error.value) == f"there is no neural {version}"


def test_a_version_under_the_name_of_an_earlier_week_is_refused(registry: Registry, tmp_path: Path) -> None:
    newer = registry.version("neural", registry.versions("neural")[-1])
    renamed = "2023-W01" + newer.name[8:]
    shutil.copytree(newer, tmp_path / "neural" / renamed)
    with pytest.raises(ArtefactError, match=rf"^neural {renamed}: its card is that of version {newer.name}$"):
        opened(f"neural@{renamed}", Registry(tmp_path))


def test_a_version_that_is_broken_is_refused_by_name_and_reason_and_without_a_path(
    registry: Registry, tmp_path: Path
) -> None:
    version = registry.versions("neural")[0]
    shutil.copytree(registry.version("neural", version), tmp_path / "neural" / version)
    (tmp_path / "neural" / version / "weights.safetensors").unlink()
    for name in (f"neural@{version}", "neural"):
        (tmp_path / "neural" / "champion").write_text(version)
        with pytest.raises(ArtefactError, match=rf"^neural {version}: weights.safetensors is missing$"):
            opened(name, Registry(tmp_path))


def test_a_trial_is_what_was_known_before_the_holdout_weeks_and_is_checked_too(
    registry: Registry, tmp_path: Path, whole: FeatureTable
) -> None:
    version = registry.versions("neural")[0]
    folder = tmp_path / "neural" / version
    shutil.copytree(registry.version("neural", version), folder)
    trial, used = load_trial(folder), load(folder)
    assert trial.version == used.version == version
    assert trial.score(whole).tolist() != used.score(whole).tolist()
    shutil.copy(folder / "weights.safetensors", folder / "trial.safetensors")
    with pytest.raises(ArtefactError, match=rf"^neural {version}: trial.safetensors is not the file that card.json"):
        load_trial(folder)


def test_a_version_is_judged_by_its_trial_in_the_weeks_it_held_out_and_by_itself_in_others(
    registry: Registry, whole: FeatureTable
) -> None:
    folder = registry.version("neural", registry.versions("neural")[0])
    forecaster, nothing = as_judged(folder), History(Path("nowhere"))
    for closed_week, expected in (("2023-W06", load_trial), ("2023-W05", load), ("2023-W07", load)):
        scores = forecaster(nothing, closed_week)(whole)
        assert scores.tolist() == expected(folder).score(whole).tolist()


RUNS_CODE = re.compile(r"\b(pickle|joblib|dill|cloudpickle|shelve|marshal|(?<!safetensors\.)torch\.(load|save))\b")


def test_nothing_is_written_or_read_in_a_form_that_could_run_code() -> None:
    assert RUNS_CODE.search("x = torch.load(path)")
    assert RUNS_CODE.search("from pickle import loads")
    paths = [
        path for package in ("features", "models", "consumers", "hitparade") for path in ROOT.glob(f"{package}/*.py")
    ]
    assert len(paths) > 50
    assert [path for path in paths if RUNS_CODE.search(path.read_text(encoding="utf-8"))] == []


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
