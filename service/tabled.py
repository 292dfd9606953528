"""Four weeks of a request as the table that the network reads."""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.columns import KINDS
from features.context import N_PAST_WEEKS, past_weeks
from features.counts import Counts, numbered
from features.table import N_WEEKS, FeatureTable, build
from features.tracks import AUDIO_FEATURES
from service.problems import wrong
from service.requests import TrackWeek, Weeks, at

FIELDS = {"plays": "play_count", "skips": "number_of_skips", "likes": "likes"}
counts_of = attrgetter(*(FIELDS[kind] for kind in KINDS))
audio_of = attrgetter(*AUDIO_FEATURES)
released = attrgetter("release_date_year", "release_date_week")
MONDAY, FRIDAY, SUNDAY = 1, 5, 7


def weeks_until(closed_week: str) -> list[str]:
    """The names of the twelve weeks that end with the closed one, oldest first.

    Raises:
        Problem: there is no such week, or it is at an end of the calendar.
    """
    try:
        weeks = past_weeks(closed_week)
        date.fromisocalendar(int(closed_week[:4]), int(closed_week[6:]), SUNDAY)  # a week must come after it
    except (ValueError, OverflowError) as cause:
        raise wrong("closed_week", "expected a week that there is, such as 2023-W24") from cause
    if len(weeks) != N_PAST_WEEKS:
        raise wrong("closed_week", f"expected a week with {N_PAST_WEEKS - 1} before it")
    return weeks


def table_of(weeks: Weeks, past: Sequence[str]) -> tuple[FeatureTable, NDArray[np.intp]]:
    """The table of some tracks, and the row of each in it, in their order; what was before the four weeks is missing.

    Args:
        weeks: four, oldest first, all of the same tracks in the same order.
        past: as weeks_until has them.
    """
    ids = pa.array([track.track_id for track in weeks[-1]], pa.string())
    sums = np.zeros((len(ids), N_PAST_WEEKS, len(KINDS)), np.int64)
    for n, week in enumerate(weeks, N_PAST_WEEKS - N_WEEKS):
        sums[:, n] = _rows(map(counts_of, week), len(KINDS), np.int64)
    table = build(Counts(past, ids, sums), _catalogue(ids, weeks[-1]))
    return table, numbered(pa.chunked_array([ids]))[1]


def _catalogue(ids: pa.Array, tracks: Sequence[TrackWeek]) -> pa.Table:
    """What a request tells of the tracks; nobody knows their artists."""
    audio = _rows(map(audio_of, tracks), len(AUDIO_FEATURES), np.float64)  # None is NaN
    unknown = pa.nulls(len(ids), pa.string())
    texts = pa.array([release_date(*released(track)) for track in tracks], pa.string())
    columns = {"id": ids, "name": unknown, "id_artist": unknown, "release_date": texts}
    return pa.table(columns | dict(zip(AUDIO_FEATURES, audio.T, strict=True)))


def _rows(rows: Iterable[tuple[Any, ...]], n_columns: int, kind: type[np.generic]) -> NDArray[Any]:
    return np.array(list(rows), kind).reshape(-1, n_columns)


def check_releases(tracks: Sequence[TrackWeek], n_week: int) -> None:
    """Make sure that the tracks of a week were released in weeks that there are.

    Raises:
        Problem: one was not.
    """
    for n, (year, week) in enumerate(map(released, tracks)):
        if week is not None and release_date(year, week) is None:
            raise at([n_week, n, "release_date_week"], "no day of release_date_year lies in this ISO week")


@lru_cache(maxsize=10_000)
def release_date(year: int | None, week: int | None) -> str | None:
    """A day that features.tracks.release_year_and_week reads as this year and ISO week, or the year alone.

    The Friday, when music comes out; where that lies in another year, the end of the week that does not. None where
    nothing is known, and where there is no such day.

    >>> release_date(2019, 27), release_date(2021, 53), release_date(1929, None), release_date(2022, 53)
    ('2019-07-05', '2021-01-01', '1929', None)
    """
    if year is None or week is None:
        return None if year is None else f"{year:04}"
    for iso_year in (year, year - 1):
        for weekday in (FRIDAY, MONDAY, SUNDAY):
            try:
                day = date.fromisocalendar(iso_year, week, weekday)
            except ValueError:  # a year of 52 weeks, or one before the first
                continue
            if day.year == year:
                return day.isoformat()
    return None
