"""Listeners with habits: when they listen, what they like, and the events of one week's sessions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

from producers.catalogue import GENRES, HiddenTrack
from producers.chance import between, normal, poisson, share, stream, weighted

FIRST_USER = 101
DAY_S = 86_400
WEEKDAYS = (0.9, 0.9, 0.95, 1.0, 1.25, 1.3, 1.05)
MOST_PLAYS = 40  # in one session
SHARE_OF_PREMIUM = 0.45


class Happening(NamedTuple):
    """One event, in seconds since the week's start; track is a place in the catalogue, or -1 for none."""

    second: float
    session: int
    user: int
    track: int
    event_type: str


@dataclass(frozen=True, slots=True)
class Listener:
    """One user's habits."""

    user_id: int
    sessions_a_week: float
    plays_a_session: float
    hour: float
    weekdays: tuple[float, ...]  # cumulative weights
    taste: tuple[float, ...]  # how much more than others, by genre
    skips: float
    likes: float
    is_premium: bool


class Charts(NamedTuple):
    """What can be played in one week: by genre its weight, its tracks, and their cumulative rates."""

    weights: list[float]
    tracks: list[list[int]]
    cumulative: list[list[float]]


def make_listeners(seed: int, n_users: int) -> list[Listener]:
    """Users with ids from FIRST_USER on."""
    rng = stream(seed, "listeners")
    return [_listener(rng, FIRST_USER + n) for n in range(n_users)]


def _listener(rng: Random, user_id: int) -> Listener:
    loves = {int(rng.random() * len(GENRES)) for _ in range(2)}
    return Listener(
        user_id,
        sessions_a_week=between(rng, 0.8, 4.2),
        plays_a_session=between(rng, 3.0, 9.0),
        hour=normal(rng, 18.0, 4.0),
        weekdays=tuple(accumulate(weight * between(rng, 0.4, 1.6) for weight in WEEKDAYS)),
        taste=tuple(3.0 if genre in loves else 0.7 for genre in range(len(GENRES))),
        skips=share(rng, 0.3, 0.12),
        likes=share(rng, 0.22, 0.1),
        is_premium=rng.random() < SHARE_OF_PREMIUM,
    )


def make_charts(catalogue: Sequence[HiddenTrack], rates: Sequence[float]) -> Charts:
    """What the rates of one week, in the order of the catalogue, make playable."""
    tracks = [[n for n, t in enumerate(catalogue) if t.genre == genre and rates[n] > 0] for genre in range(len(GENRES))]
    cumulative = [list(accumulate(rates[n] for n in places)) for places in tracks]
    return Charts([sums[-1] if sums else 0.0 for sums in cumulative], tracks, cumulative)


def week_of_listening(
    rng: Random,
    listeners: Sequence[Listener],
    first_weekday: int,
    catalogue: Sequence[HiddenTrack],
    charts: Charts,
    first_session: int,
) -> Iterator[Happening]:
    """All sessions that begin in a week, each in its order; some run on past the week's end."""
    if not any(charts.weights):
        return
    session = first_session
    for listener in listeners:
        pull = list(accumulate(w * t for w, t in zip(charts.weights, listener.taste, strict=True)))
        for _ in range(poisson(rng, listener.sessions_a_week)):
            weekday = weighted(rng, listener.weekdays)
            hour = normal(rng, listener.hour, 2.5) % 24
            start = ((weekday - first_weekday) % 7) * DAY_S + hour * 3600
            yield from _session(rng, listener, start, session, catalogue, charts, pull)
            session += 1


def _session(
    rng: Random,
    listener: Listener,
    start: float,
    session: int,
    catalogue: Sequence[HiddenTrack],
    charts: Charts,
    pull: Sequence[float],
) -> Iterator[Happening]:
    """Plays one after another: each is skipped, or liked, or neither; advertisements go to those who do not pay."""
    now, user = start, listener.user_id
    for _ in range(min(MOST_PLAYS, 1 + poisson(rng, listener.plays_a_session - 1))):
        genre = weighted(rng, pull)
        track = charts.tracks[genre][weighted(rng, charts.cumulative[genre])]
        liking = 1.0 if listener.taste[genre] > 1 else 0.0
        length = catalogue[track].record["duration_ms"] / 1000
        yield Happening(now, session, user, track, "play")
        if rng.random() < listener.skips * (1.4 - 0.8 * liking):
            length *= between(rng, 0.02, 0.4)
            yield Happening(now + length, session, user, track, "skip")
        elif rng.random() < listener.likes * (0.5 + liking):
            yield Happening(now + between(rng, 0.1, 0.9) * length, session, user, track, "like")
        now += length + between(rng, 0.2, 3.0)
        if not listener.is_premium and rng.random() < 0.3:
            yield Happening(now, session, user, -1, "advertisment")
            now += between(rng, 15.0, 30.0)
