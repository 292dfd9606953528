"""Counts and tracks as Arrow columns, a slice at a time and no Python object a number: what history is made of."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from features.parts import N_KINDS
from features.tracks import AUDIO_FEATURES

KINDS = ("plays", "skips", "likes")
COUNTS = pa.schema([("track_id", pa.string()), ("group", pa.string()), *((kind, pa.int64()) for kind in KINDS)])
TRACKS = pa.schema(
    [(name, pa.string()) for name in ("id", "name", "id_artist", "release_date")]
    + [(name, pa.float64()) for name in AUDIO_FEATURES]
)


def counts_table(parts: Iterable[tuple[Sequence[str], Mapping[bytes, bytes]]]) -> pa.Table:
    """The counts of a slice, sorted by track id and group, summed over the partitions; nothing but zeros is no row.

    Args:
        parts: of each partition, its groups, and by track id 12 bytes a group, in their order (see features/store.py).
    """
    parts = [(groups, packed) for groups, packed in parts if packed]
    names = sorted({group for groups, _ in parts for group in groups})
    if not names:
        return COUNTS.empty_table()
    track_ids = pa.concat_arrays([pa.array(packed.keys(), pa.binary()) for _, packed in parts]).cast(pa.string())
    counts = np.concatenate([_unpacked(groups, packed, names) for groups, packed in parts])

    order = pc.array_sort_indices(track_ids)
    track_ids, counts = track_ids.take(order), counts[order.to_numpy()]
    is_first = np.append(True, pc.not_equal(track_ids[1:], track_ids[:-1]).to_numpy(zero_copy_only=False))
    firsts = np.flatnonzero(is_first)
    sums = np.add.reduceat(counts, firsts).reshape(-1, N_KINDS)
    counted = sums.any(axis=1)
    columns = [
        track_ids.take(np.repeat(firsts, len(names))[counted]),
        pa.array(names).take(np.tile(np.arange(len(names)), len(firsts))[counted]),
        *sums[counted].T,
    ]
    return pa.table(columns, COUNTS)


def _unpacked(groups: Sequence[str], packed: Mapping[bytes, bytes], names: Sequence[str]) -> NDArray[np.int64]:
    """(tracks, names, kinds): 0 for a group that the partition does not have."""
    counts = np.zeros((len(packed), len(names), N_KINDS), np.int64)
    found = np.frombuffer(b"".join(packed.values()), "<u4").reshape(len(packed), len(groups), N_KINDS)
    counts[:, [names.index(group) for group in groups]] = found
    return counts


def tracks_table(texts: Sequence[str]) -> pa.Table:
    """Tracks, in their order, from the JSON that Track.model_dump_json writes."""
    if not texts:
        return TRACKS.empty_table()
    lines = "\n".join(texts).encode()
    whole = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)  # a track must lie in one block
    known = pyarrow.json.ParseOptions(explicit_schema=TRACKS, unexpected_field_behavior="ignore")
    return pyarrow.json.read_json(pa.BufferReader(lines), whole, known)
