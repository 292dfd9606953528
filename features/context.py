"""What is known of a track beside its last four weeks: its place in the chart, its past, its artist, the season.

Plays are seen as levels: their logarithm, less that of the 50th most played track of the week, so that a service that
doubles changes nothing. A track without plays lies below the least that was counted that week, at half of it: in a
whole count that is half a play, in a chart of which only the top is known it is just below the last rank, and neither
is a logarithm of zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.weeks import Calendar

N_PAST_WEEKS = 12
PLACE = 50
VERSION = 1
"""Of what CONTEXT means: a network reads only tables of the version that it has learned from."""
CONTEXT = (
    "level_week_1",
    "level_week_2",
    "level_week_3",
    "level_week_4",
    "peak_level",
    "below_peak",
    "weeks_since_peak",
    "weeks_in_a_row",
    "weeks_played",
    "is_first_week",
    "is_second_week",
    "is_third_week",
    "weeks_since_release",
    "release_before_run",
    "artist_level",
    "artist_growth",
    "artist_tracks",
    "artist_new",
    "artist_new_before",
    "place_growth",
    "place_plays",
    "week_of_year",
)
"""Numbers of weeks, and of tracks, are log1p, and what artists and the 50th place have are logarithms; week_of_year, 1
to 53, is that of the week to come."""

N_SUMS = 5  # of an artist
FURTHEST_LEVEL = 5.0
Plays = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chart:
    """What all tracks together say of twelve weeks; oldest week first, NaN for a week that is missing."""

    least: Plays
    """(12,) plays of the least played track"""
    at_place: Plays
    """(12,) plays of the 50th most played track; of the last, where there are fewer"""
    artists: Mapping[str, int]
    """the place of each among the sums"""
    sums: Plays
    """(artists, 5) plays of the last week and the one before, tracks played, and those that are new in the two"""


def past_weeks(closed_week: str) -> list[str]:
    """The names of the twelve weeks that end with the closed one, oldest first.

    >>> past_weeks("2023-W12")[::11]
    ['2023-W01', '2023-W12']
    """
    return [week.name for week in Calendar().parse(closed_week).span(N_PAST_WEEKS)]


def chart_of(parts: Iterable[tuple[Plays, NDArray[np.object_]]]) -> Chart:
    """The chart of tracks that come in parts: plays of shape (n, 12), and the artist of each track or None."""
    return merged(charted(plays, artist_ids) for plays, artist_ids in parts)


@dataclass(frozen=True, slots=True)
class Charted:
    """What some of the tracks say of twelve weeks; whatever parts they come in, it merges to the same chart."""

    least: Plays
    """(12,), infinite where nothing was played"""
    best: Plays
    """(50, 12) the most plays, ascending"""
    artists: NDArray[np.object_]
    sums: Plays
    """(artists, 5) as in a Chart"""


def charted(plays: Plays, artist_ids: NDArray[np.object_]) -> Charted:
    """Look at plays of shape (n, 12), and the artist of each track or None."""
    least = np.where(plays > 0, plays, np.inf).min(axis=0, initial=np.inf)
    best = _best([np.zeros((PLACE, N_PAST_WEEKS)), plays])
    return Charted(least, best, *_of_artists(plays, artist_ids))


def merged(parts: Iterable[Charted]) -> Chart:
    """The chart of all parts. A week that no track was played in is missing.

    Memory grows with the number of artists, not of tracks.
    """
    least, best = np.full(N_PAST_WEEKS, np.inf), np.zeros((PLACE, N_PAST_WEEKS))
    artists: dict[str, int] = {}
    sums = np.zeros((0, N_SUMS))
    for part in parts:
        least, best = np.minimum(least, part.least), _best([best, part.best])
        places = [artists.setdefault(artist, len(artists)) for artist in part.artists.tolist()]
        if len(artists) > len(sums):
            sums = np.concatenate([sums, np.zeros((len(artists), N_SUMS))])
        sums[places] += part.sums  # an artist comes once a part
    there = best[-1] > 0
    at_place = np.where(best > 0, best, np.inf).min(axis=0)
    return Chart(np.where(there, least, np.nan), np.where(there, at_place, np.nan), artists, sums)


def _best(plays: Sequence[Plays]) -> Plays:
    found: Plays = np.partition(np.concatenate(plays), -PLACE, axis=0)[-PLACE:]
    return np.sort(found, axis=0)


def _of_artists(plays: Plays, artist_ids: NDArray[np.object_]) -> tuple[NDArray[np.object_], Plays]:
    """The artists, each once, and their sums."""
    played = plays > 0
    ever_before, ever_before_that = played[:, :-1].any(axis=1), played[:, :-2].any(axis=1)
    of_tracks = (
        plays[:, -1],
        plays[:, -2],
        played[:, -1],
        played[:, -1] & ~ever_before,
        played[:, -2] & ~ever_before_that,
    )
    places, artists = pd.factorize(artist_ids)
    known = places >= 0
    sums = [np.bincount(places[known], column[known], len(artists)) for column in of_tracks]
    return np.asarray(artists, object), np.column_stack(sums)


def context(
    plays: Plays, chart: Chart, artist_ids: NDArray[np.object_], release_dates: NDArray[np.object_], closed_week: str
) -> NDArray[np.float32]:
    """The columns of CONTEXT, shape (n, 22), NaN where not known.

    Args:
        plays: (n, 12), of the weeks of past_weeks(closed_week); 0 where a week is missing.
        chart: of the same weeks, of all tracks.
        artist_ids: (n,), None where unknown.
        release_dates: (n,) texts as the catalogue has them, None where unknown.
        closed_week: the last of the weeks.
    """
    columns = np.full((len(plays), len(CONTEXT)), np.nan)
    there = ~np.isnan(chart.least)
    if there[-1]:
        level = np.full(plays.shape, np.nan)
        level[:, there] = _levels(plays[:, there], chart.least[there], chart.at_place[there])
        columns[:, :4] = level[:, -4:]
        in_a_row = _in_a_row(plays[:, there] > 0)
        columns[:, 4:12] = _course(level, plays, in_a_row)
        columns[:, 12:14] = _release(release_dates, closed_week, in_a_row)
        columns[:, 14:19] = _artist(plays, chart, artist_ids)
        columns[:, 19] = np.log(chart.at_place[-1] / chart.at_place[-2])
        columns[:, 20] = np.log(chart.at_place[-1])
    columns[:, 21] = Calendar().parse(closed_week).after().first_day.isocalendar().week
    return columns.astype(np.float32)


def levels(plays: Plays, of_all: Plays) -> Plays:
    """The levels of some tracks in a week, of which all tracks have these plays; NaN where nobody played anything.

    >>> levels(np.array([100.0, 0.0]), np.array([100.0, 100.0, 4.0])).round(3).tolist()
    [3.219, -0.693]
    """
    played = np.sort(of_all[of_all > 0])
    if not len(played):
        return np.full(plays.shape, np.nan)
    return _levels(plays, played[0], played[-min(PLACE, len(played))])


def _levels(plays: Plays, least: Any, at_place: Any) -> Plays:
    found: Plays = np.log(np.where(plays > 0, plays, least / 2) / at_place)
    return found


def _in_a_row(played: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the last weeks, without a break, a track was played in."""
    newest_first = played[:, ::-1]
    found: NDArray[np.int64] = np.where(newest_first.all(axis=1), played.shape[1], np.argmin(newest_first, axis=1))
    return found


