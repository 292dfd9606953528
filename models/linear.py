"""The base model: next week's plays as a weighted sum of the plays of four weeks, fitted anew before each list."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from features.context import PLACE
from features.files import replacing
from features.table import KINDS, FeatureTable
from models.artefact import read_json
from models.examples import WEEK_COLUMNS
from models.scoring import NotEnoughHistory, Scores, checked

Finite = Annotated[float, Field(allow_inf_nan=False)]
PLAYS = KINDS.index("plays")


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
        """Predict next week's plays as the regression has it: a falling track's may lie below 0.

        Raises:
            ScoringError: a prediction is not finite.
        """
        # Summed week by week and not as a matrix product, whose last bits depend on how many rows there are.
        scores = np.full(len(table.track_ids), self.intercept)
        for week, coefficient in enumerate(self.coefficients):
            scores += coefficient * table.counts[:, week, PLAYS]
        return checked(scores, len(table.track_ids))

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


def fit(examples: pd.DataFrame) -> LinearModel:
    """Fit the rows of linear_examples, in their order; the same rows give the same model, down to its version.

    Raises:
        NotEnoughHistory: there is no row.
    """
    if examples.empty:
        raise NotEnoughHistory("no track was played in the weeks to learn from")
    plays = examples[list(WEEK_COLUMNS)].to_numpy(np.float64)
    with threadpool_limits(limits=1):
        fitted = LinearRegression(copy_X=False).fit(
            plays, examples["play_count"].to_numpy(np.float64), _weights(examples)
        )
    week_1, week_2, week_3, week_4 = map(_rounded, fitted.coef_)
    weeks = examples["target_week"]
    return LinearModel(
        coefficients=(week_1, week_2, week_3, week_4),
        intercept=_rounded(fitted.intercept_),
        first_week=weeks.iloc[0],
        last_week=weeks.iloc[-1],
        n_rows=len(examples),
    )


def _weights(examples: pd.DataFrame) -> NDArray[np.float64]:
    """One over last week's plays, as the noise of a count grows with it; below the 50th place all the same."""
    last = examples[WEEK_COLUMNS[-1]].astype(np.float64)
    of_week = last.groupby(examples["target_week"], observed=True)
    at_place = of_week.transform(lambda plays: plays.nlargest(PLACE).min())
    return np.asarray(1 / np.maximum(np.maximum(last, at_place), 1.0), np.float64)


def _rounded(number: float) -> float:
    """Nine significant digits, and twelve decimals: what lies beyond is noise of the order of summation."""
    return float(f"{round(float(number), 12):.9g}") + 0.0
