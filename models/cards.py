"""The card of a fitted network: what it learned from and how, and what it was worth beside naive.

card.json is for programs, card.md says the same for people.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.context import CONTEXT, VERSION
from features.table import FEATURES
from features.weeks import NAME
from models.artefact import CURVE

Week = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
Figure = Annotated[float, Field(allow_inf_nan=False)]
METRICS = {
    "mean_absolute_error": "mean absolute error (less is better)",
    "precision_at_50": "precision@50",
    "ndcg_at_50": "NDCG@50",
    "captured_plays": "captured plays",
    "rbo": "RBO",
    "criterion": "criterion (less is better)",
    "exact_places": "exact places",
}
"""How people call those that a card may hold; another one goes by its own name."""


class Card(BaseModel):
    """What is known of a fitted network; its worth is that of its trial, which did not learn from the holdout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal[2] = 2
    version: str
    trial: str
    """as version is, of the weights of the trial"""
    first_week: Week
    last_week: Week
    n_weeks: int
    """target weeks from the first to the last, those held out too"""
    holdout_weeks: Annotated[list[Week], Field(min_length=1)]
    n_tracks: int
    n_rows: int
    seed: int
    epochs: int
    best_epoch: int
    members: int
    hidden: tuple[int, int]
    features: tuple[str, ...] = FEATURES
    context: tuple[str, ...] = CONTEXT
    context_version: int = VERSION
    left_out: tuple[str, ...]
    metrics: dict[str, dict[str, Figure]]
    """of the trial, as `neural`, and of `naive`: the mean over the holdout weeks"""
    vs_naive: dict[str, tuple[Figure, Figure, Figure]]
    """low, mean and high of the difference over the holdout weeks, at 95 %"""
    code_version: str
    libraries: dict[str, str]


def card_markdown(card: Card) -> str:
    """The card as people read it; the picture of the loss is the file beside it."""
    return "\n".join([*_facts(card), *_worth(card), *_how(card), *_inputs(card)]) + "\n"


def _facts(card: Card) -> Iterator[str]:
    yield f"# neural {card.version}"
    yield ""
    yield from _table(
        ("", ""),
        [
            ("learned from", f"the plays of {card.n_weeks:,} weeks, {card.first_week} to {card.last_week}"),
            ("tracks", f"{card.n_tracks:,}"),
            ("rows", f"{card.n_rows:,}"),
            ("seed", f"{card.seed}"),
            ("made by", f"hitparade {card.code_version}"),
            ("libraries", ", ".join(f"{name} {found}" for name, found in sorted(card.libraries.items()))),
        ],
    )


def _worth(card: Card) -> Iterator[str]:
    weeks = card.holdout_weeks
    yield from ("", "## Worth", "")
    yield "A trial learned from all weeks but the last, and forecast those; the network in use then learned from all."
    yield f"Below are its means over those, {len(weeks):,} from {weeks[0]} to {weeks[-1]}, beside last week again. They"
    yield "also chose when to stop, so the figures flatter a little."
    yield ""
    neural, naive = card.metrics.get("neural", {}), card.metrics.get("naive", {})
    yield from _table(
        ("metric", "neural", "naive", "difference", "95 % interval"),
        [
            (METRICS.get(name, name), _figure(value), _figure(naive.get(name)), *_difference(card, name))
            for name, value in neural.items()
        ],
    )


def _difference(card: Card, metric: str) -> tuple[str, str]:
    if metric not in card.vs_naive:
        return "", ""
    low, mean, high = (f"{value + 0.0:+,.4f}" for value in card.vs_naive[metric])
    return mean, f"{low} to {high}"


def _how(card: Card) -> Iterator[str]:
    first, second = card.hidden
    networks = "One network" if card.members == 1 else f"The mean of {card.members} networks"
    yield from ("", "## Training", "")
    yield f"{networks} with two hidden layers, {first} and {second}, tanh; epoch {card.best_epoch} of {card.epochs}."
    yield from ("", f"![The loss by epoch]({CURVE})")


def _inputs(card: Card) -> Iterator[str]:
    yield from ("", "## Features", "")
    yield f"- of each of the four weeks: {', '.join(card.features)}"
    yield f"- the context, version {card.context_version}: {', '.join(card.context)}"
    yield f"- left out: {', '.join(card.left_out) or 'nothing'}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.4f}"
