"""What is true of a simulated experiment, by expectation: no draw of any listening is in it."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from features.weeks import ChartWeek
from models.experiments import Experiment
from producers.choices import Charts, make_choice
from producers.listeners import Listener
from producers.treatment import INDIFFERENT, Response
from producers.world import World

Numbers = dict[str, float]
METRICS = {
    "plays_per_active_user": ("plays", "active"),
    "active_days": ("active_days", "active"),
    "skip_rate": ("skips", "plays"),
    "likes_per_play": ("likes", "plays"),
    "listed_share": ("listed_plays", "plays"),
    "listed_skip_rate": ("listed_skips", "listed_plays"),
    "listed_likes_per_play": ("listed_likes", "listed_plays"),
}
"""As a report names them: a sum over users by another; `active` counts users with any event in the weeks."""


class Cell(NamedTuple):
    """A kind of track, for one listener: whether of a genre that he loves, in his group's list, and in his response."""

    is_loved: bool
    is_listed: bool
    is_answered: bool


def truth(world: World) -> list[dict[str, Any]]:
    """Each experiment of the simulated weeks that has the treatment's group: its effects on that against each other.

    An effect is what everyone's getting the treatment's list changes. What is `seen` is what the groups as they are
    differ by: the same, unless some of each get the other's list. Bots and losses are not of it.
    """
    weeks: dict[Experiment, list[ChartWeek]] = {}
    for week in world.chart_weeks():
        weeks.setdefault(world.experiment(week), []).append(week)
    return [
        {
            "experiment": experiment.name,
            "group": world.treatment.group,
            "weeks": [week.name for week in of_experiment],
            "against": {
                other: against(world, of_experiment, other)
                for other in experiment.group_names
                if other != world.treatment.group
            },
            "by_week": {
                week.name: {
                    other: {name: found["relative"] for name, found in against(world, [week], other).items()}
                    for other in experiment.group_names
                    if other != world.treatment.group
                }
                for week in of_experiment
            },
        }
        for experiment, of_experiment in weeks.items()
        if world.treatment.group in experiment.group_names
    ]


def against(world: World, weeks: Sequence[ChartWeek], other: str) -> dict[str, Numbers]:
    """By metric, the treatment's group beside another over these weeks of its experiment."""
    group, astray = world.treatment.group, world.treatment.contaminated
    with_list, without = expected(world, weeks, group, True), expected(world, weeks, other, False)
    seen = (
        (with_list, without)
        if not astray
        else (
            _mixed(with_list, expected(world, weeks, group, False), astray),
            _mixed(without, expected(world, weeks, other, True), astray),
        )
    )
    return {name: _compared(name, (with_list, without), seen) for name in METRICS}


def _compared(name: str, everyone: tuple[Numbers, Numbers], seen: tuple[Numbers, Numbers]) -> Numbers:
    numer, denom = METRICS[name]
    found: Numbers = {}
    for prefix, (treated, others) in (("", everyone), ("seen_", seen)):
        there, here = (totals[numer] / totals[denom] if totals[denom] else 0.0 for totals in (treated, others))
        found |= {f"{prefix}group": there, f"{prefix}other": here, f"{prefix}effect": there - here}
        found[f"{prefix}relative"] = (there - here) / here if here else 0.0
    return found


def _mixed(most: Numbers, others: Numbers, share: float) -> Numbers:
    return {name: (1 - share) * most[name] + share * others[name] for name in most}


