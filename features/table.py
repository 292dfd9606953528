"""The feature table: four weeks of every track, and their context, as models see them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.context import Chart, chart_of, context, past_weeks
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
    context: NDArray[np.float32]
    """(n, 22), the columns of CONTEXT, NaN where not known"""


def build(
    counts: pd.DataFrame, catalogue: pd.DataFrame, weeks: Sequence[str], chart: Chart | None = None
) -> FeatureTable:
    """The table of every track that is in the catalogue, or has counts in one of the weeks.

    Args:
        counts: rows of week, track_id, plays, skips, likes (as History.read has them), of past_weeks; others are left
            out.
        catalogue: as History.catalogue has it; ids are unique.
        weeks: four names in a row, oldest first.
        chart: of all tracks, where these are not all.
    """
    past = past_weeks(weeks[-1])
    if list(weeks) != past[-N_WEEKS:]:
        raise ValueError(f"expected {N_WEEKS} weeks in a row, oldest first, found {list(weeks)}")
    track_ids, totals = _totals(counts, catalogue, past, KINDS)
    at = pd.Index(_texts(catalogue["id"]), dtype=object).get_indexer(
        pd.Index(track_ids, dtype=object)
    )  # -1: not in the catalogue
    listed = at >= 0
    seen = listed | totals[:, -N_WEEKS:].any(axis=(1, 2))
    plays = totals[:, :, 0].astype(np.float64)
    artists = _artists(catalogue, at)
    chart = chart or chart_of([(plays, artists)])
    at, totals = at[seen], totals[seen]

    features = np.empty((len(at), N_WEEKS, len(FEATURES)), np.float32)
    static = np.vstack([_static(catalogue), np.full((1, len(STATIC_FEATURES)), np.nan, np.float32)])
    features[:, :, : len(STATIC_FEATURES)] = static[at][:, None, :]
    features[:, :, len(STATIC_FEATURES) :] = totals[:, -N_WEEKS:, [0, 2, 1]]
    released = _taken(_texts(catalogue["release_date"]), at)
    return FeatureTable(
        track_ids[seen],
        _taken(_texts(catalogue["name"].fillna("")), at, ""),
        listed[seen],
        features,
        totals[:, -N_WEEKS:],
        context(plays[seen], chart, artists[seen], released, past[-1]),
    )


def _totals(
    counts: pd.DataFrame, catalogue: pd.DataFrame, weeks: Sequence[str], kinds: Sequence[str]
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """All track ids, ascending, and their counts, shape (n_tracks, n_weeks, n_kinds)."""
    counts = counts[counts["week"].isin(list(weeks))]
    codes, counted = pd.factorize(_texts(counts["track_id"]))
    track_ids = np.unique(np.concatenate([_texts(catalogue["id"]), counted]))
    rows = pd.Index(track_ids, dtype=object).get_indexer(pd.Index(counted, dtype=object))[codes]
    totals = np.zeros((len(track_ids), len(weeks), len(kinds)), np.int64)
    np.add.at(totals, (rows, np.searchsorted(weeks, _texts(counts["week"]))), counts[list(kinds)].to_numpy(np.int64))
    return track_ids, totals


def _taken(values: NDArray[np.object_], at: NDArray[np.intp], missing: str | None = None) -> NDArray[np.object_]:
    """The values at these places; `missing` at -1."""
    taken = np.full(len(at), missing, object)
    taken[at >= 0] = values[at[at >= 0]]
    return taken


def tables(history: "History", weeks: Sequence[str], rows_at_once: int = 200_000) -> Iterator[FeatureTable]:
    """The whole history as tables of whole tracks, as many slices at once as hold about rows_at_once rows.

    Raises:
        HistoryError: a file is broken.
    """
    past = past_weeks(weeks[-1])
    n_slices = history.n_slices()
    step = max(1, min(n_slices, n_slices * rows_at_once // max(1, history.n_rows(past))))
    if step == n_slices:
        yield build(history.read(past), history.catalogue(), weeks)
        return
    parts = [range(first, min(first + step, n_slices)) for first in range(0, n_slices, step)]
    chart = chart_of(_plays(history, past, slices) for slices in parts)
    for slices in parts:
        yield build(history.read(past, slices), history.catalogue(slices), weeks, chart)


def _plays(
    history: "History", weeks: Sequence[str], slices: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """The plays of whole tracks, and their artists."""
    catalogue = history.catalogue(slices)
    track_ids, totals = _totals(history.read(weeks, slices, ("plays",)), catalogue, weeks, ("plays",))
    at = pd.Index(_texts(catalogue["id"]), dtype=object).get_indexer(pd.Index(track_ids, dtype=object))
    return totals[:, :, 0].astype(np.float64), _artists(catalogue, at)


def _artists(catalogue: pd.DataFrame, at: NDArray[np.intp]) -> NDArray[np.object_]:
    return _taken(_texts(catalogue["id_artist"]), at)


def _texts(column: pd.Series) -> NDArray[np.object_]:
    return column.to_numpy(dtype=object)


def _static(catalogue: pd.DataFrame) -> NDArray[np.float32]:
    """(tracks, 15): audio features and release date, NaN where missing; what float32 cannot hold is its bound."""
    audio = catalogue[list(AUDIO_FEATURES)].astype(np.float64).to_numpy()
    codes, dates = pd.factorize(_texts(catalogue["release_date"]))
    released = np.array([*map(release_year_and_week, dates), (None, None)], np.float64)  # a missing date has code -1
    return np.hstack([audio, released[codes]]).clip(FLOAT32.min, FLOAT32.max).astype(np.float32)
