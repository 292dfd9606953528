"""What lists were worth, on weeks so small that the answers can be worked out by hand."""

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumers.evaluations import Evaluations, evaluate_lists
from consumers.runs import Runs, rows_of
from features.history import History, counts_of
from features.weeks import Calendar
from models.metrics import evaluate
from producers.playlists import Evaluation, Playlist
from tests.builders_history import sliced, table, track, weeks, write_catalogue, write_week

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


def kept(
    folder: Path, scores: Mapping[str, float], revision: int = 1, predictions: Mapping[str, float] | None = None
) -> Runs:
    """A run with these scores, which are its predictions too unless given; z is scored and not listed."""
    runs = Runs(folder / "runs")
    run = runs.start(LIST_WEEK.name)
    whole = table(dict.fromkeys(scores, (0, 0, 0, 0)))
    found, foretold = (
        {"linear": np.array([values[track_id] for track_id in whole.track_ids])}
        for values in (scores, predictions or scores)
    )
    run.add(rows_of(replace(whole, listed=whole.track_ids != "z"), foretold, found))
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


def test_tracks_that_were_taken_down_since_keep_their_places_and_are_worth_nothing(
    history: History, tmp_path: Path
) -> None:
    found = evaluation(history, kept(tmp_path, {"y": 9.0, "a": 8.0, "x": 7.0, "b": 6.0}), a_list("y", "a"))
    assert found.n_ranked == 4
    assert found.metrics["precision_at_50"] == round(1 / 3, 6)  # of b, a, c only a is among the first three
    assert found.metrics["criterion"] == round(10 * (9 / 1 + 0 / 2 + 4 / 3), 6)  # b is 4th, a 2nd, c is not ranked


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


# Forecasts, and a group's own listeners

SCORES = {"a": 8.0, "c": 7.0, "b": 6.0, "z": 99.0}


def test_a_forecast_is_judged_by_its_own_ranking_and_the_plays_of_the_week_alone(
    history: History, tmp_path: Path
) -> None:
    runs = kept(tmp_path, SCORES, predictions={"a": 0.4, "b": 0.5, "c": 3.0, "z": 99.0})
    forecast = evaluation(history, runs, a_list("a", "c")).forecast
    assert forecast is not None
    # c b a; played were b 8, c 1; naive's is b 3, a 1, c 0
    log3 = math.log2(3)
    assert forecast.metrics["ndcg_at_50"] == round((1 + 8 / log3) / (8 + 1 / log3), 6)
    assert (forecast.metrics["captured_plays"], forecast.naive["captured_plays"]) == (1.0, round(8 / 9, 6))
    assert (forecast.metrics["exact_places"], forecast.naive["exact_places"]) == (0, 1)


def test_forecasts_that_differ_beyond_three_decimals_alone_go_by_track_id(history: History, tmp_path: Path) -> None:
    runs = kept(tmp_path, SCORES, predictions={"a": 0.4, "b": 0.70001, "c": 0.70004, "z": 99.0})
    forecast = evaluation(history, runs, a_list("a", "c")).forecast
    assert forecast is not None
    assert forecast.metrics["exact_places"] == 2  # b c


def test_without_its_run_a_forecast_is_not_judged(history: History, tmp_path: Path) -> None:
    found = evaluation(history, Runs(tmp_path), a_list("a", "c"))
    assert found.forecast is found.own_forecast is None
    assert evaluation(history, kept(tmp_path, SCORES), a_list("c", "a")).forecast is None  # not the list's run


def write_groups(history: History, week: str, plays: Mapping[str, Mapping[str, int]]) -> None:
    """Plays by group and track."""
    rows = [(track_id, group, n, 0, 0) for group, own in plays.items() for track_id, n in own.items()]
    history.write_week(week, map(counts_of, sliced(rows, [row[0] for row in rows], 4)), {"from": "builder"})


