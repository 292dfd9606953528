"""An experiment's analysis: from what each user did in its weeks to effects, intervals and a conclusion.

The statistics are tea-tasting's, on sums a group; which users, how much error at which look, and the sentence are ours.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from models.cautions import cautions
from models.listeners import Caps, Population, Slice, Sums, add_up, listeners
from models.looks import level_at, over_all_looks
from models.measures import METRICS, Metric, compare, detectable, unknown
from models.plans import Plan
from models.ratios import broken, ratios_of
from models.reports import Conclusion, Effect, Report, Touched, in_words
from models.survey import by_group, caps_of, survey_of
from models.verdicts import Finding, conclude
from models.weeks_needed import more_weeks


def analyse(weeks: Sequence[pa.Table], before: Sequence[pa.Table], plan: Plan) -> Report:
    """Compare every group with control.

    Args:
        weeks: USAGE of each of plan.weeks.
        before: the same of weeks before the experiment, in any order; CUPED's.
        plan: what is compared and how.

    Raises:
        ModuleNotFoundError: tea-tasting is not installed.
        ValueError: there is no week.
    """
    return analyse_slices([Slice(weeks, before)], plan)


def analyse_slices(slices: Iterable[Slice], plan: Plan) -> Report:
    """The same of users part by part, each user whole in one; goes through them three times.

    Raises:
        ModuleNotFoundError: tea-tasting is not installed.
        ValueError: there is no week.
    """
    if not plan.weeks:
        raise ValueError("expected one week or more, found none")
    survey = survey_of(slices, plan)
    is_exposed = survey.exposed.sum() > 0 if plan.exposed is None else plan.exposed
    population = Population(plan.groups, plan.newcomers, bool(is_exposed))
    caps = caps_of(slices, population, plan)
    sums, touched = _sums(slices, population, caps, plan)
    effects = [_effect(metric, group, sums[-1], plan) for group in plan.groups[1:] for metric in METRICS]
    effects = _corrected(effects, plan)
    ratios = ratios_of(survey, plan, population.exposed)
    return Report(
        name=plan.name,
        control=plan.control,
        weeks=list(plan.weeks),
        weeks_before=survey.weeks_before,
        look=plan.look,
        looks=plan.looks,
        alpha=plan.alpha,
        level=level_at(plan.look, plan.looks, plan.alpha),
        correction=plan.correction,
        population="exposed users" if population.exposed else "all assigned users",
        users={group: of_group.n for group, of_group in zip(plan.groups, sums[-1], strict=True)},
        ratios=ratios,
        touched=touched,
        effects=effects,
        warnings=list(cautions(plan, survey, population, sums[-1])),
        conclusions=[_conclusion(group, effects, sums, broken(ratios, survey), plan) for group in plan.groups[1:]],
    )


def _sums(slices: Iterable[Slice], population: Population, caps: Caps, plan: Plan) -> tuple[list[list[Sums]], Touched]:
    """The sums over the first week, the first two, … all of them, each of every group; and who was beyond the cap."""
    sums = [[Sums() for _ in plan.groups] for _ in plan.weeks]
    touched = np.zeros(len(plan.groups), np.int64)
    its_caps = Caps(before=caps.before) if plan.leave_out else caps
    for part in slices:
        found = listeners(part, population)
        beyond = found.events() > caps.events
        touched += by_group(found, beyond, plan)
        add_up(found.chosen(~beyond) if plan.leave_out else found, its_caps, sums)
    is_capped = bool(np.isfinite(caps.events))
    return sums, Touched(
        how="nothing" if not is_capped else "left out" if plan.leave_out else "capped",
        events=caps.events if is_capped else None,
        users=dict(zip(plan.groups, touched.tolist(), strict=True)),
    )


def _effect(metric: Metric, group: str, sums: Sequence[Sums], plan: Plan) -> Effect:
    """One metric of a group beside control's; its p value not yet corrected."""
    control, treatment = sums[0], sums[plan.groups.index(group)]
    role = {plan.guardrail: "guardrail", plan.primary: "primary"}.get(metric.name, "other")
    known = {"metric": metric.name, "label": metric.label, "more_is_better": metric.more_is_better}
    known |= {"role": role, "group": group}
    if reason := unknown(metric, {plan.control: control, group: treatment}):
        return Effect.model_validate(known | {"unknown": reason})
    level = level_at(plan.look, plan.looks, plan.alpha_each if role == "primary" else plan.alpha)
    found, cuped = compare(metric, control, treatment, level, cuped=True)
    has_share = found.control > 0 and found.treatment > 0
    share = (found.rel_effect_size, found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper)
    relative, low, high = (float(value) if has_share else None for value in share)
    return Effect.model_validate(
        known
        | {"control_value": found.control, "group_value": found.treatment, "effect": found.effect_size}
        | {"low": found.effect_size_ci_lower, "high": found.effect_size_ci_upper, "p_value": found.pvalue}
        | {"relative": relative, "relative_low": low, "relative_high": high, "cuped": cuped}
        | {"detectable": detectable(metric, control, treatment, level, plan.power, cuped) if has_share else None}
    )


