"""An experiment's report as a picture: the effect on each metric, with its interval."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.reports import Effect, Report

GOOD, BAD, OPEN = "tab:green", "tab:red", "tab:grey"


def draw_effects(report: Report, path: Path, picture_format: str) -> None:
    """Draw into a PNG or SVG file; the same report gives the same bytes."""
    metadata = {"Date": None} if picture_format == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "hitparade", "svg.fonttype": "none"}):
        effects(report).savefig(path, format=picture_format, dpi=120, metadata=metadata)


def effects(report: Report) -> Figure:
    """A panel a group, a row a metric: the effect relative to control, in percent; coloured where it is significant."""
    groups = list(dict.fromkeys(effect.group for effect in report.effects))
    figure = Figure(figsize=(9, 1 + 3 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, group in zip(grid, groups, strict=True):
        _panel(axes, [effect for effect in report.effects if effect.group == group])
        axes.set_title(f"{report.name}, {_span(report)}: {group} against {report.control}", fontsize="medium")
    if any(conclusion.verdict == "broken" for conclusion in report.conclusions):
        figure.suptitle("The experiment is broken: nothing follows from these figures.", color=BAD)
    grid[-1].set_xlabel("difference to control, % of control; green is better, red is worse, grey may be chance")
    return figure


def _panel(axes: Axes, own: list[Effect]) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for row, effect in enumerate(own):
        if effect.relative is None or effect.relative_low is None or effect.relative_high is None:
            axes.annotate("not known", (0, row), xytext=(4, 0), textcoords="offset points", va="center", color=OPEN)
            continue
        low, middle, high = (100 * share for share in (effect.relative_low, effect.relative, effect.relative_high))
        width = 3.5 if effect.role == "primary" else 2.0
        axes.plot([low, high], [row, row], color=_colour(effect), linewidth=width, solid_capstyle="butt")
        axes.plot([middle], [row], color=_colour(effect), marker="o", markersize=6)
    axes.set_yticks(range(len(own)), [_label(effect) for effect in own])
    axes.set_ylim(len(own) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4)


def _colour(effect: Effect) -> str:
    if not effect.is_significant:
        return OPEN
    return GOOD if effect.is_good else BAD


def _label(effect: Effect) -> str:
    return effect.label if effect.role == "other" else f"{effect.label} ({effect.role})"


def _span(report: Report) -> str:
    return report.weeks[0] if len(report.weeks) == 1 else f"{report.weeks[0]} to {report.weeks[-1]}"
