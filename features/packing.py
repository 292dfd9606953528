"""What goes into Redis and comes out of it, as bytes: arguments of apply.lua, counts, and tracks of the catalogue."""

import zlib
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from struct import pack, unpack

import msgspec

from features.parts import COUNT_BYTES, Bucket, CatalogueEntry, Part

LISTENER_BYTES = 8


def slice_of(track_id: str, slices: int) -> int:
    """The slice that holds a track, in every partition and in history.

    >>> slice_of("123456789", 16)  # the CRC catalogue's check value is 0xCBF43926
    6
    """
    return zlib.crc32(track_id.encode()) % slices


def arguments_of(part: Part, topic_id: str, slices: int) -> list[bytes]:
    """The arguments of apply.lua, which says what is in them."""
    buckets: list[object] = []
    counts: list[bytes] = []
    for bucket in part.buckets:
        by_slice = _by_slice(bucket, slices)
        counts += chain.from_iterable(some for _, _, some in by_slice)
        about = bucket.week, ",".join(bucket.groups), bucket.fingerprint, str(bucket.touched)
        buckets.append((*about, bucket.n_counts, [(slice_, ids) for slice_, ids, _ in by_slice]))
    listeners = [(bucket.week, _listeners(bucket, slices)) for bucket in part.buckets]
    users = [user for _, heard in listeners for tracks in heard.values() for some in tracks.values() for user in some]
    span = {
        "start": str(part.start),
        "end": str(part.end),
        "topic_id": topic_id,
        "since": part.since.isoformat() if part.since else "",
        "stream_time": part.stream_time.isoformat() if part.stream_time else "",
        "horizon": part.horizon,
        "slices": slices,
        "tallies": part.tallies,
        "buckets": buckets,
        "entries": [(e.track_id, slice_of(e.track_id, slices), e.timestamp, e.offset, e.value) for e in part.entries],
        "ids": [(name, len(ids)) for name, ids in part.ids.items()],
        "kept": part.kept,
        "plays": [(week, len(pairs)) for week, pairs in part.plays.items()],
        "listeners": [
            (week, [(slice_, [(id_, len(users)) for id_, users in tracks.items()]) for slice_, tracks in heard.items()])
            for week, heard in listeners
        ],
    }
    remembered = b"".join(id_ for ids in part.ids.values() for id_ in ids)
    pairs = b"".join(pair for pairs in part.plays.values() for pair in pairs)
    played = [n for pairs in part.plays.values() for n in pairs.values()]
    numbers = b"".join([*counts, pack(f"<{len(played)}I", *played)])
    return [msgspec.msgpack.encode(span), remembered, numbers, pairs, b"".join(map(listener_digest, users))]


def _listeners(bucket: Bucket, slices: int) -> dict[int, dict[str, set[str]]]:
    """Who has played each track, by slice."""
    found: dict[int, dict[str, set[str]]] = defaultdict(dict)
    for track_id, users in bucket.listeners.items():
        found[slice_of(track_id, slices)][track_id] = users
    return found


@lru_cache(maxsize=1 << 16)
def listener_digest(user_id: str) -> bytes:
    """What a HyperLogLog, which hashes it again, is told of a listener."""
    return blake2b(user_id.encode(), digest_size=LISTENER_BYTES).digest()


def _by_slice(bucket: Bucket, slices: int) -> list[tuple[int, list[str], list[bytes]]]:
    """The slices that have any of the tracks, these, and the counts of each, as packed() has them."""
    found: list[tuple[int, list[str], list[bytes]]] = [(slice_, [], []) for slice_ in range(slices)]
    crcs, n_bytes = map(zlib.crc32, map(str.encode, bucket.counts)), COUNT_BYTES * bucket.n_counts
    for (track_id, number), crc in zip(bucket.counts.items(), crcs, strict=True):
        _, ids, counts = found[crc % slices]  # as slice_of: a call costs as much again
        ids.append(track_id)
        counts.append(number.to_bytes(n_bytes, "little"))
    return [one for one in found if one[1]]


def packed(numbers: Mapping[str, int], n_counts: int) -> dict[str, bytes]:
    """So many counts of each track, from the one number that a Bucket has, as Redis has them."""
    n_bytes = COUNT_BYTES * n_counts
    return {track_id: number.to_bytes(n_bytes, "little") for track_id, number in numbers.items()}


def unpacked(counts: bytes) -> tuple[int, ...]:
    """Plays, skips and likes of a track in every group."""
    return unpack(f"<{len(counts) // COUNT_BYTES}I", counts)


def n_listeners(sketch: bytes) -> int:
    """What PFCOUNT has found, which is kept with a HyperLogLog (Source: the head of Redis' hyperloglog.c)."""
    return int.from_bytes(sketch[8:16], "little")


def entry(track_id: bytes, value: bytes) -> CatalogueEntry:
    """A track of the catalogue."""
    timestamp, offset, track = value.split(b" ", 2)
    return CatalogueEntry(track_id.decode(), int(timestamp), int(offset), track.decode())
