"""The counts of some weeks by track, of all groups together: what tables and models are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ROWS_AT_ONCE = 200_000
"""Of the files of a history, in memory: at most so many, or those of one slice."""

Part = Sequence[int] | None
"""Some of the slices of a history; None: all of them."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Every track that has a row in one of the weeks, ids ascending (by code point)."""

    weeks: Sequence[str]
    track_ids: pa.StringArray
    """(n,)"""
    sums: NDArray[np.int64]
    """(n, weeks, kinds), 0 where a track has no row, or a week no file"""


def summed(weeks: Sequence[str], rows: Iterable[pa.Table]) -> Counts:
    """The sums of rows that come week by week, in any order and any number a track: track_id, then a column a kind."""
    parts = list(rows)
    track_ids, *kinds = pa.concat_tables(parts).columns
    track_ids, places = numbered(track_ids)
    sums = np.zeros((len(track_ids), len(weeks), len(kinds)), np.int64)
    week_of = np.repeat(np.arange(len(weeks)), [len(part) for part in parts])
    for n, kind in enumerate(kinds):
        np.add.at(sums[:, :, n], (places, week_of), kind.to_numpy())
    return Counts(weeks, track_ids, sums)


def numbered(ids: pa.ChunkedArray) -> tuple[pa.StringArray, NDArray[np.intp]]:
    """The distinct ids, ascending, and the place among them of each id."""
    encoded = ids.dictionary_encode().combine_chunks()
    distinct = encoded.dictionary
    order = pc.array_sort_indices(distinct)
    places = np.empty(len(distinct), np.intp)
    places[order.to_numpy()] = np.arange(len(distinct))
    return distinct.take(order), places[encoded.indices.to_numpy()]
