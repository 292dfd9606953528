"""The base model: next week's plays as a weighted sum of the plays of four weeks, fitted anew before each list."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from features.columns import KINDS
from features.context import PLACE
from features.files import replacing
from features.table import N_WEEKS, FeatureTable
from models.artefact import read_json
from models.scoring import NotEnoughHistory, Scores, checked

Finite = Annotated[float, Field(allow_inf_nan=False)]
PLAYS = KINDS.index("plays")
LAST = N_WEEKS - 1


class LinearModel(BaseModel):
    """Four weights (oldest week first), an intercept, and the target weeks that they were learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal[1] = 1
    coefficients: tuple[Finite, Finite, Finite, Finite]
    intercept: Finite
    first_week: str
    last_week: str
    n_rows: int

    @property
    def version(self) -> str:
        """The last week learned from and a hash of all that the model is."""
        return f"{self.last_week}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"

    def score(self, table: FeatureTable) -> Scores:
        """Predict next week's plays; see predict."""
        return self.predict(table.counts[:, :, PLAYS])

    def predict(self, plays: NDArray[np.int64]) -> Scores:
        """Predict next week's plays as the regression has it: a falling track's may lie below 0.

        Args:
            plays: (n_tracks, 4), oldest week first.

        Raises:
            ScoringError: a prediction is not finite.
        """
        # Summed week by week and not as a matrix product, whose last bits depend on how many rows there are.
        scores = np.full(len(plays), self.intercept)
        for week, coefficient in enumerate(self.coefficients):
            scores += coefficient * plays[:, week]
        return checked(scores, len(plays))

    def save(self, path: Path) -> None:
        """Write the model as JSON, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> LinearModel:
    """Read what save wrote.

    Raises:
        ArtefactError: the file is missing, broken, or of another form.
    """
    return read_json(path, LinearModel)


def fit(examples: Iterable[tuple[str, NDArray[np.int64]]]) -> LinearModel:
    """Fit the rows of linear_examples, which are gone over twice; the same rows give the same model and version.

    Raises:
        NotEnoughHistory: there is no row.
    """
    best: dict[str, NDArray[np.int64]] = {}
    n_rows = 0
    for week, rows in examples:
        if len(rows):
            n_rows += len(rows)
            best[week] = np.sort(np.append(rows[:, LAST], best.get(week, ())))[-PLACE:]
    if not best:
        raise NotEnoughHistory("no track was played in the weeks to learn from")
    with threadpool_limits(limits=1):
        weighted = (_weighted(rows, best[week][0]) for week, rows in examples if len(rows))
        intercept, (week_1, week_2, week_3, week_4) = _least_squares(_triangle(weighted), n_rows)
    return LinearModel(
        coefficients=(_rounded(week_1), _rounded(week_2), _rounded(week_3), _rounded(week_4)),
        intercept=_rounded(intercept),
        first_week=min(best),
        last_week=max(best),
        n_rows=n_rows,
    )


def _weighted(rows: NDArray[np.int64], at_place: float) -> NDArray[np.float64]:
    """A system of equations: a one, the four weeks, the target.

    The weight is one over last week's plays, as the noise of a count grows with it; below the 50th place all the same.
    """
    weight = 1 / np.maximum(np.maximum(rows[:, LAST], at_place), 1.0)
    return np.column_stack([np.ones(len(rows)), rows]) * np.sqrt(weight)[:, None]


def _triangle(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Six equations that have the solution of all, found part by part: memory does not grow with the number of rows."""
    triangle = np.zeros((N_WEEKS + 2, N_WEEKS + 2))
    for part in parts:
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, part]), mode="r"))
    return triangle


def _least_squares(triangle: NDArray[np.float64], n_rows: int) -> tuple[float, NDArray[np.float64]]:
    """The intercept, and the coefficients for what the rows differ in: the smallest, where many would do."""
    noise = max(1e-12, n_rows * np.finfo(np.float64).eps)
    differs = np.linalg.norm(triangle[1:, 1:-1], axis=0) > noise * np.linalg.norm(triangle[:, 1:-1], axis=0)
    coefficients, *_ = np.linalg.lstsq(triangle[1:, 1:-1] * differs, triangle[1:, -1], rcond=noise)
    mean = triangle[0] / triangle[0, 0]
    return float(mean[-1] - mean[1:-1] @ coefficients), coefficients.astype(np.float64)


def _rounded(number: float) -> float:
    """Nine significant digits, and twelve decimals: what lies beyond is noise of the order of summation."""
    return float(f"{round(float(number), 12):.9g}") + 0.0