def test_a_group_is_judged_by_the_plays_of_its_own_listeners(history: History, tmp_path: Path) -> None:
    for week in ("2023-W02", "2023-W03", "2023-W04"):
        write_groups(history, week, {"control": {"a": 1}, "treatment": {"b": 9}})
    write_groups(history, "2023-W05", {"control": {"a": 1, "c": 9, "z": 99}, "treatment": {"b": 8}})
    found = evaluation(history, kept(tmp_path, SCORES), a_list("a", "c"))
    assert found.own is not None
    assert found.own_forecast is not None
    # The list and its forecast are a c b; over the span the group's own played c 9, a 4, and in the week c 9, a 1.
    log3 = math.log2(3)
    assert found.own.metrics["captured_plays"] == found.own_forecast.metrics["captured_plays"] == 1.0
    assert found.own.metrics["ndcg_at_50"] == round((4 + 9 / log3) / (9 + 4 / log3), 6)
    assert found.own_forecast.metrics["ndcg_at_50"] == round((1 + 9 / log3) / (9 + 1 / log3), 6)
    # Naive's list is of all listeners' plays: b 36, a 4, c 0; and b 9, a 1, c 0.
    assert found.own.naive["captured_plays"] == round(4 / 13, 6)
    assert found.own_forecast.naive["captured_plays"] == 0.1


def test_a_group_that_was_not_there_in_all_weeks_of_the_span_is_judged_by_its_forecast_alone(
    history: History, tmp_path: Path
) -> None:
    write_groups(history, "2023-W05", {"control": {"a": 1}, "treatment": {"b": 8}})
    found = evaluation(history, kept(tmp_path, SCORES), a_list("a", "c"))
    assert found.own is None
    assert found.own_forecast is not None
    write_groups(history, "2023-W05", {"treatment": {"b": 8}})
    found = evaluation(history, kept(tmp_path, SCORES), a_list("a", "c"))
    assert found.own is found.own_forecast is None


def test_a_week_that_is_missing_or_without_any_plays_is_held_against_no_group(history: History, tmp_path: Path) -> None:
    for week in ("2023-W02", "2023-W05"):
        write_groups(history, week, {"control": {"a": 1}})
    write_groups(history, "2023-W03", {})
    (tmp_path / "history" / "weeks" / "2023-W04.parquet").unlink()
    assert evaluation(history, kept(tmp_path, SCORES), a_list("a", "c")).own is not None


