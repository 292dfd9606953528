"""Whether an experiment is whole: groups as large as their weights say, and nobody in two of them."""

from collections.abc import Sequence

from models.plans import Plan
from models.reports import Ratio
from models.survey import Survey, users_were

RATIO_ALPHA = 0.001
LOOK_FOR = (
    "look for events of a group that are lost, a client that is broken for one of them, bots, and another salt or "
    "other weights in what delivers the lists"
)


def ratios_of(survey: Survey, plan: Plan, is_exposed: bool) -> list[Ratio]:
    """Whether as many users were seen in each group as its weight says; of the exposed too, where they are compared."""
    found = [_ratio("users", survey.seen.tolist(), plan)]
    return [*found, _ratio("exposed users", survey.exposed.tolist(), plan)] if is_exposed else found


def _ratio(what: str, users: Sequence[int], plan: Plan) -> Ratio:
    """Each group beside control by the exact binomial test, the least p value times their number."""
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import SampleRatio

    counts = dict(zip(plan.groups, users, strict=True))
    p_values = [
        SampleRatio(plan.weights[group] / plan.weights[plan.control], method="binom")
        .analyze({name: Aggregates(count_=counts[name]) for name in (plan.control, group)}, plan.control, group)
        .pvalue
        for group in plan.groups[1:]
        if counts[group] + counts[plan.control]
    ]
    p_value = min(1.0, min(p_values) * len(p_values)) if p_values else None
    whole = sum(plan.weights.values())
    return Ratio.model_validate(
        {"what": what, "users": counts, "p_value": p_value}
        | {"expected": {group: sum(users) * plan.weights[group] / whole for group in plan.groups}}
        | {"is_broken": p_value is not None and p_value < RATIO_ALPHA}
    )


def broken(ratios: Sequence[Ratio], survey: Survey) -> str | None:
    """What makes every comparison invalid, as the rest of a sentence."""
    if survey.moved:
        return (
            f"{users_were(survey.moved).lower()} seen in more than one of its groups: weights or salt were changed "
            "while it ran. Report the weeks since then, with --weeks."
        )
    for ratio in ratios:
        if ratio.is_broken:
            users = [f"{group} has {n:,}, expected {ratio.expected[group]:,.0f}" for group, n in ratio.users.items()]
            return f"of {ratio.what}, {', '.join(users)} (p < {RATIO_ALPHA}). Before anything else, {LOOK_FOR}."
    return None
