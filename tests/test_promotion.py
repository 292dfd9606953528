"""Whether a version is worth being put in use, and what its card says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from features.history import History
from models.cards import Card, card_markdown
from models.forecasters import Forecaster
from models.metrics import captured_plays, ndcg_at, precision_at
from models.promotion import Means, Verdict, is_better, unfitted_weeks, verdict
from models.scoring import ModelError
from tests.builders_history import track, weeks, write_catalogue, write_week

VERSION = "2023-W09-1a2b3c4d"


def card(**fields: Any) -> Card:
    metrics = {
        "neural": {"mean_absolute_error": 3.5, "precision_at_50": 0.84, "surprise": 1234.5},
        "naive": {"mean_absolute_error": 4.25, "precision_at_50": 0.83, "surprise": 1.0},
    }
    defaults: dict[str, Any] = {
        "version": VERSION,
        "trial": "2023-W09-00000000",
        "first_week": "2023-W05",
        "last_week": "2023-W09",
        "n_weeks": 5,
        "holdout_weeks": ["2023-W08", "2023-W09"],
        "n_tracks": 2800,
        "n_rows": 14000,
        "seed": 7,
        "epochs": 25,
        "best_epoch": 17,
        "members": 4,
        "hidden": (48, 24),
        "left_out": ("popularity",),
        "metrics": metrics,
        "vs_naive": {"mean_absolute_error": (-1.0, -0.75, -0.5), "precision_at_50": (0.0, 0.01, 0.02)},
        "code_version": "1.2.3",
        "libraries": {"torch": "2.0", "numpy": "1.0"},
    }
    return Card(**defaults | fields)


def test_a_card_is_read_back_from_json_as_it_was() -> None:
    assert Card.model_validate_json(card().model_dump_json()) == card()


@pytest.mark.parametrize(
    "fields",
    [
        {"form": 1},
        {"surprise": 1},
        {"holdout_weeks": []},
        {"holdout_weeks": ["2023-W8"]},
        {"last_week": "2023-W09 | x"},
        {"metrics": {"neural": {"precision_at_50": float("nan")}}},
        {"vs_naive": {"precision_at_50": (0.0, 0.0, float("inf"))}},
    ],
)
def test_what_is_no_card_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        card(**fields)


def test_a_card_in_markdown_says_what_was_learned_from_and_what_it_was_worth_beside_naive() -> None:
    lines = card_markdown(card()).splitlines()
    assert lines[0] == f"# neural {VERSION}"
    for line in (
        "| learned from | the plays of 5 weeks, 2023-W05 to 2023-W09 |",
        "| tracks | 2,800 |",
        "| rows | 14,000 |",
        "| seed | 7 |",
        "| made by | hitparade 1.2.3 |",
        "| libraries | numpy 1.0, torch 2.0 |",
        "| mean absolute error (less is better) | 3.5000 | 4.2500 | -0.7500 | -1.0000 to -0.5000 |",
        "| precision@50 | 0.8400 | 0.8300 | +0.0100 | +0.0000 to +0.0200 |",
        "| surprise | 1,234.5000 | 1.0000 |  |  |",
        "![The loss by epoch](loss.png)",
        "- left out: popularity",
    ):
        assert line in lines
    text = card_markdown(card())
    for part in ("2 from 2023-W08 to 2023-W09", "4 networks", "48 and 24", "epoch 17 of 25", "context, version 1: "):
        assert part in text
    assert text.endswith("\n")
    assert "One network with" in card_markdown(card(members=1))
    assert "- left out: nothing" in card_markdown(card(left_out=()))


def means(precision: float, ndcg: float, captured: float) -> Means:
    return {"precision_at_50": precision, "ndcg_at_50": ndcg, "captured_plays": captured}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (means(0.8, 0.91, 0.91), True),
        (means(0.9, 0.91, 0.91), True),
        (means(0.79, 0.91, 0.91), False),
        (means(0.9, 0.9, 0.91), False),
        (means(0.9, 0.91, 0.9), False),
        (means(0.9, 0.89, 0.95), False),
        (means(0.8, 0.9, 0.9), False),
    ],
)
def test_better_is_higher_in_ndcg_and_captured_plays_and_not_lower_in_precision(one: Means, expected: bool) -> None:
    assert is_better(one, means(0.8, 0.9, 0.9)) is expected


def test_a_version_must_beat_everyone() -> None:
    others = {"naive": means(0.8, 0.8, 0.8), "old": means(0.9, 0.9, 0.9)}
    assert Verdict("new", ["2023-W05"], means(0.95, 0.95, 0.95), others).unbeaten == []
    assert Verdict("new", ["2023-W05"], means(0.85, 0.85, 0.85), others).unbeaten == ["old"]
    assert Verdict("new", ["2023-W05"], means(0.7, 0.7, 0.7), others).unbeaten == ["naive", "old"]


def test_a_verdict_is_one_sentence_of_figures() -> None:
    naive, old = means(0.8, 0.81, 0.82), means(0.83, 0.84, 0.85)
    assert str(Verdict("new", ["2023-W05", "2023-W07"], means(0.86, 0.87, 0.88), {"naive": naive, "old": old})) == (
        "neural new is better than naive and old; of 2 weeks that it was not fitted to, 2023-W05 to 2023-W07: "
        "precision@50 0.8600 (naive 0.8000, old 0.8300), NDCG@50 0.8700 (naive 0.8100, old 0.8400), "
        "captured plays 0.8800 (naive 0.8200, old 0.8500)"
    )
    worse = str(Verdict("new", ["2023-W05"], means(0.81, 0.82, 0.82), {"naive": naive, "old": old}, note="; so"))
    assert worse.startswith("neural new is not better than naive or old; of 1 week that")
    assert worse.endswith("captured plays 0.8200 (naive 0.8200, old 0.8500); so")


def test_a_version_is_judged_by_the_weeks_it_held_out_and_those_after_it_that_have_the_four_before_them() -> None:
    there = [week for week in weeks(20) if week != "2023-W12"]
    assert unfitted_weeks(there, card()) == ["2023-W08", "2023-W09", "2023-W10", "2023-W11", *weeks(20)[16:]]
    assert unfitted_weeks(weeks(8), card()) == ["2023-W08"]
    assert unfitted_weeks(weeks(7), card()) == []


PLAYS: dict[str, dict[str, int]] = {
    week: {f"t{n:02}": 1 + (n * 7 + place * place * 13) % 60 for n in range(60)} for place, week in enumerate(weeks(8))
}
"""Sixty tracks, of which other ones lead each week."""


@pytest.fixture
def history(tmp_path: Path) -> History:
    found = History(tmp_path)
    write_catalogue(found, [track(track_id) for track_id in PLAYS["2023-W01"]])
    for week, plays in PLAYS.items():
        write_week(found, week, plays)
    return found


def says(forecasts: Mapping[str, Mapping[str, float]]) -> Forecaster:
    """Forecasts by closed week and track."""

    def forecaster(history: History, closed_week: str) -> Any:
        return lambda table: np.array([forecasts[closed_week][track_id] for track_id in table.track_ids], np.float64)

    return forecaster


PERFECT = {closed: PLAYS[week] for closed, week in zip(weeks(8), weeks(8)[1:], strict=False)}
WORST = {closed: {i: -n for i, n in plays.items()} for closed, plays in PERFECT.items()}


def test_a_verdict_has_the_means_over_the_weeks_of_each_models_ranking_of_the_same_tracks(history: History) -> None:
    found = verdict(history, ["2023-W06", "2023-W08"], "new", says(PERFECT), {"old": says(WORST)})
    assert found.unbeaten == []
    assert (found.version, found.weeks, list(found.others)) == ("new", ["2023-W06", "2023-W08"], ["naive", "old"])
    assert found.own["ndcg_at_50"] == found.own["captured_plays"] == 1.0
    for name, said in (("naive", PLAYS), ("old", WORST)):
        expected = []
        for closed, week in (("2023-W05", "2023-W06"), ("2023-W07", "2023-W08")):
            ranking = sorted(said[closed], key=lambda i: (-said[closed][i], i))
            plays = PLAYS[week]
            expected.append((precision_at(ranking, plays), ndcg_at(ranking, plays), captured_plays(ranking, plays)))
        own = found.others[name]
        assert [own["precision_at_50"], own["ndcg_at_50"], own["captured_plays"]] == pytest.approx(
            [sum(column) / 2 for column in zip(*expected, strict=True)]
        )


def test_a_version_that_says_what_naive_says_is_not_better(history: History) -> None:
    found = verdict(history, ["2023-W06", "2023-W08"], "new", says(PLAYS), {})
    assert found.unbeaten == ["naive"]
    assert found.own == found.others["naive"]


def test_a_version_must_beat_the_one_in_use_not_only_naive(history: History) -> None:
    found = verdict(history, ["2023-W06", "2023-W08"], "new", says(PERFECT), {"old": says(PERFECT)})
    assert found.unbeaten == ["old"]


def test_a_version_that_cannot_score_a_week_is_not_judged_and_one_in_use_is_judged_as_the_naive_list_it_makes(
    history: History,
) -> None:
    def broken(history: History, closed_week: str) -> Any:
        forecasts = dict.fromkeys(PLAYS["2023-W01"], np.nan) if closed_week == "2023-W07" else PERFECT[closed_week]
        return says({closed_week: forecasts})(history, closed_week)

    with pytest.raises(ModelError, match=r"^neural new cannot be judged: week 2023-W08: 60 of 60 scores are not"):
        verdict(history, ["2023-W06", "2023-W08"], "new", broken, {})
    found = verdict(history, ["2023-W08"], "new", says(PERFECT), {"old": broken})
    assert found.others["old"] == found.others["naive"]


def test_the_card_is_json_that_others_can_read() -> None:
    content = json.loads(card().model_dump_json())
    assert content["vs_naive"]["precision_at_50"] == [0.0, 0.01, 0.02]
    assert content["metrics"]["naive"]["precision_at_50"] == 0.83
    assert content["features"][0] == "popularity"
