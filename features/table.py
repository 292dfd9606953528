"""The feature table: four weeks of every track, as models see them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.tracks import AUDIO_FEATURES, release_year_and_week

if TYPE_CHECKING:
    from features.history import History

N_WEEKS = 4
STATIC_FEATURES = (*AUDIO_FEATURES, "release_date_year", "release_date_week")
FEATURES = (*STATIC_FEATURES, "plays", "likes", "skips")
KINDS = ("plays", "skips", "likes")
FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """n tracks, ids ascending (by code point), and what is known of them; weeks are oldest first.

    `features` is rounded above 2**24; what must be exact is in `counts`.
    """

    track_ids: NDArray[np.object_]
    names: NDArray[np.object_]
    """(n,), "" where unknown"""
    listed: NDArray[np.bool_]
    """(n,), whether the track is in the catalogue"""
    features: NDArray[np.float32]
    """(n, 4, 18), the columns of FEATURES, NaN where missing"""
    counts: NDArray[np.int64]
    """(n, 4, 3), the columns of KINDS, of all groups"""


def build(counts: pd.DataFrame, catalogue: pd.DataFrame, weeks: Sequence[str]) -> FeatureTable:
    """The table of every track that is in the catalogue, or has counts in one of the weeks.

    Args:
        counts: rows of week, track_id, plays, skips, likes (as History.read has them); other weeks are left out.
        catalogue: as History.catalogue has it; ids are unique.
        weeks: four names, oldest first.
    """
    if len(weeks) != N_WEEKS or list(weeks) != sorted(set(weeks)):
        raise ValueError(f"expected {N_WEEKS} weeks, oldest first, found {list(weeks)}")
    counts = counts[counts["week"].isin(list(weeks))]
    known = _texts(catalogue["id"])
    codes, counted = pd.factorize(_texts(counts["track_id"]))
    track_ids = np.unique(np.concatenate([known, counted]))
    place = pd.Index(track_ids, dtype=object)
    at = place.get_indexer(pd.Index(known, dtype=object))

    totals = np.zeros((len(track_ids), N_WEEKS, len(KINDS)), np.int64)
    rows = place.get_indexer(pd.Index(counted, dtype=object))[codes]
    np.add.at(totals, (rows, np.searchsorted(weeks, _texts(counts["week"]))), counts[list(KINDS)].to_numpy(np.int64))

    features = np.full((len(track_ids), N_WEEKS, len(FEATURES)), np.nan, np.float32)
    features[at, :, : len(STATIC_FEATURES)] = _static(catalogue)[:, None, :]
    features[:, :, len(STATIC_FEATURES) :] = totals[:, :, [0, 2, 1]]

    names = np.full(len(track_ids), "", object)
    names[at] = _texts(catalogue["name"].fillna(""))
    listed = np.zeros(len(track_ids), np.bool_)
    listed[at] = True
    return FeatureTable(track_ids, names, listed, features, totals)


def tables(history: "History", weeks: Sequence[str], rows_at_once: int = 200_000) -> Iterator[FeatureTable]:
    """The whole history as tables of whole tracks, as many slices at once as hold about rows_at_once rows.

    Raises:
        HistoryError: a file is broken.
    """
    n_slices = history.n_slices()
    step = max(1, min(n_slices, n_slices * rows_at_once // max(1, history.n_rows(weeks))))
    for first in range(0, n_slices, step):
        slices = range(first, min(first + step, n_slices))
        wanted = None if len(slices) == n_slices else slices
        yield build(history.read(weeks, wanted), history.catalogue(wanted), weeks)


def _texts(column: pd.Series) -> NDArray[np.object_]:
    return column.to_numpy(dtype=object)


def _static(catalogue: pd.DataFrame) -> NDArray[np.float32]:
    """(tracks, 15): audio features and release date, NaN where missing; what float32 cannot hold is its bound."""
    audio = catalogue[list(AUDIO_FEATURES)].astype(np.float64).to_numpy()
    codes, dates = pd.factorize(_texts(catalogue["release_date"]))
    released = np.array([*map(release_year_and_week, dates), (None, None)], np.float64)  # a missing date has code -1
    return np.hstack([audio, released[codes]]).clip(FLOAT32.min, FLOAT32.max).astype(np.float32)
