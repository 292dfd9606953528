"""What lists were worth against naive, week by week, as a picture."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from producers.playlists import Evaluation, Worth

SHARES = {"precision_at_50": "precision@50", "ndcg_at_50": "NDCG@50", "captured_plays": "captured plays"}
MOST_LABELS = 6


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw into a PNG file."""
    series(evaluations).savefig(path, format="png", dpi=120)


def series(evaluations: Sequence[Evaluation]) -> Figure:
    """Each group's difference to naive: left that of its lists, right of its forecasts alone; above 0 is better.

    Args:
        evaluations: one or more, by week.
    """
    weeks = sorted({evaluation.week for evaluation in evaluations})
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.subplots(len(SHARES), 2, sharex=True, sharey="row")
    ordered = sorted(evaluations, key=lambda evaluation: (evaluation.group, evaluation.week))
    for group, of_group in groupby(ordered, key=lambda evaluation: evaluation.group):
        own = list(of_group)
        models = ", ".join(dict.fromkeys(evaluation.model for evaluation in own))
        for row, metric in zip(grid, SHARES, strict=True):
            for axes, worth_of in zip(row, (_of_list, _of_forecast), strict=True):
                points = [(weeks.index(e.week), w.metrics[metric] - w.naive[metric]) for e, w in worth_of(own)]
                label = f"{group}: {models}".replace("$", r"\$")
                axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=label)
    for row, label in zip(grid, SHARES.values(), strict=True):
        row[0].set_ylabel(f"{label} - naive's")
        for axes in row:
            axes.axhline(0, color="black", linewidth=0.8)
            places = range(0, len(weeks), -(-len(weeks) // MOST_LABELS))
            axes.set_xticks(places, [weeks[place] for place in places])
    grid[0][0].set_title("lists, by the plays over their span")
    grid[0][1].set_title("forecasts, by the plays of the week alone")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _of_list(own: Sequence[Evaluation]) -> list[tuple[Evaluation, Worth]]:
    return [(e, Worth(metrics=e.metrics, naive=e.naive)) for e in own]


def _of_forecast(own: Sequence[Evaluation]) -> list[tuple[Evaluation, Worth]]:
    return [(e, e.forecast) for e in own if e.forecast]
