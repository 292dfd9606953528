"""The loss curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw(losses: Sequence[tuple[float, float]], best_epoch: int, path: Path) -> None:
    """Draw the loss of the fitted weeks and of the holdout after each epoch, and mark the epoch that was kept."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(losses) + 1)
    axes.plot(epochs, [fitted for fitted, _ in losses], marker=".", label="fitted weeks")
    axes.plot(epochs, [holdout for _, holdout in losses], marker=".", label="holdout weeks")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="count loss")
    axes.legend()
    figure.savefig(path, dpi=120)
