"""The models by name: fitted or loaded, as they may be used for one week."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.history import History
from models import naive
from models.registry import Registry
from models.scoring import ArtefactError, Scorer


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that is ready to score; the version says exactly which."""

    model: str
    version: str
    score: Scorer


def open_naive(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Open last week again."""
    return Fitted("naive", naive.VERSION, naive.score)


def open_linear(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Fit the regression on the weeks up to the closed one."""
    from models import examples, linear  # scikit-learn takes a second to import

    fitted = linear.fit(examples.linear_examples(history, closed_week))
    return Fitted("linear", fitted.version, fitted.score)


def open_neural(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Load the network in use, unless it has learned from weeks that this list must not know."""
    folder = registry.champion("neural")
    if folder is None or _learned_until(folder) > closed_week:
        raise ArtefactError(f"no neural model in use was trained on weeks up to {closed_week}: run `hitparade train`")
    try:
        from models import neural  # torch takes two seconds and 200 MiB to import
    except ModuleNotFoundError as cause:
        raise ArtefactError(f"{cause.name} is not installed: pip install -e '.[neural]'") from cause
    loaded = neural.load(folder)
    return Fitted("neural", loaded.version, loaded.score)


def _learned_until(folder: Path) -> str:
    """The last week that a version learned from, by which it is named."""
    return folder.name.rpartition("-")[0]


OPENERS: dict[str, Callable[[History, Registry, str], Fitted]] = {
    "naive": open_naive,
    "linear": open_linear,
    "neural": open_neural,
}
"""
Each raises ModelError where its model cannot be had.
"""
