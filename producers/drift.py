"""How the popularity of every track moves from week to week."""

import math
from collections.abc import Sequence

from features.weeks import ChartWeek
from producers.catalogue import GENRES, HiddenTrack
from producers.chance import normal, stream
from producers.climates import Climate

MOMENTUM, PULL_BACK = 0.6, 0.04  # of a track's drift a week: kept, and lost of how far it has gone
SEASON = 0.15  # how far a genre swings in a year, in logarithms
HALO, HALO_WEEKS = 0.35, 3  # how much and how long a new release lifts its artist's other tracks


def hidden_rates(
    seed: int, catalogue: Sequence[HiddenTrack], weeks: Sequence[ChartWeek], climate: Climate
) -> list[list[float]]:
    """By week and place in the catalogue: lasting rate, drift, age, season and the artist's news."""
    rng = stream(seed, "drift")
    growth = [normal(rng, 0.0, climate.shock) for _ in catalogue]
    level = [normal(rng, 0.0, climate.spread) for _ in catalogue]
    rates = []
    for n, week in enumerate(weeks):
        growth = [MOMENTUM * speed + normal(rng, 0.0, climate.shock) for speed in growth]
        level = [(1 - PULL_BACK) * height + speed for height, speed in zip(level, growth, strict=True)]
        rates.append(_rates_of_week(catalogue, level, n, week))
    return rates


def _rates_of_week(catalogue: Sequence[HiddenTrack], level: Sequence[float], n: int, week: ChartWeek) -> list[float]:
    in_the_news = {t.artist for t in catalogue if t.released is not None and 0 <= n - t.released < HALO_WEEKS}
    of_year = week.first_day.isocalendar().week
    season = [SEASON * math.cos(math.tau * (of_year - genre.peak_week) / 52) for genre in GENRES]
    rates = []
    for track, height in zip(catalogue, level, strict=True):
        lift = 1 + HALO if track.artist in in_the_news else 1.0
        rates.append(track.base * math.exp(height + season[track.genre]) * track.stage(n) * lift)
    return rates
