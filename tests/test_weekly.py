"""The weekly run on a real Redis and a real broker: the lists, their revisions, and what a model may not do to them."""

import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.guard import Guard
from consumers.snapshot import CutTimeout, OldCounters, WrongTopic
from consumers.weekly import WeeklyRun
from features.history import History
from features.reader import WeekError
from features.table import FeatureTable
from hitparade import wiring
from hitparade.embedded import Embedded
from models import naive
from models.artefact import CARD, TRIAL, WEIGHTS, version_of
from models.scorers import OPENERS, Fitted
from models.scoring import Scores
from models.training import train
from producers.kafka import build_producer
from producers.playlists import Playlist
from producers.publisher import Message, NotAcknowledged, Publisher
from producers.triggers import Trigger
from tests.builders_history import listening
from tests.builders_weekly import Stage, chart_week, entry, part, plays, staged
from tests.servers import ROOT

NAIVE_AGAINST_LINEAR = """
[[experiment]]
name = "e"
salt = "s"
[experiment.groups.control]
weight = 1
model = "naive"
[experiment.groups.treatment]
weight = 1
model = "linear"
"""


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """naive against linear."""
    file = tmp_path / "experiments.toml"
    file.write_text(NAIVE_AGAINST_LINEAR)
    with staged(
        embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, HITPARADE_EXPERIMENT_FILE=str(file)
    ) as stage:
        yield stage


def listened(stage: Stage, weeks: Sequence[int] = (20, 21, 22, 23, 24, 25)) -> Stage:
    """Weeks in which a stays, b rises and z, which is in no catalogue, is far ahead; all of it counted."""
    stage.catalogue("a", "b", "c")
    stage.catalogue("d", partition=1)
    for week in weeks:
        stage.send(plays(week, {"a": 4, "b": week - 19, "z": 50}))
    stage.count()
    return stage


def fired(stage: Stage, week: int = 24) -> Trigger:
    return stage.triggers.fire(chart_week(week), "manual")


def ids(playlist: Playlist) -> list[str]:
    return [place.track_id for place in playlist.tracks]


def test_a_list_names_its_week_its_model_its_cut_and_its_tracks_with_scores_and_plays(stage: Stage) -> None:
    listened(stage)
    stage.weekly_run().run(fired(stage))
    record = json.loads(stage.published()[0])
    assert record.pop("id").startswith("sha256:")
    assert record == {
        "week": "2023-W25",
        "closed_week": "2023-W24",
        "group": "control",
        "experiment": "e",
        "model": "naive",
        "model_version": "1",
        "revision": 1,
        "fallback": None,
        "changes": None,
        "cut": {"sessions": {"0": 6, "1": 0}, "tracks": {"0": 3, "1": 1}},
        "tracks": [
            {"rank": 1, "track_id": "b", "name": "Song b", "score": 17.0, "plays": [2, 3, 4, 5]},
            {"rank": 2, "track_id": "a", "name": "Song a", "score": 16.0, "plays": [4, 4, 4, 4]},
            {"rank": 3, "track_id": "c", "name": "Song c", "score": 0.0, "plays": [0, 0, 0, 0]},
            {"rank": 4, "track_id": "d", "name": "Song d", "score": 0.0, "plays": [0, 0, 0, 0]},
        ],
    }
    (record, _) = stage.records(stage.settings.topics.playlists)
    assert (record.key, dict(record.headers)["schema-version"]) == (b"2023-W25/control", b"1")


