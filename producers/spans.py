"""What is told of a trace, and how it goes on in the headers of a record: nothing, unless something traces."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Headers = tuple[tuple[str, bytes], ...]
Parent = Iterable[tuple[str, bytes | None]]
"""The headers of the record that led here."""
Kind = Literal["internal", "producer", "consumer"]


class Spans(Protocol):
    """A tracer, as far as we use one; the span that is open is the thread's."""

    def span(
        self, name: str, parent: Parent = (), kind: Kind = "internal", **attributes: str | int
    ) -> AbstractContextManager[None]:
        """A span around a block, in the trace that a record's headers name, else in the one that is open."""

    def note(self, **attributes: str | int) -> None:
        """Add to the span that is open."""

    def headers(self) -> Headers:
        """By which a record that is sent now carries the trace on."""


class Untraced:
    """Nobody traces."""

    def span(
        self, name: str, parent: Parent = (), kind: Kind = "internal", **attributes: str | int
    ) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def note(self, **attributes: str | int) -> None:
        """Nothing."""

    def headers(self) -> Headers:
        """None."""
        return ()


UNTRACED = Untraced()
