"""The models that predictions are made with: looked up anew for each request, loaded once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.table import FeatureTable
from models.linear import LinearModel
from models.registry import Registry
from models.scorers import LINEAR, NEURAL, Fitted, load, load_linear
from models.scoring import ArtefactError, ModelError, Scores
from service.problems import not_now

NO_LINEAR = (
    "no linear model has been fitted yet: `hitparade consume weekly` fits one before each list of an experiment that "
    "uses it, once five weeks are closed"
)
NO_NETWORK = "no network is in use yet: `hitparade train` trains one and puts it in use"
FIT_ANEW = "remove that version's folder, and `hitparade trigger` has one fitted anew"
PUT_IN_USE = "`hitparade models` shows the versions, `hitparade promote` puts another in use"


class InUse:
    """The linear model last fitted, and the network in use."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._linear: LinearModel | None = None
        self._network: Fitted | None = None
        self._one_at_a_time = threading.Lock()

    def linear(self) -> LinearModel:
        """The one that has learned from the latest week.

        Raises:
            Problem: there is none, or it is broken.
        """
        if not self._registry.versions(LINEAR):
            raise not_now(NO_LINEAR)
        with _advice(FIT_ANEW):
            version = self._registry.newest(LINEAR)
            if self._linear is None or self._linear.version != version:
                self._linear = load_linear(self._registry.version(LINEAR, version))
            return self._linear

    def network(self) -> Fitted:
        """The one in use.

        Raises:
            Problem: none is, or it is broken.
        """
        with self._one_at_a_time, _advice(PUT_IN_USE):  # PyTorch takes seconds to import, and once is enough
            folder = self._in_use()
            if self._network is None or self._network.version != folder.name:
                self._network = load(folder)
            return self._network

    def _in_use(self) -> Path:
        folder = self._registry.champion(NEURAL)
        if folder is None:
            raise not_now(NO_NETWORK)
        return folder

    def score(self, network: Fitted, table: FeatureTable) -> Scores:
        """What a network says of a table, one after the other: how many threads it may use is said process-wide.

        Raises:
            Problem: the network is broken.
        """
        with self._one_at_a_time, _advice(PUT_IN_USE):
            return network.score(table)


@contextmanager
def _advice(what_to_do: str) -> Iterator[None]:
    try:
        yield
    except ModelError as cause:
        is_known = isinstance(cause, ArtefactError) and isinstance(cause.__cause__, ImportError)  # which says itself
        raise not_now(str(cause) if is_known else f"{cause}; {what_to_do}") from cause
