"""How many more weeks an experiment needs to show an effect of a given size."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm

from models.listeners import Sums
from models.looks import level_at
from models.measures import METRICS, squared_error
from models.plans import Plan
from models.reports import Effect


def more_weeks(primary: Effect, sums: Sequence[Sequence[Sums]], plan: Plan) -> tuple[int | None, bool]:
    """How many more weeks the primary metric needs to show plan.effect, and whether that is only the least.

    The squared error after w weeks is taken to be a + b ÷ w (a: how users differ for good, b: how their weeks do),
    fitted to the weeks there are. After one week a is not known, and 0 gives the least.
    """
    if primary.detectable is None:
        return None, False
    metric = next(metric for metric in METRICS if metric.name == primary.metric)
    code = plan.groups.index(primary.group)
    found = [squared_error(metric, of_weeks[0], of_weeks[code], primary.cuped) for of_weeks in sums]
    after = [(n, error) for n, error in enumerate(found, 1) if error is not None]
    a, b = variance_by_weeks(after)
    level = level_at(plan.looks or 1, plan.looks, plan.alpha_each)
    target = (plan.effect / (norm.isf(level / 2) + norm.ppf(plan.power))) ** 2
    if target <= a:
        return None, False
    more = max(0, int(np.ceil(b / (target - a) - 1e-9)) - len(sums))
    return more, len(after) < 2


def variance_by_weeks(after: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """A and b, neither below 0, of a + b ÷ w fitted to (w, variance), and scaled so that the last is met.

    >>> a, b = variance_by_weeks([(1, 3.0), (2, 2.0), (4, 1.5)])
    >>> round(a, 6), round(b, 6)
    (1.0, 2.0)
    """
    if len(after) < 2:
        return 0.0, after[-1][1] * after[-1][0]
    weeks = np.array([n for n, _ in after], np.float64)
    variances = np.array([variance for _, variance in after])
    (a, b), _ = nnls(np.column_stack([np.ones(len(weeks)), 1 / weeks]), variances)
    scale = variances[-1] / (a + b / weeks[-1])
    return float(a * scale), float(b * scale)
