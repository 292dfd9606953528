"""Simulated experiments, and what their reports say: what the proof of the analysis is made of.

A case is drawn, counted as it happens (producers.usage: no events are written, and a test holds that the events give
the same), and analysed by the product's own code.
"""

from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from benchmarks.duplicates import Record
from consumers.recount import Recount
from consumers.source import Batch
from consumers.spills import UserSums, merged
from features.rules import Rules
from features.weeks import ChartWeek
from models.analysis import analyse
from models.experiments import Experiment, Experiments, Group
from models.plans import Plan
from models.reports import Effect, Report
from producers.arrays import place
from producers.damage import Damage
from producers.simulator import Simulation
from producers.treatment import Treatment
from producers.truth import against
from producers.usage import weekly_usage

START = ChartWeek(date(2025, 1, 6))
CONTROL, TREATMENT = "control", "treatment"
WEIGHTS = {CONTROL: 0.5, TREATMENT: 0.5}
SKEW = 0.5
PRIMARY = "plays_per_active_user"
EVENTS_A_RECORD = 25
DUPLICATE_HOURS = 24  # of stream time, which stands still while a partition has nothing but late events
CLUMSY = Damage(bots=1, lost=0.05, duplicates=0.1, late=0.05)
FELT = Treatment(plays=0.1, skips=-0.1, likes=0.1)


@dataclass(frozen=True, slots=True)
class Size:
    """Of one experiment: its users and weeks, and the weeks before it."""

    users: int = 800
    weeks: int = 4
    before: int = 2
    tracks: int = 300


@dataclass(frozen=True, slots=True)
class Case:
    """One experiment, drawn from a seed."""

    simulation: Simulation
    before: list[pa.Table]
    weeks: list[pa.Table]

    def plan(self, n_weeks: int, **more: Any) -> Plan:
        """To analyse the first n_weeks."""
        names = tuple(week.name for week in self.chart_weeks(n_weeks))
        return replace(Plan("simulated", WEIGHTS, CONTROL, names), **more)

    def chart_weeks(self, n_weeks: int) -> list[ChartWeek]:
        """The first weeks of the experiment."""
        return self.simulation.chart_weeks()[len(self.before) :][:n_weeks]

    def report(self, n_weeks: int | None = None, **more: Any) -> Report:
        """What the analysis says after so many weeks, all of them unless given; with one look unless one is named."""
        n_weeks = n_weeks or len(self.weeks)
        more.setdefault("one_look", "look" not in more)
        return analyse(self.weeks[:n_weeks], self.before, self.plan(n_weeks, **more))

    def truth(self, n_weeks: int | None = None) -> dict[str, dict[str, float]]:
        """By metric, what is true of these weeks."""
        return against(self.simulation, self.chart_weeks(n_weeks or len(self.weeks)), CONTROL)


NO_DAMAGE, NO_EFFECT = Damage(), Treatment()


def simulated(seed: int, size: Size, treatment: Treatment = NO_EFFECT, damage: Damage = NO_DAMAGE) -> Simulation:
    """An experiment of two halves in the last weeks of a simulation; the seed is also the salt."""
    groups = tuple(Group(name, weight, "naive") for name, weight in WEIGHTS.items())
    experiment = Experiment("simulated", f"salt-{seed}", START.after(size.before), None, groups)
    return Simulation(
        size.before + size.weeks,
        size.users,
        size.tracks,
        seed,
        START,
        experiments=Experiments((experiment,)),
        treatment=treatment,
        damage=damage,
        skew=SKEW,
    )


def drawn(seed: int, size: Size, treatment: Treatment = NO_EFFECT, damage: Damage = NO_DAMAGE) -> Case:
    """The use of every user of every week."""
    simulation = simulated(seed, size, treatment, damage)
    tables = [table for _, table in weekly_usage(simulation)]
    return Case(simulation, tables[: size.before], tables[size.before :])


