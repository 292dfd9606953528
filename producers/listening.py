"""The events of one week's sessions."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from producers.catalogue import HiddenTrack
from producers.chance import between, normal, poisson, weighted
from producers.choices import Charts, Choice, choose, make_choice
from producers.listeners import Listener
from producers.treatment import INDIFFERENT, Response, times

DAY_S = 86_400
MOST_PLAYS = 40  # in one session
NOBODY: Mapping[int, Response] = MappingProxyType({})


class Happening(NamedTuple):
    """One event, in seconds since the week's start; track is a place in the catalogue, or -1 for none."""

    second: float
    session: int
    user: int
    track: int
    event_type: str


def week_of_listening(
    rng: Random,
    listeners: Sequence[Listener],
    first_weekday: int,
    catalogue: Sequence[HiddenTrack],
    charts: Charts,
    first_session: int,
    responses: Mapping[int, Response] = NOBODY,
) -> Iterator[Happening]:
    """All sessions that begin in a week, each in its order; some run on past the week's end.

    The responses are those of the users whom a list has an effect on.
    """
    if not any(charts.weights):
        return
    session = first_session
    for listener in listeners:
        choice = make_choice(listener, charts)
        response = responses.get(listener.user_id, INDIFFERENT)
        for _ in range(poisson(rng, listener.sessions_a_week)):
            weekday = weighted(rng, listener.weekdays)
            hour = normal(rng, listener.hour, 2.5) % 24
            start = ((weekday - first_weekday) % 7) * DAY_S + hour * 3600
            yield from _session(rng, listener, start, session, catalogue, charts, choice, response)
            session += 1


def _session(
    rng: Random,
    listener: Listener,
    start: float,
    session: int,
    catalogue: Sequence[HiddenTrack],
    charts: Charts,
    choice: Choice,
    response: Response,
) -> Iterator[Happening]:
    """Plays one after another: each is skipped, or liked, or neither; advertisements go to those who do not pay."""
    now, user = start, listener.user_id
    for track in _chosen(rng, listener, charts, choice, response):
        _, _, skips, likes = response if track in response.listed else INDIFFERENT
        liking = 1.0 if listener.taste[catalogue[track].genre] > 1 else 0.0
        length = catalogue[track].record["duration_ms"] / 1000
        yield Happening(now, session, user, track, "play")
        if rng.random() < listener.skips * (1.4 - 0.8 * liking) * skips:
            length *= between(rng, 0.02, 0.4)
            yield Happening(now + length, session, user, track, "skip")
        elif rng.random() < listener.likes * (0.5 + liking) * likes:
            yield Happening(now + between(rng, 0.1, 0.9) * length, session, user, track, "like")
        now += length + between(rng, 0.2, 3.0)
        if not listener.is_premium and rng.random() < 0.3:
            yield Happening(now, session, user, -1, "advertisment")
            now += between(rng, 15.0, 30.0)


def _chosen(rng: Random, listener: Listener, charts: Charts, choice: Choice, response: Response) -> Iterator[int]:
    """The tracks of one session, each when it is asked for: what it draws comes between the draws of the plays."""
    for _ in range(min(MOST_PLAYS, 1 + poisson(rng, listener.plays_a_session - 1))):
        track = choose(rng, charts, choice)
        yield from [track] * (times(rng, response.plays) if track in response.listed else 1)