def test_the_same_trigger_sends_the_same_bytes_until_late_events_make_a_revision_and_then_those(
    kafka: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with staged(kafka, redis_url, prefix, tmp_path) as stage:
        trigger, run = fired(listened(stage)), stage.weekly_run()
        run.run(trigger)
        run.run(trigger)
        stage.weekly_run().run(trigger)  # a consumer that was started anew

        stage.send(plays(22, {"c": 200}), plays(25, {"c": 1}), partition=1)
        stage.count()
        run.run(trigger)
        run.run(trigger)
        stage.weekly_run().run(trigger)

        for group in ("control", "treatment"):
            first, *others, last = stage.published(group)
            assert others == [first] * 2 + [last] * 2
            before, after = Playlist.model_validate_json(first), Playlist.model_validate_json(last)
            assert (before.revision, after.revision) == (1, 2)
            assert ids(before)[0] == "b"
            assert ids(after)[0] == "c"
            assert after.changes is not None
            assert after.changes.entered == after.changes.left == ()
            assert before.cut["sessions"] == trigger.cut["sessions"] == {"0": 6, "1": 0}
            assert after.cut["sessions"] == {"0": 6, "1": 1}  # the late events, and not those of the open week


def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scores now fails."""
    monkeypatch.setitem(OPENERS, "naive", opener("naive", lambda table: broken()))


def opener(model: str, score: Callable[[FeatureTable], Scores]) -> Callable[..., Fitted]:
    return lambda history, registry, closed_week: Fitted(model, "1", score)


def broken() -> Scores:
    raise KeyError("/a/path of this machine")


def test_when_nothing_has_moved_the_stored_record_is_sent_again_without_scoring(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = fired(listened(stage))
    stage.weekly_run().run(trigger)
    no_scoring(monkeypatch)
    stage.send(plays(25, {"c": 9}))  # of the week that is still open
    stage.count()
    stage.weekly_run().run(trigger)
    first, second = stage.published()
    assert first == second


def test_a_later_cut_alone_changes_no_byte(stage: Stage) -> None:
    run = stage.weekly_run()
    run.run(fired(listened(stage)))
    stage.send(plays(25, {"c": 9}))
    stage.count()
    run.run(fired(stage))
    first, second = stage.published()
    assert first == second


def test_a_list_that_did_not_change_is_sent_as_it_stands_beside_one_that_did(stage: Stage) -> None:
    trigger = fired(listened(stage))
    stage.weekly_run().run(trigger)
    stage.send(plays(20, {"b": 30}))  # linear learns from that week, naive's list does not know it
    stage.count()
    stage.weekly_run().run(trigger)
    assert [playlist.revision for playlist in stage.lists("treatment")] == [1, 2]
    first, second = stage.published("control")
    assert first == second
    assert {path.name for path in (stage.settings.data_dir / "runs" / "2023-W25").iterdir()} == {"1", "2"}


def test_a_trigger_after_the_experiment_has_changed_makes_revisions_and_lists_for_new_groups(
    stage: Stage, tmp_path: Path
) -> None:
    trigger = fired(listened(stage))
    stage.weekly_run().run(trigger)
    file = tmp_path / "experiments.toml"
    file.write_text(NAIVE_AGAINST_LINEAR.replace('"linear"', '"naive"'))
    stage.weekly_run().run(trigger)
    assert [(p.model, p.revision) for p in stage.lists("control")] == [("naive", 1), ("naive", 1)]
    assert [(p.model, p.revision) for p in stage.lists("treatment")] == [("linear", 1), ("naive", 2)]
    file.write_text(file.read_text().replace('"e"', '"f"'))
    stage.weekly_run().run(trigger)
    assert [(p.experiment, p.revision) for p in stage.lists("control")] == [("e", 1), ("e", 1), ("f", 2)]
    file.write_text(file.read_text().replace("treatment", "other"))
    stage.weekly_run().run(trigger)
    assert [(p.experiment, p.revision) for p in stage.lists("other")] == [("f", 1)]
    assert [p.revision for p in stage.lists("control")] == [1, 1, 2, 2]
    assert len(stage.lists("treatment")) == 3


def test_the_groups_are_those_of_the_week_that_the_list_is_for(stage: Stage, tmp_path: Path) -> None:
    bounded = NAIVE_AGAINST_LINEAR.replace('salt = "s"', 'salt = "s"\nfirst_week = "2023-W25"')
    (tmp_path / "experiments.toml").write_text(bounded)
    run = listened(stage).weekly_run()
    assert [(p.week, p.group) for p in run.run(fired(stage, 24))] == [
        ("2023-W25", "control"),
        ("2023-W25", "treatment"),
    ]
    assert [(p.week, p.group) for p in run.run(fired(stage, 23))] == [("2023-W24", "all")]


def test_a_week_triggered_again_after_later_ones_gets_the_same_list(stage: Stage) -> None:
    trigger, run = fired(listened(stage)), stage.weekly_run()
    run.run(trigger)
    run.run(fired(stage, 25))
    run.run(trigger)
    first, later, again = stage.published("treatment")
    assert first == again  # linear has not learned from the later week, though history has it by now
    assert json.loads(later)["model_version"] != json.loads(again)["model_version"]


def test_a_track_that_is_in_no_catalogue_is_scored_and_kept_in_the_run_but_not_listed(stage: Stage) -> None:
    listened(stage)
    for playlist in stage.weekly_run().run(fired(stage)):
        assert "z" not in ids(playlist)
    tracks = wiring.runs(stage.settings).tracks("2023-W25", 1)
    assert tracks is not None
    rows = {row["track_id"]: row for row in tracks.to_dict("records")}
    assert list(rows) == ["a", "b", "c", "d", "z"]
    assert not rows["z"]["listed"]
    assert rows["z"]["score_naive"] == 200.0
    assert rows["z"]["prediction_naive"] == 50.0
    assert np.isfinite(rows["z"]["score_linear"])


def test_a_track_that_is_taken_down_leaves_the_list_and_one_that_is_new_enters(stage: Stage) -> None:
    trigger = fired(listened(stage))
    stage.weekly_run().run(trigger)
    stage.take_down("b")
    stage.catalogue("z", partition=1)
    stage.count()
    control, _ = stage.weekly_run().run(trigger)
    assert ids(control) == ["z", "a", "c", "d"]
    assert control.revision == 2
    assert control.changes is not None
    assert control.changes.model_dump() == {"entered": ("z",), "left": ("b",)}
    assert control.cut["tracks"] == {"0": 4, "1": 2}


def test_the_record_of_a_run_is_kept_as_it_was_published(stage: Stage) -> None:
    stage.weekly_run().run(fired(listened(stage)))
    for group in ("control", "treatment"):
        kept = stage.settings.data_dir / "runs" / "2023-W25" / "1" / f"{group}.json"
        assert [kept.read_bytes()] == stage.published(group)


def test_the_lists_for_a_week_are_evaluated_when_it_has_closed_and_the_same_bytes_each_time(stage: Stage) -> None:
    listened(stage)
    run = stage.weekly_run()
    run.run(fired(stage, 23))
    assert stage.evaluations() == []
    trigger = fired(stage, 24)
    run.run(trigger)
    run.run(trigger)
    values = [record.value for record in stage.records(stage.settings.topics.evaluations)]
    assert values[:2] == values[2:]
    control, treatment = stage.evaluations()[:2]
    assert [control.week, control.group, treatment.group] == ["2023-W24", "control", "treatment"]
    assert control.playlist_id == stage.lists()[0].id
    assert control.n_ranked == 4
    # b 14 and a 16 over W21 to W24, foretold as b 13 and a 16: the two that were played, in their places
    assert control.metrics == control.naive
    assert control.metrics["ndcg_at_50"] == control.metrics["captured_plays"] == 1.0


def test_evaluations_are_kept_on_disk_as_they_are_published(stage: Stage) -> None:
    listened(stage)
    run = stage.weekly_run()
    for week in (23, 24, 25):
        run.run(fired(stage, week))
    run.run(fired(stage, 25))
    kept = stage.settings.data_dir / "history" / "evaluations"
    assert {path.name for path in kept.iterdir()} == {"2023-W24.jsonl", "2023-W25.jsonl"}
    published = [record.value for record in stage.records(stage.settings.topics.evaluations)]
    assert (kept / "2023-W25.jsonl").read_bytes().splitlines() == published[-2:]
    assert wiring.evaluations(stage.settings).read() == stage.evaluations()[:4]


def test_lists_and_forecasts_are_judged_by_everyones_plays_and_by_those_of_the_group(stage: Stage) -> None:
    """Users 10 and 9 are of the first and the second group; the week that is judged is W24."""
    stage.catalogue("a", "b", "c")
    for week in range(18, 24):
        stage.send(plays(week, {"a": 4, "b": 2}, "10"), plays(week, {"b": 1}, "9"))
    stage.send(plays(24, {"a": 1, "b": 9}, "10"), plays(24, {"c": 5}, "9"))
    stage.send(plays(25, {"a": 1}))
    stage.count()
    for week in (23, 24):
        stage.weekly_run().run(fired(stage, week))
    control, treatment = stage.evaluations()
    # a, b, c: the list says 16, 12, 0, everyone played 13, 18, 5, group 1 13, 15, 0 and group 2 0, 3, 5
    assert control.metrics["exact_places"] == 1  # b a c
    assert control.own is not None
    assert treatment.own is not None
    assert (control.own.metrics["exact_places"], treatment.own.metrics["exact_places"]) == (0, 1)  # b a; c b
    assert treatment.own.metrics["ndcg_at_50"] == pytest.approx(3 / math.log2(3) / (5 + 3 / math.log2(3)), abs=1e-6)
    assert control.forecast is not None
    assert control.forecast.metrics == control.forecast.naive  # naive is this group's model
    assert control.forecast.metrics["ndcg_at_50"] < 1  # a b c, and played were b 9, c 5, a 1
    assert treatment.own_forecast is not None
    assert treatment.own_forecast.metrics["captured_plays"] == 0.0  # the one track c is not the first


def test_a_span_of_one_week_ranks_by_the_prediction_alone(
    embedded_stack: Embedded, prefix: str, tmp_path: Path
) -> None:
    span = {"HITPARADE_LIST_SPAN_WEEKS": "1"}
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, **span) as stage:
        _, treatment = stage.weekly_run().run(fired(listened(stage)))
    assert [(place.track_id, place.score) for place in treatment.tracks[:2]] == [("b", 5.0), ("a", 4.0)]


def one_slice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History.parts, "__defaults__", (1,))


def test_the_lists_are_the_same_slice_by_slice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stage.weekly_run()
    run.run(fired(listened(stage)))
    stage.send(plays(25, {"c": 9}))  # so that the cut is another, and the lists are scored again
    stage.count()
    n_tables: list[int] = []

    def watched(table: FeatureTable) -> Scores:
        n_tables.append(len(table.track_ids))
        return naive.score(table)

    monkeypatch.setitem(OPENERS, "naive", opener("naive", watched))
    one_slice_at_once(monkeypatch)
    run.run(fired(stage))
    assert len(n_tables) == 4
    assert sum(n_tables) == 5
    for group in ("control", "treatment"):
        first, second = stage.published(group)
        assert first == second


def test_a_list_that_may_have_been_published_is_followed_and_not_repeated_with_another_content(stage: Stage) -> None:
    class Forgetful(Publisher):
        def publish(self, messages: Sequence[Message]) -> None:
            super().publish(messages)
            if not forgotten:
                forgotten.append(True)
                raise NotAcknowledged("the answer was lost")

    forgotten: list[bool] = []
    trigger = fired(listened(stage))
    run = replace(stage.weekly_run(), publisher=Forgetful(stage.settings.kafka))
    stage.publishers.append(run.publisher)
    with pytest.raises(NotAcknowledged):
        run.run(trigger)
    stage.send(plays(23, {"c": 99}))
    stage.count()
    run.run(trigger)
    assert [playlist.revision for playlist in stage.lists()] == [1, 2]


def test_too_little_history_for_linear_gives_naives_list_and_says_so(stage: Stage) -> None:
    listened(stage, (22, 23, 24, 25))
    control, treatment = stage.weekly_run().run(fired(stage))
    assert treatment.fallback == "needs 5 closed weeks in a row, has 3"
    assert (treatment.model, treatment.model_version) == ("naive", "1")
    assert treatment.tracks == control.tracks


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (lambda table: broken(), "it failed with KeyError"),
        (lambda table: np.array([1.0, np.nan, 1.0, 1.0, 1.0]), "1 of 5 scores are not finite"),
        (lambda table: np.array([1.0, np.inf, 1.0, 1.0, 1.0]), "1 of 5 scores are not finite"),
        (lambda table: np.ones(4), "expected scores of shape (5,), found (4,)"),
        (lambda table: np.ones((5, 1)), "expected scores of shape (5,), found (5, 1)"),
        (lambda table: [1.0] * 5, "it failed with AttributeError"),
    ],
    ids=["an error", "NaN", "infinity", "too few", "a column", "a list"],
)
def test_a_scorer_that_fails_gives_naives_list_with_the_reason_and_the_other_group_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, score: Any, reason: str
) -> None:
    monkeypatch.setitem(OPENERS, "linear", opener("linear", score))
    control, treatment = stage.weekly_run().run(fired(listened(stage)))
    assert (control.model, control.fallback) == ("naive", None)
    assert (treatment.model, treatment.model_version, treatment.fallback) == ("naive", "1", reason)
    assert treatment.tracks == control.tracks
    tracks = wiring.runs(stage.settings).tracks("2023-W25", 1)
    assert tracks is not None
    assert tracks["prediction_linear"].isna().all()
    assert tracks["score_naive"].notna().all()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_prediction_too_large_for_a_score_gives_naives_list(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPENERS, "linear", opener("linear", lambda table: np.full(5, 1e307)))
    _, treatment = stage.weekly_run().run(fired(listened(stage)))
    assert (treatment.model, treatment.fallback) == ("naive", "5 of 5 scores are not finite")


def test_a_scorer_that_fails_on_one_table_is_out_for_all_with_its_first_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tables: list[int] = []

    def score(table: FeatureTable) -> Scores:
        n_tables.append(len(table.track_ids))
        if len(n_tables) in (2, 3):
            raise {2: ZeroDivisionError, 3: KeyError}[len(n_tables)]
        return np.full(len(table.track_ids), 1000.0)

    one_slice_at_once(monkeypatch)
    monkeypatch.setitem(OPENERS, "linear", opener("linear", score))
    control, treatment = stage.weekly_run().run(fired(listened(stage)))
    assert len(n_tables) == 4
    assert treatment.fallback == "it failed with ZeroDivisionError"
    assert treatment.tracks == control.tracks


def test_a_model_that_cannot_even_be_opened_gives_naives_list_without_a_path_in_the_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", lambda *_: broken())
    control, treatment = stage.weekly_run().run(fired(listened(stage)))
    assert treatment.fallback == "it failed with KeyError"
    assert treatment.tracks == control.tracks


SIXTY = [f"t{n:02}" for n in range(60)]


def listened_to_many(stage: Stage) -> Stage:
    """Sixty tracks of which the first fifty are played, week after week."""
    stage.catalogue(*SIXTY)
    for week in range(20, 26):
        stage.send(plays(week, dict.fromkeys(SIXTY[:50], 2)))
    stage.count()
    return stage


def prefers(first: int, version: str = "1") -> Callable[..., Fitted]:
    """A linear model whose list is the fifty tracks from one on, whatever was played."""

    def score(table: FeatureTable) -> Scores:
        return np.where(np.isin(table.track_ids, SIXTY[first : first + 50]), 1000.0, 0.0)

    return lambda history, registry, closed_week: Fitted("linear", version, score)


def guarded(stage: Stage, **thresholds: float) -> WeeklyRun:
    return replace(stage.weekly_run(), guard=Guard(**thresholds))


REFUSED = "the guard refused linear 1 (it expects 0.9 of naive's list): it has 40 of 50 tracks of naive's list"


def test_a_list_that_the_guard_refuses_is_naives_with_the_reason_and_the_other_group_has_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    control, treatment = guarded(listened_to_many(stage), min_overlap_naive=0.9).run(fired(stage))
    assert (control.model, control.fallback) == ("naive", None)
    assert (treatment.model, treatment.model_version, treatment.fallback) == ("naive", "1", REFUSED)
    assert ids(treatment) == ids(control) == SIXTY[:50]
    tracks = wiring.runs(stage.settings).tracks("2023-W25", 1)
    assert tracks is not None
    assert (tracks["score_linear"] > 999).sum() == 50  # what the model said is kept


def test_the_guard_knows_the_most_played_tracks_of_all_slices(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    one_slice_at_once(monkeypatch)
    _, treatment = guarded(listened_to_many(stage), min_captured=0.9).run(fired(stage))
    assert (treatment.fallback or "").endswith(": it has 80 of 100 plays of the last week")


def test_the_guards_thresholds_are_settings(
    embedded_stack: Embedded, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    names = ("MIN_OVERLAP_NAIVE", "MIN_OVERLAP_LAST_WEEK", "MIN_CAPTURED")
    env = dict(zip((f"HITPARADE_GUARD_{name}" for name in names), ("0.25", "0.5", "0.75"), strict=True))
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, **env) as stage:
        assert stage.weekly_run().guard == Guard(min_overlap_naive=0.25, min_overlap_last_week=0.5, min_captured=0.75)


def test_a_refused_list_is_sent_again_as_it_stands_without_scoring(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    trigger = fired(listened_to_many(stage))
    guarded(stage, min_overlap_naive=0.9).run(trigger)
    no_scoring(monkeypatch)
    guarded(stage, min_overlap_naive=0.9).run(trigger)
    for group in ("control", "treatment"):
        first, second = stage.published(group)
        assert first == second


def test_a_refused_list_that_is_computed_again_is_the_same_record(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    guarded(listened_to_many(stage), min_overlap_naive=0.9).run(fired(stage))
    stage.send(plays(25, {"t00": 1}))
    stage.count()
    guarded(stage, min_overlap_naive=0.9).run(fired(stage))  # the cut is another
    first, second = stage.published("treatment")
    assert first == second


def test_a_lower_threshold_lets_a_refused_list_through_at_the_next_trigger(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    trigger = fired(listened_to_many(stage))
    for least in (0.9, 0.8):
        guarded(stage, min_overlap_naive=least).run(trigger)
    first, second = stage.lists("treatment")
    assert (first.model, second.model) == ("naive", "linear")
    assert (second.revision, second.fallback) == (2, None)
    assert [playlist.revision for playlist in stage.lists()] == [1, 1]


def test_a_higher_threshold_holds_once_the_list_is_computed_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    trigger = fired(listened_to_many(stage))
    guarded(stage, min_overlap_naive=0.8).run(trigger)
    guarded(stage, min_overlap_naive=0.9).run(trigger)
    stage.send(plays(23, {"t00": 1}))
    stage.count()
    guarded(stage, min_overlap_naive=0.9).run(trigger)
    found = [(playlist.model, playlist.revision, playlist.fallback) for playlist in stage.lists("treatment")]
    assert found == [("linear", 1, None), ("linear", 1, None), ("naive", 2, REFUSED)]


def test_another_version_of_a_refused_model_is_judged_anew(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = fired(listened_to_many(stage))
    for model in (prefers(10), prefers(5, version="2")):
        monkeypatch.setitem(OPENERS, "linear", model)
        guarded(stage, min_overlap_naive=0.9).run(trigger)
    found = [(playlist.model, playlist.revision) for playlist in stage.lists("treatment")]
    assert found == [("naive", 1), ("linear", 2)]


def test_a_list_unlike_last_weeks_is_refused_until_last_weeks_is_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened_to_many(stage)
    last_week, this_week = fired(stage, 23), fired(stage, 24)
    monkeypatch.setitem(OPENERS, "linear", prefers(0))
    guarded(stage, min_overlap_last_week=0.9).run(last_week)
    monkeypatch.setitem(OPENERS, "linear", prefers(10, "2"))
    for _ in range(2):
        guarded(stage, min_overlap_last_week=0.9).run(this_week)
    guarded(stage).run(last_week)  # by the new model: a revision, and of ten other tracks
    for _ in range(2):
        guarded(stage, min_overlap_last_week=0.9).run(this_week)
    found = [(p.week, p.model, p.revision, p.fallback) for p in stage.lists("treatment")]
    reason = (
        "the guard refused linear 2 (it expects 0.9 of the list for 2023-W24, revision 1): "
        "it has 40 of 50 of last week's"
    )
    assert found == [
        ("2023-W24", "linear", 1, None),
        ("2023-W25", "naive", 1, reason),
        ("2023-W25", "naive", 1, reason),
        ("2023-W24", "linear", 2, None),
        ("2023-W25", "linear", 2, None),
        ("2023-W25", "linear", 2, None),
    ]


def test_a_list_that_stands_is_looked_at_again_when_last_weeks_has_become_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened_to_many(stage)
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    this_week, last_week = fired(stage, 24), fired(stage, 23)
    guarded(stage, min_overlap_last_week=0.9).run(this_week)  # there is no list for last week yet
    monkeypatch.setitem(OPENERS, "linear", prefers(0))
    guarded(stage, min_overlap_last_week=0.9).run(last_week)
    monkeypatch.setitem(OPENERS, "linear", prefers(10))
    guarded(stage, min_overlap_last_week=0.9).run(this_week)
    found = [(p.model, p.revision) for p in stage.lists("treatment") if p.week == "2023-W25"]
    assert found == [("linear", 1), ("naive", 2)]


@pytest.mark.parametrize("open_naive", [opener("naive", lambda table: broken()), lambda *_: broken()])
def test_naive_failing_is_an_error_and_publishes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, open_naive: Callable[..., Fitted]
) -> None:
    monkeypatch.setitem(OPENERS, "naive", open_naive)
    with pytest.raises(KeyError):
        stage.weekly_run().run(fired(listened(stage)))
    assert stage.published() == stage.published("treatment") == []
    assert not list((stage.settings.data_dir / "runs").glob("*/*"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that has learned until 2023-W09, named by its version."""
    folder = tmp_path_factory.mktemp("network")
    trained = train(listening(folder / "history", 9, n_tracks=20), "2023-W09")
    version = folder / trained.model.version
    version.mkdir()
    trained.save(version)
    return version


@pytest.fixture
def neural(stage: Stage, tmp_path: Path) -> Stage:
    """linear against neural."""
    text = NAIVE_AGAINST_LINEAR.replace('"linear"', '"neural"').replace('"naive"', '"linear"')
    (tmp_path / "experiments.toml").write_text(text)
    return listened(stage)


def promote(stage: Stage, network: Path, last_week: str = "2023-W09") -> Path:
    """Put a copy of the network in use, as if it had learned until that week."""
    card = json.loads((network / CARD).read_text())
    weights, trial = (version_of(last_week, (network / name).read_bytes()) for name in (WEIGHTS, TRIAL))

    def save(folder: Path) -> None:
        shutil.copytree(network, folder, dirs_exist_ok=True)
        (folder / CARD).write_text(json.dumps(card | {"version": weights, "trial": trial, "last_week": last_week}))

    registry = wiring.registry(stage.settings)
    registry.publish("neural", weights, save)
    return registry.promote("neural", weights)


def test_the_network_in_use_makes_the_list_and_another_one_the_next_revision(neural: Stage, network: Path) -> None:
    trigger = fired(neural)
    run = neural.weekly_run()
    run.run(trigger)
    promote(neural, network)
    run.run(trigger)
    run.run(trigger)
    first, second, third = neural.lists("treatment")
    assert (first.model, first.fallback) == ("naive", NO_NETWORK)
    assert (second.model, second.model_version, second.fallback) == ("neural", network.name, None)
    assert (first.revision, second.revision) == (1, 2)
    assert second == third
    assert [playlist.revision for playlist in neural.lists("control")] == [1, 1, 1]


def test_a_late_event_in_a_week_of_the_context_makes_the_next_revision(
    neural: Stage, network: Path, tmp_path: Path
) -> None:
    both = NAIVE_AGAINST_LINEAR.replace('"linear"', '"neural"').replace('"naive"', '"neural"')
    (tmp_path / "experiments.toml").write_text(both)
    promote(neural, network)
    trigger, run = fired(neural), neural.weekly_run()
    run.run(trigger)
    neural.send(plays(20, {"b": 30}))  # the list's own four weeks are 21 to 24
    neural.count()
    run.run(trigger)
    first, second = neural.lists("treatment")
    assert (first.model, first.revision, second.model, second.revision) == ("neural", 1, "neural", 2)
    assert second.cut["sessions"]["0"] == first.cut["sessions"]["0"] + 1


NO_NETWORK = "no neural model in use was trained on weeks up to 2023-W24: run `hitparade train`"


def truncate(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def flip(folder: Path) -> None:
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)


def of_form_1(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"form": 1}))


