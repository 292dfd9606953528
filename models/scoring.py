"""What every model is: a function from a feature table to one finite score a track; and what can go wrong with one.

The reasons end in playlist records, where the same inputs must give the same bytes: no message of these errors holds a
path, a time or an address.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.table import FeatureTable

Scores = NDArray[np.float64]
Scorer = Callable[[FeatureTable], Scores]
"""Predicts next week's plays of every track of the table."""


class ModelError(Exception):
    """A model cannot make this list; naive's takes its place, and str(error) is the reason that the record gives."""


class ScoringError(ModelError):
    """The scores mean nothing: not one a track, or not finite."""


class ArtefactError(ModelError):
    """A fitted model is missing, broken, or of another form than this version reads."""


class NotEnoughHistory(ModelError):
    """There are too few closed weeks to learn from."""


def checked(scores: NDArray[np.floating], n_tracks: int) -> Scores:
    """The scores in float64, once they are known to be one finite number a track.

    Raises:
        ScoringError: they are not.
    """
    if scores.shape != (n_tracks,):
        raise ScoringError(f"expected scores of shape ({n_tracks},), found {scores.shape}")
    n_wrong = np.count_nonzero(~np.isfinite(scores))
    if n_wrong:
        raise ScoringError(f"{n_wrong} of {n_tracks} scores are not finite")
    return scores.astype(np.float64)


def top_tracks(track_ids: Sequence[str] | NDArray[np.object_], scores: Scores, k: int = 50) -> list[str]:
    """The best k track ids, highest score first; equal scores go by track id.

    Args:
        track_ids: one a score, in any order; fewer than k are fine.
        scores: any finite scale.
        k: how many.

    Raises:
        ScoringError: a score is not finite, so that its rank would mean nothing.
    """
    return [track_ids[row] for row in top_rows(track_ids, scores, k)]


def top_rows(track_ids: Sequence[str] | NDArray[Any], scores: Scores, k: int) -> list[int]:
    """The places of those tracks in track_ids, in the same order."""
    scores = checked(scores, len(track_ids))
    # Python compares only the tracks that reach the k-th best score, not the whole catalogue.
    least = np.partition(scores, -k)[-k] if 0 < k < len(scores) else -np.inf
    rows: list[int] = np.flatnonzero(scores >= least).tolist()
    return heapq.nsmallest(k, rows, key=lambda row: (-scores[row], track_ids[row]))
