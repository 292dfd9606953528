"""The sentence at the end of a report: which list is better, or that this cannot be said, and why."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["broken", "too early", "better", "worse", "mixed", "no difference"]
MIN_USERS = 30
"""A group below this gets no verdict: means of so few skewed counts are not near enough to normal."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one group beside control when the sentence is chosen; shares are relative to control."""

    control: str
    group: str
    metric: str
    broken: str | None = None
    """what makes the experiment invalid"""
    unknown: str | None = None
    """why the primary metric cannot be told"""
    fewest_users: int = 1_000_000
    is_significant: bool = False
    is_good: bool = False
    """whether the effect goes the way that is wanted"""
    effect: str = ""
    """in words, with its interval"""
    harmed: str | None = None
    """the guardrail that is significantly worse, in words"""
    look: int = 1
    planned: int | None = None
    detectable: float | None = None
    wanted: float = 0.02
    more_weeks: int | None = 0
    """how many it needs to see `wanted`; None where no number of weeks would do, of what can be told"""
    is_least: bool = False
    """whether it needs more_weeks or more: one week says nothing of what further ones add"""


def conclude(found: Finding) -> tuple[Verdict, str]:
    """The verdict on the group's list, and its sentence: of broken, too few, significant or not the first that fits."""
    if found.broken:
        return "broken", f"The experiment is broken, so nothing follows from it: {found.broken}"
    if reason := _too_few(found):
        return "too early", f"It is too early to compare {found.group} with {found.control}: {reason}."
    if found.is_significant:
        return _different(found)
    if _goes_on(found):
        return "too early", (
            f"It is too early to say which list is better, {found.group}'s or {found.control}'s: "
            f"{found.effect}, which may be chance. {_needed(found)}"
        )
    return "no difference", (
        f"No difference between the lists of {found.group} and {found.control} was found: {found.effect}. "
        f"{_seen(found)}"
    )


def _too_few(found: Finding) -> str | None:
    if found.unknown:
        return f"{found.metric} cannot be told, since {found.unknown}"
    if found.fewest_users < MIN_USERS:
        return f"a group has {_users(found.fewest_users)}, and below {MIN_USERS} an interval means nothing"
    return None


def _users(n: int) -> str:
    return "one user" if n == 1 else f"{n:,} users"


def _different(found: Finding) -> tuple[Verdict, str]:
    if not found.is_good:
        return "worse", f"{found.control}'s list is better than {found.group}'s: {found.effect}."
    if found.harmed:
        return "mixed", (
            f"{found.group}'s list is not simply better than {found.control}'s: {found.effect}, but {found.harmed}. "
            "Weigh the one against the other before you choose."
        )
    return "better", f"{found.group}'s list is better than {found.control}'s: {found.effect}."


def _goes_on(found: Finding) -> bool:
    """Whether more weeks are planned; without a plan, whether an effect of the wanted size would often be missed."""
    if found.planned is not None:
        return found.look < found.planned
    return found.detectable is None or found.detectable > found.wanted


def _needed(found: Finding) -> str:
    planned = f"{_weeks(found.planned - found.look)} of the plan remain" if found.planned else ""
    planned = planned.replace("week of the plan remain", "week of the plan remains")
    return "; ".join(part for part in (_weeks_needed(found), planned) if part).capitalize() + "."


def _weeks_needed(found: Finding) -> str:
    size = f"to see a difference of {100 * found.wanted:.1f} %"
    if found.more_weeks is None:
        return f"{size} it needs more users: with these, no number of weeks would do"
    if found.more_weeks == 0:
        return f"{size} it has enough weeks"
    return f"{size} it needs {'at least ' if found.is_least else ''}{_weeks(found.more_weeks, more=True)}"


def _weeks(n: int, more: bool = False) -> str:
    return f"{'one' if n == 1 else n}{' more' if more else ''} week{'' if n == 1 else 's'}"


def _seen(found: Finding) -> str:
    if found.detectable is None:
        return "What it could have seen cannot be told."
    size = f"{100 * found.detectable:.1f} % or more"
    return f"It would have seen one of {size} in four of five cases; a smaller one may be there."
