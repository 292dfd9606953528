"""The models as a backtest opens them: for one closed week, as production would on the day after it."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from features.history import History
from features.table import FeatureTable
from features.weeks import Calendar
from models import naive
from models.scoring import ModelError, Scorer, Scores

Forecaster = Callable[[History, str], Scorer]
"""Opens or fits a model for the list that follows a closed week; learns from no later one."""


def open_naive(history: History, closed_week: str) -> Scorer:
    """Open last week again."""
    return naive.score


def open_linear(history: History, closed_week: str) -> Scorer:
    """Fit the regression anew.

    Raises:
        NotEnoughHistory: there are too few weeks to learn from.
    """
    from models import examples, linear  # scikit-learn takes a second to import

    return linear.fit(examples.linear_examples(history, closed_week)).score


def neural(seed: int, every_weeks: int, left_out: Collection[str] = ("popularity",)) -> Forecaster:
    """Train the network every so many weeks; popularity, a snapshot of a later day, would leak the future into it.

    Raises:
        ModuleNotFoundError: the extra `neural` is not installed.
    """
    from models.training import train  # torch takes two seconds and 200 MiB to import

    return refitted(
        lambda history, closed_week: train(history, closed_week, seed, left_out=left_out).model.score,
        every_weeks,
    )


def refitted(fit: Forecaster, every_weeks: int) -> Forecaster:
    """What was fitted is used until so many weeks have gone by; a fit that failed is tried again with the next list.

    For one history: it does not look whether the next one is another.
    """
    fitted: tuple[int, Scorer] | None = None

    def forecaster(history: History, closed_week: str) -> Scorer:
        nonlocal fitted
        day = Calendar().parse(closed_week).first_day.toordinal()
        if fitted is None or not 0 <= day - fitted[0] < 7 * every_weeks:  # nor for a week before what it has learned
            fitted = day, fit(history, closed_week)
        return fitted[1]

    return forecaster


def oracle(rates: Mapping[str, Mapping[str, float]]) -> Forecaster:
    """Ranks by the true rates of the week to come, of each week by track: all that can be known of it."""

    def forecaster(history: History, closed_week: str) -> Scorer:
        of_week = rates[Calendar().parse(closed_week).after().name]
        return lambda table: _rates(of_week, table)

    return forecaster


def _rates(rates: Mapping[str, float], table: FeatureTable) -> Scores:
    """What the truth does not name has no rate; where it names nothing, it is another history's."""
    if len(table.track_ids) and rates.keys().isdisjoint(table.track_ids):
        raise ModelError("the truth has no rate of any track")
    return np.array([rates.get(track_id, 0.0) for track_id in table.track_ids], np.float64)
