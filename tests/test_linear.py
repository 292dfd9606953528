import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from features.history import History
from models import linear
from models.examples import linear_examples
from models.linear import LinearModel
from models.scoring import ArtefactError, NotEnoughHistory
from tests.builders_history import listening, table, weeks, write_week

MODEL = LinearModel(
    coefficients=(0.0, 0.25, -0.5, 1.0), intercept=2.0, first_week="2023-W05", last_week="2023-W09", n_rows=7
)


Rows = NDArray[np.int64]


def examples_of(rule: list[int], intercept: int, n_rows: int = 40) -> list[tuple[str, Rows]]:
    plays = np.random.default_rng(5).integers(0, 100, (n_rows, 4))
    return [("2023-W09", np.column_stack([plays, plays @ rule + intercept]))]


def slow_fit(examples: Iterable[tuple[str, Rows]]) -> list[float]:
    """All rows at once, by scikit-learn."""
    by_week: dict[str, list[list[int]]] = {}
    for week, rows in examples:
        by_week.setdefault(week, []).extend(rows.tolist())
    known, weights = [], []
    for of_week in by_week.values():
        last = sorted(row[3] for row in of_week)
        known += of_week
        weights += [1 / max(row[3], last[-50:][0], 1) for row in of_week]
    table = np.array(known, np.float64)
    fitted = LinearRegression().fit(table[:, :4], table[:, 4], weights)
    return [*fitted.coef_, fitted.intercept_]


def test_a_linear_rule_is_found() -> None:
    model = linear.fit(examples_of([1, 0, -2, 5], 3))
    assert model.coefficients == pytest.approx((1, 0, -2, 5), abs=1e-9)
    assert model.intercept == pytest.approx(3)
    assert (model.first_week, model.last_week, model.n_rows) == ("2023-W09", "2023-W09", 40)


def test_the_fit_is_least_squares_of_the_pooled_weeks_with_less_weight_for_more_plays(tmp_path: Path) -> None:
    examples = linear_examples(listening(tmp_path, 9), "2023-W09")
    model = linear.fit(examples)
    assert [*model.coefficients, model.intercept] == pytest.approx(slow_fit(examples), rel=1e-8)
    assert (model.first_week, model.last_week) == ("2023-W05", "2023-W09")
    assert model.n_rows == sum(len(rows) for _, rows in examples)


@pytest.mark.parametrize("seed", range(5))
def test_however_the_rows_are_parted_and_ordered_the_model_is_the_same(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.poisson(draw.lognormal(2, 2, (300, 1)), (300, 5))
    whole = [("2023-W08", rows[:200]), ("2023-W09", rows[200:])]
    order = draw.permutation(300)
    parts = [(week, rows[[row]]) for row in order.tolist() for week in ["2023-W08" if row < 200 else "2023-W09"]]
    assert linear.fit(whole) == linear.fit(parts)
    assert [*linear.fit(parts).coefficients] == pytest.approx(slow_fit(whole)[:4], rel=1e-8)


@pytest.mark.parametrize(
    "rows",
    [
        [[7, 7, 7, 7, 9]],
        [[0, 0, 0, 5, 9], [0, 0, 0, 7, 11]],
        [[4, 4, 4, 4, 4]] * 9,
        [[n, n, 2 * n, 0, 3 * n] for n in range(1, 9)],
        [[0, 0, 0, n, n + 1] for n in range(1, 90)],
    ],
)
def test_weeks_that_tell_nothing_apart_share_what_they_tell(rows: list[list[int]]) -> None:
    examples = [("2023-W09", np.array(rows))]
    model = linear.fit(examples)
    assert [*model.coefficients, model.intercept] == pytest.approx(slow_fit(examples), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("seed", range(9))
def test_a_week_that_is_the_sum_of_others_makes_no_weight_large(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, other, last, target = draw.integers(0, 1000, (4, 51))
    examples = [("2023-W09", np.column_stack([one, other, one + other, last, target]))]
    assert [*linear.fit(examples).coefficients] == pytest.approx(slow_fit(examples)[:4], rel=1e-7, abs=1e-7)


def test_below_the_fiftieth_place_all_rows_weigh_the_same() -> None:
    rows = np.array([[0, 0, 0, plays, 1] for plays in (400, 351, 9, 0)])
    assert (linear._weighted(rows, 351)[:, 0] ** -2).round(6).tolist() == [400, 351, 351, 351]
    assert (linear._weighted(rows, 0)[:, 0] ** -2).round(6).tolist() == [400, 351, 9, 1]


def test_the_fiftieth_place_is_that_of_the_week_over_all_parts_and_the_last_where_there_are_fewer() -> None:
    rows = [[1, 1, 1, plays, (7 * plays) % 40] for plays in range(1, 101)]
    few = [[1, 2, 1, plays, (7 * plays) % 40] for plays in (3, 5, 90)]
    examples = [("2023-W09", np.array(rows[n::3])) for n in range(3)] + [("2023-W08", np.array(few))]
    model = linear.fit(examples)
    assert [*model.coefficients, model.intercept] == pytest.approx(slow_fit(examples), rel=1e-8, abs=1e-8)


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
    assert linear.fit(examples_of([0, 0, 0, 0], 0)).coefficients == (0.0, 0.0, 0.0, 0.0)


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
