"""What is measured of an experiment: ratios of sums over users, and the weeks before that make them sharper."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from models.listeners import COLUMNS, Sums

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import MeanResult, RatioOfMeans


@dataclass(frozen=True, slots=True)
class Metric:
    """A sum over users by another sum over the same users; by their number, where there is no other."""

    name: str
    label: str
    numer: str
    denom: str | None
    covariate: tuple[str, str | None]
    """the like of it in the weeks before, for CUPED"""
    more_is_better: bool = True


def _rate(name: str, label: str, numer: str, denom: str, more_is_better: bool = True) -> Metric:
    return Metric(name, label, numer, denom, (f"{numer}_before", f"{denom}_before"), more_is_better)


METRICS = (
    Metric("plays_per_active_user", "plays per active user", "plays", "active", ("plays_before", None)),
    Metric("active_days", "active days per user", "active_days", None, ("active_days_before", None)),
    _rate("skip_rate", "skips per play", "skips", "plays", more_is_better=False),
    _rate("likes_per_play", "likes per play", "likes", "plays"),
    _rate("listed_share", "share of plays from the list", "listed_plays", "plays"),
    _rate("listed_skip_rate", "skips per play of listed tracks", "listed_skips", "listed_plays", more_is_better=False),
    _rate("listed_likes_per_play", "likes per play of listed tracks", "listed_likes", "listed_plays"),
)
NAMES = tuple(metric.name for metric in METRICS)
PRIMARY, GUARDRAIL = "plays_per_active_user", "skip_rate"
LACKING = {"plays": "has played", "active": "has done anything", "listed_plays": "has played a listed track"}
SAME = 1e-12
"""Of a squared mean: a variance below it is rounding."""
LEFT = 1e-4
"""Of an interval, that the weeks before must leave: less is rounding."""


def aggregates(metric: Metric, sums: Sums) -> "Aggregates":
    """What the library works on: the metric's columns."""
    from tea_tasting.aggr import Aggregates

    names = (metric.numer, metric.denom, *metric.covariate)
    columns = {name: COLUMNS.index(name) for name in names if name is not None}
    mean, covariance = sums.mean(), sums.covariance()
    return Aggregates(
        count_=sums.n,
        mean_={name: float(mean[n]) for name, n in columns.items()},
        var_={name: float(covariance[n, n]) for name, n in columns.items()},
        cov_={(a, b): float(covariance[columns[a], columns[b]]) for a, b in combinations(columns, 2)},
    )


def unknown(metric: Metric, groups: dict[str, Sums]) -> str | None:
    """Why the metric of these groups cannot be compared, as a sentence; None where it can."""
    for group, sums in groups.items():
        if sums.n < 2:
            return f"{group} has {'one user' if sums.n else 'no user'}"
        if metric.denom and not sums.mean()[COLUMNS.index(metric.denom)]:
            return f"nobody in {group} {LACKING[metric.denom]}"
    if all(is_constant(aggregates(metric, sums), metric.numer, metric.denom) for sums in groups.values()):
        return "it is the same of all users, so there is nothing to tell its error by"
    return None


def is_constant(sums: "Aggregates", numer: str, denom: str | None) -> bool:
    """Whether a ratio does not vary between users, but for rounding."""
    return bool(sums.ratio_var(numer, denom) <= SAME * (sums.mean(numer) / sums.mean(denom)) ** 2)


def compare(
    metric: Metric, control: Sums, treatment: Sums, level: float, cuped: bool, use_t: bool = True
) -> tuple["MeanResult", bool]:
    """Effect, interval and p value, and whether the weeks before have sharpened them; of what is not unknown().

    A ratio's variance is that of the delta method, users being what was drawn (Deng, Knoblich & Lu 2018); CUPED's
    factor is that of both groups together (Deng, Xu, Kohavi & Walker 2013); the test is Welch's.
    """
    groups = aggregates(metric, control), aggregates(metric, treatment)
    with np.errstate(invalid="ignore", divide="ignore"):  # of what has no relative effect, say, where a mean is 0
        found = tool(metric, level, cuped=False, use_t=use_t).analyze_aggregates(*groups)
        if not cuped or not all(_varies_before(metric, sums) for sums in groups):
            return found, False
        try:
            sharper = tool(metric, level, cuped=True, use_t=use_t).analyze_aggregates(*groups)
        except (ValueError, ZeroDivisionError):  # rounding has made what is left of the variance negative
            return found, False
        return (sharper, True) if _width(sharper) > LEFT * _width(found) else (found, False)


def _width(found: "MeanResult") -> float:
    return float(found.effect_size_ci_upper - found.effect_size_ci_lower)


def _varies_before(metric: Metric, sums: "Aggregates") -> bool:
    numer, denom = metric.covariate
    return sums.mean(denom) > 0 and sums.mean(numer) > 0 and not is_constant(sums, numer, denom)


def squared_error(metric: Metric, control: Sums, treatment: Sums, cuped: bool) -> float | None:
    """Of the effect relative to control; None where it has none."""
    if unknown(metric, {"control": control, "treatment": treatment}):
        return None
    found, _ = compare(metric, control, treatment, 0.05, cuped, use_t=False)
    width = found.effect_size_ci_upper - found.effect_size_ci_lower
    return float((width / 2 / norm.isf(0.025) / found.control) ** 2) if found.control > 0 else None


def detectable(metric: Metric, control: Sums, treatment: Sums, level: float, power: float, cuped: bool) -> float:
    """The least effect, as a share of the mean, that groups of this size would show with that power."""
    together = aggregates(metric, control) + aggregates(metric, treatment)
    solver = tool(metric, level, cuped, ratio=treatment.n / control.n, power=power, use_t=False)
    return abs(float(solver.solve_power_from_aggregates(together, "rel_effect_size")[0].rel_effect_size))


def tool(
    metric: Metric, level: float, cuped: bool, ratio: float = 1.0, power: float = 0.8, use_t: bool = True
) -> "RatioOfMeans":
    """The library's own metric."""
    from tea_tasting.metrics import RatioOfMeans

    covariate = metric.covariate if cuped else (None, None)
    return RatioOfMeans(
        metric.numer,
        metric.denom,
        *covariate,
        alternative="two-sided",
        confidence_level=1 - level,
        equal_var=False,
        use_t=use_t,
        alpha=level,
        ratio=ratio,
        power=power,
    )
