"""The table as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS, THEIRS, RAW = "tab:orange", "tab:blue", "lightgray"


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Events a second and CPU an event of each row, on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = sorted((row for row in rows if row["events_per_s"] is not None), key=lambda row: float(row["events_per_s"]))
    names = [row["name"] for row in shown]
    colors = [OURS if name.startswith("count") else RAW if name.startswith("raw") else THEIRS for name in names]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.35 * len(names) + 1.2), sharey=True, layout="constrained")
    for axis, field, title, form in (
        (axes[0], "events_per_s", "events a second (more is better)", "{:,.0f}"),
        (axes[1], "cpu_us_per_event", "CPU µs an event (less is better)", "{:.1f}"),
    ):
        bars = axis.barh(names, [row[field] for row in shown], color=colors)
        axis.bar_label(bars, fmt=form, padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.2)
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
