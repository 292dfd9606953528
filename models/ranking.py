"""From predictions to a list: one rule for all models, one table at a time."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.columns import KINDS
from features.table import FeatureTable
from models.scoring import Scores, top_rows

PLAYS = KINDS.index("plays")
LENGTH = 50
DECIMALS = 3  # the last bits of a matrix product depend on how it was sliced
Order = NDArray[np.intp]


def list_scores(table: FeatureTable, predictions: Scores, span_weeks: int) -> Scores:
    """What a list ranks by: the predicted week plus the plays of the span's known weeks.

    Args:
        table: the four closed weeks.
        predictions: next week's plays, shape (n_tracks,).
        span_weeks: 1 is the prediction alone.
    """
    return span_scores(table.counts[:, :, PLAYS], predictions, span_weeks)


def span_scores(plays: NDArray[np.int64], predictions: Scores, span_weeks: int) -> Scores:
    """As list_scores has it, of the plays of closed weeks alone: (n_tracks, weeks), oldest first."""
    known = plays[:, plays.shape[1] - (span_weeks - 1) :].sum(axis=1)
    scores: Scores = np.round(predictions + known, DECIMALS) + 0.0  # no -0.0 in a record
    return scores


@dataclass(frozen=True, slots=True)
class Place:
    """A track that is in the running; plays are those of the four closed weeks, oldest first."""

    track_id: str
    name: str
    score: float
    plays: tuple[int, ...]


@dataclass(slots=True)
class Best:
    """The best tracks of all tables so far; memory does not grow with the catalogue."""

    length: int = LENGTH
    places: list[Place] = field(default_factory=list)

    def add(self, table: FeatureTable, scores: Scores) -> None:
        """Let the listed tracks of a table compete: highest score first, equal scores by track id."""
        listed = np.flatnonzero(table.listed)
        best = listed[top_rows(table.track_ids[listed], scores[listed], self.length)]
        self._let_in([self._place(table, scores, int(row)) for row in best])

    def merge(self, other: "Best") -> None:
        """Let the best of other tables compete."""
        self._let_in(other.places)

    def _let_in(self, places: Sequence[Place]) -> None:
        self.places = heapq.nsmallest(self.length, [*self.places, *places], key=lambda p: (-p.score, p.track_id))

    @staticmethod
    def _place(table: FeatureTable, scores: Scores, row: int) -> Place:
        plays: NDArray[np.int64] = table.counts[row, :, PLAYS]
        return Place(table.track_ids[row], table.names[row], float(scores[row]), tuple(int(n) for n in plays))


def best_first(scores: Scores) -> Order:
    """The places of the scores, the highest first, equal ones as they come."""
    return np.argsort(-scores, kind="stable")


def ranked(track_ids: NDArray[np.object_], scores: Scores) -> list[str]:
    """All track ids, highest score first, equal scores by track id."""
    by_id = np.argsort(track_ids, kind="stable")
    order = by_id[best_first(scores[by_id])]
    return [str(track_id) for track_id in track_ids[order]]
