"""How the network learns: all past weeks pooled, a count loss, Adam with weight decay, later weeks to say when to stop.

The same history, seed and library versions give the same weights. `popularity` is a snapshot of the day the catalogue
was made: fine in production, a leak in a backtest, which can leave it out.
"""

import math
from collections.abc import Callable, Collection
from copy import deepcopy
from importlib.metadata import version
from itertools import islice

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from features.history import History
from features.table import STATIC_FEATURES
from models.examples import NeuralExamples, joined, neural_weeks, require_targets, weeks_until
from models.metrics import precision_at
from models.neural import INPUTS, Card, Network, NeuralModel, Trained, inputs, one_thread, predict, version_of
from models.scoring import NotEnoughHistory, top_tracks

BATCH, EPOCHS, PATIENCE = 512, 40, 5
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-3
MOST_ROWS, MOST_HOLDOUT_ROWS = 60_000, 20_000  # a few seconds on one core
LIBRARIES = ("numpy", "pandas", "torch", "safetensors")

Progress = Callable[[int, int], None]
"""Told after each epoch how many are done, of at most how many."""


def train(
    history: History,
    until: str,
    seed: int = 0,
    progress: Progress | None = None,
    left_out: Collection[str] = (),
) -> Trained:
    """Fit a network to the weeks up to `until`; the last fifth of them, at least one, is held out.

    Args:
        history: what was counted.
        until: the last week that may be learned from.
        seed: of the first weights, of which rows are taken where there are many, and of their order.
        progress: told after each epoch.
        left_out: features that do not change by the week and are not to be used, such as popularity.

    Raises:
        NotEnoughHistory: fewer than two weeks have the four before them.
        HistoryError: a file is broken.
    """
    if not set(left_out) <= set(STATIC_FEATURES):
        raise ValueError(f"expected to leave out some of {STATIC_FEATURES}, found {sorted(left_out)}")
    n_targets = len(require_targets(weeks_until(history, until), 2))
    n_holdout = max(1, n_targets // 5)
    n_fitted = n_targets - n_holdout
    draw = np.random.default_rng(seed)
    weeks = neural_weeks(history, until)
    fitted = joined([_sample(week, MOST_ROWS // n_fitted, draw) for week in islice(weeks, n_fitted)])
    if not len(fitted.plays):
        raise NotEnoughHistory("no track was played in the weeks to learn from")
    held_out = list(weeks)
    holdout = joined([_sample(week, MOST_HOLDOUT_ROWS // n_holdout, draw) for week in held_out])
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network()
        _standardise(network, fitted.features, left_out)
        losses, best_epoch = _fit(network, fitted, holdout, progress or (lambda done, most: None))
    weights = safetensors.torch.save(network.state_dict())
    model = NeuralModel(network.double().eval(), version_of(held_out[-1].target_weeks[0], weights))
    card = Card(
        version=model.version,
        first_week=fitted.target_weeks[0],
        last_week=held_out[-1].target_weeks[0],
        holdout_weeks=[week.target_weeks[0] for week in held_out],
        n_rows=len(fitted.plays),
        n_holdout_rows=len(holdout.plays),
        seed=seed,
        epochs=len(losses),
        best_epoch=best_epoch,
        left_out=tuple(sorted(left_out)),
        metrics=_metrics(model, held_out[-1]),
        libraries={name: version(name) for name in LIBRARIES},
    )
    return Trained(model, weights, card, losses)


def count_loss(log_plays: Tensor, plays: Tensor) -> Tensor:
    """Huber loss between logarithms of plays + 1, so that no single hit out of nothing leads the fit.

    Its bend lies at ln 2, the error of one play for none: what is rarely played is forecast at its mean, not at 0.
    """
    return smooth_l1_loss(log_plays, plays.log1p(), beta=math.log(2))


def _sample(week: NeuralExamples, n_most: int, draw: np.random.Generator) -> NeuralExamples:
    n_rows = len(week.plays)
    return week if n_rows <= n_most else week.rows(np.sort(draw.choice(n_rows, max(1, n_most), replace=False)))


def _standardise(network: Network, features: NDArray[np.float32], left_out: Collection[str]) -> None:
    """Set mean and scale of what is known; an input that never differs, or is left out, has no scale."""
    values = inputs(torch.from_numpy(features).double()).numpy()
    known = ~np.isnan(values)
    n_known = known.sum(axis=0).clip(1)
    mean = np.where(known, values, 0).sum(axis=0) / n_known
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / n_known)
    used = (deviation > 1e-6 * (1 + np.abs(mean))) & ~np.isin(INPUTS, list(left_out))
    network.mean.copy_(torch.from_numpy(mean))
    network.inverse_scale.copy_(torch.from_numpy(np.where(used, 1 / np.where(used, deviation, 1), 0)))


def _fit(
    network: Network, fitted: NeuralExamples, holdout: NeuralExamples, progress: Progress
) -> tuple[list[tuple[float, float]], int]:
    """Leave the network with the weights of its best epoch; return the losses by epoch, and which it was (from 1)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses: list[tuple[float, float]] = []
    best_epoch, best = 0, deepcopy(network.state_dict())
    while len(losses) < min(EPOCHS, best_epoch + PATIENCE):
        fitted_loss = _epoch(network, optimizer, *_tensors(fitted))
        with torch.inference_mode():
            features, plays = _tensors(holdout)
            losses.append((fitted_loss, count_loss(network(features), plays).item()))
        if losses[-1][1] <= min(loss for _, loss in losses):
            best_epoch, best = len(losses), deepcopy(network.state_dict())
        progress(len(losses), EPOCHS)
    network.load_state_dict(best)
    return losses, best_epoch


def _epoch(network: Network, optimizer: torch.optim.Optimizer, features: Tensor, plays: Tensor) -> float:
    """One pass over the rows in a new order; the mean loss on the way."""
    total, order = 0.0, torch.randperm(len(plays))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        optimizer.zero_grad()
        loss = count_loss(network(features[rows]), plays[rows])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(plays)


def _tensors(examples: NeuralExamples) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(examples.features), torch.from_numpy(examples.plays).float()


def _metrics(model: NeuralModel, week: NeuralExamples) -> dict[str, dict[str, float]]:
    """What each forecast of one week, and the 50 that it puts first, were worth."""
    plays = dict(zip(week.track_ids, week.plays.tolist(), strict=True))
    forecasts = {"neural": predict(model.network, week.features), "naive": week.last_plays.astype(np.float64)}
    return {
        name: {
            "mean_absolute_error": float(np.abs(forecast - week.plays).mean()),
            "precision_at_50": precision_at(top_tracks(week.track_ids, forecast), plays),
        }
        for name, forecast in forecasts.items()
    }