def of_other_features(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"features": card["features"][::-1]}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (truncate, "weights.safetensors is not a safetensors file: "),
        (flip, "weights.safetensors is not the file that card.json describes as version 2023-W09-"),
        (lambda folder: (folder / WEIGHTS).unlink(), "weights.safetensors is missing"),
        (of_form_1, "card.json is not a Card: form: Input should be 2"),
        (of_other_features, "card.json is of other features: expected ['popularity', "),
        (lambda folder: (folder / CARD).write_bytes(b"\xff"), "card.json is not a Card: the whole: Invalid JSON"),
    ],
    ids=["truncated", "another file", "no weights", "another form", "other features", "no card"],
)
def test_a_broken_network_gives_naives_list_with_a_reason_that_names_no_path(
    neural: Stage, network: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(promote(neural, network))
    control, treatment = neural.weekly_run().run(fired(neural))
    assert (control.model, control.fallback) == ("linear", None)
    assert treatment.model == "naive"
    assert treatment.fallback is not None
    assert treatment.fallback.removeprefix(f"neural {network.name}: ").startswith(reason)
    assert str(neural.settings.data_dir) not in treatment.fallback


def test_a_network_that_has_learned_from_later_weeks_is_not_used(neural: Stage, network: Path) -> None:
    promote(neural, network, "2023-W25")
    _, treatment = neural.weekly_run().run(fired(neural))
    assert (treatment.model, treatment.fallback) == ("naive", NO_NETWORK)


def test_a_network_that_has_learned_up_to_the_closed_week_is_used(neural: Stage, network: Path) -> None:
    promote(neural, network, "2023-W24")
    _, treatment = neural.weekly_run().run(fired(neural))
    assert (treatment.model, treatment.fallback) == ("neural", None)


def test_without_torch_the_reason_says_what_to_install(network: Path, tmp_path: Path) -> None:
    code = f"""
import shutil, sys
sys.modules["torch"] = None  # as if it were not there
from pathlib import Path
from models.registry import Registry
from models.scorers import open_neural
from models.scoring import ModelError
registry = Registry(Path({str(tmp_path)!r}))
shutil.copytree({str(network)!r}, {str(tmp_path / "neural" / network.name)!r})
registry.promote("neural", {network.name!r})
try:
    open_neural(None, registry, "2023-W24")
except ModelError as cause:
    print(cause)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "torch is not installed: pip install -e '.[neural]'\n"


def test_a_cut_that_is_not_reached_publishes_nothing(stage: Stage) -> None:
    listened(stage)
    stage.send(plays(25, {"a": 1}), partition=1)
    run = replace(stage.weekly_run(), cut_timeout_s=0)
    with pytest.raises(CutTimeout, match=r"sessions.v1 partition 1: want 1, have 0$"):
        run.run(fired(stage))
    assert stage.published() == []
    stage.catalogue("e", partition=1)
    with pytest.raises(CutTimeout, match=r"partition 1: want 1, have 0; \S+tracks.v1 partition 1: want 2, have 1$"):
        run.run(fired(stage))
    stage.count()
    assert len(run.run(fired(stage))) == 2


def test_a_partition_with_cut_0_needs_no_fence(stage: Stage) -> None:
    listened(stage)
    wiring.session_store(stage.settings).drop(1)
    assert len(stage.weekly_run().run(fired(stage))) == 2


@pytest.mark.parametrize("source", ["sessions", "tracks"])
def test_a_trigger_of_a_topic_that_was_created_anew_is_refused(stage: Stage, source: str) -> None:
    trigger = fired(listened(stage))
    anew = trigger.model_copy(update={"topic_ids": trigger.topic_ids | {source: "another"}})
    with pytest.raises(WrongTopic, match=rf"{source}.v1 with id another, Redis counts id {trigger.topic_ids[source]}"):
        stage.weekly_run().run(anew)
    assert stage.published() == []


def test_a_trigger_of_the_topic_as_it_is_waits_where_redis_still_counts_the_one_before(stage: Stage) -> None:
    trigger = fired(listened(stage))
    store = wiring.session_store(stage.settings)
    fence = store.fence(0)
    assert fence is not None
    store.client.hset(store.key(0, "fence"), "topic_id", "an older one")
    run = stage.weekly_run()
    with pytest.raises(OldCounters, match="Redis counts id an older one: count the new topic, after `hitparade drop`"):
        run.run(trigger)
    assert stage.published() == []
    store.client.hset(store.key(0, "fence"), "topic_id", fence.topic_id)
    assert len(run.run(trigger)) == 2


@pytest.mark.parametrize("week", [19, 26])
def test_a_week_that_is_not_counted_is_refused(stage: Stage, week: int) -> None:
    with pytest.raises(WeekError, match=f"week 2023-W{week} is not counted: expected one of 2023-W20 to 2023-W25"):
        stage.weekly_run().run(fired(listened(stage), week))
    assert stage.published() == []


def test_a_catalogue_that_moves_on_while_a_run_looks_is_not_in_its_cut(stage: Stage) -> None:
    """Else the next run of the trigger would take its list for one that knows of the new tracks."""
    trigger = fired(listened(stage))
    run = stage.weekly_run()
    store = run.snapshot.tracks
    topic_id = trigger.topic_ids["tracks"]

    class MovesOn(type(run.playlists)):  # type: ignore[misc]
        def refresh(self) -> None:
            if store.fences([1])[1].next_offset == 1:
                store.apply(1, topic_id, part(1, 2, entries=[entry("z", 9, 1)]))
            super().refresh()

    run = replace(run, playlists=MovesOn(stage.settings.kafka, stage.settings.topics.playlists))
    run.run(trigger)
    run.run(trigger)
    first, second = stage.lists()
    assert [first.cut["tracks"], second.cut["tracks"]] == [{"0": 3, "1": 1}, {"0": 3, "1": 2}]
    assert ids(second)[0] == "z"


def test_transactions_that_commit_and_abort_stop_neither_the_fence_nor_the_cut(
    apache: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with staged(apache, redis_url, prefix, tmp_path) as stage:
        stage.catalogue("a", "b")
        stage.count_tracks()
        topic = stage.settings.topics.sessions
        producer = build_producer(stage.settings.kafka, transactional_id=prefix)
        producer.init_transactions()
        for week, ends_well in [(20, True), (21, False), (21, True), (22, True), (22, False)]:
            producer.begin_transaction()
            producer.send(topic, plays(week, {"a": 1 if ends_well else 1000}), partition=0)
            if not ends_well:  # a partition of nothing but what was aborted
                producer.send(topic, plays(week, {"b": 1000}), partition=1)
            producer.flush()
            (producer.commit_transaction if ends_well else producer.abort_transaction)()
        producer.close()

        consumer = wiring.session_consumer(stage.settings, accept_loss=False)
        assert consumer.run(threading.Event(), until_idle=True) == 0
        trigger = fired(stage, 21)
        assert trigger.cut["sessions"] == {"0": 10, "1": 4}
        fences = wiring.session_store(stage.settings).fences((0, 1))
        assert {str(p): fence.next_offset for p, fence in fences.items()} == trigger.cut["sessions"]
        control, _ = replace(stage.weekly_run(), cut_timeout_s=0).run(trigger)
    assert [(place.track_id, place.plays) for place in control.tracks] == [("a", (0, 0, 1, 1)), ("b", (0, 0, 0, 0))]
