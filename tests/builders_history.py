"""Histories and tables with little in them."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from features.columns import KINDS
from features.context import N_PAST_WEEKS, chart_of, context
from features.history import CountRow, History, counts_of
from features.table import FEATURES, FeatureTable
from features.tracks import AUDIO_FEATURES, Track
from features.weeks import ChartWeek

Plays = Mapping[str, int | tuple[int, int, int]]


def weeks(n_weeks: int) -> list[str]:
    """2023-W01 and those after it."""
    return [ChartWeek(date(2023, 1, 2)).after(n).name for n in range(n_weeks)]


def track(track_id: str, **fields: Any) -> Track:
    defaults: dict[str, Any] = {"name": f"Song {track_id}", "release_date": "2019-07-05"}
    return Track.model_validate(dict.fromkeys(AUDIO_FEATURES, 0.5) | defaults | fields | {"id": track_id})


def sliced(rows: Sequence[Any], ids: Sequence[str], n_slices: int) -> list[list[Any]]:
    slices: list[list[Any]] = [[] for _ in range(n_slices)]
    for row, track_id in sorted(zip(rows, ids, strict=True), key=lambda pair: pair[1]):
        slices[crc32(track_id.encode()) % n_slices].append(row)
    return slices


def write_week(history: History, week: str, plays: Plays, group: str = "all", n_slices: int = 4) -> None:
    """Plays, or (plays, skips, likes), by track id."""
    rows: list[CountRow] = []
    for track_id, counts in plays.items():
        played, skipped, liked = counts if isinstance(counts, tuple) else (counts, 0, 0)
        rows.append((track_id, group, played, skipped, liked))
    history.write_week(week, map(counts_of, sliced(rows, list(plays), n_slices)), {"from": "builder"})


def write_catalogue(history: History, tracks: Sequence[Track], n_slices: int = 4) -> None:
    texts = [track.model_dump_json() for track in tracks]
    history.write_catalogue(sliced(texts, [track.id for track in tracks], n_slices), {"from": "builder"})


def listening(folder: Path, n_weeks: int, n_tracks: int = 60, seed: int = 1) -> History:
    """A history in which each track keeps near its own weekly rate, from a few hundred plays down to none."""
    draw = np.random.default_rng(seed)
    ids = [f"t{n:03}" for n in range(n_tracks)]
    rates = 300 / np.arange(1, n_tracks + 1)
    history = History(folder)
    known = ids[: n_tracks * 9 // 10]
    write_catalogue(history, [track(i, energy=float(draw.random()), tempo=None) for i in known])
    for week in weeks(n_weeks):
        plays = draw.poisson(rates)
        write_week(history, week, {i: (int(p), int(p) // 3, int(p) // 9) for i, p in zip(ids, plays, strict=True) if p})
    return history


def table(plays: Mapping[str, Sequence[int]]) -> FeatureTable:
    """Four weeks of plays by track id, nothing else known."""
    ids = sorted(plays)
    counts = np.zeros((len(ids), 4, len(KINDS)), np.int64)
    features = np.full((len(ids), 4, len(FEATURES)), np.nan, np.float32)
    for row, track_id in enumerate(ids):
        counts[row, :, 0] = plays[track_id]
    features[:, :, FEATURES.index("plays") :] = counts[:, :, [0, 2, 1]]
    names = np.full(len(ids), "", object)
    past = np.zeros((len(ids), N_PAST_WEEKS))
    past[:, -4:] = counts[:, :, 0]
    nobody = np.full(len(ids), None, object)
    seen = context(past, chart_of([(past, nobody)]), nobody, nobody, "2023-W24")
    return FeatureTable(np.array(ids, object), names, np.zeros(len(ids), np.bool_), features, counts, seen)


def rows_of(whole: FeatureTable, chosen: Any) -> FeatureTable:
    """Those rows of a table, in that order."""
    return FeatureTable(
        whole.track_ids[chosen],
        whole.names[chosen],
        whole.listed[chosen],
        whole.features[chosen],
        whole.counts[chosen],
        whole.context[chosen],
    )
