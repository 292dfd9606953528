"""The context against an oracle that looks at one track at a time."""

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.context import CONTEXT, N_PAST_WEEKS, Chart, chart_of, context, levels, past_weeks

CLOSED = "2023-W24"
LAST_DAY = date(2023, 6, 12)


def nan(value: float | None) -> float:
    return math.nan if value is None else value


def slow_level(plays: float, of_all: list[float]) -> float | None:
    played = sorted((p for p in of_all if p > 0), reverse=True)
    if not played:
        return None
    return math.log((plays or played[-1] / 2) / played[min(50, len(played)) - 1])


def slow_context(tracks: list[dict[str, Any]], row: int) -> dict[str, float]:
    """Every column but those of the artist, for weeks of which the last has plays."""
    own = tracks[row]["plays"]
    weeks = [[track["plays"][n] for track in tracks] for n in range(N_PAST_WEEKS)]
    there = [n for n in range(N_PAST_WEEKS) if any(weeks[n])]
    level = [slow_level(own[n], weeks[n]) for n in range(N_PAST_WEEKS)]
    known = [x for x in level if x is not None]
    in_a_row = 0
    for n in reversed(there):
        if not own[n]:
            break
        in_a_row += 1
    place = [sorted((p for p in week if p), reverse=True)[:50][-1:] for week in weeks]
    found: dict[str, float] = {f"level_week_{n}": nan(level[-5 + n]) for n in (1, 2, 3, 4)}
    found["peak_level"] = max(known)
    found["below_peak"] = nan(level[-1]) - max(known)
    found["weeks_since_peak"] = math.log1p(next(n for n in range(12) if level[-1 - n] == max(known)))
    found["weeks_in_a_row"] = math.log1p(in_a_row)
    found["weeks_played"] = math.log1p(sum(p > 0 for p in own))
    found |= {f"is_{name}_week": float(in_a_row == n) for n, name in enumerate(("first", "second", "third"), 1)}
    age = tracks[row]["age_days"]
    found["weeks_since_release"] = math.nan if age is None else math.log1p(max(0, age) / 7)
    found["release_before_run"] = found["weeks_since_release"] - found["weeks_in_a_row"]
    found["place_growth"] = math.log(place[-1][0] / place[-2][0]) if place[-2] else math.nan
    found["place_plays"] = math.log(place[-1][0])
    found["week_of_year"] = 25
    return found


def slow_artist(tracks: list[dict[str, Any]], row: int) -> list[float]:
    """What the artist's other tracks do, in the order of CONTEXT."""
    artist, last = tracks[row]["artist"], [t["plays"][-1] for t in tracks]
    if artist is None:
        return [math.nan] * 5
    others = [t["plays"] for n, t in enumerate(tracks) if t["artist"] == artist and n != row]
    least = min(p for p in last if p)
    place = sorted((p for p in last if p), reverse=True)[:50][-1]
    now, before = sum(p[-1] for p in others), sum(p[-2] for p in others)
    anybody_before = any(t["plays"][-2] for t in tracks)
    growth = math.log((now + least) / (before + least)) if anybody_before or not before else math.nan
    n_tracks = sum(t["plays"][-1] > 0 for t in tracks if t["artist"] == artist)
    new = sum(p[-1] > 0 and not any(p[:-1]) for p in others)
    new_before = sum(p[-2] > 0 and not any(p[:-2]) for p in others)
    return [max(-5.0, math.log1p(now) - math.log(place)), growth, *map(math.log1p, (n_tracks, new, new_before))]


