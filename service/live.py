"""The open week so far, read slice by slice: what is kept of it is the top alone."""

from collections.abc import Iterator
from datetime import datetime
from heapq import nsmallest
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from features.columns import KINDS
from features.reader import CounterReader, Standing
from service.figures import ChartEntry, LiveChart
from service.tracks import Catalogue

if TYPE_CHECKING:
    import pyarrow as pa

N_PLACES = 50
Row = tuple[int, str, int, int]
"""Plays, negative so that they sort; track id, skips, likes."""


def live_chart(counters: CounterReader, standing: Standing, catalogue: Catalogue, now: datetime) -> LiveChart:
    """The tracks most played in the week of stream time, of equal plays by track id.

    Raises:
        WeekError: nothing has been counted yet.
    """
    week = standing.newest()
    best: list[Row] = []
    n_tracks = 0
    for table in counters.slices(week, standing):
        sums = table.group_by("track_id").aggregate([(kind, "sum") for kind in KINDS])
        n_tracks += len(sums)
        best = nsmallest(N_PLACES, [*best, *_rows(sums)])
    tracks = catalogue.of([track_id for _, track_id, *_ in best])
    return LiveChart(
        week=week.name,
        at=now,
        stream_time=max(fence.stream_time for fence in standing.fences.values() if fence.stream_time),
        n_tracks=n_tracks,
        tracks=tuple(
            ChartEntry(
                rank=rank,
                track_id=track_id,
                name=str(tracks.get(track_id, {}).get("name") or ""),
                plays=-plays,
                skips=skips,
                likes=likes,
            )
            for rank, (plays, track_id, skips, likes) in enumerate(best, 1)
        ),
    )


def _rows(sums: "pa.Table") -> Iterator[Row]:
    """The rows that may be among the first places."""
    plays = sums["plays_sum"]
    if len(sums) > N_PLACES:
        least = pc.sort_indices(sums, [("plays_sum", "descending")])[N_PLACES - 1].as_py()
        sums = sums.filter(pc.greater_equal(plays, plays[least]))
    for row in sums.select(["plays_sum", "track_id", "skips_sum", "likes_sum"]).to_pylist():
        n, track_id, skips, likes = row.values()
        yield -n, track_id, skips, likes
