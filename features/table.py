"""The feature table: four weeks of every track, and their context, as models see them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.context import N_PAST_WEEKS, Chart, Charted, chart_of, charted, context, merged, past_weeks
from features.counts import ROWS_AT_ONCE, Counts, Part, numbered
from features.tracks import AUDIO_FEATURES, release_year_and_week

if TYPE_CHECKING:
    from features.history import History

N_WEEKS = 4
STATIC_FEATURES = (*AUDIO_FEATURES, "release_date_year", "release_date_week")
FEATURES = (*STATIC_FEATURES, "plays", "likes", "skips")
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


def build(counts: Counts, catalogue: pa.Table, chart: Chart | None = None) -> FeatureTable:
    """The table of every track that is in the catalogue, or has counts in one of the last four weeks.

    Args:
        counts: of twelve weeks in a row, oldest first, as past_weeks names them.
        catalogue: as History.tracks has it; ids are unique.
        chart: of all tracks, where these are not all.
    """
    if list(counts.weeks) != past_weeks(counts.weeks[-1]):
        raise ValueError(f"expected {N_PAST_WEEKS} weeks in a row, oldest first, found {list(counts.weeks)}")
    track_ids, at, sums = _joined(counts, catalogue)
    listed = at >= 0
    seen = listed | sums[:, -N_WEEKS:].any(axis=(1, 2))
    plays = sums[:, :, 0].astype(np.float64)
    artists = _taken(catalogue["id_artist"], at)
    chart = chart or chart_of([(plays, artists)])
    at, sums = at[seen], sums[seen]

    features = np.empty((len(at), N_WEEKS, len(FEATURES)), np.float32)
    static = np.vstack([_static(catalogue), np.full((1, len(STATIC_FEATURES)), np.nan, np.float32)])
    features[:, :, : len(STATIC_FEATURES)] = static[at][:, None, :]
    features[:, :, len(STATIC_FEATURES) :] = sums[:, -N_WEEKS:, [0, 2, 1]]
    return FeatureTable(
        track_ids.filter(pa.array(seen)).to_numpy(zero_copy_only=False),
        _taken(catalogue["name"].fill_null(""), at, ""),
        listed[seen],
        features,
        sums[:, -N_WEEKS:],
        context(plays[seen], chart, artists[seen], _taken(catalogue["release_date"], at), counts.weeks[-1]),
    )


def tables(history: "History", weeks: Sequence[str], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[FeatureTable]:
    """The whole history as tables of whole tracks, as many slices at once as hold about rows_at_once rows.

    Args:
        history: what was counted.
        weeks: four names in a row, oldest first.
        rows_at_once: of the catalogue and of twelve weeks, a group a row.

    Raises:
        HistoryError: a file is broken.
    """
    if list(weeks) != past_weeks(weeks[-1])[-N_WEEKS:]:
        raise ValueError(f"expected {N_WEEKS} weeks in a row, oldest first, found {list(weeks)}")
    parts = history.parts(past_weeks(weeks[-1]), rows_at_once)
    chart = merged(charted_part(history, weeks[-1], part) for part in parts) if len(parts) > 1 else None
    for part in parts:
        yield table_part(history, weeks[-1], part, chart)


def charted_part(history: "History", closed_week: str, part: Part) -> Charted:
    """What a part of the tracks adds to the chart of the twelve weeks that end with the closed one.

    Raises:
        HistoryError: a file is broken.
    """
    catalogue = history.tracks(part)
    _, at, sums = _joined(history.counts(past_weeks(closed_week), part, ("plays",)), catalogue)
    return charted(sums[:, :, 0].astype(np.float64), _taken(catalogue["id_artist"], at))


def table_part(history: "History", closed_week: str, part: Part, chart: Chart | None) -> FeatureTable:
    """The table of a part of the tracks; see build.

    Raises:
        HistoryError: a file is broken.
    """
    return build(history.counts(past_weeks(closed_week), part), history.tracks(part), chart)


def _joined(counts: Counts, catalogue: pa.Table) -> tuple[pa.StringArray, NDArray[np.intp], NDArray[np.int64]]:
    """All tracks by id: their rows in the catalogue, -1 for none, and their counts, (n, weeks, kinds)."""
    track_ids, places = numbered(pa.chunked_array([*catalogue["id"].chunks, counts.track_ids]))
    n_listed = len(catalogue)
    at = np.full(len(track_ids), -1)
    at[places[:n_listed]] = np.arange(n_listed)
    sums = np.zeros((len(track_ids), *counts.sums.shape[1:]), np.int64)
    sums[places[n_listed:]] = counts.sums
    return track_ids, at, sums


def _taken(column: pa.ChunkedArray, at: NDArray[np.intp], missing: str | None = None) -> NDArray[np.object_]:
    """The texts at these rows; `missing` at -1."""
    texts: NDArray[np.object_] = np.append(column.to_numpy(), np.array([missing], object))
    return texts[at]


def _static(catalogue: pa.Table) -> NDArray[np.float32]:
    """(tracks, 15): audio features and release date, NaN where missing; what float32 cannot hold is its bound."""
    audio = np.column_stack([catalogue[name].to_numpy() for name in AUDIO_FEATURES])
    dates = catalogue["release_date"].combine_chunks().dictionary_encode()
    released = np.array([*map(release_year_and_week, dates.dictionary.to_pylist()), (None, None)], np.float64)
    when = released[pc.fill_null(dates.indices, -1).to_numpy()]  # a missing date has the last place
    return np.hstack([audio, when]).clip(FLOAT32.min, FLOAT32.max).astype(np.float32)
