"""Who was seen in an experiment, and whose events are too many: what is looked at before any effect is."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.listeners import Caps, Floats, Listeners, Population, Slice, listeners
from models.plans import Plan


@dataclass(slots=True)
class Survey:
    """Who was seen, whatever is then looked at."""

    seen: NDArray[np.int64]
    exposed: NDArray[np.int64]
    played: Floats
    """shape (n_weeks, n_groups), as the next"""
    listed: Floats
    weeks_exposed: NDArray[np.bool_]
    moved: int = 0
    newcomers: int = 0
    strangers: int = 0
    weeks_before: int = 0
    others: set[str] = field(default_factory=set)


def survey_of(slices: Iterable[Slice], plan: Plan) -> Survey:
    """One pass over all users, newcomers and those without an exposure too."""
    n_groups, n_weeks = len(plan.groups), len(plan.weeks)
    survey = Survey(
        seen=np.zeros(n_groups, np.int64),
        exposed=np.zeros(n_groups, np.int64),
        played=np.zeros((n_weeks, n_groups)),
        listed=np.zeros((n_weeks, n_groups)),
        weeks_exposed=np.zeros(n_weeks, np.bool_),
    )
    for part in slices:
        found = listeners(part, Population(plan.groups))
        survey.seen += by_group(found, np.ones(len(found.group), np.bool_), plan)
        if has_exposures(part):
            exposed = listeners(part, Population(plan.groups, exposed=True))
            survey.exposed += by_group(exposed, np.ones(len(exposed.group), np.bool_), plan)
        survey.weeks_before = max(survey.weeks_before, len(part.before))
        survey.moved += int(found.moved.sum())
        survey.newcomers += int((found.first > 0).sum())
        for code in range(n_groups):
            totals = found.counts[:, found.group == code].sum(axis=1)
            survey.played[:, code] += totals[:, 0]
            survey.listed[:, code] += totals[:, 3]
        _note_others(part, plan, survey)
    return survey


def _note_others(part: Slice, plan: Plan, survey: Survey) -> None:
    """Users of groups that the experiment does not have, and the weeks that have exposures."""
    users: set[str] = set()
    for n, table in enumerate(part.weeks):
        survey.weeks_exposed[n] |= has_exposures(Slice([table]))
        for other in set(table["group"].unique().to_pylist()) - set(plan.groups):
            survey.others.add(other)
            users |= set(table.filter(pc.equal(table["group"], other))["user_id"].to_pylist())
    survey.strangers += len(users)


def has_exposures(part: Slice) -> bool:
    """Whether any of the users has seen a list."""
    return any(pc.any(table["exposed"]).as_py() for table in part.weeks)


def by_group(found: Listeners, chosen: NDArray[np.bool_], plan: Plan) -> NDArray[np.int64]:
    """How many of the chosen users are in each group."""
    return np.bincount(found.group[chosen], minlength=len(plan.groups)).astype(np.int64)


def caps_of(slices: Iterable[Slice], population: Population, plan: Plan) -> Caps:
    """Of all groups together, so that the same is done to each."""
    if plan.cap is None and plan.winsorise >= 1:
        return Caps()
    events, before, n_before = [np.zeros(0)], [np.zeros(0)], 0
    for part in slices:
        n_before = max(n_before, len(part.before))
        if plan.cap is None:
            found = listeners(part, population)
            events.append(found.events())
            before.append(found.events_before())
    if plan.cap is not None:
        return Caps(float(plan.cap * len(plan.weeks)), float(plan.cap * n_before) if n_before else np.inf)
    return Caps(_quantile(np.concatenate(events), plan), _quantile(np.concatenate(before), plan))


def _quantile(events: Floats, plan: Plan) -> float:
    """Of the users with any event: who has none cannot have too many."""
    some = events[events > 0]
    return float(np.quantile(some, plan.winsorise, method="higher")) if len(some) else np.inf


def users_were(n: int) -> str:
    """The number, as the beginning of a sentence."""
    return "One user was" if n == 1 else f"{n:,} users were"
