"""Straight lines through what was measured, by the logarithms of both sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Fit:
    """y = factor * x ** exponent, by least squares of the logarithms: each point weighs the same, however small."""

    exponent: float
    factor: float


def fit(xs: Sequence[float], ys: Sequence[float]) -> Fit:
    """The line through the points.

    >>> fit([1, 10, 100], [3, 30, 300])
    Fit(exponent=1.0, factor=3.0)
    """
    exponent, logarithm = np.polyfit(np.log(xs), np.log(ys), 1)
    return Fit(round(float(exponent), 3), round(float(np.exp(logarithm)), 9))


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of several: what was measured at each x, by what it is."""

    title: str
    xlabel: str
    ylabel: str
    xs: Sequence[float]
    lines: Mapping[str, Sequence[float]]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Both axes by their logarithms; dashed is the fit, with its exponent in the legend."""
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        for name, ys in panel.lines.items():
            found = fit(panel.xs, ys)
            (drawn,) = axes.loglog(panel.xs, ys, "o", label=f"{name}: exponent {found.exponent:.2f}")
            line = [found.factor * x**found.exponent for x in panel.xs]
            axes.loglog(panel.xs, line, "--", color=drawn.get_color(), linewidth=1)
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, format="png", dpi=90)
