"""What the simulator says is true: the mean of what its listeners play, in catalogues of every kind."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import date
from functools import cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from statistics import fmean, median, variance

import pytest

from features.weeks import Calendar, ChartWeek
from producers.catalogue import GENRES, HiddenTrack, make_catalogue
from producers.chance import stream
from producers.choices import expected_plays, make_charts
from producers.climates import CLIMATES
from producers.drift import hidden_rates
from producers.listeners import Listener, make_listeners
from producers.listening import week_of_listening
from producers.simulator import Simulation, track_lines
from tests.commands import run

START = ChartWeek(date(2023, 3, 27))
SMALL = ("--weeks", "2", "--users", "9", "--tracks", "40")
TIMES = 1500  # that one week is listened to
Capture = pytest.CaptureFixture[str]


def world(name: str, weeks: int = 24, users: int = 300, tracks: int = 1000, seed: int = 1) -> Simulation:
    return Simulation(weeks, users, tracks, seed, START, climate=CLIMATES[name])


@cache
def truth(name: str) -> list[dict[str, float]]:
    simulation = world(name)
    return [simulation.rates(week) for week in simulation.chart_weeks()]


@cache
def plays(name: str) -> list[Counter[str]]:
    simulation, calendar = world(name), Calendar()
    counted = {week: Counter[str]() for week in simulation.chart_weeks()}
    for event_time, line in simulation.timed_events():
        event = json.loads(line)
        if event["event_type"] == "play":
            counted[calendar.week_of(event_time)][event["track_id"]] += 1
    return list(counted.values())


def top(rates: dict[str, float] | Counter[str], n: int = 50) -> set[str]:
    return set(sorted(rates, key=rates.__getitem__, reverse=True)[:n])


def share_of_top(name: str) -> float:
    return fmean(sum(rates[track] for track in top(rates)) / sum(rates.values()) for rates in truth(name))


def turnover(name: str, weeks: int = 1) -> float:
    """The share of the true top 50 that is not in the one of so many weeks later."""
    pairs = zip(truth(name), truth(name)[weeks:], strict=False)
    return fmean(1 - len(top(before) & top(after)) / 50 for before, after in pairs)


def hits(forecasts: Sequence[dict[str, float] | Counter[str]], happened: Sequence[Counter[str]]) -> float:
    return fmean(len(top(forecast) & top(week)) / 50 for forecast, week in zip(forecasts, happened, strict=True))


def deviation(means: list[float], counts: list[list[int]]) -> float:
    """How far the means of counts are from what was expected, in standard deviations of a sum of squares."""
    squares = [
        (fmean(seen) - mean) ** 2 / (variance(seen) / len(seen)) for mean, seen in zip(means, counts, strict=True)
    ]
    return (sum(squares) - len(squares)) / math.sqrt(2 * len(squares))


@pytest.mark.parametrize("name", CLIMATES)
def test_what_is_played_in_the_same_week_again_and_again_is_the_truth_in_the_mean(name: str) -> None:
    simulation, n = world(name, weeks=6, users=12, tracks=60), 4
    catalogue = make_catalogue(1, 60, 6, START.first_day, simulation.climate)
    rates = hidden_rates(1, catalogue, simulation.chart_weeks(), simulation.climate)[n]
    listeners, charts = make_listeners(1, 12, catalogue, simulation.climate.loyalty), make_charts(catalogue, rates, n)
    expected = expected_plays(listeners, catalogue, rates, charts)
    assert list(simulation.rates(simulation.chart_weeks()[n]).values()) == expected

    counts: list[Counter[int]] = []
    for time in range(TIMES):
        heard = week_of_listening(stream(99, time), listeners, 0, catalogue, charts, 1)
        counts.append(Counter(event.track for event in heard if event.event_type == "play"))
    out = [track for track, mean in enumerate(expected) if mean > 0]
    assert set().union(*counts) == set(out)
    seen = [[count[track] for count in counts] for track in out]
    assert abs(deviation([expected[track] for track in out], seen)) < 4
    assert fmean(map(Counter.total, counts)) == pytest.approx(sum(expected), rel=0.02)
    plays_per_rate = sum(expected) / sum(rates)
    assert deviation([rates[track] * plays_per_rate for track in out], seen) > 100, "tastes and fans matter"


@pytest.mark.parametrize("name", CLIMATES)
def test_the_plays_of_all_weeks_are_around_the_truth_as_chance_has_them(name: str) -> None:
    squares = [
        (week[track] - mean) ** 2 / mean
        for rates, week in zip(truth(name), plays(name), strict=True)
        for track, mean in rates.items()
        if 5 < mean < 100  # above it, the chance of who comes at all is seen too
    ]
    assert len(squares) > 1000
    assert 0.9 < fmean(squares) < 1.12


@pytest.mark.parametrize(
    ("name", "share", "weekly", "monthly"),
    [("mixed", 0.54, 0.08, 0.20), ("flat", 0.11, 0.22, 0.54), ("steep", 0.75, 0.05, 0.14), ("fast", 0.63, 0.21, 0.59)],
)
def test_catalogues_differ_in_how_much_the_best_have_and_in_how_fast_they_change(
    name: str, share: float, weekly: float, monthly: float
) -> None:
    assert share_of_top(name) == pytest.approx(share, abs=0.02)
    assert turnover(name) == pytest.approx(weekly, abs=0.015)
    assert turnover(name, weeks=4) == pytest.approx(monthly, abs=0.03)


@pytest.mark.parametrize(
    ("name", "last_week", "oracle"),
    [("mixed", 0.79, 0.86), ("flat", 0.22, 0.41), ("steep", 0.79, 0.87), ("fast", 0.74, 0.89)],
)
def test_the_truth_beats_last_week_in_every_catalogue(name: str, last_week: float, oracle: float) -> None:
    assert hits(plays(name)[:-1], plays(name)[1:]) == pytest.approx(last_week, abs=0.02)
    assert hits(truth(name)[1:], plays(name)[1:]) == pytest.approx(oracle, abs=0.02)


def weeks_to_half(name: str) -> float:
    """How long it takes releases of the first ten weeks to fall from their best to half of it, in the median."""
    lasted = []
    for track in (track for track, rate in truth(name)[10].items() if rate > 0 == truth(name)[0][track]):
        rates = [week[track] for week in truth(name)]
        best = max(range(24), key=rates.__getitem__)
        lasted.append(next((n for n, rate in enumerate(rates[best:]) if rate < rates[best] / 2), 24))
    assert len(lasted) > 20
    return median(lasted)


def test_in_the_fast_catalogue_a_release_is_over_within_weeks() -> None:
    assert weeks_to_half("fast") <= 3 < 5 <= weeks_to_half("mixed")


@pytest.mark.parametrize("name", CLIMATES)
def test_a_genre_has_its_season_in_every_catalogue(name: str) -> None:
    climate = CLIMATES[name]
    catalogue = make_catalogue(1, 100, 1, START.first_day, climate)
    weeks = [ChartWeek(date.fromisocalendar(2023, number, 1)) for number in (28, 2)]
    summer, winter = (hidden_rates(1, catalogue, [week], climate)[0] for week in weeks)
    for track, in_week_28, in_week_2 in zip(catalogue, summer, winter, strict=True):
        swing = math.cos(math.tau * (28 - GENRES[track.genre].peak_week) / 52)
        assert in_week_28 == pytest.approx(in_week_2 * math.exp(0.3 * swing))


def a_track(artist: int, base: float, released: int | None = None) -> HiddenTrack:
    """Of the first genre, and three times as new in its first week as an old one."""
    return HiddenTrack({}, 0, artist, base, released, rise=1e-9, decay=1.0, peak=2.0)


def a_listener(*artists: int, loyalty: float = 0.5) -> Listener:
    """Ten plays a week, and no taste."""
    return Listener(101, 2.0, 5.0, 18.0, (1.0,) * 7, (1.0,) * len(GENRES), 0.3, 0.2, True, artists, loyalty)


def heard(listener: Listener, catalogue: list[HiddenTrack], week: int) -> list[float]:
    rates = [track.base if track.stage(week) else 0.0 for track in catalogue]
    return expected_plays([listener], catalogue, rates, make_charts(catalogue, rates, week))


def test_a_fan_moves_to_what_his_artist_releases_and_others_follow_the_rates() -> None:
    catalogue = [a_track(0, 6.0), a_track(0, 1.0), a_track(0, 1.0, released=1), a_track(1, 3.0)]
    before, after = (heard(a_listener(0), catalogue, week) for week in (0, 1))
    assert before == pytest.approx([2.5 + 3.0, 2.5 + 0.5, 0, 1.5])
    assert after == pytest.approx([1.0 + 5 * 6 / 11, 1.0 + 5 / 11, 3.0 + 5 / 11, 5 * 3 / 11])
    assert heard(a_listener(), catalogue, 0) == pytest.approx([6, 1, 0, 3])


def test_who_is_a_fan_of_an_artist_without_a_track_listens_as_all_do() -> None:
    catalogue = [a_track(0, 2.0), a_track(1, 1.0, released=1)]
    assert heard(a_listener(1), catalogue, 0) == [10, 0]


def test_where_nothing_is_out_nothing_is_expected() -> None:
    assert heard(a_listener(0), [a_track(0, 2.0, released=1)], 0) == [0]


@pytest.mark.parametrize(
    ("name", "least", "most"), [("mixed", 0.05, 0.1), ("flat", 0.2, 0.25), ("steep", 0.18, 0.25), ("fast", 0.18, 0.25)]
)
def test_fans_play_their_artists_where_the_catalogue_has_fans(name: str, least: float, most: float) -> None:
    simulation = world(name, weeks=3)
    catalogue = make_catalogue(1, 1000, 3, START.first_day, simulation.climate)
    artist_of = {track.record["id"]: track.artist for track in catalogue}
    listeners = make_listeners(1, 300, catalogue, simulation.climate.loyalty)
    artists = {listener.user_id: listener.artists for listener in listeners}
    assert all(1 <= len(fan_of) <= 3 for fan_of in artists.values())
    events = [event for event in map(json.loads, simulation.events()) if event["event_type"] == "play"]
    assert least < fmean(artist_of[event["track_id"]] in artists[event["user_id"]] for event in events) < most


def test_the_mixed_catalogue_is_what_it_was_before_there_were_others() -> None:
    simulation = Simulation(weeks=3, users=120, tracks=300, seed=7, start=START)
    hashes = [
        sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
        for lines in (simulation.events(), track_lines(simulation))
    ]
    assert hashes == [
        "9e1ab2ab9381e0882d96643cbeafe90e2f039f67fdb3e31902418ce94190ff6d",
        "8e7ba062ce2d63852a1cd23df2eb429406a474c23184fa8399fcc7d7e95736d7",
    ]


def test_simulate_writes_the_catalogue_that_it_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    def written(*arguments: str) -> list[bytes]:
        ended = run(capsys, "simulate", *SMALL, *arguments, "--out", str(tmp_path))
        assert (ended.code, ended.err) == (0, "")
        return [(tmp_path / f"{name}.jsonl").read_bytes() for name in ("sessions", "tracks", "truth")]

    folders = {name: written("--catalogue", name) for name in CLIMATES}
    assert written() == folders["mixed"]
    for one, other in combinations(folders.values(), 2):
        assert all(a != b for a, b in zip(one, other, strict=True))
    truth_of_week = [json.loads(line) for line in folders["fast"][2].splitlines()]
    simulation = Simulation(2, 9, 40, 1, Calendar().parse("2025-W01"), climate=CLIMATES["fast"])
    assert truth_of_week == [{"week": w.name, "rates": simulation.rates(w)} for w in simulation.chart_weeks()]


def test_an_unknown_catalogue_is_refused_by_name(capsys: Capture) -> None:
    ended = run(capsys, "simulate", *SMALL, "--catalogue", "huge")
    assert ended.code == 2
    assert "expected mixed, flat, steep or fast, found 'huge'" in ended.err
    assert all(name in ended.err for name in CLIMATES)
