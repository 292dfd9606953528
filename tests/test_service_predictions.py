"""The three end points of predictions: what they answer, and what is wrong with a request and where."""

import json
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pyarrow as pa
import pytest
from fastapi import Request, Response
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from features.context import past_weeks
from features.counts import Counts
from features.history import History
from features.table import build
from features.tracks import release_year_and_week
from hitparade.probing import listen
from hitparade.settings import Settings
from models import training
from models.linear import LinearModel
from models.registry import Registry
from models.scorers import load, load_linear, open_linear
from models.study import linear_format, neural_format
from service.line import AT_ONCE, MOST_ASKED, Line, read
from service.parts import Limits
from service.problems import Problem
from service.tabled import release_date
from tests.builders_history import listening
from tests.servers import ROOT
from tests.serving import a_list, client, parts

Json = Any
MOST_COUNT = 9_007_199_254_740_991
ENDPOINTS = ("/base-model/predict", "/base-model/predictions", "/model/predictions")
AUDIO = (
    *("popularity", "duration_ms", "explicit", "danceability", "energy", "key", "loudness", "speechiness"),
    *("acousticness", "instrumentalness", "liveness", "valence", "tempo"),
)
FIELDS = {"track_id", *AUDIO, "release_date_year", "release_date_week", "play_count", "likes", "number_of_skips"}


def linear_model(**changes: Any) -> LinearModel:
    """Five plays, and a tenth to four tenths of each week."""
    return LinearModel(
        coefficients=(0.1, 0.2, 0.3, 0.4), intercept=5.0, first_week="2025-W01", last_week="2025-W11", n_rows=9
    ).model_copy(update=changes)


def keep_linear(folder: Path, model: LinearModel) -> LinearModel:
    Registry(folder / "models").publish("linear", model.version, lambda to: model.save(to / "linear.json"))
    return model


def plays(track_id: str | None, *counts: int, **more: Any) -> dict[str, Any]:
    found = {f"play_count_week_{n}": count for n, count in enumerate(counts, 1)} | more
    return found if track_id is None else {"track_id": track_id, **found}


