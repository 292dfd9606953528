"""Partitions that Redis does not serve for a while."""

import random
from dataclasses import dataclass, field

LONGEST_PAUSE_S = 5.0


def longer(pause_s: float) -> float:
    """The pause after that one."""
    return min(LONGEST_PAUSE_S, max(0.2, 2 * pause_s))


@dataclass(slots=True)
class Rests:
    """Partitions that are left alone for longer and longer: not all of them need be on one node of Redis."""

    _until: dict[int, tuple[float, float]] = field(default_factory=dict)  # when to try again, and the pause before

    def begin(self, partition: int, now: float) -> None:
        """Leave the partition alone for longer than the last time."""
        pause_s = longer(self._until.get(partition, (0.0, 0.0))[1])
        self._until[partition] = (now + pause_s * random.uniform(0.5, 1.0), pause_s)

    def is_over(self, partition: int, now: float) -> bool:
        """Whether it may be tried again."""
        return partition not in self._until or now >= self._until[partition][0]

    def __contains__(self, partition: int) -> bool:
        return partition in self._until

    def end(self, partition: int) -> None:
        """All is well again."""
        self._until.pop(partition, None)
