"""How the network learns: all past weeks pooled, a robust loss on the change of level, Adam with weight decay.

First a trial: the later weeks are held out, say which epoch was the best, by how much the forecasts are off in sum, and
what the network is worth. Then the network in use learns from all weeks, as many epochs as the trial says. The same
history, seed and library versions give the same weights.

`popularity` is a snapshot of the day the catalogue was made: fine in production, a leak in a backtest, which can leave
it out.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from features.history import History
from features.table import STATIC_FEATURES
from models.artefact import version_of
from models.cards import Card
from models.examples import NeuralExamples, joined, neural_weeks, require_targets, weeks_until
from models.intervals import interval
from models.metrics import evaluate
from models.neural import HIDDEN, INPUTS, LEVEL, MEMBERS, Network, NeuralModel, Trained, inputs, one_thread, predict
from models.ranking import ranked
from models.scoring import NotEnoughHistory

BATCH, EPOCHS = 256, 40
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.1
BEND = 0.2  # of the loss, in levels: a change by a fifth counts squared, a larger one by its size
FURTHEST_CHANGE = 2.0  # in levels: more is learned from as if it were so much
MOST_HELD_OUT = 8  # weeks
MOST_ROWS = 60_000  # a minute on one core
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
    """Fit a network to the weeks up to `until`; the last fifth of them, at least one, at most eight, is held out first.

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
    rows = _rows(history, until, seed)
    tell = progress or (lambda done, most: None)
    with one_thread(), torch.random.fork_rng(devices=[]):
        trial = _trial(rows.fitted, rows.holdout, seed, left_out, lambda done: tell(done, 2 * EPOCHS))
        network = _begun(rows.all, seed, left_out)
        for epoch, _ in enumerate(_epochs(network, rows.all, trial.best_epoch), 1):
            tell(EPOCHS + epoch, EPOCHS + trial.best_epoch)
        network.calibration.copy_(trial.network.calibration)
    worth = _worth(trial.network, neural_weeks(history, until, len(rows.held_out)))
    return _trained(network, trial, rows, worth, seed, left_out)


class Rows(NamedTuple):
    """What is learned from: all of it, and how it is parted for the trial."""

    all: NeuralExamples
    fitted: NeuralExamples
    holdout: NeuralExamples
    n_weeks: int
    held_out: list[str]
    """the weeks of the holdout"""