def a_week(*ids: str, **changes: Any) -> list[dict[str, Any]]:
    """Tracks of which only counts are known."""
    unknown = dict.fromkeys((*AUDIO, "release_date_year", "release_date_week"))
    return [{"track_id": i, **unknown, "play_count": 9, "likes": 2, "number_of_skips": 3, **changes} for i in ids]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of nine weeks, with a linear model and two networks, of which the newer is in use."""
    folder = tmp_path_factory.mktemp("learned")
    history, registry = listening(folder / "history", 9), Registry(folder / "models")
    open_linear(history, registry, "2023-W09")
    for week in ("2023-W08", "2023-W09"):
        trained = training.train(history, week)
        registry.publish("neural", trained.model.version, trained.save)
    registry.promote("neural", registry.versions("neural")[-1])
    return folder


@pytest.fixture(scope="module")
def service(learned: Path) -> Iterator[TestClient]:
    with client(parts(learned)) as found:
        yield found


def predicted(answer: Any) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {one["track_id"]: one["prediction"] for one in answer.json()["predictions"]}


def refused(answer: Any, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


def pointers(answer: Any) -> list[str]:
    return [error["pointer"] for error in refused(answer)["errors"]]


# The linear model


def test_one_tracks_prediction_is_that_of_the_model_with_its_version(tmp_path: Path) -> None:
    version = keep_linear(tmp_path, linear_model()).version
    answer = client(parts(tmp_path)).post("/base-model/predict", json=plays(None, 10, 20, 30, 40))
    assert answer.json() == {"track_id": None, "prediction": 35.0, "model": "linear", "model_version": version}


def test_the_track_is_given_back_and_its_truth_is_not_looked_at(tmp_path: Path) -> None:
    keep_linear(tmp_path, linear_model())
    answer = client(parts(tmp_path)).post("/base-model/predict", json=plays("a", 0, 0, 0, 40, play_count=7))
    assert (answer.json()["track_id"], answer.json()["prediction"]) == ("a", 21.0)


def test_predictions_come_in_the_order_of_the_request_and_are_ranked_with_the_last_three_weeks(tmp_path: Path) -> None:
    version = keep_linear(tmp_path, linear_model()).version
    tracks = [plays("b", 900, 0, 0, 0), plays("c", 0, 10, 10, 10, play_count=3), plays("a", 0, 10, 10, 10)]
    assert client(parts(tmp_path)).post("/base-model/predictions", json=tracks).json() == {
        "model": "linear",
        "model_version": version,
        "predictions": [
            {"track_id": "b", "prediction": 95.0},
            {"track_id": "c", "prediction": 14.0},
            {"track_id": "a", "prediction": 14.0},
        ],
        "ranking": ["b", "a", "c"],
    }


def test_a_ranking_has_fifty_tracks_unless_another_number_is_asked_for(tmp_path: Path) -> None:
    keep_linear(tmp_path, linear_model())
    draw = random.Random(4)
    tracks = [plays(f"t{n}", *(draw.randrange(6) for _ in range(4))) for n in range(80)]
    asking = client(parts(tmp_path))
    made = predicted(asking.post("/base-model/predictions", json=tracks))
    known = {t["track_id"]: sum(t[f"play_count_week_{n}"] for n in (2, 3, 4)) for t in tracks}
    expected = sorted(made, key=lambda track_id: (-round(made[track_id] + known[track_id], 3), track_id))
    for query, n in {"": 50, "?top=1": 1, "?top=80": 80, "?top=999999999999999999999": 80}.items():
        assert asking.post(f"/base-model/predictions{query}", json=tracks).json()["ranking"] == expected[:n]


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5", "", "9" * 5000])
def test_a_number_of_ranks_that_makes_no_sense_is_refused_by_its_name(tmp_path: Path, top: str) -> None:
    answer = client(parts(tmp_path)).post(f"/base-model/predictions?top={top}", json=[])
    assert refused(answer)["errors"][0]["parameter"] == "top"
    assert len(answer.content) < 500


def test_no_tracks_have_no_predictions(tmp_path: Path, service: TestClient) -> None:
    keep_linear(tmp_path, linear_model())
    linear = client(parts(tmp_path)).post("/base-model/predictions", json=[])
    for answer in (linear, service.post("/model/predictions", json=[[], [], [], []])):
        assert (answer.status_code, answer.json()["predictions"], answer.json()["ranking"]) == (200, [], [])


def test_the_largest_counts_are_ranked_rightly(tmp_path: Path) -> None:
    keep_linear(tmp_path, linear_model())
    tracks = [plays("a", 0, 1, 1, 1), plays("b", *[MOST_COUNT] * 4)]
    answer = client(parts(tmp_path)).post("/base-model/predictions", json=tracks)
    assert answer.json()["ranking"] == ["b", "a"]


def test_a_weekly_runs_linear_model_is_kept_and_says_the_same_later(tmp_path: Path) -> None:
    history, registry = listening(tmp_path / "history", 9), Registry(tmp_path / "models")
    fitted = open_linear(history, registry, "2023-W09")
    assert registry.versions("linear") == [fitted.version]
    assert open_linear(history, registry, "2023-W09").version == fitted.version
    kept = load_linear(registry.version("linear", fitted.version))
    tracks = linear_format(history, "2023-W09")
    found = predicted(client(parts(tmp_path)).post("/base-model/predictions", json=tracks))
    expected = kept.predict(np.array([[t[f"play_count_week_{n}"] for n in (1, 2, 3, 4)] for t in tracks]))
    assert list(found.values()) == expected.tolist()
    assert registry.versions("neural") == []


def test_a_linear_model_that_cannot_be_kept_makes_its_list_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    fitted = open_linear(listening(tmp_path / "history", 6), Registry(tmp_path / "models"), "2023-W06")
    assert fitted.model == "linear"
    assert f"linear {fitted.version} could not be kept for predictions" in caplog.text


def test_the_model_of_the_latest_week_is_used_from_the_next_request_on(tmp_path: Path) -> None:
    keep_linear(tmp_path, linear_model())
    asking = client(parts(tmp_path))
    asked = plays(None, 0, 0, 0, 0)
    assert asking.post("/base-model/predict", json=asked).json()["prediction"] == 5.0
    keep_linear(tmp_path, linear_model(intercept=7.0, last_week="2025-W12"))
    assert asking.post("/base-model/predict", json=asked).json()["prediction"] == 7.0
    keep_linear(tmp_path, linear_model(intercept=9.0, last_week="2025-W02"))  # an old week, made again
    assert asking.post("/base-model/predict", json=asked).json()["prediction"] == 7.0


def test_where_nothing_was_fitted_or_trained_the_answer_says_what_to_do(tmp_path: Path) -> None:
    asking = client(parts(tmp_path))
    bodies: list[Json] = [plays(None, 1, 2, 3, 4), [], [[], [], [], []]]
    for path, body, command in zip(ENDPOINTS, bodies, ("consume weekly", "consume weekly", "train"), strict=True):
        answer = asking.post(path, json=body)
        assert f"`hitparade {command}`" in refused(answer, 503)["detail"]
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("content", [None, "{}", "not JSON", linear_model(intercept=1.0).model_dump_json()])
def test_a_linear_model_that_is_not_what_its_name_says_is_not_used(tmp_path: Path, content: str | None) -> None:
    version = keep_linear(tmp_path, linear_model()).version
    file = tmp_path / "models" / "linear" / version / "linear.json"
    file.unlink() if content is None else file.write_text(content)
    document = refused(client(parts(tmp_path)).post("/base-model/predict", json=plays(None, 1, 2, 3, 4)), 503)
    assert document["detail"].startswith(f"linear {version}: linear.json is ")
    assert "remove that version's folder" in document["detail"]
    assert str(tmp_path) not in document["detail"]


# The network


def by_hand(folder: Path, closed_week: str, last: str = "2023-W09") -> dict[str, float]:
    """What the network in use says of the tracks ever played, in the four weeks until `last`, by id."""
    history = History(folder / "history")
    known = history.counts(past_weeks(last))
    sums = known.sums.copy()
    sums[:, :8] = 0
    catalogue = history.tracks()
    nobody = pa.nulls(len(catalogue), pa.string())
    catalogue = catalogue.set_column(catalogue.column_names.index("id_artist"), "id_artist", nobody)
    table = build(Counts(past_weeks(closed_week), known.track_ids, sums), catalogue)
    folder_in_use = Registry(folder / "models").champion("neural")
    assert folder_in_use is not None
    return dict(zip(table.track_ids, load(folder_in_use).score(table).tolist(), strict=True))


def test_what_the_study_was_fed_gets_the_scores_of_a_table_made_by_hand(learned: Path, service: TestClient) -> None:
    asked = neural_format(History(learned / "history"), "2023-W10")
    assert {frozenset(track) for week in asked for track in week} == {frozenset(FIELDS)}
    answer = service.post("/model/predictions", json=asked)
    found, expected = predicted(answer), by_hand(learned, "2023-W09")
    assert list(found) == [track["track_id"] for track in asked[0]]
    assert len(found) > 50
    assert found == pytest.approx({track_id: expected[track_id] for track_id in found}, rel=1e-9)
    version = Registry(learned / "models").versions("neural")[-1]
    assert (answer.json()["model"], answer.json()["model_version"]) == ("neural", version)
    known = {t["track_id"]: sum(week[n]["play_count"] for week in asked[1:]) for n, t in enumerate(asked[0])}
    ranked = sorted(found, key=lambda track_id: (-round(found[track_id] + known[track_id], 3), track_id))
    assert answer.json()["ranking"] == ranked[:50]
    assert service.post("/model/predictions?top=3", json=asked).json()["ranking"] == ranked[:3]


def test_the_season_is_that_of_the_closed_week(learned: Path, service: TestClient) -> None:
    asked = neural_format(History(learned / "history"), "2023-W10")
    of_week = {week: by_hand(learned, week) for week in ("2023-W05", "2023-W09", "2024-W30")}
    assert of_week["2023-W05"] != of_week["2023-W09"] != of_week["2024-W30"]
    listed = client(parts(learned, a_list("2023-W06"), a_list("2022-W40")))
    for found, week in (
        (service.post("/model/predictions?closed_week=2023-W05", json=asked), "2023-W05"),
        (service.post("/model/predictions?closed_week=2024-W30", json=asked), "2024-W30"),
        (listed.post("/model/predictions?closed_week=2024-W30", json=asked), "2024-W30"),
        (listed.post("/model/predictions", json=asked), "2023-W05"),  # that of the latest lists
        (service.post("/model/predictions", json=asked), "2023-W09"),  # the last that was learned from
    ):
        some = predicted(found)
        assert some == pytest.approx({track_id: of_week[week][track_id] for track_id in some}, rel=1e-9)


@pytest.mark.parametrize(
    "week", ["2023-W54", "2025-W53", "W24", "2023-24", "", "0000-W10", "0001-W02", "9999-W52", "9" * 99, "٢٠٢٣-W24"]
)
def test_a_week_that_there_is_not_is_refused(service: TestClient, week: str) -> None:
    answer = service.post("/model/predictions", params={"closed_week": week}, json=[a_week("a")] * 4)
    assert refused(answer)["errors"][0]["parameter"] == "closed_week"


def test_each_week_may_have_its_own_order_and_the_answer_has_the_first_ones(learned: Path, service: TestClient) -> None:
    asked = neural_format(History(learned / "history"), "2023-W10")
    shuffled = deepcopy(asked)
    for seed, week in enumerate(shuffled):
        random.Random(seed).shuffle(week)
    found = predicted(service.post("/model/predictions", json=shuffled))
    assert list(found) == [track["track_id"] for track in shuffled[0]] != [track["track_id"] for track in asked[0]]
    assert found == pytest.approx(predicted(service.post("/model/predictions", json=asked)), rel=1e-9)


def test_what_is_known_of_a_track_may_be_null_and_is_that_of_the_last_week(service: TestClient) -> None:
    none = [a_week("a", "b")] * 4
    known = {**dict.fromkeys(AUDIO, 1e300), "explicit": True, "release_date_year": 2020, "release_date_week": 53}
    full = a_week("a", "b", **known)
    unknown = predicted(service.post("/model/predictions", json=none))
    assert predicted(service.post("/model/predictions", json=[full, full, full, none[0]])) == unknown
    assert predicted(service.post("/model/predictions", json=[none[0], none[0], none[0], full])) != unknown


def test_what_nobody_has_played_is_forecast_at_nothing(service: TestClient) -> None:
    silent = a_week("a", play_count=0)
    assert predicted(service.post("/model/predictions", json=[silent] * 4)) == {"a": 0.0}


def test_a_last_week_without_plays_after_others_with_some_is_refused(service: TestClient) -> None:
    answer = service.post("/model/predictions", json=[a_week("a")] * 3 + [a_week("a", play_count=0)])
    assert pointers(answer) == ["#/3"]


@pytest.mark.parametrize("count", [0, 1, 10**6, MOST_COUNT])
def test_any_counts_of_the_week_before_have_finite_forecasts(service: TestClient, count: int) -> None:
    before = a_week("a", "b", play_count=count, likes=count, number_of_skips=count)
    last = a_week("a", "b", play_count=MOST_COUNT)
    assert all(np.isfinite(list(predicted(service.post("/model/predictions", json=[before] * 3 + [last])).values())))


def test_a_network_is_loaded_once_and_a_promotion_is_noticed_at_the_next_request(learned: Path, tmp_path: Path) -> None:
    shutil.copytree(learned / "models", tmp_path / "models")
    registry, asking, asked = Registry(tmp_path / "models"), client(parts(tmp_path)), [a_week("a")] * 4
    older, newer = registry.versions("neural")
    assert asking.post("/model/predictions", json=asked).json()["model_version"] == newer
    shutil.rmtree(tmp_path / "models" / "linear")
    (tmp_path / "models" / "neural" / newer / "weights.safetensors").unlink()
    assert asking.post("/model/predictions", json=asked).json()["model_version"] == newer
    registry.promote("neural", older)
    assert asking.post("/model/predictions", json=asked).json()["model_version"] == older
    (tmp_path / "models" / "neural" / "champion").write_text(newer)
    detail = refused(asking.post("/model/predictions", json=asked), 503)["detail"]
    assert detail.startswith(f"neural {newer}: weights.safetensors is missing; `hitparade models` shows")


def test_an_alias_of_a_version_that_is_gone_says_what_to_do(learned: Path, tmp_path: Path) -> None:
    shutil.copytree(learned / "models", tmp_path / "models")
    (tmp_path / "models" / "neural" / "champion").write_text("gone")
    detail = refused(client(parts(tmp_path)).post("/model/predictions", json=[a_week("a")] * 4), 503)["detail"]
    assert "has no version 'gone'" in detail
    assert "`hitparade promote`" in detail


def test_a_service_that_nobody_asks_for_the_network_does_not_import_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.serving import client, parts; "
        "asking = client(parts(Path(sys.argv[1]))); "
        "print(asking.post('/base-model/predictions', json=[]).status_code, "
        "[name for name in ('torch', 'sklearn', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    keep_linear(tmp_path, linear_model())
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "200 []\n"


# What is wrong, and where

GOOD = plays("a", 1, 2, 3, 4)
WEEK = a_week("a", "b")


def changed(body: Json, *place: str | int, to: Json) -> Json:
    body = json.loads(json.dumps(body))
    inner = body
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = to
    return body


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (changed(GOOD, "play_count_week_2", to=-1), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to=1.5), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to="1"), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to=True), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to=None), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to=10**30), "#/play_count_week_2"),
        (changed(GOOD, "play_count_week_2", to=MOST_COUNT + 1), "#/play_count_week_2"),
        (changed(GOOD, "play_count", to=-1), "#/play_count"),
        (changed(GOOD, "track_id", to=""), "#/track_id"),
        (changed(GOOD, "track_id", to=5), "#/track_id"),
        (changed(GOOD, "likez", to=1), "#/likez"),
        (changed(GOOD, "a/b~c", to=1), "#/a~1b~0c"),
        (changed(GOOD, "x` - at `$", to=1), "#/x` - at `$"),
        (changed(GOOD, "x" * 999 + "` - at `$[7]", to=1), "#/7"),  # nobody can tell, but it is short
        (changed(GOOD, "a\u202eb", to=1), "#"),
        (plays("a", 1, 2, 3), "#"),
        ([], "#"),
        (None, "#"),
        ("x", "#"),
    ],
)
def test_what_is_wrong_with_one_track_is_told_by_its_place(service: TestClient, body: Json, pointer: str) -> None:
    assert pointers(service.post("/base-model/predict", json=body)) == [pointer]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([GOOD, changed(GOOD, "play_count_week_4", to=-3)], "#/1/play_count_week_4"),
        ([GOOD, plays("b", 1, 2, 3)], "#/1"),
        ([GOOD, plays(None, 1, 2, 3, 4)], "#/1"),
        ([GOOD, plays("b", 1, 2, 3, 4, likes=3)], "#/1/likes"),
        ([plays("b", 1, 2, 3, 4), GOOD, plays("c", 1, 2, 3, 4), GOOD], "#/3/track_id"),
        ([GOOD, []], "#/1"),
        ({}, "#"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_by_its_place(service: TestClient, body: Json, pointer: str) -> None:
    assert pointers(service.post("/base-model/predictions", json=body)) == [pointer]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], "#"),
        ([WEEK] * 3, "#"),
        ([WEEK] * 5, "#"),
        ({}, "#"),
        (WEEK, "#/0"),
        ([WEEK, WEEK, WEEK, 1], "#/3"),
        (changed([WEEK] * 4, 2, 1, "likes", to=-1), "#/2/1/likes"),
        (changed([WEEK] * 4, 2, 1, "number_of_skips", to=2**63), "#/2/1/number_of_skips"),
        (changed([WEEK] * 4, 2, 1, "play_count", to=None), "#/2/1/play_count"),
        (changed([WEEK] * 4, 0, 0, "tempo", to="fast"), "#/0/0/tempo"),
        (changed([WEEK] * 4, 0, 0, "tempo", to=10**400), "#/0/0/tempo"),
        (changed([WEEK] * 4, 0, 0, "name", to="A song"), "#/0/0/name"),
        (changed([WEEK] * 4, 0, 0, "release_date_week", to=54), "#/0/0/release_date_week"),
        (changed([WEEK] * 4, 0, 0, "release_date_week", to=0), "#/0/0/release_date_week"),
        (changed([WEEK] * 4, 0, 0, "release_date_year", to=10_000), "#/0/0/release_date_year"),
        ([WEEK] * 3 + [a_week("a", "b", release_date_year=2022, release_date_week=53)], "#/3/0/release_date_week"),
        ([WEEK] * 3 + [a_week("a", "b", release_date_week=7)], "#/3/0/release_date_week"),
        ([WEEK, WEEK, WEEK, a_week("a")], "#/3"),
        ([WEEK, a_week("a", "b", "c"), WEEK, WEEK], "#/1/2/track_id"),
        ([WEEK, WEEK, a_week("a", "c"), WEEK], "#/2/1/track_id"),
        ([WEEK, WEEK, a_week("b", "a", "b"), WEEK], "#/2/2/track_id"),
        ([[], WEEK, WEEK, WEEK], "#/1/0/track_id"),
        ([WEEK, [{k: v for k, v in WEEK[0].items() if k != "energy"}, WEEK[1]], WEEK, WEEK], "#/1/0"),
    ],
)
def test_what_is_wrong_with_weeks_is_told_by_its_place(service: TestClient, body: Json, pointer: str) -> None:
    assert pointers(service.post("/model/predictions", json=body)) == [pointer]


def test_more_tracks_than_the_setting_allows_are_refused_and_so_many_are_not(learned: Path) -> None:
    asking = client(replace(parts(learned), limits=Limits(max_tracks=2)))
    two, three = [plays(i, 1, 2, 3, 4) for i in "ab"], [plays(i, 1, 2, 3, 4) for i in "abc"]
    assert list(predicted(asking.post("/base-model/predictions", json=two))) == ["a", "b"]
    assert list(predicted(asking.post("/model/predictions", json=[a_week("a", "b")] * 4))) == ["a", "b"]
    assert pointers(asking.post("/base-model/predictions", json=three)) == ["#"]
    answer = asking.post("/model/predictions", json=[a_week("a", "b"), a_week("a", "b", "c")] * 2)
    assert pointers(answer) == ["#/1"]
    assert "expected at most 2 tracks, found 3: HITPARADE_HTTP_MAX_TRACKS" in answer.text


def raw(**fields: str) -> bytes:
    """A good track with some fields as they are written here."""
    written = {name: json.dumps(value) for name, value in WEEK[0].items()} | fields
    return ("[[{" + ", ".join(f'"{name}": {value}' for name, value in written.items()) + "}]]").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"\xff\xfe",
        b"\xef\xbb\xbf[]",
        b"NaN",
        b"[[1]",
        b"[" * 200_000,
        b"[[" * 100_000 + b"]]" * 100_000,
        b'{"a":' * 200_000,
        b'[[{"x":' + b"[" * 200_000,
        raw(tempo="NaN"),
        raw(tempo="-Infinity"),
        raw(tempo="1e400"),
        raw(tempo="1" * 400),
        raw(tempo="01"),
        raw(play_count="9" * 5000),
        raw(play_count="1e3"),
        raw(track_id='"\\ud800"'),
        raw(track_id='"\\udc00\\ud800"'),
        raw(track_id='"\ud800"'.encode("utf-8", "surrogatepass").decode("latin-1")).replace(
            b"\xc3\xad", b"\xed\xa0\x80"
        ),
        raw(**{"\\ud800": "1"}),
        raw(**{"a" * 10_000: "1"}),
        b"x" * 1_000_000,
        b"[" + b"[]," * 1_000_000 + b"[]]",
    ],
)
def test_what_cannot_be_read_is_refused_in_few_words(service: TestClient, body: bytes) -> None:
    for path in ENDPOINTS:
        answer = service.post(path, content=body)
        assert refused(answer)["errors"]
        assert len(answer.content) < 600


@pytest.mark.parametrize("track_id", ["\0", "💿", "a\u202eb", "<script>", "x" * 10_000, "é", "e\u0301", '"\\'])
def test_any_text_may_be_an_id_and_comes_back_as_it_was(service: TestClient, track_id: str) -> None:
    assert list(predicted(service.post("/model/predictions", json=[a_week(track_id, "a")] * 4))) == [track_id, "a"]
    tracks = [plays(track_id, 1, 2, 3, 4)]
    assert service.post("/base-model/predictions", json=tracks).json()["ranking"] == [track_id]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
counts = st.integers(-1, 9) | st.sampled_from([0, 2**31, MOST_COUNT, MOST_COUNT + 1, 2**63])
features = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.integers(-(10**9), 10**9)
near_weeks = st.lists(
    st.lists(
        st.fixed_dictionaries(
            {
                "track_id": st.sampled_from("ab"),
                **dict.fromkeys(AUDIO, features),
                "release_date_year": st.none() | st.integers(0, 9999),
                "release_date_week": st.none() | st.integers(1, 53),
                **dict.fromkeys(("play_count", "likes", "number_of_skips"), counts),
            }
        ),
        max_size=2,
        unique_by=lambda track: track["track_id"],
    ),
    min_size=4,
    max_size=4,
)
good_weeks = st.lists(counts.filter(lambda n: 0 <= n <= MOST_COUNT), min_size=8, max_size=8).map(
    lambda found: [
        a_week("a", play_count=found[n]) + a_week("b", play_count=found[n + 4], likes=found[n]) for n in range(4)
    ]
)
fuzzed = profile(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@fuzzed
@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_answered_or_refused(service: TestClient, body: bytes) -> None:
    for path in ENDPOINTS:
        assert service.post(path, content=body).status_code in (200, 422)


@fuzzed
@given(near_weeks | good_weeks)
def test_any_weeks_are_answered_with_finite_numbers_or_refused(service: TestClient, body: Json) -> None:
    answer = service.post("/model/predictions", json=body)
    if answer.status_code == 200:
        assert list(predicted(answer)) == [track["track_id"] for track in body[0]]
        assert np.isfinite(list(predicted(answer).values())).all()
    else:
        assert refused(answer)["errors"][0]["pointer"].startswith("#")


@given(st.dates())
@example(date(2020, 12, 28))
@example(date(2017, 1, 1))
@example(date(2018, 12, 31))
def test_a_release_date_is_read_back_as_the_year_and_the_week_that_it_was_made_of(day: date) -> None:
    year, week = release_year_and_week(day.isoformat())
    assert release_year_and_week(release_date(year, week)) == (year, week)
    assert release_year_and_week(release_date(year, None)) == (year, None)
    assert release_date(None, week) is release_date(None, None) is None


# The OpenAPI document


def test_the_examples_of_the_document_work_and_name_every_field(service: TestClient) -> None:
    document = service.get("/openapi.json").json()
    for path in ENDPOINTS:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert service.post(path, json=content["example"]).status_code == 200
        form, example = content["schema"], content["example"]
        while form["type"] == "array":
            form, example = form["items"], example[0]
        assert set(example) | {"track_id", "play_count"} == set(form["properties"]) | {"track_id", "play_count"}
        assert form["additionalProperties"] is False
    weeks_asked = document["paths"][ENDPOINTS[2]]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (weeks_asked["minItems"], weeks_asked["maxItems"], weeks_asked["items"]["maxItems"]) == (4, 4, 25_000)
    assert set(weeks_asked["items"]["items"]["required"]) == FIELDS


# Who waits


def requests_that(receive: Callable[[], Any]) -> Request:
    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def whole() -> dict[str, Any]:
    return {"type": "http.request", "body": b"x"}


def test_two_predictions_of_many_tracks_are_computed_at_once_and_never_three() -> None:
    n_asked, gate, lock = 3 * AT_ONCE, threading.Event(), threading.Lock()
    inside, seen = [0], []

    def predict(body: bytes) -> Response:
        with lock:
            inside[0] += 1
            seen.append(inside[0])
        gate.wait(60)
        with lock:
            inside[0] -= 1
        return Response(body)

    async def ask() -> None:
        line = Line()
        async with anyio.create_task_group() as group:
            for _ in range(n_asked):
                group.start_soon(line.answer, requests_that(whole), predict)
            while len(seen) + line._computed.statistics().tasks_waiting < n_asked:
                await anyio.lowlevel.checkpoint()
            gate.set()

    anyio.run(ask)
    assert len(seen) == n_asked
    assert max(seen) == AT_ONCE == 2


def test_who_comes_when_the_line_is_full_is_told_to_come_later_and_the_line_empties() -> None:
    async def ask() -> None:
        line, gate = Line(), anyio.Event()

        async def slow() -> dict[str, Any]:
            await gate.wait()
            return await whole()

        async with anyio.create_task_group() as group:
            for _ in range(MOST_ASKED):
                group.start_soon(line.answer, requests_that(slow), Response)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Problem) as full:
                await line.answer(requests_that(whole), Response)
            assert full.value.status == 503
            assert "ask again later" in full.value.detail
            gate.set()
        assert (await line.answer(requests_that(whole), Response)).body == b"x"

    anyio.run(ask)


def test_a_body_that_is_cut_short_is_no_failure_of_the_service() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(Problem) as cut:
        anyio.run(read, requests_that(gone))
    assert cut.value.status == 400


def test_an_answers_body_does_not_wait_for_its_headers_to_be_acknowledged() -> None:
    """asyncio sees to it only for sockets that name their protocol, which create_server's do not."""
    settings = Settings.from_env({"HITPARADE_HTTP_PORT": "0"})
    with listen(settings, "http_port") as listening_at, socket.create_connection(listening_at.getsockname()):
        accepted, _ = listening_at.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
