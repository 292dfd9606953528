"""The models by name: fitted or loaded, as they may be used for one week."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features.history import History
from models import naive
from models.artefact import TRIAL, WEIGHTS, learned_until
from models.registry import CHAMPION, Registry
from models.scoring import ArtefactError, Scorer

if TYPE_CHECKING:
    from models.linear import LinearModel

log = logging.getLogger(__name__)
NAIVE, LINEAR, NEURAL = "naive", "linear", "neural"
LINEAR_FILE = "linear.json"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that is ready to score; the version says exactly which."""

    model: str
    version: str
    score: Scorer
    is_pinned: bool = False
    """Whether this very version was asked for."""

    @property
    def name(self) -> str:
        """What an experiment calls it: one run may use a model in several versions."""
        return f"{self.model}@{self.version}" if self.is_pinned else self.model


def open_model(name: str, history: History, registry: Registry, closed_week: str) -> Fitted:
    """Open a model by the name that an experiment gives it: `neural`, the version in use, or `neural@VERSION`.

    Raises:
        ModelError: it cannot be had.
    """
    model, _, version = name.partition("@")
    if version in ("", CHAMPION):
        return OPENERS[model](history, registry, closed_week)
    return open_pinned(version, registry, closed_week)


def open_naive(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Open last week again."""
    return Fitted(NAIVE, naive.VERSION, naive.score)


def open_linear(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Fit the regression on the weeks up to the closed one, and keep it for those who ask for predictions."""
    from models import examples, linear  # scikit-learn takes a second to import

    fitted = linear.fit(examples.linear_examples(history, closed_week))
    try:
        registry.publish(LINEAR, fitted.version, lambda folder: fitted.save(folder / LINEAR_FILE))
    except OSError as cause:  # the list does not need it to be kept, and must not depend on it
        told = LINEAR, fitted.version, cause
        log.warning("%s %s could not be kept for predictions: %s", *told, extra={"week": closed_week})
    return Fitted(LINEAR, fitted.version, fitted.score)


def load_linear(folder: Path) -> "LinearModel":
    """Load a version of the regression that a weekly run has kept.

    Raises:
        ArtefactError: it is broken, or of another form; says which version, and why.
    """
    from models import linear

    try:
        loaded = linear.load(folder / LINEAR_FILE)
    except ArtefactError as cause:
        raise ArtefactError(f"{LINEAR} {folder.name}: {cause}") from cause
    if loaded.version != folder.name:
        raise ArtefactError(f"{LINEAR} {folder.name}: {LINEAR_FILE} is that of version {loaded.version}")
    return loaded


def open_neural(history: History, registry: Registry, closed_week: str) -> Fitted:
    """Load the network in use, unless it has learned from weeks that this list must not know."""
    folder = registry.champion(NEURAL, closed_week)
    if folder is None or learned_until(folder.name) > closed_week:
        raise ArtefactError(f"no neural model in use was trained on weeks up to {closed_week}: run `hitparade train`")
    return load(folder)


def open_pinned(version: str, registry: Registry, closed_week: str) -> Fitted:
    """Load one version of the network, unless it has learned from weeks that this list must not know."""
    if version not in registry.versions(NEURAL):
        raise ArtefactError(f"there is no neural {version}")  # which others there are would change the record
    if learned_until(version) > closed_week:
        raise ArtefactError(f"neural {version} has learned from weeks after {closed_week}")
    found = load(registry.version(NEURAL, version))
    return Fitted(found.model, found.version, found.score, is_pinned=True)


def load(folder: Path) -> Fitted:
    """Load a version of the network, whatever week it is for.

    Raises:
        ArtefactError: it is broken, cut, of another form or foreign; says which version, and why.
    """
    return _load(folder, WEIGHTS)


def load_trial(folder: Path) -> Fitted:
    """Load a version as it was before it learned from the weeks that it held out; raises what load does."""
    return _load(folder, TRIAL)


def _load(folder: Path, weights: str) -> Fitted:
    try:
        from models import neural  # torch takes two seconds and 200 MiB to import
    except ModuleNotFoundError as cause:
        raise ArtefactError(f"{cause.name} is not installed: pip install -e '.[neural]'") from cause
    try:
        loaded = neural.load(folder, weights)
    except ArtefactError as cause:
        raise ArtefactError(f"neural {folder.name}: {cause}") from cause
    if loaded.version != folder.name:
        raise ArtefactError(f"neural {folder.name}: its card is that of version {loaded.version}")
    return Fitted(NEURAL, loaded.version, loaded.score)


OPENERS: dict[str, Callable[[History, Registry, str], Fitted]] = {
    NAIVE: open_naive,
    LINEAR: open_linear,
    NEURAL: open_neural,
}
"""
Each raises ModelError where its model cannot be had.
"""
