"""What became of everything that was read from files, by cause, with the first examples of each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """How many ended in one way for one cause, and what is said of the first of them."""

    outcome: str
    cause: str
    n: int
    examples: tuple[str, ...]


@dataclass(slots=True)
class Account:
    """Every line, or row, ends in exactly one outcome."""

    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, outcome: str, cause: str = "", where: str = "", reason: str = "") -> None:
        """Count one; where and why are kept of the first of each cause."""
        key = (outcome, cause)
        self._counts[key] = n = self._counts.get(key, 0) + 1
        if where and n <= MOST_EXAMPLES:
            self._examples.setdefault(key, []).append(f"{where}: {reason}")

    def entries(self) -> Iterator[Entry]:
        """One an outcome and cause, those of most first."""
        for key, n in sorted(self._counts.items(), key=lambda item: (-item[1], item[0])):
            yield Entry(*key, n, tuple(self._examples.get(key, ())))

    def total(self, *outcomes: str) -> int:
        """How many ended so; all of them where no outcome is named."""
        return sum(n for (outcome, _), n in self._counts.items() if not outcomes or outcome in outcomes)
