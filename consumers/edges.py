"""What the counting loop is given: who decides, and where what is not counted goes."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from consumers.source import Batch
from features.parts import Part, SetAside


class Sink(Protocol):
    """Where events that are not counted go."""

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        """Write them all, acknowledged."""

    def close(self) -> None:
        """Let go of what is open."""


class Decide(Protocol):
    """Turns a span into parts."""

    def __call__(
        self,
        batch: Batch,
        stream_time: datetime | None,
        going_on: Part | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> Iterable[Part]:
        """Decide by the log, from a stream time on, and by what Redis remembers.

        The first part is going_on with it, where there is one: a part that is not in Redis yet. Nobody is asked what
        Redis remembers before settle has been called, which has everything there that was sent.
        """