def _rows(history: History, until: str, seed: int) -> Rows:
    known = weeks_until(history, until)
    names = [known[target] for target in require_targets(known, 2)]
    n_holdout = min(MOST_HELD_OUT, max(1, len(names) // 5))
    draw = np.random.default_rng(seed)
    weeks = [_sample(week, MOST_ROWS // len(names), draw) for week in neural_weeks(history, until)]
    fitted, holdout = joined(weeks[:-n_holdout]), joined(weeks[-n_holdout:])
    if not len(fitted.plays) or not len(holdout.plays):
        raise NotEnoughHistory("no track was played in the weeks to learn from")
    return Rows(joined(weeks), fitted, holdout, len(names), names[-n_holdout:])


class Trial(NamedTuple):
    """A network that has not learned from the holdout, as it was after its best epoch, from 1; 0 is last week again."""

    network: Network
    losses: list[tuple[float, float]]
    """of the fitted weeks and of the holdout, by epoch"""
    best_epoch: int


class Worth(NamedTuple):
    """What forecasts were worth, as a card has it."""

    metrics: dict[str, dict[str, float]]
    vs_naive: dict[str, tuple[float, float, float]]


def _sample(week: NeuralExamples, n_most: int, draw: np.random.Generator) -> NeuralExamples:
    n_rows = len(week.plays)
    return week if n_rows <= n_most else week.rows(np.sort(draw.choice(n_rows, max(1, n_most), replace=False)))


def _begun(examples: NeuralExamples, seed: int, left_out: Collection[str]) -> Network:
    """A network that has learned nothing yet but mean and scale of its inputs.

    An input that never differs, or is left out, has no scale. No static feature is an input by another name.
    """
    torch.manual_seed(seed)
    network = Network()
    features, context = torch.from_numpy(examples.features).double(), torch.from_numpy(examples.context).double()
    values = inputs(features, context).numpy()
    known = ~np.isnan(values)
    n_known = known.sum(axis=0).clip(1)
    mean = np.where(known, values, 0).sum(axis=0) / n_known
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / n_known)
    out = [*left_out, *(f"{name} is missing" for name in left_out)]
    used = (deviation > 1e-6 * (1 + np.abs(mean))) & ~np.isin(INPUTS, out)
    network.mean.copy_(torch.from_numpy(mean))
    network.inverse_scale.copy_(torch.from_numpy(np.where(used, 1 / np.where(used, deviation, 1), 0)))
    return network


def _trial(
    fitted: NeuralExamples,
    holdout: NeuralExamples,
    seed: int,
    left_out: Collection[str],
    tell: Callable[[int], None],
) -> Trial:
    """Learn for all epochs, and keep the one with the least loss on the holdout."""
    network = _begun(fitted, seed, left_out)
    standard, change = _tensors(network, holdout)
    best, best_loss, best_epoch = deepcopy(network.state_dict()), _loss(network, standard, change), 0
    losses: list[tuple[float, float]] = []
    for epoch, fitted_loss in enumerate(_epochs(network, fitted, EPOCHS), 1):
        losses.append((fitted_loss, _loss(network, standard, change)))
        if losses[-1][1] < best_loss:
            best, best_loss, best_epoch = deepcopy(network.state_dict()), losses[-1][1], epoch
        tell(epoch)
    network.load_state_dict(best)
    _calibrate(network, holdout)
    return Trial(network, losses, best_epoch)


def _epochs(network: Network, examples: NeuralExamples, n_epochs: int) -> Iterator[float]:
    """Pass over the rows in a new order each time; after each, the mean loss on the way.

    The rate of learning falls as half a cosine over EPOCHS, however many of them there are.
    """
    standard, change = _tensors(network, examples)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    n_steps = EPOCHS * math.ceil(len(change) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_epochs):
        total, order = 0.0, torch.randperm(len(change))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            optimizer.zero_grad()
            loss = _losses(network.changes(standard[chosen]), change[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen) / MEMBERS
        yield total / len(change)


def _losses(changes: Tensor, change: Tensor) -> Tensor:
    """The sum of the members' losses, so that each learns as if it were alone."""
    return smooth_l1_loss(changes, change.expand_as(changes), beta=BEND) * MEMBERS


def _loss(network: Network, standard: Tensor, change: Tensor) -> float:
    with torch.inference_mode():
        return smooth_l1_loss(network.changes(standard).mean(dim=0), change, beta=BEND).item()


def _tensors(network: Network, examples: NeuralExamples) -> tuple[Tensor, Tensor]:
    """The standardised inputs, and by how much the level changed."""
    features, context = torch.from_numpy(examples.features), torch.from_numpy(examples.context)
    change = torch.from_numpy(_untided(examples.levels - examples.context[:, LEVEL], examples.target_weeks))
    return network.standardised(features, context), change.nan_to_num(0.0).clamp(-FURTHEST_CHANGE, FURTHEST_CHANGE)


def _untided(change: NDArray[np.float32], weeks: NDArray[np.object_]) -> NDArray[np.float32]:
    """The change less the median of its week: what lifts all tracks alike says nothing of their order."""
    tide = pd.Series(change).groupby(weeks).transform("median")
    return np.asarray(change - tide.to_numpy(np.float32), np.float32)


def _calibrate(network: Network, holdout: NeuralExamples) -> None:
    """Let the forecasts of the first 50 places sum up to their plays in the holdout, within a factor of two.

    Lists are made there; of the tracks below, a chart counts many as without plays that only were not in it.
    """
    placed = holdout.rows(holdout.context[:, LEVEL] >= 0)
    forecast = predict(deepcopy(network).double(), placed.features, placed.context).sum()
    if forecast > 0 and placed.plays.sum() > 0:
        network.calibration.fill_(float(np.log(placed.plays.sum() / forecast).clip(-math.log(2), math.log(2))))


def _trained(network: Network, trial: Trial, rows: Rows, worth: Worth, seed: int, left_out: Collection[str]) -> Trained:
    """Both networks as bytes, under a card that tells of them."""
    weights, trial_weights = (safetensors.torch.save(each.state_dict()) for each in (network, trial.network))
    last_week = rows.all.target_weeks[-1]
    card = Card(
        version=version_of(last_week, weights),
        trial=version_of(last_week, trial_weights),
        first_week=rows.all.target_weeks[0],
        last_week=last_week,
        n_weeks=rows.n_weeks,
        holdout_weeks=rows.held_out,
        n_tracks=len(set(rows.all.track_ids)),
        n_rows=len(rows.all.plays),
        seed=seed,
        epochs=len(trial.losses),
        best_epoch=trial.best_epoch,
        members=MEMBERS,
        hidden=HIDDEN,
        left_out=tuple(sorted(left_out)),
        metrics=worth.metrics,
        vs_naive=worth.vs_naive,
        code_version=version("hitparade"),
        libraries={name: version(name) for name in LIBRARIES},
    )
    return Trained(NeuralModel(network.double().eval(), card.version), weights, trial_weights, card, trial.losses)


def _worth(trial: Network, weeks: Iterable[NeuralExamples]) -> Worth:
    """What the trial's forecasts of the held out weeks were worth in the mean, and how much more than naive's."""
    trial = deepcopy(trial).double().eval()
    worth: dict[str, list[dict[str, float]]] = {"neural": [], "naive": []}
    for week in weeks:
        plays = dict(zip(week.track_ids, week.plays.tolist(), strict=True))
        forecasts = {"neural": predict(trial, week.features, week.context), "naive": week.last_plays.astype(np.float64)}
        for name, forecast in forecasts.items():
            error = float(np.abs(forecast - week.plays).mean())
            worth[name].append({"mean_absolute_error": error} | evaluate(ranked(week.track_ids, forecast), plays))
    neural, naive = (pd.DataFrame(rows) for rows in worth.values())
    metrics = {
        name: {str(metric): mean for metric, mean in frame.mean().items()}
        for name, frame in zip(worth, (neural, naive), strict=True)
    }
    vs_naive = {str(metric): interval(column.to_numpy()) for metric, column in (neural - naive).items()}
    return Worth(metrics, vs_naive)
