"""What each simulated user did in each week, counted as it happens: what the log must give once it has been read."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from features.events import KINDS
from features.weeks import ChartWeek
from producers.listening import Happening
from producers.simulator import Simulation

if TYPE_CHECKING:
    import pyarrow as pa

ROW = ("plays", "skips", "likes", "listed_plays", "listed_skips", "listed_likes")
DAYS = len(ROW)  # the place of the days in a row, a bit each


def weekly_usage(simulation: Simulation) -> Iterator[tuple[ChartWeek, "pa.Table"]]:
    """By week the use of every user with an event in it: models.usage.USAGE, without exposures.

    Losses are left out and bots are in; an event sent twice counts once, and a late one in its own week.
    """
    running_on: list[Happening] = []
    for week, happenings in simulation.happenings():
        length = (simulation.calendar.end(week) - simulation.calendar.start(week)).total_seconds()
        inside = running_on + [happening for happening in happenings if happening.second < length]
        running_on = [h._replace(second=h.second - length) for h in happenings if h.second >= length]
        yield week, usage_of(simulation, week, inside)


def usage_of(simulation: Simulation, week: ChartWeek, happenings: Sequence[Happening]) -> "pa.Table":
    """One week's use, from what happens in it."""
    experiment = simulation.experiment(week)
    groups = {user: experiment.group_of(str(user)) for user in {happening.user for happening in happenings}}
    listed = {group: simulation.places(simulation.listed(week, group)) for group in set(groups.values())}
    rows = _rows(happenings, {user: listed[group] for user, group in groups.items()}, midnights(simulation, week))
    return _table(rows, groups)


def midnights(simulation: Simulation, week: ChartWeek) -> list[float]:
    """When the second to the seventh day of a week begin, in seconds from its start."""
    zone, start = simulation.calendar.zone, simulation.calendar.start(week)
    days = [datetime.combine(week.first_day + timedelta(days=n), time(), zone) for n in range(1, 7)]
    return [(day.astimezone(UTC) - start).total_seconds() for day in days]


def _rows(
    happenings: Sequence[Happening], listed: Mapping[int, frozenset[int]], midnights: Sequence[float]
) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for second, _, user, track, event_type in happenings:
        if event_type not in KINDS:
            continue
        row = rows.setdefault(user, [0] * (DAYS + 1))
        kind = KINDS[event_type]
        row[kind] += 1
        row[len(KINDS) + kind] += track in listed[user]
        row[DAYS] |= 1 << bisect_right(midnights, second)
    return rows


def _table(rows: Mapping[int, Sequence[int]], groups: Mapping[int, str]) -> "pa.Table":
    import pyarrow as pa

    from models.usage import USAGE

    users = sorted(rows, key=str)
    columns: dict[str, list[object]] = {
        "user_id": [str(user) for user in users],
        "group": [groups[user] for user in users],
        **{name: [rows[user][place] for user in users] for place, name in enumerate(ROW)},
        "active_days": [rows[user][DAYS].bit_count() for user in users],
        "exposed": [False] * len(users),
    }
    return pa.table(columns, schema=USAGE)
