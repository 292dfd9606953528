"""A service of any size with known counts, put into Redis or into a history as the product itself would have put it.

Every track is played every week, about its own rate: from a hundred thousand times down to once or twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.columns import COUNTS
from features.history import History
from features.parts import N_KINDS, Bucket, CatalogueEntry, Part
from features.store import CounterStore
from features.weeks import Calendar, ChartWeek
from tests.stored import numbers

FIRST = Calendar().parse("2023-W01")
GROUPS = ("control", "treatment")
TRACKS_PER_ARTIST = 10
MOST_TRACKS = 3_000  # in one step of Redis
Item = TypeVar("Item")


@dataclass(frozen=True)
class Service:
    """Tracks by number, in slices as the product has them."""

    n_tracks: int
    n_slices: int

    @cached_property
    def slices(self) -> list[NDArray[np.int64]]:
        """The tracks of each slice, by id."""
        ids = [track_id_of(track) for track in range(self.n_tracks)]
        slice_of = np.fromiter((crc32(i.encode()) % self.n_slices for i in ids), np.int32, self.n_tracks)
        order = pc.array_sort_indices(pa.array(ids)).to_numpy().astype(np.int64)
        return [order[slice_of[order] == slice_] for slice_ in range(self.n_slices)]

    def counts(self, week: int, slice_: int) -> NDArray[np.int64]:
        """(tracks, groups, kinds) of a slice in a week."""
        draw = np.random.default_rng([week + 1_000, slice_])
        rates = 100_000 / (self.slices[slice_] + 1) ** 0.8
        plays = draw.poisson(rates * draw.lognormal(0, 0.3, len(rates))) + 1
        kinds = np.stack([plays, draw.binomial(plays, 0.3), draw.binomial(plays, 0.05)], axis=1)
        control = draw.binomial(kinds, 0.5)
        return np.stack([control, kinds - control], axis=1)

    def plays(self, week: int, track: int) -> int:
        """The plays of one track in a week."""
        slice_ = crc32(track_id_of(track).encode()) % self.n_slices
        (row,) = np.flatnonzero(self.slices[slice_] == track)
        return int(self.counts(week, slice_)[row, :, 0].sum())

    def write(self, history: History, weeks: range, *, catalogue: bool = True) -> None:
        """Write the weeks, and the catalogue, into a history."""
        for week in weeks:
            history.write_week(week_of(week).name, (self._rows(week, n) for n in range(self.n_slices)), {})
        if catalogue:
            history.write_catalogue((list(map(text_of, tracks.tolist())) for tracks in self.slices), {})

    def _rows(self, week: int, slice_: int) -> pa.Table:
        ids = pa.array(map(track_id_of, self.slices[slice_].tolist()), pa.string())
        counts = self.counts(week, slice_).reshape(-1, N_KINDS)
        there = counts.any(axis=1)
        columns = [
            ids.take(np.repeat(np.arange(len(ids)), len(GROUPS))[there]),
            pa.array(GROUPS).take(np.tile(np.arange(len(GROUPS)), len(ids))[there]),
            *counts[there].T,
        ]
        return pa.table(columns, COUNTS)


def track_id_of(track: int) -> str:
    """22 characters, as the field has them, and not in the order of the numbers."""
    return f"{track * 2_654_435_761 % 2**32:08x}track{track:09}"


def track_of(track_id: str) -> int:
    """The other way round."""
    return int(track_id[-9:])


def text_of(track: int) -> str:
    """The track as its topic has it."""
    n = track * 7_919 % 10_007
    share, artist = n / 10_007, track // TRACKS_PER_ARTIST
    return (
        f'{{"id":"{track_id_of(track)}","name":"Song {track} of some length","id_artist":"{artist * 40_503:015x}",'
        f'"release_date":"{1960 + n % 63}-{1 + n % 12:02}-{1 + n % 28:02}","popularity":{n % 100}.0,"duration_ms":'
        f'{120_000 + 17 * n}.0,"explicit":{n % 2}.0,"danceability":{share},"energy":{1 - share},"key":{n % 12}.0,'
        f'"loudness":{-30 * share},"speechiness":{share / 3},"acousticness":{share / 7},"instrumentalness":{share / 9},'
        f'"liveness":{share / 2},"valence":{1 - share / 2},"tempo":{60 + n / 83}}}'
    )


def week_of(week: int) -> ChartWeek:
    """Weeks by number; those before the first are negative."""
    return FIRST.after(week)


@dataclass
class Counted:
    """A topic of Redis that a consumer has filled, partition by partition; a track lives in one."""

    store: CounterStore
    n_partitions: int
    topic_id: str
    settings: dict[str, str]
    fingerprint: str

    def count(self, service: Service, week: int) -> None:
        """Count a week."""
        for slice_ in range(service.n_slices):
            rows = zip(service.slices[slice_].tolist(), service.counts(week, slice_).tolist(), strict=True)
            parts: list[list[tuple[str, list[int]]]] = [[] for _ in range(self.n_partitions)]
            for track, (control, treatment) in rows:
                parts[track % self.n_partitions].append((track_id_of(track), control + treatment))
            for partition, mine in enumerate(parts):
                for some in _chunks(mine):
                    self._apply(partition, week, dict(some))

    def open_week(self, week: int) -> None:
        """Let a week begin without a play, so that the one before has closed."""
        for partition in range(self.n_partitions):
            self._apply(partition, week, {})

    def _apply(self, partition: int, week: int, counts: dict[str, list[int]]) -> None:
        fence = self.store.init(partition, 0, self.topic_id, self.settings)
        begun = datetime.combine(week_of(week).first_day, time(12), UTC) + timedelta(days=2)
        stream_time = max(begun, fence.stream_time or begun)
        end = fence.next_offset + 1
        bucket = Bucket(week_of(week).name, GROUPS, self.fingerprint, numbers(counts), end)
        part = Part(end - 1, end, stream_time, buckets=[bucket], since=fence.stream_time)
        self.store.apply(partition, self.topic_id, part)

    def enter(self, service: Service) -> None:
        """Put the catalogue in."""
        for partition in range(self.n_partitions):
            tracks = range(partition, service.n_tracks, self.n_partitions)
            for some in _chunks(list(tracks)):
                start = self.store.init(partition, 0, self.topic_id, self.settings).next_offset
                entries = [CatalogueEntry(track_id_of(t), 0, start + n, text_of(t)) for n, t in enumerate(some)]
                self.store.apply(partition, self.topic_id, Part(start, start + len(some), None, entries=entries))


def _chunks(items: list[Item]) -> Iterator[list[Item]]:
    return (items[first : first + MOST_TRACKS] for first in range(0, len(items), MOST_TRACKS))
