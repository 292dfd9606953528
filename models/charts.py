"""Charts of other people, as a history: one file of weekly streams and one of tracks, both Parquet.

    weekly   week (the day it begins), track_id, streams
    tracks   track_id; name, artist, release_date and the audio features where there are any

Other columns are not read. Streams are taken for plays; there are no skips and no likes. A track that is absent from a
week is below its last rank, which the history cannot say: it just has no row there.
"""

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from features.history import History, counts_of
from features.tracks import AUDIO_FEATURES, Track
from features.weeks import WEEKDAYS, ChartWeek

WEEKLY = ("week", "track_id", "streams")
NAMED = {"track_id": "id", "artist": "id_artist"}
TRACKS = ("track_id", "name", "artist", "release_date", *AUDIO_FEATURES)


class ChartsError(ValueError):
    """A file of charts is not what it should be; says which, and what was expected."""


def history_from_charts(weekly_file: Path, tracks_file: Path, folder: Path) -> History:
    """Write the charts as a history of one group, `all`, under a folder; weeks bear the names of their first days.

    Raises:
        ChartsError: a file cannot be read, lacks a column, or holds what no chart can.
    """
    history, weekly = History(folder), _weekly(weekly_file)
    history.write_catalogue([[track.model_dump_json() for track in _tracks(tracks_file)]], {})
    for week, rows in weekly.groupby("week"):
        counts = [(str(track_id), "all", int(n), 0, 0) for track_id, n in zip(rows.track_id, rows.streams, strict=True)]
        history.write_week(str(week), [counts_of(counts)], {})
    return history


def _weekly(path: Path) -> pd.DataFrame:
    """Rows of week (its name), track_id and streams, one a week and track."""
    table = _read(path, WEEKLY, WEEKLY)
    for name in WEEKLY:
        if n_null := table[name].null_count:
            raise ChartsError(f"{path}: expected a {name} in every row, found {n_null:,} without")
    frame = pd.DataFrame(
        {
            "week": [ChartWeek(day).name for day in _first_days(path, table["week"])],
            "track_id": _cast(path, table, "track_id", pa.string()),
            "streams": _cast(path, table, "streams", pa.int64()),
        }
    )
    if frame.empty:
        raise ChartsError(f"{path}: expected a row a week and track, found none")
    _refuse(path, frame[frame["track_id"] == ""], "a track_id that is not empty")
    _refuse(path, frame[frame["streams"] < 0], "streams from 0 on")
    _refuse(path, frame[frame.duplicated(["week", "track_id"])], "a track once a week")
    return frame


def _refuse(path: Path, wrong: pd.DataFrame, expected: str) -> None:
    if len(wrong):
        week, track_id, streams = wrong.iloc[0]
        raise ChartsError(f"{path}: expected {expected}, found track {track_id!r} with {streams:,} in week {week}")


def _first_days(path: Path, column: pa.ChunkedArray) -> list[date]:
    """The days on which the weeks begin, all of them the same day of the week: two weeks never share a name."""
    kind = column.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or _is_text(kind)):
        raise ChartsError(f"{path}: expected week to be the day it begins, found {kind}")
    try:
        days = [day.date() for day in pd.to_datetime(column.to_pandas(), format="ISO8601")]
    except ValueError as cause:
        raise ChartsError(f"{path}: expected week to be the day it begins: {cause}") from cause
    weekdays = [WEEKDAYS[day] for day in sorted({day.weekday() for day in days})]
    if len(weekdays) > 1:
        raise ChartsError(f"{path}: expected weeks that begin on one day of the week, found {' and '.join(weekdays)}")
    return days


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _tracks(path: Path) -> list[Track]:
    """The tracks by id, with what is known of them."""
    rows = _read(path, TRACKS, ("track_id",)).to_pylist()
    tracks = {track.id: track for track in (_track(path, row) for row in rows)}
    if len(tracks) < len(rows):
        raise ChartsError(f"{path}: expected a row a track, found {len(rows) - len(tracks):,} tracks more than once")
    return [tracks[track_id] for track_id in sorted(tracks)]


def _track(path: Path, row: Mapping[str, Any]) -> Track:
    known = {NAMED.get(name, name): value for name, value in row.items() if value == value}  # NaN differs from itself
    try:
        return Track.model_validate(known)
    except ValidationError as cause:
        fault = cause.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ChartsError(
            f"{path}: track {known.get('id')!r}: {where}: {fault['msg']}, found {fault['input']!r}"
        ) from cause


def _cast(path: Path, table: pa.Table, name: str, kind: pa.DataType) -> list[Any]:
    try:
        values: list[Any] = table[name].cast(kind).to_pylist()
    except pa.ArrowException as cause:
        raise ChartsError(f"{path}: expected {name} to be {kind}, found {table[name].type}: {cause}") from cause
    return values


def _read(path: Path, names: Collection[str], required: Collection[str]) -> pa.Table:
    """Those of the columns that there are."""
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            found = file.schema_arrow.names
            if wrong := [f"{found.count(name)} of {name}" for name in required if found.count(name) != 1]:
                raise ChartsError(
                    f"{path}: expected one column each of {', '.join(required)}, found {', '.join(wrong)}"
                )
            table = file.read([name for name in names if found.count(name) == 1])
            table.validate(full=True)  # else text that is no UTF-8 would fail later, and elsewhere
            return table
    except (OSError, pa.ArrowException) as cause:
        raise ChartsError(f"{path} cannot be read as Parquet: {getattr(cause, 'strerror', None) or cause}") from cause
