"""The advanced model: a network that says by how much next week's level of a track differs from last week's.

Two hidden layers with tanh over 4 weeks x 18 features and their context, in several members that began from different
weights and whose mean counts. How they learn is in training.py; only these two import torch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from features.context import CONTEXT, VERSION
from features.table import FEATURES, STATIC_FEATURES, FeatureTable
from models.artefact import CARD, CARD_TEXT, CURVE, TRIAL, WEIGHTS, read_bytes, read_json, version_of
from models.cards import Card, card_markdown
from models.scoring import ArtefactError, Scores, checked

MEMBERS, HIDDEN = 6, (48, 24)
N_STATIC, N_WEEKS_OF_YEAR = len(STATIC_FEATURES), 53
LEVEL, PLACE_PLAYS, WEEK_OF_YEAR = map(CONTEXT.index, ("level_week_4", "place_plays", "week_of_year"))
SEEN = [n for n in range(len(CONTEXT)) if n not in (PLACE_PLAYS, WEEK_OF_YEAR)]
INPUTS = (
    *STATIC_FEATURES,
    *(f"{name} is missing" for name in STATIC_FEATURES),
    *(f"{name} a play, week {week}" for week in (1, 2, 3, 4) for name in ("likes", "skips")),
    *(CONTEXT[n] for n in SEEN),
    *(f"week {week} of the year" for week in range(1, N_WEEKS_OF_YEAR + 1)),
)
"""What each input tells of. Plays are in the context, as levels."""

FURTHEST = 5.0  # standard deviations: a wild input counts as a rare one
HIGHEST = 40.0  # of the logarithm of plays: e**40 is finite, and more than was ever played
SCORED_AT_ONCE = 8_192


class Network(nn.Module):
    """The level of the week to come: that of the last week, and what the members add in the mean.

    Features are (n, 4, 18), the context (n, 22), NaN where missing.
    """

    mean: Tensor
    inverse_scale: Tensor
    calibration: Tensor

    def __init__(self) -> None:
        super().__init__()
        first, second = HIDDEN
        self.first, self.second, self.last = _Layer(len(INPUTS), first), _Layer(first, second), _Layer(second, 1)
        nn.init.zeros_(self.last.weight)  # so that learning starts from last week again
        nn.init.zeros_(self.last.bias)
        self.register_buffer("mean", torch.zeros(len(INPUTS)))
        self.register_buffer("inverse_scale", torch.zeros(len(INPUTS)))
        self.register_buffer("calibration", torch.zeros(()))

    def changes(self, standard: Tensor) -> Tensor:
        """(members, n): what each member adds to the level, from standardised inputs."""
        hidden = torch.tanh(self.second(torch.tanh(self.first(standard.expand(MEMBERS, -1, -1)))))
        output: Tensor = self.last(hidden)
        return output.squeeze(2)

    def standardised(self, features: Tensor, context: Tensor) -> Tensor:
        """(n, len(INPUTS)); a missing input stands at its mean."""
        standard = (inputs(features, context) - self.mean) * self.inverse_scale
        return standard.nan_to_num(0.0).clamp(-FURTHEST, FURTHEST)

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """(n,) logarithms of plays, where the 50th place has as many as last week."""
        change = self.changes(self.standardised(features, context)).mean(dim=0)
        return context[:, LEVEL] + context[:, PLACE_PLAYS] + change + self.calibration


class _Layer(nn.Module):
    """A linear layer of every member at once: (members, n, n_in) to (members, n, n_out)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(MEMBERS, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(MEMBERS, 1, n_out).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, values, self.weight)


def inputs(features: Tensor, context: Tensor) -> Tensor:
    """(n, len(INPUTS)), NaN where missing, not yet standardised."""
    static, counts = features[:, -1, :N_STATIC], features[:, :, N_STATIC:]
    missing = static.isnan().to(features.dtype)
    shares = counts[:, :, 1:] / (counts[:, :, :1] + 1)
    weeks = torch.arange(1, N_WEEKS_OF_YEAR + 1, dtype=features.dtype)
    season = (context[:, WEEK_OF_YEAR, None] == weeks).to(features.dtype)
    return torch.cat([static, missing, shares.flatten(1), context[:, SEEN], season], dim=1)


@dataclass(frozen=True, slots=True)
class NeuralModel:
    """A fitted network, in float64."""

    network: Network
    version: str

    def score(self, table: FeatureTable) -> Scores:
        """Predict next week's plays; 0 for what nobody has played for four weeks.

        Raises:
            ScoringError: a prediction is not finite.
        """
        scores = np.zeros(len(table.track_ids))
        played = np.flatnonzero(table.counts[:, :, 0].any(axis=1))
        scores[played] = predict(self.network, table.features[played], table.context[played])
        return checked(scores, len(table.track_ids))


def predict(network: Network, features: NDArray[np.float32], context: NDArray[np.float32]) -> Scores:
    """Expected plays, in float64: in float32 the third decimal would depend on how the rows were cut."""
    scores = np.empty(len(features))
    with one_thread(), torch.inference_mode():
        for start in range(0, len(features), SCORED_AT_ONCE):
            rows = slice(start, start + SCORED_AT_ONCE)
            log_plays = network(*(torch.from_numpy(part[rows]).double() for part in (features, context)))
            scores[rows] = log_plays.clamp(max=HIGHEST).exp().numpy()
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
    trial: bytes
    """the weights of the network that did not learn from the holdout weeks"""
    card: Card
    losses: Sequence[tuple[float, float]]
    """of the fitted weeks and of the holdout, by epoch"""

    def save(self, folder: Path) -> None:
        """Write both networks, the card and the loss curve into a folder that is there."""
        from models.curve import draw  # matplotlib takes a second to import, and only this needs it

        folder.joinpath(WEIGHTS).write_bytes(self.weights)
        folder.joinpath(TRIAL).write_bytes(self.trial)
        folder.joinpath(CARD).write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        folder.joinpath(CARD_TEXT).write_text(card_markdown(self.card), encoding="utf-8")
        draw(self.losses, self.card.best_epoch, folder / CURVE)


def load(folder: Path, name: str = WEIGHTS) -> NeuralModel:
    """Read what Trained.save wrote: the network in use, or its trial.

    Raises:
        ArtefactError: a file is missing, broken, or of another form.
    """
    card = read_json(folder / CARD, Card)
    if (card.context_version, card.context) != (VERSION, CONTEXT):
        raise ArtefactError(f"{CARD} is of the context's version {card.context_version}: expected {VERSION}")
    if card.features != FEATURES:
        raise ArtefactError(f"{CARD} is of other features: expected {list(FEATURES)}, found {list(card.features)}")
    content = read_bytes(folder / name)
    try:
        weights = safetensors.torch.load(content)
    except SafetensorError as cause:
        raise ArtefactError(f"{name} is not a safetensors file: {cause}") from cause
    network = Network()
    expected, found = _shapes(network.state_dict()), _shapes(weights)
    if found != expected:
        raise ArtefactError(f"{name} is of another form: expected {expected}, found {found}")
    version = {WEIGHTS: card.version, TRIAL: card.trial}[name]
    if version_of(card.last_week, content) != version:
        raise ArtefactError(f"{name} is not the file that {CARD} describes as version {version}")
    network.load_state_dict(weights)
    return NeuralModel(network.double().eval(), card.version)


def _shapes(weights: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in sorted(weights.items())}