def expected(world: World, weeks: Sequence[ChartWeek], group: str, gets_list: bool) -> Numbers:
    """What all listeners do in these weeks if they all are in a group, and get the treatment's list or not.

    Sessions count in the week and on the day on which they begin; one in a hundred runs on into the next day.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    silence = [0.0] * len(world.listeners)
    for week in weeks:
        charts, listed = world.charts(world.place(week)), world.places(world.listed(week, group))
        response = world.response(week) if gets_list else INDIFFERENT
        shares = _shares(charts, listed, response)
        for n, listener in enumerate(world.listeners):
            cells = _cells(listener, charts, shares, listed, response)
            sessions = listener.sessions_a_week * (1 - _chance_of_silence(listener, cells, response))
            silence[n] += sessions
            totals["active_days"] += sum(_days(listener, sessions))
            for kind, count in _counts(listener, cells, response):
                totals[kind] += count
    totals["active"] = sum(-math.expm1(-sessions) for sessions in silence)
    return dict(totals)


def _shares(charts: Charts, listed: frozenset[int], response: Response) -> list[dict[tuple[bool, bool], float]]:
    """By genre, which share of its plays is of tracks that are listed or not, and answered or not."""
    shares = []
    for tracks, cumulative in zip(charts.tracks, charts.cumulative, strict=True):
        found: dict[tuple[bool, bool], float] = {}
        for track, (before, after) in zip(tracks, pairwise([0.0, *cumulative]), strict=True):
            kind = (track in listed, track in response.listed)
            found[kind] = found.get(kind, 0.0) + (after - before) / cumulative[-1]
        shares.append(found)
    return shares


def _cells(
    listener: Listener,
    charts: Charts,
    shares: Sequence[Mapping[tuple[bool, bool], float]],
    listed: frozenset[int],
    response: Response,
) -> dict[Cell, float]:
    """Of which kind a track that he chooses is, with what chance."""
    choice = make_choice(listener, charts)
    cells: dict[Cell, float] = {}
    for genre, (before, after) in enumerate(pairwise([0.0, *choice.genres])):
        chance = (1 - choice.loyalty) * (after - before) / choice.genres[-1] if after > before else 0.0
        for kind, share in shares[genre].items():
            cell = Cell(listener.taste[genre] > 1, *kind)
            cells[cell] = cells.get(cell, 0.0) + chance * share
    genre_of = (
        {track: genre for genre, tracks in enumerate(charts.tracks) for track in tracks} if choice.loyalty else {}
    )
    for track, (before, after) in zip(choice.tracks, pairwise([0.0, *choice.newness]), strict=True):
        if choice.loyalty:
            cell = Cell(listener.taste[genre_of[track]] > 1, track in listed, track in response.listed)
            cells[cell] = cells.get(cell, 0.0) + choice.loyalty * (after - before) / choice.newness[-1]
    return cells


def _chance_of_silence(listener: Listener, cells: Mapping[Cell, float], response: Response) -> float:
    """That all plays of a session, 1 and a Poisson count more, are among those that the response leaves out."""
    left_out = max(0.0, 1 - response.plays) * sum(chance for cell, chance in cells.items() if cell.is_answered)
    return left_out * math.exp(-(listener.plays_a_session - 1) * (1 - left_out))


def _days(listener: Listener, sessions: float) -> Iterator[float]:
    """The chance of each weekday to have a session."""
    for before, after in pairwise([0.0, *listener.weekdays]):
        yield -math.expm1(-sessions * (after - before) / listener.weekdays[-1])


def _counts(listener: Listener, cells: Mapping[Cell, float], response: Response) -> Iterator[tuple[str, float]]:
    """Plays, skips and likes of one week."""
    for cell, chance in cells.items():
        factor, more_skips, more_likes = response[1:] if cell.is_answered else INDIFFERENT[1:]
        plays = listener.sessions_a_week * listener.plays_a_session * chance * factor
        liking = 1.0 if cell.is_loved else 0.0
        skips = min(1.0, listener.skips * (1.4 - 0.8 * liking) * more_skips)
        likes = (1 - skips) * min(1.0, listener.likes * (0.5 + liking) * more_likes)
        for kind, count in (("plays", plays), ("skips", plays * skips), ("likes", plays * likes)):
            yield kind, count
            if cell.is_listed:
                yield f"listed_{kind}", count


def record(world: World) -> dict[str, Any]:
    """The truth beside what was done to the world, as it is written."""
    treatment = {name: value for name, value in asdict(world.treatment).items() if name != "lists"}
    return {
        "experiments": truth(world),
        "treatment": treatment,
        "damage": asdict(world.damage),
        "skew": world.skew,
        "bots": [str(user) for user in world.bots],
    }


def lists(world: World) -> Iterator[dict[str, Any]]:
    """The lists of every week and group of the experiments, in the form in which they can be given to a simulation."""
    order = {track["id"]: n for n, track in enumerate(world.catalogue())}
    for week in world.chart_weeks():
        for group in world.experiment(week).group_names:
            listed = sorted(world.listed(week, group), key=lambda track_id: order.get(track_id, len(order)))
            tracks = [{"rank": n, "track_id": track_id} for n, track_id in enumerate(listed, 1)]
            yield {"week": week.name, "group": group, "tracks": tracks}


def write_truth(world: World, file: Path) -> None:
    """Write the record as JSON."""
    file.write_text(json.dumps(record(world), indent=1) + "\n")
