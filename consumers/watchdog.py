"""Noticing partitions that stand still while their logs go on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

WATCHDOG_S = 30.0


@dataclass(slots=True)
class _Still:
    position: int
    since: float
    end: int | None = None  # of its log, as another client has seen it that could read on


@dataclass(slots=True)
class Watchdog:
    """Knows since when each partition has stood where it stands; time is an argument."""

    _still: dict[int, _Still] = field(default_factory=dict)
    _asked: float = -math.inf

    def note(self, positions: Mapping[int, int], now: float) -> None:
        """Take down where every partition stands that is being read."""
        self._still = {
            partition: still
            if (still := self._still.get(partition)) and still.position == position
            else _Still(position, now)
            for partition, position in positions.items()
        }

    def suspects(self, now: float) -> list[int]:
        """The partitions that have stood still for WATCHDOG_S; told no more often than that, to ask costs something."""
        suspects = [partition for partition, still in self._still.items() if now >= still.since + WATCHDOG_S]
        if not suspects or now < self._asked + WATCHDOG_S:
            return []
        self._asked = now
        return suspects

    def accuse(self, ends: Mapping[int, int]) -> None:
        """Another client gets more of these partitions, up to the ends of their logs; it may have come just now."""
        for partition, end in ends.items():
            self._still[partition].end = end

    def convicted(self) -> dict[int, int]:
        """The partitions that still stand where they stood when they were accused, and the ends of their logs."""
        return {partition: still.end for partition, still in self._still.items() if still.end is not None}

    def still_s(self, partition: int, now: float) -> float:
        """For how long the partition has stood still."""
        return now - self._still[partition].since

    def forget(self) -> None:
        """Begin anew, with partitions that have just been taken up."""
        self._still.clear()