def _corrected(effects: Sequence[Effect], plan: Plan) -> list[Effect]:
    """With every p value corrected: the primary metric's for the groups, all others for each other, both for looks."""
    from tea_tasting import adjust_fdr, adjust_fwer
    from tea_tasting.experiment import ExperimentResult

    over_looks = [
        None if effect.p_value is None else over_all_looks(effect.p_value, plan.look, plan.looks) for effect in effects
    ]
    others = {n: p for n, p in enumerate(over_looks) if p is not None and effects[n].role != "primary"}
    results = ExperimentResult({str(n): {"pvalue": p} for n, p in others.items()})
    if plan.correction == "holm":
        adjusted = adjust_fwer(results, alpha=plan.alpha, arbitrary_dependence=True, method="bonferroni")
    else:
        adjusted = adjust_fdr(results, alpha=plan.alpha)
    corrected = {int(name): float(row["pvalue_adj"]) for of_one in adjusted.values() for name, row in of_one.items()}
    n_groups = len(plan.groups) - 1
    for n, p in enumerate(over_looks):
        if p is not None and n not in corrected:
            corrected[n] = min(1.0, p * n_groups)
    return [_with_p(effect, corrected.get(n), plan) for n, effect in enumerate(effects)]


def _with_p(effect: Effect, p_corrected: float | None, plan: Plan) -> Effect:
    """Also whether it is significant: the primary metric, when its interval leaves out 0, so that both say the same."""
    if effect.p_value is None or p_corrected is None:
        return effect
    is_significant = p_corrected <= plan.alpha
    if effect.role == "primary":
        is_significant = effect.p_value <= level_at(plan.look, plan.looks, plan.alpha_each)
    return effect.model_copy(update={"p_corrected": p_corrected, "is_significant": is_significant})


def _conclusion(
    group: str, effects: Sequence[Effect], sums: Sequence[Sequence[Sums]], broken: str | None, plan: Plan
) -> Conclusion:
    own = {effect.metric: effect for effect in effects if effect.group == group}
    primary, guardrail = own[plan.primary], own[plan.guardrail]
    is_harmed = guardrail.is_significant and not guardrail.is_good and plan.guardrail != plan.primary
    needed, is_least = more_weeks(primary, sums, plan)
    verdict, sentence = conclude(
        Finding(
            control=plan.control,
            group=group,
            metric=primary.label,
            broken=broken,
            unknown=primary.unknown,
            fewest_users=min(sums[-1][0].n, sums[-1][plan.groups.index(group)].n),
            is_significant=primary.is_significant,
            is_good=primary.is_good,
            effect=in_words(primary),
            harmed=in_words(guardrail) if is_harmed else None,
            look=plan.look,
            planned=plan.planned,
            detectable=primary.detectable,
            wanted=plan.effect,
            more_weeks=needed,
            is_least=is_least,
        )
    )
    return Conclusion(group=group, verdict=verdict, sentence=sentence, more_weeks=needed, is_least=is_least)