@dataclass(frozen=True, slots=True)
class Found:
    """What the reports of one experiment have said."""

    alarm: bool
    """of the primary metric, after all weeks, looked at once"""
    alarms: dict[str, bool] = field(default_factory=dict)
    """p at most alpha, by metric, uncorrected"""
    any_corrected: bool = False
    """whether any metric is significant once corrected"""
    looks: bool = False
    """whether any of the weekly looks alarms, by the plan's bounds"""
    peeks: bool = False
    """whether any does by a p value that reckons with one look"""
    covered: dict[str, bool] = field(default_factory=dict)
    """whether the interval holds the truth, by metric"""
    looks_cover: bool = False
    """whether the intervals of all looks hold the truth"""
    relative: float = 0.0
    """effect on the primary metric as reported"""
    width: float = 0.0
    """of its interval"""


def primary(report: Report) -> Effect:
    """The effect that the conclusion is about."""
    return next(effect for effect in report.effects if effect.role == "primary")


def null_case(seed: int, size: Size) -> Found:
    """No effect: looked at once at the end, and every week."""
    case = drawn(seed, size)
    end = case.report()
    at_looks = [primary(case.report(n, look=n, planned=size.weeks)) for n in range(1, size.weeks + 1)]
    return Found(
        primary(end).is_significant,
        {effect.metric: (effect.p_value or 0.0) <= end.alpha for effect in end.effects},
        any_corrected=any(effect.is_significant for effect in end.effects if effect.role != "primary"),
        looks=any(effect.is_significant for effect in at_looks),
        peeks=any(effect.p_value is not None and effect.p_value <= end.alpha for effect in at_looks),
    )


def felt_case(seed: int, size: Size, treatment: Treatment = FELT) -> Found:
    """A known effect: whether intervals hold it, at the end and at every look."""
    case = drawn(seed, size, treatment)
    end, truth = case.report(), case.truth()
    at_looks = [
        holds(primary(case.report(n, look=n, planned=size.weeks)), case.truth(n)[PRIMARY]["effect"])
        for n in range(1, size.weeks + 1)
    ]
    return Found(
        primary(end).is_significant,
        covered={effect.metric: holds(effect, truth[effect.metric]["effect"]) for effect in end.effects},
        looks_cover=all(at_looks),
        relative=primary(end).relative or 0.0,
    )


def holds(effect: Effect, true: float) -> bool:
    """Whether the interval has it."""
    assert effect.low is not None, effect
    assert effect.high is not None, effect
    return effect.low <= true <= effect.high


def bots_case(seed: int, size: Size, winsorise: float) -> tuple[Found, Found]:
    """No effect, and a few bots: with winsorising and without.

    There are no weeks before: CUPED takes a bot that was there already for what it is.
    """
    case = drawn(seed, replace(size, before=0), damage=Damage(bots=3))
    found = []
    for share in (winsorise, 1.0):
        effect = primary(case.report(winsorise=share))
        width = (effect.relative_high or 0.0) - (effect.relative_low or 0.0)
        found.append(Found(effect.is_significant, width=width))
    return found[0], found[1]


def seen_case(seed: int, size: Size, treatment: Treatment) -> tuple[float, list[float]]:
    """The relative effect on the primary metric as reported: over all weeks, and of each week where it fades."""
    case = drawn(seed, size, treatment)
    weeks = [
        analyse([table], case.before, replace(case.plan(1), weeks=(week.name,), one_look=True))
        for table, week in zip(case.weeks, case.chart_weeks(size.weeks), strict=True)
        if treatment.half_life
    ]
    return primary(case.report()).relative or 0.0, [primary(report).relative or 0.0 for report in weeks]


