"""Files of session events, counted with plain pandas.

No part of the counting pipeline is in here, so that each can be held against the other.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from features.history import History, counts_of
from features.tracks import Track
from features.weeks import Calendar

KINDS = {"play": "plays", "skip": "skips", "like": "likes"}
LONGEST_QUIET_WEEKS = 53
GZIP = b"\x1f\x8b"


class Counted(NamedTuple):
    """An event that counts."""

    week: str
    track_id: str
    kind: str


def history_from_sessions(
    files: Iterable[Path], tracks_file: Path | None, calendar: Calendar, folder: Path, zone: tzinfo = UTC
) -> History:
    """Count files of session events into a history of one group, `all`.

    Every week that an event lies in is written, the last one too, which may not have ended; so are the quiet weeks
    between them. What can never be counted is passed over. No event is late here, and none is of the future, which
    only a broker's clock could tell.

    Args:
        files: JSON lines, each an event or an array of events; gzip too.
        tracks_file: JSON lines, each a track; of a track that comes twice, the last.
        calendar: where weeks begin.
        folder: where the history is written.
        zone: of times that name none.
    """
    history = History(folder)
    if tracks_file:
        history.write_catalogue([[track.model_dump_json() for track in _tracks(tracks_file)]], {})
    events = pd.DataFrame(_events(files, calendar, zone), columns=list(Counted._fields), dtype=object)
    counts = events.groupby(list(Counted._fields)).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(KINDS.values()), fill_value=0).reset_index()
    for week in _with_quiet_weeks(sorted(set(events["week"]))):
        rows = counts.loc[counts["week"] == week, ["track_id", *KINDS.values()]]
        counted = counts_of((row[0], "all", *row[1:]) for row in rows.itertuples(index=False))
        history.write_week(week, [counted], {})
    return history


def _events(files: Iterable[Path], calendar: Calendar, zone: tzinfo) -> Iterator[Counted]:
    for path in files:
        for line in _lines(path):
            for event in line if isinstance(line, list) else [line]:
                counted = _counts_as(event, calendar, zone)
                if counted:
                    yield counted


def _lines(path: Path) -> Iterator[Any]:
    """The values of a file of JSON lines; what is no JSON, and what is blank, is None."""
    with path.open("rb") as packed, gzip.GzipFile(fileobj=packed) if packed.peek(2)[:2] == GZIP else packed as file:
        for line in file:
            try:
                yield json.loads(line.decode(), parse_constant=_refused)
            except (ValueError, RecursionError):
                yield None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _counts_as(event: Any, calendar: Calendar, zone: tzinfo) -> Counted | None:
    if not isinstance(event, dict) or not isinstance(event.get("event_type"), str):
        return None
    kind = KINDS.get(event["event_type"].lower())
    track_id = _id(event.get("track_id"))
    week = _week(event.get("timestamp"), calendar, zone)
    return Counted(week, track_id, kind) if kind and track_id and _id(event.get("user_id")) and week else None


def _id(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    has_bytes = isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
    return value if has_bytes else None


def _week(timestamp: Any, calendar: Calendar, zone: tzinfo) -> str | None:
    """The name of the week of a time; none where it is no time, or lies outside the years that have weeks."""
    try:
        instant = datetime.fromisoformat(timestamp)
        return calendar.week_of(instant if instant.tzinfo else instant.replace(tzinfo=zone)).name
    except (TypeError, ValueError, OverflowError):
        return None


def _tracks(path: Path) -> list[Track]:
    tracks: dict[str, Track] = {}
    for line in _lines(path):
        try:
            track = Track.model_validate(line)
        except ValidationError:
            continue
        tracks[track.id] = track
    return [tracks[track_id] for track_id in sorted(tracks)]


def _with_quiet_weeks(weeks: Sequence[str]) -> list[str]:
    """Those weeks and the ones between; a gap of more than a year stays one: it is a wrong clock's."""
    found = [Calendar().parse(week) for week in weeks]
    every = list(found[:1])
    for earlier, later in pairwise(found):
        n_weeks = (later.first_day - earlier.first_day).days // 7
        every += later.span(n_weeks if n_weeks <= LONGEST_QUIET_WEEKS else 1)
    return [week.name for week in every]