@pytest.mark.parametrize("span_weeks", [1, 2, 3, 4])
@pytest.mark.parametrize("rows_at_once", [1, 10**6])
def test_evaluations_are_those_of_a_slow_count_whole_and_slice_by_slice(
    span_weeks: int, rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(History.parts, "__defaults__", (rows_at_once,))
    draw = np.random.default_rng(span_weeks)
    ids = [f"t{n:03}" for n in range(80)]
    listed = [i for i in ids if draw.random() < 0.9]
    history = History(tmp_path / "history")
    write_catalogue(history, [track(i) for i in listed])
    known = weeks(6)
    plays = {w: {g: {i: int(draw.poisson(3)) for i in ids} for g in ("control", "treatment")} for w in known}
    for week, of_week in plays.items():
        write_groups(history, week, of_week)
    scores, predictions = ({i: round(float(draw.random()), 2) for i in ids} for _ in range(2))

    def counted(of: list[str], groups: tuple[str, ...] = ("control", "treatment")) -> Counter[str]:
        total: Counter[str] = Counter()
        for week in of:
            for group in groups:
                total.update({i: n for i, n in plays[week][group].items() if i in listed})
        return total

    def ranking(by: Mapping[str, float]) -> list[str]:
        return sorted(listed, key=lambda i: (-by.get(i, 0), i))

    def worth(ranked: list[str], facts: Counter[str]) -> dict[str, float]:
        return {n: round(v, 6) for n, v in evaluate(ranked, {i: p for i, p in facts.items() if p}).items()}

    runs = Runs(tmp_path / "runs")
    run = runs.start(known[-1])
    whole = table(dict.fromkeys(ids, (0, 0, 0, 0)))
    values = [{"linear": np.array([v[i] for i in whole.track_ids])} for v in (predictions, scores)]
    run.add(rows_of(replace(whole, listed=np.isin(whole.track_ids, listed)), *values))
    run.keep(1, {})
    playlist = a_list(*ranking(scores)[:50]).model_copy(update={"week": known[-1]})
    (found,) = evaluate_lists(Calendar().parse(known[-1]), history, runs, [playlist], span_weeks)

    of_span, last = known[-span_weeks:], known[-2:-1]
    naive, naive_forecast = ranking(counted(of_span[:-1] + last)), ranking(counted(last))
    own = ("control",)
    assert found.own is not None
    assert found.forecast is not None
    assert found.own_forecast is not None
    assert found.n_ranked == len(listed)
    for has, ranked, facts in (
        (found.metrics, ranking(scores), counted(of_span)),
        (found.naive, naive, counted(of_span)),
        (found.own.metrics, ranking(scores), counted(of_span, own)),
        (found.own.naive, naive, counted(of_span, own)),
        (found.forecast.metrics, ranking(predictions), counted(known[-1:])),
        (found.forecast.naive, naive_forecast, counted(known[-1:])),
        (found.own_forecast.metrics, ranking(predictions), counted(known[-1:], own)),
        (found.own_forecast.naive, naive_forecast, counted(known[-1:], own)),
    ):
        assert has == worth(ranked, facts)


# What is kept


def test_a_record_of_an_earlier_version_is_read_and_has_nothing_of_what_was_added(history: History) -> None:
    record = evaluation(history, Runs(Path("nowhere")), a_list("a")).model_dump(mode="json")
    for name in ("own", "forecast", "own_forecast"):
        del record[name]
    read = Evaluation.model_validate_json(json.dumps(record))
    assert (read.own, read.forecast, read.own_forecast) == (None, None, None)
    assert read.metrics == record["metrics"]


def some(week: str, group: str, revision: int = 1, n_ranked: int = 50) -> Evaluation:
    fields: dict[str, object] = {"week": week, "group": group, "experiment": "e", "model": "linear"}
    fields |= {"model_version": "v", "playlist_id": "", "revision": revision, "span_weeks": 4, "n_ranked": n_ranked}
    return Evaluation.model_validate(fields | {"metrics": {}, "naive": {}})


def test_what_is_kept_is_a_line_a_week_group_and_revision_whatever_comes_again(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "kept")
    first = [some("2023-W05", "b"), some("2023-W05", "a")]
    evaluations.keep(first)
    evaluations.keep([some("2023-W04", "a")])
    before = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    evaluations.keep(first)
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == before
    evaluations.keep([some("2023-W05", "a", revision=2), some("2023-W05", "b", n_ranked=60)])
    assert [(e.week, e.group, e.revision, e.n_ranked) for e in evaluations.read()] == [
        ("2023-W04", "a", 1, 50),
        ("2023-W05", "a", 1, 50),
        ("2023-W05", "a", 2, 50),
        ("2023-W05", "b", 1, 60),
    ]


def test_a_line_that_is_no_evaluation_is_told_and_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluations = Evaluations(tmp_path)
    evaluations.keep([some("2023-W05", "a"), some("2023-W05", "b")])
    path = tmp_path / "2023-W05.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"b"', b'"b'))
    (tmp_path / "notes.jsonl").write_text("not a week")
    with caplog.at_level(logging.ERROR):
        assert evaluations.read() == [some("2023-W05", "a")]
        evaluations.keep([some("2023-W05", "c")])
    assert "line 2 of" in caplog.text
    assert [evaluation.group for evaluation in evaluations.read()] == ["a", "c"]


def test_what_a_writer_that_died_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".2023-W05.jsonl.0.tmp").touch()
    Evaluations(tmp_path).keep([some("2023-W05", "a")])
    assert [path.name for path in tmp_path.iterdir()] == ["2023-W05.jsonl"]


def test_nothing_to_keep_is_nothing_kept(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "kept")
    evaluations.keep([])
    assert evaluations.read() == []
    assert not (tmp_path / "kept").exists()
