"""Listeners with habits: when they listen, what they like, and whose fans they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from producers.catalogue import GENRES, HiddenTrack
from producers.chance import between, normal, pick, share, stream

FIRST_USER = 101
WEEKDAYS = (0.9, 0.9, 0.95, 1.0, 1.25, 1.3, 1.05)
SHARE_OF_PREMIUM = 0.45
MOST_SESSIONS = 200.0  # a week: seven hours of every day
FAVOURITES = 3  # artists of whom a listener is a fan, at most


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
    artists: tuple[int, ...]  # whose fan he is
    loyalty: float  # the share of his plays that is theirs


def make_listeners(seed: int, n_users: int, catalogue: Sequence[HiddenTrack], loyalty: float) -> list[Listener]:
    """Users with ids from FIRST_USER on: fans of artists of the genres they love, as likely as these have tracks."""
    rng, of_fans = stream(seed, "listeners"), stream(seed, "fans")
    artists = [[t.artist for t in catalogue if t.genre == genre] for genre in range(len(GENRES))]
    return [_listener(rng, of_fans, FIRST_USER + n, artists, loyalty) for n in range(n_users)]


def _listener(rng: Random, of_fans: Random, user_id: int, artists: list[list[int]], loyalty: float) -> Listener:
    loves = {int(rng.random() * len(GENRES)) for _ in range(2)}
    loved = [artist for genre in sorted(loves) for artist in artists[genre]]
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
        artists=tuple({pick(of_fans, loved) for _ in range(FAVOURITES)}) if loved else (),
        loyalty=loyalty,
    )


def skewed(seed: int, listeners: Sequence[Listener], skew: float) -> list[Listener]:
    """The same listeners, more unlike in how often they listen: by a log-normal factor of this deviation, mean 1."""
    rng = stream(seed, "skew")
    factors = [math.exp(normal(rng, -skew * skew / 2, skew)) for _ in listeners]
    return [
        replace(listener, sessions_a_week=min(MOST_SESSIONS, listener.sessions_a_week * factor))
        for listener, factor in zip(listeners, factors, strict=True)
    ]
