"""What a weekly run takes from the tracks, part by part: work for a runner, in this process or in others."""

from collections.abc import Mapping
from dataclasses import dataclass
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from consumers.runs import rows_of
from features.context import Chart, Charted
from features.counts import Part
from features.history import History, HistoryError
from features.table import FeatureTable, charted_part, table_part
from models.ranking import PLAYS, Best, list_scores
from models.scorers import NAIVE, Fitted
from models.scoring import ModelError, Scores, checked


@dataclass(frozen=True, slots=True)
class Charting:
    """The first look at a part of the tracks: what it adds to the chart, which every part's table needs."""

    history: History
    closed_week: str

    def __call__(self, part: Part, advance: Any) -> Charted:
        """Look at a part of history.parts."""
        return charted_part(self.history, self.closed_week, part)


class Failure(NamedTuple):
    """Why a model makes no list, in texts: an exception might not travel from one process to another.

    The reason is the same wherever it happens: no path and no address is in it. details are for the log.
    """

    reason: str
    details: str

    @classmethod
    def of(cls, cause: Exception) -> "Failure":
        """What the exception comes to."""
        if isinstance(cause, HistoryError):
            return cls("a file of the history cannot be read", str(cause))
        if isinstance(cause, ModelError):
            return cls(str(cause), "")
        return cls(f"it failed with {type(cause).__name__}", "".join(format_exception(cause)))


@dataclass(frozen=True, slots=True)
class Scored:
    """What a run takes from a part of the tracks."""

    best: Mapping[str, Best]
    """by model; of a model that has failed, none"""
    most_played: Best
    """in the closed week"""
    failures: Mapping[str, Failure]
    """by model"""
    rows: pa.Table
    """to be kept with the run"""


@dataclass(frozen=True, slots=True)
class Scoring:
    """The second look: the table of a part, and what each model makes of it."""

    history: History
    closed_week: str
    chart: Chart
    models: Mapping[str, Fitted]
    span_weeks: int

    def __call__(self, part: Part, advance: Any) -> Scored:
        """Score a part of history.parts.

        Raises:
            HistoryError: a file is broken.
            Exception: naive has failed.
        """
        table = table_part(self.history, self.closed_week, part, self.chart)
        return scored(table, self.models, self.span_weeks)


def scored(table: FeatureTable, models: Mapping[str, Fitted], span_weeks: int) -> Scored:
    """What each model predicts, and what its list ranks by: NaN where it fails. Naive must not fail."""
    n_tracks, failures = len(table.track_ids), dict[str, Failure]()
    predictions, scores = dict[str, Scores](), dict[str, Scores]()
    for model, fitted in models.items():
        try:
            predicted = checked(fitted.score(table), n_tracks)
            predictions[model], scores[model] = predicted, checked(list_scores(table, predicted, span_weeks), n_tracks)
        except Exception as cause:  # whatever a model does, the list is made
            if model == NAIVE:
                raise
            failures[model] = Failure.of(cause)
            predictions[model] = scores[model] = np.full(n_tracks, np.nan)
    return Scored(
        {model: best_of(table, scores[model]) for model in models.keys() - failures.keys()},
        best_of(table, table.counts[:, -1, PLAYS].astype(np.float64)),
        failures,
        rows_of(table, predictions, scores),
    )


def best_of(table: FeatureTable, scores: Scores) -> Best:
    """The best tracks of one table."""
    best = Best()
    best.add(table, scores)
    return best
