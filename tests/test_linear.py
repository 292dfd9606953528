import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.history import History
from models import linear
from models.examples import WEEK_COLUMNS, linear_examples
from models.linear import LinearModel
from models.scoring import ArtefactError, NotEnoughHistory
from tests.builders_history import listening, table, weeks, write_week

MODEL = LinearModel(
    coefficients=(0.0, 0.25, -0.5, 1.0), intercept=2.0, first_week="2023-W05", last_week="2023-W09", n_rows=7
)


def examples_of(rule: list[float], intercept: float, n_rows: int = 40) -> pd.DataFrame:
    plays = np.random.default_rng(5).integers(0, 100, (n_rows, 4))
    frame = pd.DataFrame(plays, columns=list(WEEK_COLUMNS))
    frame["play_count"] = plays @ rule + intercept
    return frame.assign(target_week="2023-W09")


def test_a_linear_rule_is_found() -> None:
    model = linear.fit(examples_of([0.1, 0.0, 0.25, 0.5], 3.0))
    assert model.coefficients == pytest.approx((0.1, 0.0, 0.25, 0.5), abs=1e-9)
    assert model.intercept == pytest.approx(3.0)
    assert (model.first_week, model.last_week, model.n_rows) == ("2023-W09", "2023-W09", 40)


def test_the_fit_is_least_squares_of_the_pooled_weeks_with_less_weight_for_more_plays(tmp_path: Path) -> None:
    examples = linear_examples(listening(tmp_path, 9), "2023-W09")
    known = np.column_stack([examples[list(WEEK_COLUMNS)].to_numpy(np.float64), np.ones(len(examples))])
    found: list[float] = []
    for _, week in examples.groupby("target_week", observed=True):
        last = week[WEEK_COLUMNS[-1]].to_list()
        found += [max(plays, sorted(last)[-50], 1) ** -0.5 for plays in last]
    root = np.array(found)
    slow, *_ = np.linalg.lstsq(known * root[:, None], examples["play_count"].to_numpy(np.float64) * root)
    model = linear.fit(examples)
    assert [*model.coefficients, model.intercept] == pytest.approx(slow.tolist(), rel=1e-6)
    assert (model.first_week, model.last_week) == ("2023-W05", "2023-W09")


def test_below_the_fiftieth_place_of_a_week_all_rows_weigh_the_same() -> None:
    many = list(range(400, 300, -1))
    rows = [("2023-W09", plays) for plays in many] + [("2023-W10", 0), ("2023-W10", 9), ("2023-W11", 0)]
    examples = pd.DataFrame(rows, columns=["target_week", WEEK_COLUMNS[-1]])
    found = (1 / linear._weights(examples)).round(6).tolist()
    assert found == [*many[:50], *[351] * 50, 1, 9, 1]


def test_the_oldest_week_has_the_first_coefficient_and_a_prediction_may_lie_below_zero() -> None:
    assert MODEL.score(table({"a": [100, 4, 2, 1], "b": [0, 0, 100, 0]})).tolist() == [3.0, -48.0]


def test_the_same_weeks_give_the_same_version_and_others_another(tmp_path: Path) -> None:
    history = listening(tmp_path, 9)
    again = linear.fit(linear_examples(listening(tmp_path / "again", 9), "2023-W09"))
    assert linear.fit(linear_examples(history, "2023-W09")) == again
    assert again.version == linear.fit(linear_examples(history, "2023-W09")).version
    assert again.version.startswith("2023-W09-")
    assert linear.fit(linear_examples(history, "2023-W08")).version != again.version


def test_later_weeks_do_not_change_the_fit_for_an_earlier_list(tmp_path: Path) -> None:
    history = listening(tmp_path, 8)
    before = linear.fit(linear_examples(history, "2023-W08"))
    write_week(history, "2023-W09", {"t000": 10**6, "new": 5})
    assert linear.fit(linear_examples(history, "2023-W08")) == before


def test_numbers_have_nine_significant_digits_and_no_noise(tmp_path: Path) -> None:
    model = linear.fit(linear_examples(listening(tmp_path, 7), "2023-W07"))
    assert all(float(f"{number:.9g}") == number for number in (*model.coefficients, model.intercept))
    assert linear.fit(examples_of([0.0, 0.0, 0.0, 0.0], 0.0)).coefficients == (0.0, 0.0, 0.0, 0.0)


def test_a_history_without_a_play_is_not_enough(tmp_path: Path) -> None:
    history = History(tmp_path)
    for week in weeks(6):
        write_week(history, week, {"a": (0, 0, 1)})
    with pytest.raises(NotEnoughHistory, match=r"^no track was played in the weeks to learn from$"):
        linear.fit(linear_examples(history, "2023-W06"))


def test_a_saved_model_is_read_back_with_its_version(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "new" / "linear.json")
    assert linear.load(tmp_path / "new" / "linear.json") == MODEL
    assert linear.load(tmp_path / "new" / "linear.json").version == MODEL.version


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the whole: Invalid JSON"),
        ("{", "the whole: Invalid JSON"),
        ("[]", "the whole: Input should be an object"),
        (json.dumps(MODEL.model_dump() | {"coefficients": [1, 2, 3]}), "coefficients.3: Field required"),
        (json.dumps(MODEL.model_dump() | {"intercept": float("nan")}), "intercept: Input should be a finite number"),
        (json.dumps(MODEL.model_dump() | {"form": 2}), "form: Input should be 1"),
        (json.dumps({"intercept": 1}), "coefficients: Field required; first_week: Field required"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_fault_but_no_folder(
    tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "linear.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ArtefactError) as error:
        linear.load(path)
    assert str(error.value).startswith(f"linear.json is not a LinearModel: {reason}")
    assert str(tmp_path) not in str(error.value)


def test_a_missing_file_is_refused_with_its_name_but_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"^linear\.json is missing$"):
        linear.load(tmp_path / "linear.json")
    with pytest.raises(ArtefactError, match=rf"^{tmp_path.name} cannot be read: IsADirectoryError$"):
        linear.load(tmp_path)