def regrouped(usage: pa.Table, seed: int, damage: Damage) -> pa.Table:
    """The users of one week assigned anew, and those whom the damage takes away left out; for size's sake.

    Without an effect nobody listens otherwise for being in another group.
    """
    experiment = simulated(seed, Size(users=1, tracks=1)).experiments.experiments[0]
    users = usage["user_id"].to_pylist()
    groups = [experiment.group_of(user) for user in users]
    kept = [not damage.loses(seed, int(user), group) for user, group in zip(users, groups, strict=True)]
    column = usage.schema.get_field_index("group")
    return usage.set_column(column, usage.schema.field("group"), pa.array(groups)).filter(pa.array(kept))


def is_ratio_alarm(usage: pa.Table, seed: int, damage: Damage) -> bool:
    """Whether the report of one week's users, assigned anew, says that the groups are not as large as they should."""
    plan = Plan("simulated", WEIGHTS, CONTROL, (START.name,))
    report = analyse([regrouped(usage, seed, damage)], [], plan)
    assert sum(report.users.values()) == sum(report.ratios[0].users.values())
    return any(ratio.is_broken for ratio in report.ratios)


def one_week(users: int) -> pa.Table:
    """The use of a week outside any experiment."""
    simulation = replace(simulated(1, Size(users, weeks=1, before=0)), experiments=Experiments())
    return next(table for _, table in weekly_usage(simulation))


def whole_way(seed: int, size: Size) -> tuple[bool, int]:
    """Whether the events, written and read again, give the use and report that drawing gives; how many they were.

    Each group has every other track of the simulated list, so that one group's list in the place of another's shows.
    """
    plain = simulated(seed, size)

    def halved(week: ChartWeek, group: str) -> list[str]:
        return sorted(plain.listed(week, group))[group == TREATMENT :: 2]

    case = drawn(seed, size, replace(FELT, lists=halved), CLUMSY)
    with TemporaryDirectory() as folder:
        tables, n_events = extracted(case.simulation, Path(folder))
    read = Case(case.simulation, tables[: size.before], tables[size.before :])
    is_same = all(map(pa.Table.equals, tables, [*case.before, *case.weeks]))
    return is_same and read.report() == case.report(), n_events


def extracted(simulation: Simulation, folder: Path, partitions: int = 3) -> tuple[list[pa.Table], int]:
    """The use of every week as the product reads it from a log of the events, by track; how many these were."""
    weeks = simulation.chart_weeks()
    lists = {
        week.name: {
            group: frozenset(simulation.listed(week, group)) for group in simulation.experiment(week).group_names
        }
        for week in weeks
    }
    rules = Rules(simulation.calendar, simulation.experiment, duplicate_hours=DUPLICATE_HOURS)
    logs, n_events = _logs(simulation, partitions)
    for partition, log in enumerate(logs):
        sums = UserSums(folder, str(partition), simulation.calendar, lists)
        Recount(rules, 0, len, ("none",), sums).add(Batch(partition, 0, len(log), log))
        sums.spill()
    return [pa.concat_tables(merged(folder, week.name)).sort_by("user_id") for week in weeks], n_events


def _logs(simulation: Simulation, partitions: int) -> tuple[list[list[Record]], int]:
    """The events in arrays, each sent when its last event arrives; how many they are."""
    logs: list[list[Record]] = [[] for _ in range(partitions)]
    arrays: list[list[bytes]] = [[] for _ in range(partitions)]
    n_events, arrival = 0, simulation.calendar.start(simulation.start)
    for arrival, line in simulation.timed_events():
        partition = place(line, "track", partitions).partition
        arrays[partition].append(line)
        n_events += 1
        if len(arrays[partition]) == EVENTS_A_RECORD:
            logs[partition].append(_record(len(logs[partition]), arrival, arrays[partition]))
            arrays[partition] = []
    for log, rest in zip(logs, arrays, strict=True):
        if rest:
            log.append(_record(len(log), arrival, rest))
    return logs, n_events


def _record(offset: int, arrival: datetime, events: list[bytes]) -> Record:
    return Record(offset, b"[" + b",".join(events) + b"]", int(arrival.timestamp() * 1000))