def _course(level: Plays, plays: Plays, in_a_row: NDArray[np.int64]) -> Plays:
    known = np.where(np.isnan(level), -np.inf, level)
    peak = known.max(axis=1)
    since_peak = np.argmax(known[:, ::-1], axis=1)
    firsts = [(in_a_row == n).astype(np.float64) for n in (1, 2, 3)]
    weeks = [np.log1p(since_peak), np.log1p(in_a_row), np.log1p((plays > 0).sum(axis=1))]
    return np.column_stack([peak, level[:, -1] - peak, *weeks, *firsts])


def _release(release_dates: NDArray[np.object_], closed_week: str, in_a_row: NDArray[np.int64]) -> Plays:
    """Weeks since release, where the day is known; a date after the first play is no negative age."""
    closed = Calendar().parse(closed_week).first_day
    codes, texts = pd.factorize(release_dates)
    ages = np.array([*(_weeks_since(text, closed) for text in texts), np.nan])  # a missing date has code -1
    age = np.log1p(ages[codes])
    return np.column_stack([age, age - np.log1p(in_a_row)])


def _weeks_since(release_date: str, closed: date) -> float:
    try:
        return max(0.0, (closed - date.fromisoformat(release_date)).days / 7)
    except ValueError:  # only the year, or the month
        return np.nan


def _artist(plays: Plays, chart: Chart, artist_ids: NDArray[np.object_]) -> Plays:
    """What the artist's other tracks do; nothing where the artist is unknown."""
    places = np.array([chart.artists.get(artist_id, -1) for artist_id in artist_ids.tolist()], np.intp)
    known = places >= 0
    sums = np.full((len(places), N_SUMS), np.nan)
    sums[known] = chart.sums[places[known]]
    least, at_place = chart.least[-1], chart.at_place[-1]
    last, before = sums[:, 0] - plays[:, -1], sums[:, 1] - plays[:, -2]
    level = np.log1p(last) - np.log(at_place)
    own = (plays[:, -1] > 0) & ~(plays[:, :-1] > 0).any(axis=1)
    own_before = (plays[:, -2] > 0) & ~(plays[:, :-2] > 0).any(axis=1)
    growth = np.log((last + least) / (before + least))
    numbers = np.log1p(np.column_stack([sums[:, 2], sums[:, 3] - own, sums[:, 4] - own_before]).clip(0))
    return np.column_stack([level.clip(-FURTHEST_LEVEL), growth, numbers])
