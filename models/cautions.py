"""What the reader of an experiment's report must know besides its figures."""

from collections.abc import Iterator, Sequence

from models.listeners import Population, Sums
from models.plans import Plan
from models.survey import Survey, users_were
from models.verdicts import MIN_USERS

FEW_USERS = 100


def cautions(plan: Plan, survey: Survey, population: Population, sums: Sequence[Sums]) -> Iterator[str]:
    """What the reader must know besides the figures, most important first."""
    yield from _of_looks(plan)
    yield from _of_users(plan, survey, sums)
    yield from _of_weeks(plan, survey, population)
    if plan.primary.startswith("listed"):
        yield (
            "The lists hold different tracks, so what is listed differs although nobody did anything else: "
            f"{plan.primary} alone does not say which list is better."
        )


def _of_looks(plan: Plan) -> Iterator[str]:
    once = (
        "intervals and p values are those of a single look that was fixed beforehand. Whoever looks every week and "
        f"stops at the first that is significant is wrong far more often than in {100 * plan.alpha:g} %"
    )
    if plan.planned is None:
        yield f"The experiment has no last week, so no number of looks is planned: {once}."
    elif plan.one_look and plan.look < plan.planned:
        yield f"The experiment has not ended, and this is reckoned as its only look: {once}."
    if plan.weeks_chosen:
        yield "The weeks were chosen by hand: that holds only if they were chosen before anybody saw figures."


def _of_users(plan: Plan, survey: Survey, sums: Sequence[Sums]) -> Iterator[str]:
    if survey.strangers:
        others = ", ".join(sorted(survey.others)[:5])
        yield f"{users_were(survey.strangers)} in groups that the experiment does not have, and left out: {others}."
    if survey.newcomers:
        what = "count from then on" if plan.newcomers else "are left out"
        yield (
            f"{users_were(survey.newcomers)} first seen after the first week; they {what}. That is sound as long as no "
            "list brings users in or drives them off, which the sample ratio would show."
        )
    for group, of_group in zip(plan.groups, sums, strict=True):
        if MIN_USERS <= of_group.n < FEW_USERS:
            yield f"{group} has {of_group.n} users: below {FEW_USERS} intervals are rough."
    if plan.leave_out:
        yield (
            "Users with too many events are left out after the fact: if a list makes users listen more, more of its "
            "group are left out. Capped, they stay."
        )


def _of_weeks(plan: Plan, survey: Survey, population: Population) -> Iterator[str]:
    if plan.missing:
        yield f"Nothing was counted of {', '.join(plan.missing)}, which is left out."
    for week, played, listed in zip(plan.weeks, survey.played, survey.listed, strict=True):
        without = [name for name, p, n in zip(plan.groups, played, listed, strict=True) if p and not n]
        if without:
            yield f"In {week} nobody in {', '.join(without)} played a listed track: was there a list?"
    if population.exposed:
        without = [week for week, some in zip(plan.weeks, survey.weeks_exposed, strict=True) if not some]
        if without:
            yield f"Without any exposure: {', '.join(without)}. Users count from the week of their first one on."
