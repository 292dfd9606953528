"""What there is to choose from in a week, what one listener chooses, and the mean of what all of them choose."""

from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple

from producers.catalogue import GENRES, HiddenTrack
from producers.chance import weighted
from producers.listeners import Listener


class Charts(NamedTuple):
    """What can be played in one week: by genre its weight, its tracks, and their cumulative rates; and what is new.

    `releases` has by artist his tracks, and what its age makes of each: fans ask how new a track is, not how popular.
    """

    weights: list[float]
    tracks: list[list[int]]
    cumulative: list[list[float]]
    releases: dict[int, list[tuple[int, float]]]


class Choice(NamedTuple):
    """What one listener chooses from in one week: genres, and his artists' tracks, each by cumulative weights."""

    genres: list[float]
    tracks: list[int]
    newness: list[float]
    loyalty: float  # 0 where his artists have nothing out


def make_charts(catalogue: Sequence[HiddenTrack], rates: Sequence[float], week: int) -> Charts:
    """What the rates of one simulated week, in the order of the catalogue, make playable."""
    tracks = [[n for n, t in enumerate(catalogue) if t.genre == genre and rates[n] > 0] for genre in range(len(GENRES))]
    cumulative = [list(accumulate(rates[n] for n in places)) for places in tracks]
    releases: dict[int, list[tuple[int, float]]] = {}
    for n, track in enumerate(catalogue):
        if newness := track.stage(week):
            releases.setdefault(track.artist, []).append((n, newness))
    return Charts([sums[-1] if sums else 0.0 for sums in cumulative], tracks, cumulative, releases)


def make_choice(listener: Listener, charts: Charts) -> Choice:
    """What a listener's taste and the artists whose fan he is make of the charts."""
    pull = list(accumulate(w * t for w, t in zip(charts.weights, listener.taste, strict=True)))
    own = [release for artist in listener.artists for release in charts.releases.get(artist, ())]
    newness = list(accumulate(newness for _, newness in own))
    return Choice(pull, [track for track, _ in own], newness, listener.loyalty if own else 0.0)


def choose(rng: Random, charts: Charts, choice: Choice) -> int:
    """A track of the listener's artists, or of the charts; where there are no fans, their chance is not thrown."""
    if choice.loyalty and rng.random() < choice.loyalty:
        return choice.tracks[weighted(rng, choice.newness)]
    genre = weighted(rng, choice.genres)
    return charts.tracks[genre][weighted(rng, charts.cumulative[genre])]


def expected_plays(
    listeners: Sequence[Listener], catalogue: Sequence[HiddenTrack], rates: Sequence[float], charts: Charts
) -> list[float]:
    """By place in the catalogue, the mean number of plays in the sessions that begin in a week of these charts.

    The plays that the longest session cuts off are not taken off: less than one in a billion.
    """
    of_genre, of_fans = [0.0] * len(GENRES), [0.0] * len(catalogue)
    for listener in listeners if any(charts.weights) else ():
        choice = make_choice(listener, charts)
        plays = listener.sessions_a_week * listener.plays_a_session
        for genre, taste in enumerate(listener.taste):
            of_genre[genre] += plays * (1 - choice.loyalty) * taste / choice.genres[-1]
        for track, before, after in zip(choice.tracks, [0.0, *choice.newness], choice.newness, strict=False):
            of_fans[track] += plays * choice.loyalty * (after - before) / choice.newness[-1]
    return [rate * of_genre[t.genre] + fans for rate, t, fans in zip(rates, catalogue, of_fans, strict=True)]
