"""The backtest: which weeks, what a model may know, what it was worth; and the command around it."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import models
from features.history import History
from features.table import FeatureTable
from features.weeks import ChartWeek
from models.backtest import Judged, backtest, by_model, forecast, judge, summary, weeks_to_judge
from models.charts import ChartsError, history_from_charts
from models.forecasters import Forecaster, neural, open_linear, open_naive, oracle, refitted
from models.pictures import errors_by_age, first_played
from models.scoring import NotEnoughHistory, Scorer, Scores
from tests.builders import play
from tests.builders_history import listening, track, weeks, write_catalogue, write_week
from tests.commands import Ended, run

Capture = pytest.CaptureFixture[str]
PNG = b"\x89PNG\r\n\x1a\n"
METRICS = ["precision_at_50", "ndcg_at_50", "captured_plays", "rbo", "criterion", "exact_places"]


# Which weeks


def test_the_last_30_percent_of_the_calendar_weeks_rounded_up_are_judged() -> None:
    for n_weeks, n_judged in ((10, 3), (11, 4), (20, 6), (141, 43)):
        first = ChartWeek(date(2017, 1, 6))
        names = [first.after(n).name for n in range(n_weeks)]
        assert weeks_to_judge(names) == (names[-n_judged:], [])


def test_missing_weeks_are_counted_and_passed_over_and_so_are_those_without_the_four_before() -> None:
    names = weeks(20)
    there = [week for week in names if week != names[14]]
    # 20 calendar weeks, six of them judged: one is missing, and the four after it lack it
    assert weeks_to_judge(there) == ([names[19]], names[14:19])
    assert weeks_to_judge(there, 1) == ([names[19]], [])
    assert weeks_to_judge(there, 10**12) == ([*names[4:14], names[19]], [*names[:4], *names[14:19]])


def test_without_weeks_there_is_nothing_to_judge() -> None:
    assert weeks_to_judge([]) == ([], [])
    assert weeks_to_judge(["2023-W01"], 1) == ([], ["2023-W01"])


# What a model may know


def moving(folder: Path) -> History:
    """Twelve weeks in which every second track falls by a third each week and the others rise by a quarter."""
    history, draw = History(folder), np.random.default_rng(4)
    write_catalogue(history, [track(f"t{n:03}", energy=float(n % 2)) for n in range(30)])
    for week, name in enumerate(weeks(12)):
        rates = [(300 * 1.25**week, 9000 / 1.5**week)[n % 2] * (1 + n / 30) for n in range(30)]
        write_week(history, name, {f"t{n:03}": int(plays) for n, plays in enumerate(draw.poisson(rates))})
    return history


def with_another_future(history: History, folder: Path, closed_week: str) -> History:
    """The same history up to the closed week, and after it other weeks: shuffled, one gone, one broken."""
    shutil.copytree(history._weeks.parent, folder)
    other = History(folder)
    later = [week for week in history.weeks() if week > closed_week]
    shuffle = np.random.default_rng(5).permutation
    for week in later:
        rows = history.read([week])
        plays = dict(zip(shuffle(rows["track_id"]), rows["plays"].tolist(), strict=True))
        write_week(other, week, {**plays, "t001": 10**6, f"new-{week}": 10**7})
    (folder / "weeks" / f"{later[-1]}.parquet").write_bytes(b"broken")
    return other


@pytest.mark.parametrize("model", ["naive", "linear", "neural"])
def test_shuffling_everything_after_the_cut_changes_no_score(model: str, tmp_path: Path) -> None:
    history = moving(tmp_path / "history")
    target, closed_week = weeks(12)[8], weeks(12)[7]
    other = with_another_future(history, tmp_path / "other", closed_week)
    makers: dict[str, Callable[[], Forecaster]] = {
        "naive": lambda: open_naive,
        "linear": lambda: open_linear,
        "neural": lambda: neural(0, 1),
    }
    # A forecaster of its own for each: one would still have what it learned from the other history.
    found, again = (forecast(each, target, {"naive": open_naive, model: makers[model]()}) for each in (history, other))
    assert found.fallbacks == again.fallbacks == {}
    assert found.track_ids.tolist() == again.track_ids.tolist()
    assert found.scores[model].tolist() == again.scores[model].tolist()
    learned = found.scores[model].tolist() != found.scores["naive"].tolist()
    assert learned == (model != "naive")  # what has learned nothing leaks nothing


def test_a_network_that_leaves_popularity_out_does_not_see_it(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    history = listening(tmp_path, 8, n_tracks=30)
    ids = [f"t{n:03}" for n in range(27)]

    def scores(*left_out: str) -> list[float]:
        write_catalogue(history, [track(i, popularity=float(draw.random())) for i in ids])
        found = forecast(history, weeks(8)[7], {"naive": open_naive, "neural": neural(0, 1, left_out)})
        return [float(score) for score in found.scores["neural"]]

    assert scores("popularity") == scores("popularity")
    assert scores() != scores()


def test_a_network_is_fitted_once_in_so_many_weeks_and_again_when_it_could_not_be(tmp_path: Path) -> None:
    fitted: list[str] = []

    def fit(history: History, closed_week: str) -> Scorer:
        fitted.append(closed_week)
        if len(fitted) == 1:
            raise NotEnoughHistory("too early")
        return lambda table: np.full(len(table.track_ids), float(len(fitted)))

    forecaster, history = refitted(fit, 3), History(tmp_path)
    with pytest.raises(NotEnoughHistory):
        forecaster(history, "2023-W01")
    for week in ("2023-W02", "2023-W03", "2023-W04", "2023-W05", "2023-W09", "2023-W11", "2023-W12"):
        forecaster(history, week)
    assert fitted == ["2023-W01", "2023-W02", "2023-W05", "2023-W09", "2023-W12"]
    forecaster(history, "2023-W11")
    assert fitted[-1] == "2023-W11"  # what was fitted a week later would know too much


# What it was worth


def six_weeks(folder: Path) -> History:
    """Five weeks of a, b and c (c in the first alone), d long gone; in the sixth b is first, and `new` before all."""
    history = History(folder)
    write_week(history, weeks(6)[0], {"a": 50, "b": 40, "d": 9})
    write_week(history, weeks(6)[1], {"a": 40, "b": 30, "c": 5})
    for week in weeks(6)[2:5]:
        write_week(history, week, {"a": 40, "b": 30})
    write_week(history, weeks(6)[5], {"new": 100, "b": 60, "a": 20, "c": 10})
    return history


def scored(plays: Mapping[str, float]) -> Forecaster:
    """A model that says the same of every week."""
    return lambda history, closed_week: lambda table: np.array([plays.get(i, 0.0) for i in table.track_ids])


def test_the_candidates_are_the_tracks_played_in_the_four_weeks_before(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    write_catalogue(history, [track("a"), track("never")])
    assert forecast(history, weeks(6)[5], {"naive": open_naive}).track_ids.tolist() == ["a", "b", "c"]


def test_a_week_is_judged_by_the_plays_of_all_tracks_and_the_bound_is_the_best_order_of_the_known(
    tmp_path: Path,
) -> None:
    judged = backtest(six_weeks(tmp_path), [weeks(6)[5]], {"naive": open_naive, "m": scored({"b": 3, "c": 2, "a": 1})})
    naive, model, bound = judged  # rankings: a b c, b c a, b a c; the truth is new b a c
    assert [result.model for result in judged] == ["naive", "m", "bound"]
    assert {result.week for result in judged} == {weeks(6)[5]}
    assert [result.metrics["precision_at_50"] for result in judged] == [0.75] * 3
    assert [result.metrics["captured_plays"] for result in judged] == pytest.approx([90 / 190] * 3)
    # `new` was not ranked: place 4; of the others each is (i - place)² / i off, and nothing is exact: tenfold
    assert naive.metrics["criterion"] == pytest.approx(10 * (9 + 0 + 4 / 3 + 1 / 4))
    assert bound.metrics["criterion"] == pytest.approx(10 * (9 + 1 / 2 + 1 / 3 + 1 / 4))
    assert (naive.metrics["exact_places"], model.metrics["exact_places"]) == (1, 1)
    assert naive.places_off == {"b": 0, "a": 2, "c": 1}
    assert bound.places_off == {"b": 1, "a": 1, "c": 1}
    assert bound.metrics["ndcg_at_50"] > naive.metrics["ndcg_at_50"]


def test_equal_scores_go_by_track_id(tmp_path: Path) -> None:
    found = judge(six_weeks(tmp_path), forecast(six_weeks(tmp_path), weeks(6)[5], {"naive": scored({})}))
    assert found[0].places_off == {"b": 0, "a": 2, "c": 1}


def test_with_a_span_the_known_weeks_count_in_the_ranking_and_in_the_facts(tmp_path: Path) -> None:
    # Known of three weeks: a 120, b 90, c 0. The model's 0, 20, 0 leaves a first; its 0, 40, 0 puts b first.
    history, week = six_weeks(tmp_path), weeks(6)[5]
    forecasters = {"naive": open_naive, "low": scored({"b": 20}), "high": scored({"b": 40})}
    found = forecast(history, week, forecasters, 4)
    assert {model: scores.tolist() for model, scores in found.scores.items()} == {
        "naive": [160, 120, 0],
        "low": [120, 110, 0],
        "high": [120, 130, 0],
    }
    naive, low, high, bound = judge(history, found, 4)
    # The facts of four weeks: b 150, a 140, new 100, c 10.
    assert [result.metrics["captured_plays"] for result in (naive, low, high, bound)] == pytest.approx([300 / 400] * 4)
    assert high.places_off == bound.places_off == {"b": 0, "a": 0, "c": 1}
    assert naive.places_off == low.places_off == {"b": 1, "a": 1, "c": 1}


def test_the_oracle_ranks_by_the_true_rates_of_the_week_to_come(tmp_path: Path) -> None:
    history = listening(tmp_path, 7, n_tracks=5)
    rates = {weeks(7)[n]: {f"t{i:03}": float((i + n) % 5) for i in range(5)} for n in range(7)}
    del rates[weeks(7)[6]]["t000"]  # what it does not name has no rate
    found = forecast(history, weeks(7)[6], {"naive": open_naive, "oracle": oracle(rates)})
    assert found.scores["oracle"].tolist() == [0, 2, 3, 4, 0]


def test_a_truth_of_other_tracks_is_no_truth(tmp_path: Path) -> None:
    history = listening(tmp_path, 5, n_tracks=5)
    foreign = oracle({weeks(5)[4]: {"x": 1.0}})
    found = forecast(history, weeks(5)[4], {"naive": open_naive, "oracle": foreign})
    assert found.fallbacks == {"oracle": "the truth has no rate of any track"}


def failing(first: int, last: int, score: Callable[[FeatureTable], Scores] | None = None) -> Forecaster:
    """A model of good scores, but in the weeks of those places."""

    def forecaster(history: History, closed_week: str) -> Scorer:
        if first <= weeks(20).index(closed_week) + 1 <= last:
            if score is None:
                raise NotEnoughHistory("needs more")
            return score
        return lambda table: np.arange(len(table.track_ids), dtype=np.float64)

    return forecaster


def test_naive_stands_in_for_a_model_that_fails_and_the_weeks_are_counted(tmp_path: Path) -> None:
    history = listening(tmp_path, 12, n_tracks=8)
    forecasters = {
        "late": failing(0, 9),
        "naive": open_naive,
        "nan": failing(10, 10, lambda table: np.full(len(table.track_ids), np.nan)),
        "short": failing(10, 11, lambda table: np.zeros(1)),
    }
    judged = by_model(backtest(history, weeks(12)[8:12], forecasters))
    assert {model: [result.fallback for result in own] for model, own in judged.items()} == {
        "naive": [None] * 4,
        "late": ["needs more", "needs more", None, None],
        "nan": [None, None, "8 of 8 scores are not finite", None],
        "short": [None, None, *["expected scores of shape (8,), found (1,)"] * 2],
        "bound": [None] * 4,
    }
    assert [result.metrics for result in judged["late"][:2]] == [result.metrics for result in judged["naive"][:2]]
    assert judged["late"][2].metrics != judged["naive"][2].metrics
    counted = summary([result for own in judged.values() for result in own])
    assert {model: row.get("fallbacks") for model, row in counted.items()} == {
        "naive": None,
        "late": 2,
        "nan": 1,
        "short": 2,
        "bound": None,
    }


def test_a_model_that_fails_in_every_week_is_an_error_and_so_is_naive_in_any(tmp_path: Path) -> None:
    history = listening(tmp_path, 12, n_tracks=8)
    with pytest.raises(NotEnoughHistory, match="needs more"):
        backtest(history, weeks(12)[8:], {"naive": failing(0, 20)})
    with pytest.raises(Exception, match=r"^m could forecast none of 4 weeks; the last one: needs more$"):
        backtest(history, weeks(12)[8:], {"naive": open_naive, "m": failing(0, 20)})


def result(week: str, model: str, precision: float, **more: Any) -> Judged:
    return Judged(week, model, {"precision_at_50": precision}, more.pop("places_off", {}), **more)


def test_a_summary_has_the_means_and_the_differences_of_the_same_weeks() -> None:
    values = {"naive": [0.5, 0.9, 0.1, 0.5], "m": [0.5, 0.92, 0.14, 0.52]}
    judged = [result(week, model, own[n]) for n, week in enumerate(weeks(4)) for model, own in values.items()]
    assert summary(judged) == {
        "naive": {"model": "naive", "weeks": 4, "precision_at_50": 0.5, "vs_naive": {"precision_at_50": [0, 0, 0]}},
        "m": {
            "model": "m",
            "weeks": 4,
            "precision_at_50": 0.52,
            "vs_naive": {"precision_at_50": [0.005, 0.02, 0.035]},  # as the interval's own example has it
        },
    }


def test_an_age_is_counted_from_the_first_week_with_plays_and_falls_into_a_bin(tmp_path: Path) -> None:
    history = six_weeks(tmp_path)
    write_week(history, weeks(6)[0], {"a": 50, "b": 40, "c": 0, "d": 9})
    first = first_played(history, weeks(6)[4])
    assert first == {"a": weeks(6)[0], "b": weeks(6)[0], "c": weeks(6)[1], "d": weeks(6)[0]}
    later = ChartWeek(date(2023, 1, 2)).after(40).name
    own = [
        result(weeks(6)[1], "m", 0, places_off={"a": 7}),
        result(weeks(6)[4], "m", 0, places_off={"a": 1, "c": 2}),
        result(later, "m", 0, places_off={"a": 30}),
    ]
    assert errors_by_age(own, first) == [[7], [2], [1], [], [], [30]]


# Charts


def charts(folder: Path, n_weeks: int = 12, **columns: Any) -> tuple[Path, Path]:
    """Weekly streams of ten tracks that trade places, weeks beginning on Fridays, and their tracks."""
    first, draw = date(2017, 1, 6), np.random.default_rng(2)
    rows = [
        {"week": pd.Timestamp(first + timedelta(weeks=n)), "track_id": f"t{i}", "streams": int(s), "rank": 1}
        for n in range(n_weeks)
        for i, s in enumerate(draw.integers(1000, 9000, 10))
    ]
    known = [
        {"track_id": f"t{i}", "name": f"Song {i}", "artist": "A", "release_date": "2016-12-30", "tempo": None, "key": i}
        for i in range(9)
    ]
    folder.mkdir(exist_ok=True)
    paths = folder / "weekly.parquet", folder / "tracks.parquet"
    pd.DataFrame(rows).assign(**columns).to_parquet(paths[0])
    pd.DataFrame(known).to_parquet(paths[1])
    return paths


def test_charts_become_a_history_of_plays_with_the_catalogue(tmp_path: Path) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    history = history_from_charts(weekly, tracks, tmp_path / "history")
    assert history.weeks() == ["2017-W01", "2017-W02"]
    frame = pd.read_parquet(weekly)
    rows = history.read(["2017-W02"])
    assert rows["plays"].tolist() == frame["streams"].tolist()[10:]
    assert rows[["group", "skips", "likes"]].drop_duplicates().values.tolist() == [["all", 0, 0]]
    catalogue = history.catalogue()
    assert catalogue["id"].tolist() == [f"t{n}" for n in range(9)]
    assert catalogue[["name", "id_artist", "release_date", "key"]].iloc[3].tolist() == ["Song 3", "A", "2016-12-30", 3]
    assert catalogue[["tempo", "popularity"]].isna().all(axis=None)


@pytest.mark.parametrize("kind", ["string", "datetime64[ns, America/New_York]", "date"])
def test_a_week_may_be_a_day_in_any_form(kind: str, tmp_path: Path) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    frame = pd.read_parquet(weekly)
    days = frame["week"]
    given = {"string": days.dt.strftime("%Y-%m-%d"), "date": days.dt.date}.get(kind)
    frame["week"] = days.dt.tz_localize("America/New_York") if given is None else given
    frame.to_parquet(weekly)
    assert history_from_charts(weekly, tracks, tmp_path / "history").weeks() == ["2017-W01", "2017-W02"]


FRIDAY = pd.Timestamp(2017, 1, 6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: f.drop(columns="streams"),
            "expected one column each of week, track_id, streams, found 0 of streams",
        ),
        (lambda f: f.iloc[:0], "weekly.parquet: expected a row a week and track, found none"),
        (lambda f: pd.concat([f, f.iloc[13:14]]), "expected a track once a week, found track 't3' with .* 2017-W02"),
        (lambda f: f.assign(streams=-1), "expected streams from 0 on, found track 't0' with -1 in week 2017-W01"),
        (lambda f: f.assign(streams=f["streams"].where(f.index != 5)), "expected a streams in every row, found 1 with"),
        (lambda f: f.assign(streams=1.5), "expected streams to be int64, found double"),
        (lambda f: f.assign(streams="many"), "expected streams to be int64, found large_string"),
        (lambda f: f.assign(track_id=""), "expected a track_id that is not empty"),
        (lambda f: f.assign(track_id=None), "expected a track_id in every row, found 20 without"),
        (lambda f: f.assign(week=3), "expected week to be the day it begins, found int64"),
        (lambda f: f.assign(week="soon"), "expected week to be the day it begins: .*soon"),
        (
            lambda f: f.assign(week=[FRIDAY + pd.Timedelta(n, "D") for n in range(20)]),
            "one day .* monday and tue",
        ),
    ],
)
def test_a_weekly_file_that_is_no_chart_is_refused(
    damage: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    damage(pd.read_parquet(weekly)).to_parquet(weekly)
    with pytest.raises(ChartsError, match=message):
        history_from_charts(weekly, tracks, tmp_path / "history")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: f.drop(columns="track_id"),
            "tracks.parquet: expected one column each of track_id, found 0 of track_id",
        ),
        (lambda f: pd.concat([f, f.iloc[:2]]), "tracks.parquet: expected a row a track, found 2 tracks more than once"),
        (lambda f: f.assign(track_id=None), "track None: id: .*found None"),
        (lambda f: f.assign(release_date="soon"), "track 't0': release_date: .*found 'soon'"),
        (lambda f: f.assign(tempo="fast"), "track 't0': tempo: .*found 'fast'"),
    ],
)
def test_a_file_of_tracks_that_are_none_is_refused(
    damage: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    damage(pd.read_parquet(tracks)).to_parquet(tracks)
    with pytest.raises(ChartsError, match=message):
        history_from_charts(weekly, tracks, tmp_path / "history")


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    (tmp_path / "text").write_text("week,track_id,streams\n")
    (tmp_path / "torn").write_bytes(weekly.read_bytes()[:-9])
    table = pq.read_table(weekly)
    bad = pa.array([b"\xff"] * len(table)).view(pa.string())
    pq.write_table(table.set_column(1, "track_id", bad), tmp_path / "bytes")
    for wrong in ("text", "torn", "bytes", "nowhere", "."):
        for files in ((tmp_path / wrong, tracks), (weekly, tmp_path / wrong)):
            with pytest.raises(ChartsError, match=rf"^{tmp_path / wrong} cannot be read as Parquet: "):
                history_from_charts(*files, tmp_path / "history")


def test_a_number_that_is_none_is_unknown(tmp_path: Path) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    table = pq.read_table(tracks)
    pq.write_table(table.append_column("energy", pa.array([float("nan")] * len(table))), tracks)
    assert history_from_charts(weekly, tracks, tmp_path / "history").catalogue()["energy"].isna().all()


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    weekly, tracks = charts(tmp_path, n_weeks=2)
    table = pq.read_table(weekly)
    pq.write_table(table.append_column("streams", table["streams"]), weekly)
    with pytest.raises(ChartsError, match=r"expected one column each of .*, found 2 of streams$"):
        history_from_charts(weekly, tracks, tmp_path / "history")


# The command


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, in settings that name no server."""
    for name in [name for name in os.environ if name.startswith("HITPARADE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def naive_by_hand(weekly: Path, n_last: int) -> dict[str, float]:
    """Precision, captured plays and precision's bound of the last weeks, in loops over the file's own rows."""
    weeks: dict[pd.Timestamp, dict[str, int]] = {}
    for week, track_id, streams in pd.read_parquet(weekly)[["week", "track_id", "streams"]].values.tolist():
        weeks.setdefault(week, {})[track_id] = streams
    days = sorted(weeks)
    sums = dict.fromkeys(("precision_at_50", "captured_plays", "bound"), 0.0)
    for n in range(len(days) - n_last, len(days)):
        assert days[n] - days[n - 4] == timedelta(weeks=4)
        facts, last = weeks[days[n]], weeks[days[n - 1]]
        known = {track_id for day in days[n - 4 : n] for track_id in weeks[day]}
        truth = sorted(facts, key=lambda i: (-facts[i], i))[:50]
        forecast = sorted(known, key=lambda i: (-last.get(i, 0), i))[:50]
        sums["precision_at_50"] += len(set(truth) & set(forecast)) / 50 / n_last
        sums["captured_plays"] += sum(facts.get(i, 0) for i in forecast) / sum(facts[i] for i in truth) / n_last
        sums["bound"] += len(set(truth) & known) / 50 / n_last
    return sums


def test_on_real_charts_naive_linear_and_the_bound_are_worth_what_they_were(
    data: Path, listening_data: Path, capsys: Capture
) -> None:
    files = listening_data / "charts" / "weekly.parquet", listening_data / "charts" / "tracks.parquet"
    command = ("backtest", "--weekly", str(files[0]), "--tracks", str(files[1]), "--models", "naive,linear", "--json")
    ended = run(capsys, *command, "--last", "6")
    assert (ended.code, ended.err) == (0, "")
    naive, linear, bound = ended.rows()
    expected = naive_by_hand(files[0], 6)
    assert naive["precision_at_50"] == pytest.approx(expected["precision_at_50"], abs=1e-6)
    assert naive["captured_plays"] == pytest.approx(expected["captured_plays"], abs=1e-6)
    assert bound["precision_at_50"] == pytest.approx(expected["bound"], abs=1e-6)
    assert [naive[name] for name in METRICS[:3]] == [0.766667, 0.841938, 0.850622]
    assert [bound[name] for name in METRICS[:3]] == [0.806667, 0.917186, 0.900582]
    assert bound["vs_naive"]["precision_at_50"][1] == 0.04
    assert linear["ndcg_at_50"] > naive["ndcg_at_50"]
    assert not data.exists()


def test_on_real_charts_43_of_141_weeks_are_judged_and_naive_is_worth_what_it_was(
    data: Path, listening_data: Path, capsys: Capture
) -> None:
    files = [str(listening_data / "charts" / name) for name in ("weekly.parquet", "tracks.parquet")]
    ended = run(capsys, "backtest", "--weekly", files[0], "--tracks", files[1], "--models", "naive", "--json")
    naive, bound = ended.rows()
    assert (naive["weeks"], bound["weeks"]) == (43, 43)
    assert [round(naive[name], 3) for name in METRICS[:3]] == [0.832, 0.893, 0.903]
    assert round(bound["precision_at_50"], 3) == 0.895


def test_json_has_one_object_a_model_in_the_order_asked_for_and_one_for_the_bound(
    data: Path, tmp_path: Path, capsys: Capture
) -> None:
    listening(tmp_path / "history", 12, n_tracks=20)
    command = ("backtest", "--history", str(tmp_path / "history"), "--json")
    ended = run(capsys, *command, "--last", "2")
    assert (ended.code, ended.err) == (0, "")
    rows = ended.rows()
    assert [row["model"] for row in rows] == ["naive", "linear", "neural", "bound"]
    for row in rows:
        assert list(row) == ["model", "weeks", *METRICS, "vs_naive"]
        assert list(row["vs_naive"]) == METRICS
        assert row["weeks"] == 2
        for low, mean, high in row["vs_naive"].values():
            assert low <= mean <= high
    assert set(map(tuple, rows[0]["vs_naive"].values())) == {(0, 0, 0)}
    assert run(capsys, *command, "--last", "2").out == ended.out

    few = run(capsys, *command, "--last", "2", "--models", "linear,naive,linear").rows()
    assert [row["model"] for row in few] == ["linear", "naive", "bound"]
    assert few == [rows[1], rows[0], rows[3]]
    assert run(capsys, *command, "--last", "2", "--models", "linear").rows() == [rows[1], rows[3]]


def test_the_network_is_trained_as_the_options_say_and_popularity_is_left_out_unless_asked_for(
    data: Path, capsys: Capture
) -> None:
    history, draw = listening(data / "history", 10), np.random.default_rng(3)

    def neural_row(*options: str) -> dict[str, Any]:
        write_catalogue(history, [track(f"t{n:03}", popularity=float(draw.random())) for n in range(60)])
        return run(capsys, "backtest", "--models", "neural", "--last", "3", "--json", *options).rows()[0]

    rows = [neural_row(), neural_row("--seed", "1"), neural_row("--refit-every", "1"), neural_row("--with-popularity")]
    assert neural_row() == rows[0]
    assert all(row != other for n, row in enumerate(rows) for other in rows[:n])


def test_the_data_folders_own_history_is_judged_where_none_is_named(data: Path, capsys: Capture) -> None:
    listening(data / "history", 12, n_tracks=20)
    own = run(capsys, "backtest", "--json", "--models", "naive")
    assert own.rows()[0]["weeks"] == 4
    assert run(capsys, "backtest", "--json", "--models", "naive", "--history", str(data / "history")) == own


def test_the_table_has_a_row_a_model_and_says_what_absent_means_and_what_was_left_out(
    data: Path, capsys: Capture
) -> None:
    listening(data / "history", 12, n_tracks=20)
    (data / "history" / "weeks" / f"{weeks(12)[5]}.parquet").unlink()
    ended = run(capsys, "backtest", "--last", "3", "--models", "naive,neural")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    title = f"Weeks forecast: 2, {weeks(12)[10]} to {weeks(12)[11]}, by plays"
    assert lines[0].rstrip() == title
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == ["naive", "neural", "bound"] * 2
    assert "A track absent from a week counts as without plays there" in ended.out
    assert f"weeks passed over, missing or without the four before them: 1, {weeks(12)[9]}" in lines
    ended = run(capsys, "backtest", "--span", "4", "--last", "1", "--models", "naive")
    assert "by plays of 4 weeks, 3 known" in ended.out
    one, four = (
        run(capsys, "backtest", "--span", span, "--last", "1", "--models", "naive", "--json").rows()[0]
        for span in ("1", "4")
    )
    assert four["ndcg_at_50"] > one["ndcg_at_50"]


def test_what_fell_back_is_told_in_the_table_and_beside_the_json(data: Path, capsys: Capture) -> None:
    listening(data / "history", 8, n_tracks=20)
    note = "neural fell back to naive in 2 of 4 weeks; the last time: needs 6 closed weeks in a row, has 5\n"
    ended = run(capsys, "backtest", "--last", "4", "--models", "neural")
    assert ended.code == 0
    assert ended.out.endswith(note)
    ended = run(capsys, "backtest", "--last", "4", "--models", "neural", "--json")
    assert (ended.code, ended.err) == (0, note)
    assert [row.get("fallbacks") for row in ended.rows()] == [2, None]
    ended = run(capsys, "backtest", "--last", "4", "--models", "linear,neural", "--refit-every", "1")
    assert note.splitlines()[0] in ended.out
    assert "linear fell back to naive in 1 of 4 weeks" in ended.out


def test_out_is_a_folder_with_every_week_and_two_pictures(data: Path, tmp_path: Path, capsys: Capture) -> None:
    listening(data / "history", 8, n_tracks=20)
    folder = tmp_path / "a" / "b"
    ended = run(capsys, "backtest", "--last", "4", "--models", "linear", "--json", "--out", str(folder))
    assert ended.code == 0
    names = ("weekly.json", "difference.png", "age.png")
    assert ended.err.splitlines()[-3:] == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    rows = json.loads((folder / "weekly.json").read_text())
    assert [(row["week"], row["model"]) for row in rows] == [
        (week, model) for week in weeks(8)[4:] for model in ("naive", "linear", "bound")
    ]
    assert list(rows[0]) == ["week", "model", *METRICS, "fallback"]
    own = [row for row in rows if row["model"] == "linear"]
    assert [row["fallback"] for row in own] == ["needs 5 closed weeks in a row, has 4", None, None, None]
    (linear, _) = ended.rows()
    assert np.mean([row["rbo"] for row in own]) == pytest.approx(linear["rbo"], abs=1e-6)
    for name in names[1:]:
        assert (folder / name).read_bytes().startswith(PNG)
    run(capsys, "backtest", "--last", "1", "--models", "naive", "--out", str(folder))
    assert len(json.loads((folder / "weekly.json").read_text())) == 2


def test_session_files_and_their_truth_are_judged_with_an_oracle(data: Path, tmp_path: Path, capsys: Capture) -> None:
    events = [play(week, f"t{n}") for week in range(6) for n in range(4) for _ in range(1 + (n + week) % 4)]
    (tmp_path / "sessions").write_bytes(b"\n".join(events))
    (tmp_path / "tracks").write_text("\n".join(track(f"t{n}").model_dump_json() for n in range(4)))
    names = [ChartWeek(date(2023, 6, 12)).after(n).name for n in range(6)]
    truth = [{"week": w, "rates": {f"t{n}": 1.0 + (n + i) % 4 for n in range(4)}} for i, w in enumerate(names)]
    (tmp_path / "truth").write_text("\n".join(map(json.dumps, truth)))
    files = [str(tmp_path / name) for name in ("sessions", "tracks", "truth")]
    command = ("backtest", "--sessions", files[0], "--tracks", files[1], "--models", "naive", "--json", "--last", "2")
    ended = run(capsys, *command, "--truth", files[2])
    assert (ended.code, ended.err) == (0, "")
    naive, found, bound = ended.rows()
    assert (naive["model"], found["model"], bound["model"]) == ("naive", "oracle", "bound")
    assert (found["exact_places"], found["criterion"], naive["exact_places"]) == (4, 0, 0)
    assert {name: found[name] for name in METRICS} == {name: bound[name] for name in METRICS}

    (tmp_path / "truth").write_text("\n".join(map(json.dumps, truth[:-1])))
    ended = run(capsys, *command, "--truth", files[2])
    assert ended == Ended(
        1, "", f"hitparade: {files[2]}: expected the weeks {names[4]} to {names[5]}, found no {names[5]}\n"
    )
    for line, reason in (('{"week": "x"}', "rates: Field required"), ("nonsense", "the whole: Invalid JSON")):
        (tmp_path / "truth").write_text(f"{json.dumps(truth[0])}\n{line}")
        ended = run(capsys, *command, "--truth", files[2])
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"hitparade: {files[2]}, line 2 holds no true rates: {reason}")
    (tmp_path / "truth").write_text("\n".join(json.dumps(row | {"rates": {"x": 1}}) for row in truth))
    ended = run(capsys, *command, "--truth", files[2])
    reason = "oracle could forecast none of 2 weeks; the last one: the truth has no rate of any track"
    assert ended == Ended(1, "", f"hitparade: {reason}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--weekly w", "expected --tracks with --weekly, found --weekly alone"),
        ("--tracks t", "expected --weekly or --sessions with --tracks, found neither"),
        ("--history h --tracks t", "expected --weekly or --sessions with --tracks, found neither"),
        ("--history h --weekly w --tracks t", "not allowed with argument"),
        ("--models naive,best", "expected some of naive,linear,neural, found 'naive,best'"),
        ("--models=", "expected some of naive,linear,neural, found ''"),
        ("--span 5", "expected 1, 2, 3 or 4, found 5"),
        ("--last 0", "expected a whole number from 1 on, found '0'"),
        ("--refit-every no", "expected a whole number from 1 on"),
        ("--seed -1", "expected a whole number from 0 to 999999999, found '-1'"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(arguments: str, message: str, data: Path, capsys: Capture) -> None:
    ended = run(capsys, "backtest", *arguments.split())
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_what_cannot_be_judged_ends_with_1_and_a_sentence(data: Path, tmp_path: Path, capsys: Capture) -> None:
    nothing = "there is no history yet: `hitparade consume weekly` writes it, a file a closed week"
    assert run(capsys, "backtest") == Ended(1, "", f"hitparade: {nothing}\n")
    empty = f"there is no week in {tmp_path / 'no'}: expected files such as weeks/2023-W24.parquet"
    assert run(capsys, "backtest", "--history", str(tmp_path / "no")) == Ended(1, "", f"hitparade: {empty}\n")
    ended = run(capsys, "backtest", "--weekly", str(tmp_path / "no"), "--tracks", str(tmp_path / "no"))
    assert ended == Ended(1, "", f"hitparade: {tmp_path / 'no'} cannot be read as Parquet: No such file or directory\n")

    history = data / "history" / "weeks"
    listening(history.parent, 4, n_tracks=5)
    short = "none of the last 2 weeks is there with the four before it; the history has 4, 2023-W01 to 2023-W04"
    assert run(capsys, "backtest") == Ended(1, "", f"hitparade: {short}\n")
    listening(history.parent, 8, n_tracks=5)
    (history / "2023-W60.parquet").touch()
    ended = run(capsys, "backtest")
    assert ended.code == 1
    assert "the history holds a week that cannot be: week '2023-W60' does not exist" in ended.err
    (history / "2023-W60.parquet").unlink()
    (history / "2023-W07.parquet").write_bytes(b"PAR1")
    ended = run(capsys, "backtest")
    assert (ended.code, ended.out) == (1, "")
    assert f"history file {history / '2023-W07.parquet'} cannot be read" in ended.err


def test_where_pictures_cannot_be_drawn_or_written_that_is_said_before_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    ended = run(capsys, "backtest", "--out", str(tmp_path / "file"))
    assert ended == Ended(1, "", f"hitparade: {tmp_path / 'file'} cannot be written: File exists\n")
    monkeypatch.delitem(sys.modules, "models.pictures", raising=False)
    monkeypatch.delattr(models, "pictures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = run(capsys, "backtest", "--out", str(tmp_path))
    assert (ended.code, ended.out) == (1, "")
    assert "is not installed: pip install -e '.[neural]'" in ended.err


def test_without_torch_all_but_the_network_is_judged(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    listening(data / "history", 8, n_tracks=5)
    monkeypatch.delitem(sys.modules, "models.training", raising=False)
    monkeypatch.delitem(sys.modules, "models.neural", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    ended = run(capsys, "backtest")
    assert ended == Ended(1, "", "hitparade: torch is not installed: pip install -e '.[neural]'\n")
    assert run(capsys, "backtest", "--models", "naive,linear", "--last", "2").code == 0
