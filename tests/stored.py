"""What Redis holds of a partition, as the oracle says it: counts by week, group and track."""

from collections.abc import Iterator, Mapping, Sequence
from struct import pack

from features import packing
from features.parts import Bucket
from features.store import CounterStore
from tests.oracle import Bucket as Name


def by_group(bucket: Bucket) -> Iterator[tuple[Name, tuple[int, int, int]]]:
    """What a bucket adds to each track and group; what is nought is left out."""
    return _by_group(bucket.week, bucket.groups, counts_of(bucket))


def counts_of(bucket: Bucket) -> dict[str, tuple[int, ...]]:
    """Plays, skips and likes of every group by track id."""
    rows = packing.packed(bucket.counts, bucket.n_counts)
    return {track_id: packing.unpacked(row) for track_id, row in rows.items()}


def numbers(counts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Each track's counts as a bucket has them."""
    return {track_id: int.from_bytes(packed(*row), "little") for track_id, row in counts.items()}


def _by_group(
    week: str, groups: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> Iterator[tuple[Name, tuple[int, int, int]]]:
    for track_id, row in counts.items():
        for n, group in enumerate(groups):
            plays, skips, likes = row[3 * n : 3 * n + 3]
            if plays or skips or likes:
                yield (week, group, track_id), (plays, skips, likes)


def stored(store: CounterStore, partition: int) -> dict[Name, list[int]]:
    """Every counter that the partition's fence names, but those that are nought."""
    fence = store.fence(partition)
    assert fence
    return {
        name: list(counts)
        for week in fence.touched
        for slice_ in range(int(fence.settings.get("slices", store.slices)))
        for name, counts in _by_group(week, fence.groups[week], store.bucket(partition, week, slice_))
    }


def packed(*counts: int) -> bytes:
    """A track's counts as Redis has them."""
    return pack(f"<{len(counts)}I", *counts)
