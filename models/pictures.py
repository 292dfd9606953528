"""A backtest in two pictures: the difference to naive week by week, and the error by the age of tracks."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from features.history import History
from features.weeks import Calendar
from models.backtest import BOUND, NAIVE, Judged, by_model
from models.examples import weeks_until
from models.intervals import interval

SHARES = {"precision_at_50": "precision@50", "ndcg_at_50": "NDCG@50", "captured_plays": "captured plays"}
AGES = (1, 2, 4, 8, 16, 32)
"""Weeks since a track was first played, where each bin begins."""


def draw_differences(judged: Collection[Judged], path: Path) -> None:
    """Draw each model's weekly difference to naive, and its mean dashed; above 0 is better.

    The bound, which would make the others small, is drawn only where there is no other.
    """
    models = by_model(judged)
    naive = {result.week: result.metrics for result in models[NAIVE]}
    shown = [model for model in models if model not in (NAIVE, BOUND)] or [BOUND]
    figure = Figure(figsize=(9, 8), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(len(SHARES), sharex=True), SHARES.items(), strict=True):
        axes.axhline(0, color="black", linewidth=0.8)
        for model in shown:
            values = [result.metrics[metric] - naive[result.week][metric] for result in models[model]]
            days = [Calendar().parse(result.week).first_day for result in models[model]]
            low, mean, high = interval(values)
            colour = _colour(model, models)
            axes.plot(days, values, color=colour, marker=".", label=f"{model} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            axes.axhline(mean, color=colour, linestyle="--", linewidth=0.8)
        axes.set(ylabel=f"{label} - naive's")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, format="png", dpi=120)


def draw_ages(judged: Collection[Judged], history: History, path: Path) -> None:
    """Draw how far from their true places the tracks of the true lists were ranked, by how long they are known."""
    models = by_model(judged)
    first_weeks = first_played(history, max(result.week for result in judged))
    errors = {model: errors_by_age(own, first_weeks) for model, own in models.items()}
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(models)
    for n, model in enumerate(models):
        at = np.arange(len(AGES)) + (n - (len(models) - 1) / 2) * width
        means = [fmean(places) if places else 0.0 for places in errors[model]]
        axes.bar(at, means, width, color=_colour(model, models), label=model)
    axes.set_xticks(range(len(AGES)), [f"{_bin(n)}\nn = {len(places):,}" for n, places in enumerate(errors[BOUND])])
    axes.set(xlabel="weeks since the track was first played", ylabel="mean distance from its true place")
    axes.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)


def _colour(model: str, models: Collection[str]) -> str:
    """The same in both pictures."""
    return "grey" if model == BOUND else f"C{list(models).index(model)}"


def first_played(history: History, until: str) -> dict[str, str]:
    """The first week in which each track was played, of the weeks up to `until`.

    Raises:
        HistoryError: a file is broken.
    """
    counts = history.read(weeks_until(history, until), kinds=("plays",))
    first = counts[counts["plays"] > 0].groupby("track_id")["week"].min()
    return {str(track_id): str(week) for track_id, week in first.items()}


def errors_by_age(own: Sequence[Judged], first_weeks: Mapping[str, str]) -> list[list[int]]:
    """The places that one model was off, in a list an entry of AGES."""
    bins: list[list[int]] = [[] for _ in AGES]
    for result in own:
        day = Calendar().parse(result.week).first_day
        for track_id, places in result.places_off.items():
            age = (day - Calendar().parse(first_weeks[track_id]).first_day).days // 7
            bins[int(np.searchsorted(AGES, age, side="right")) - 1].append(places)
    return bins


def _bin(n: int) -> str:
    """'1', '2 to 3', … '32 and more'."""
    if n == len(AGES) - 1:
        return f"{AGES[n]} and more"
    return f"{AGES[n]}" if AGES[n + 1] == AGES[n] + 1 else f"{AGES[n]} to {AGES[n + 1] - 1}"
