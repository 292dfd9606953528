"""How sure a mean over weeks is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

LEVEL = 0.95
RESAMPLES = 10_000


def interval(weeks: Sequence[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    """Low, mean and high: the percentile bootstrap of the mean over weeks, at 95 %; the same weeks give the same.

    Of differences between two forecasts of the same weeks it is the paired one. Weeks count as independent. One week,
    and weeks that are all alike, have no spread: low and high are the mean.

    Source: Efron & Tibshirani 1993, chapter 13.

    >>> interval([0.0, 0.02, 0.04, 0.02])
    (0.005, 0.02, 0.035)
    >>> interval([0.25])
    (0.25, 0.25, 0.25)

    Raises:
        ValueError: there are no weeks.
    """
    values = np.asarray(weeks, np.float64)
    if not len(values):
        raise ValueError("expected one week or more, found none")
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return mean, mean, mean
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), mean, float(found.high)
