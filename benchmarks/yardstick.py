"""LightGBM on the very examples that our network learns from, refitted as often: benchmark-only, never a dependency."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.environments import python_of
from features.context import CONTEXT
from features.history import History
from features.table import STATIC_FEATURES
from features.weeks import Calendar
from models.examples import NeuralExamples, neural_examples
from models.forecasters import Forecaster, oracle

PACKAGES = ("lightgbm==4.6.0", "numpy", "scipy")
SCRIPT = Path(__file__).with_name("lightgbm_peer.py")
LEVEL, PLACE_PLAYS = CONTEXT.index("level_week_4"), CONTEXT.index("place_plays")


def yardstick(history: History, weeks: Sequence[str], refit_every: int) -> Forecaster:
    """Forecast all these weeks at once, each by what was known before it; then say them one by one.

    Raises:
        Missing: LightGBM cannot be installed.
        CalledProcessError: it has failed.
    """
    examples = neural_examples(history, weeks[-1])
    rows = [np.flatnonzero(examples.target_weeks == week) for week in weeks]
    changes = np.split(_changes(examples, weeks, refit_every), np.cumsum([len(found) for found in rows])[:-1])
    plays = {
        week: np.exp(examples.context[found][:, [LEVEL, PLACE_PLAYS]].sum(axis=1) + change)
        for week, found, change in zip(weeks, rows, changes, strict=True)
    }
    return oracle(  # ranks by what it is given, week by week
        {
            week: dict(zip(examples.track_ids[found], plays[week].tolist(), strict=True))
            for week, found in zip(weeks, rows, strict=True)
        }
    )


def _changes(examples: NeuralExamples, weeks: Sequence[str], refit_every: int) -> np.ndarray:
    with TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npy")
        np.savez(
            given,
            inputs=_inputs(examples),
            change=np.clip(examples.levels - examples.context[:, LEVEL], -2, 2),
            week=[_day(week) for week in examples.target_weeks],
            asked=[_day(week) for week in weeks],
            fitted_before=_fitted_before(weeks, refit_every),
        )
        subprocess.run([python_of("lightgbm", *PACKAGES), SCRIPT, given, found], check=True)
        changes: np.ndarray = np.load(found)
    return changes


def _inputs(examples: NeuralExamples) -> np.ndarray:
    """All that the network is given; the week of the year as a number, popularity left out."""
    n_static = len(STATIC_FEATURES)
    static = np.delete(examples.features[:, -1, :n_static], STATIC_FEATURES.index("popularity"), axis=1)
    counts = examples.features[:, :, n_static:].reshape(len(examples.features), -1)
    return np.hstack([static, counts, examples.context])


def _fitted_before(weeks: Sequence[str], refit_every: int) -> list[int]:
    """The day before which each forecast's model has learned: as models.forecasters.refitted has it."""
    fitted: list[int] = []
    for day in map(_day, weeks):
        fitted.append(fitted[-1] if fitted and day - fitted[-1] < 7 * refit_every else day)
    return fitted


def _day(week: str) -> int:
    return Calendar().parse(week).first_day.toordinal()