def arrays(tracks: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    plays = np.array([track["plays"] for track in tracks], np.float64)
    artists = np.array([track["artist"] for track in tracks], object)
    dates = [None if t["age_days"] is None else (LAST_DAY - timedelta(t["age_days"])).isoformat() for t in tracks]
    return plays, artists, np.array(dates, object)


TWELVE = st.lists(st.one_of(st.just(0), st.integers(0, 40)), min_size=12, max_size=12)
PLAYS = st.builds(lambda first, plays: [0] * first + plays[first:], st.integers(0, 11), TWELVE)
TRACK = st.fixed_dictionaries(
    {
        "plays": PLAYS,
        "artist": st.sampled_from(["x", "y", None]),
        "age_days": st.none() | st.integers(-30, 3000),
    }
)


@given(tracks=st.lists(TRACK, min_size=1, max_size=60), missing=st.sets(st.integers(0, 10), max_size=6))
def test_every_column_is_what_a_slow_look_at_one_track_says(tracks: list[dict[str, Any]], missing: set[int]) -> None:
    tracks[0]["plays"][-1] += 1
    for track in tracks:
        track["plays"] = [0 if n in missing else p for n, p in enumerate(track["plays"])]
    plays, artists, dates = arrays(tracks)
    found = context(plays, chart_of([(plays, artists)]), artists, dates, CLOSED)
    place = CONTEXT.index("artist_level")
    for row in range(len(tracks)):
        named = dict(zip(CONTEXT, found[row].tolist(), strict=True))
        expected = slow_context(tracks, row)
        assert {name: named[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)
        assert found[row, place : place + 5].tolist() == pytest.approx(
            slow_artist(tracks, row), rel=1e-5, abs=1e-5, nan_ok=True
        )
        assert len(expected) + 5 == len(CONTEXT)


@given(tracks=st.lists(TRACK, min_size=2, max_size=80), cut=st.integers(1, 79))
def test_a_chart_of_slices_is_the_chart_of_the_whole(tracks: list[dict[str, Any]], cut: int) -> None:
    plays, artists, _ = arrays(tracks)
    whole, parts = chart_of([(plays, artists)]), chart_of([(plays[:cut], artists[:cut]), (plays[cut:], artists[cut:])])
    np.testing.assert_array_equal(whole.least, parts.least)
    np.testing.assert_array_equal(whole.at_place, parts.at_place)
    assert by_artist(whole) == by_artist(parts)


def by_artist(chart: Chart) -> dict[str, list[float]]:
    return {artist: chart.sums[place].tolist() for artist, place in chart.artists.items()}


def test_twice_the_plays_everywhere_are_the_same_levels() -> None:
    plays = np.array([[9, 7, 5, 3, 8, 6, 4, 2, 9, 7, 5, 3], [1] * 12], np.float64)
    nobody = np.array([None, None], object)
    once, twice = (
        context(p, chart_of([(p, nobody)]), nobody, nobody, CLOSED)[:, : CONTEXT.index("place_plays")]
        for p in (plays, 2 * plays)
    )
    np.testing.assert_allclose(once, twice, rtol=1e-6)


def test_of_a_last_week_without_a_play_only_the_season_is_known() -> None:
    plays = np.zeros((1, 12))
    plays[0, 3] = 5
    nobody = np.array([None], object)
    (found,) = context(plays, chart_of([(plays, nobody)]), nobody, nobody, "2020-W53").tolist()
    assert found[-1] == 1.0
    assert all(math.isnan(value) for value in found[:-1])


def test_no_track_at_all_has_an_empty_chart_and_context() -> None:
    nothing, nobody = np.zeros((0, 12)), np.zeros(0, object)
    chart: Chart = chart_of([(nothing, nobody)])
    assert np.isnan(chart.least).all()
    assert context(nothing, chart, nobody, nobody, CLOSED).shape == (0, len(CONTEXT))


def test_only_the_first_fifty_places_matter_for_levels() -> None:
    plays = np.arange(100, 0, -1, dtype=np.float64)
    assert levels(plays, plays)[49] == 0.0
    weeks = np.repeat(plays[:, None], N_PAST_WEEKS, axis=1)
    assert chart_of([(weeks[:70], np.full(70, None)), (weeks[70:], np.full(30, None))]).at_place.tolist() == [51.0] * 12
    assert np.isnan(levels(plays, np.zeros(100))).all()


def test_the_past_crosses_the_year() -> None:
    assert past_weeks("2021-W02")[8:] == ["2020-W52", "2020-W53", "2021-W01", "2021-W02"]
