"""The ways from a consumer to Redis and to the topics of letters: everything may happen on them."""

from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING

from features.connect import StoreUnavailable
from features.fence import Fence
from features.parts import Part, SetAside
from producers.publisher import NotAcknowledged
from tests.simulation.judge import check, check_the_beginning, identity

if TYPE_CHECKING:
    from tests.simulation.world import World


class StoreEdge:
    """The way from a consumer to Redis."""

    def __init__(self, world: "World") -> None:
        self.world, self.store = world, world.store
        self.topic, self.slices = world.store.topic, world.store.slices

    def fence(self, partition: int) -> Fence | None:
        return self.world.edge(f"fence of {partition}", lambda: self.store.fence(partition), StoreUnavailable)

    def fences(self, partitions: Sequence[int]) -> dict[int, Fence]:
        return self.world.edge("fences", lambda: self.store.fences(partitions), StoreUnavailable)

    def init(self, partition: int, next_offset: int, topic_id: str, settings: Mapping[str, str]) -> Fence:
        return self.world.edge("init", lambda: self._init(partition, next_offset, topic_id, settings), StoreUnavailable)

    def _init(self, partition: int, next_offset: int, topic_id: str, settings: Mapping[str, str]) -> Fence:
        check_the_beginning(self.world, partition, next_offset)
        return self.store.init(partition, next_offset, topic_id, settings)

    def known_ids(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> Mapping[str, Set[bytes]]:
        if not wanted:
            return {}
        return self.world.edge("known ids", lambda: self.store.known_ids(partition, start, wanted), StoreUnavailable)

    def played(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> Mapping[str, Mapping[bytes, int]]:
        if not wanted:
            return {}
        return self.world.edge("plays", lambda: self.store.played(partition, start, wanted), StoreUnavailable)

    def apply(self, partition: int, topic_id: str, part: Part) -> None:
        name = f"apply [{part.start}, {part.end}) to partition {partition}"
        self.world.edge(name, lambda: self._apply(partition, topic_id, part), StoreUnavailable)

    def _apply(self, partition: int, topic_id: str, part: Part) -> None:
        before = self.store.fence(partition)
        self.store.apply(partition, topic_id, part)
        check(self.world, partition, before)


class LettersEdge:
    """The way from a consumer to the topics of what is not counted."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        written = self.world.letters.setdefault(partition, set())
        for letter in map(identity, set_aside):
            self.world.edge("letter", partial(written.add, letter), NotAcknowledged)

    def close(self) -> None:
        """Nothing is open."""
