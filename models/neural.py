"""The advanced model: a network that says by how much next week's plays differ from last week's.

Two hidden layers with tanh over 4 weeks x 18 features. How it learns is in training.py; only these two import torch.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from torch import Tensor, nn

from features.table import FEATURES, N_WEEKS, STATIC_FEATURES, FeatureTable
from models.artefact import read_bytes, read_json
from models.scoring import ArtefactError, Scores, checked

WEIGHTS, CARD, CURVE = "weights.safetensors", "card.json", "loss.png"
HIDDEN = (64, 32)
N_STATIC = len(STATIC_FEATURES)
INPUTS = (*STATIC_FEATURES * N_WEEKS, *FEATURES[N_STATIC:] * N_WEEKS, *STATIC_FEATURES)
"""What each input tells of; the last ones are whether what does not change by the week is missing."""

FURTHEST = 8.0  # standard deviations: a wild input counts as a rare one
HIGHEST = 40.0  # of the logarithm of plays: e**40 is finite, and more than was ever played
SCORED_AT_ONCE = 16_384


class Network(nn.Module):
    """The logarithm of next week's plays + 1: that of the last week, and what the layers add.

    Features are (n, 4, 18), NaN where missing.
    """

    mean: Tensor
    inverse_scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        first, second = HIDDEN
        last = nn.Linear(second, 1)
        nn.init.zeros_(last.weight)  # so that learning starts from last week again
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(len(INPUTS), first), nn.Tanh(), nn.Linear(first, second), nn.Tanh(), last)
        self.register_buffer("mean", torch.zeros(len(INPUTS)))
        self.register_buffer("inverse_scale", torch.zeros(len(INPUTS)))

    def forward(self, features: Tensor) -> Tensor:
        """(n,) logarithms; a missing input stands at its mean."""
        standard = ((inputs(features) - self.mean) * self.inverse_scale).nan_to_num(0.0).clamp(-FURTHEST, FURTHEST)
        output: Tensor = self.layers(standard)
        return features[:, -1, N_STATIC].log1p() + output.squeeze(1)


def inputs(features: Tensor) -> Tensor:
    """(n, len(INPUTS)): counts as log1p, NaN where missing, not yet standardised."""
    static, counts = features[:, :, :N_STATIC], features[:, :, N_STATIC:]
    missing = static[:, -1].isnan().to(features.dtype)
    return torch.cat([static.flatten(1), counts.log1p().flatten(1), missing], dim=1)


class Card(BaseModel):
    """What is known of a fitted network; the holdout also chose the epoch, so its metrics flatter a little."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal[1] = 1
    version: str
    first_week: str
    last_week: str
    holdout_weeks: list[str]
    n_rows: int
    n_holdout_rows: int
    seed: int
    epochs: int
    best_epoch: int
    hidden: tuple[int, int] = HIDDEN
    features: tuple[str, ...] = FEATURES
    left_out: tuple[str, ...]
    metrics: dict[str, dict[str, float]]
    """of the last holdout week: of this model and of naive"""
    libraries: dict[str, str]


@dataclass(frozen=True, slots=True)
class NeuralModel:
    """A fitted network, in float64."""

    network: Network
    version: str

    def score(self, table: FeatureTable) -> Scores:
        """Predict next week's plays, never below 0.

        Raises:
            ScoringError: a prediction is not finite.
        """
        return checked(predict(self.network, table.features), len(table.track_ids))


def predict(network: Network, features: NDArray[np.float32]) -> Scores:
    """Expected plays, in float64: in float32 the third decimal would depend on how the rows were cut."""
    scores = np.empty(len(features))
    with one_thread(), torch.inference_mode():
        for start in range(0, len(features), SCORED_AT_ONCE):
            rows = slice(start, start + SCORED_AT_ONCE)
            scores[rows] = network(torch.from_numpy(features[rows]).double()).clamp(0.0, HIGHEST).expm1().numpy()
    return scores


@contextmanager
def one_thread() -> Iterator[None]:
    """The order of summation depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Trained:
    """A network as it came out of training: what is used, and what is kept of it."""

    model: NeuralModel
    weights: bytes
    card: Card
    losses: Sequence[tuple[float, float]]
    """of the fitted weeks and of the holdout, by epoch"""

    def save(self, folder: Path) -> None:
        """Write weights, card and loss curve into a folder that is there."""
        from models.curve import draw  # matplotlib takes a second to import, and only this needs it

        folder.joinpath(WEIGHTS).write_bytes(self.weights)
        folder.joinpath(CARD).write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draw(self.losses, self.card.best_epoch, folder / CURVE)


def load(folder: Path) -> NeuralModel:
    """Read what Trained.save wrote.

    Raises:
        ArtefactError: a file is missing, broken, or of another form.
    """
    card = read_json(folder / CARD, Card)
    if card.features != FEATURES:
        raise ArtefactError(f"{CARD} is of other features: expected {list(FEATURES)}, found {list(card.features)}")
    content = read_bytes(folder / WEIGHTS)
    try:
        weights = safetensors.torch.load(content)
    except SafetensorError as cause:
        raise ArtefactError(f"{WEIGHTS} is not a safetensors file: {cause}") from cause
    network = Network()
    expected, found = _shapes(network.state_dict()), _shapes(weights)
    if found != expected:
        raise ArtefactError(f"{WEIGHTS} is of another form: expected {expected}, found {found}")
    if version_of(card.last_week, content) != card.version:
        raise ArtefactError(f"{WEIGHTS} is not the file that {CARD} describes as version {card.version}")
    network.load_state_dict(weights)
    return NeuralModel(network.double().eval(), card.version)


def _shapes(weights: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in sorted(weights.items())}


def version_of(last_week: str, weights: bytes) -> str:
    """The last week learned from and a hash of the weights."""
    return f"{last_week}-{hashlib.sha256(weights).hexdigest()[:8]}"
