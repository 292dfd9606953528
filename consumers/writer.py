"""What lies between the log and Redis: parts that are held, to grow, and parts that are on their way.

While Redis applies one part and has the next one at hand, the one after is polled and decided; should one be refused,
the fence refuses what was sent after it. A part that only counts is held while much is waiting, and goes on with what
is polled next: a long one is cheap.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from consumers.kafka import place
from consumers.source import Source
from consumers.troubles import PASSING
from features.fence import Fence, counted_as
from features.parts import Part
from features.store import CounterStore

log = logging.getLogger(__name__)

MOST_APPLYING = 2  # parts: one in Redis' hands, and one that it goes on with at once
MOST_HELD = 100_000  # events of a part, which are read again where a consumer dies
MOST_SIZE = 100_000  # tracks of all parts that are held, and their listeners: 30 MB of tracks

Submit = Callable[[Callable[[], None]], Future[None]]


def in_a_thread() -> Submit:
    """Do one thing after the other in a thread of their own."""
    return ThreadPoolExecutor(1, "apply").submit


@dataclass(frozen=True, slots=True)
class Applying:
    """A part on its way into Redis, and the fence that it leaves there."""

    partition: int
    part: Part
    fence: Fence
    done: Future[None]


@dataclass(slots=True)
class Writer:
    """Has parts applied by Redis, those of a partition in their order."""

    source: Source
    store: CounterStore
    guarded: Callable[[int, Callable[[], None]], None]
    """Does something of a partition, and what must be done where it fails."""
    applied: Callable[[int], object]
    """Is told of every partition of which a part has come into Redis."""
    submit: Submit = field(default_factory=in_a_thread)
    tallies: Counter[str] = field(default_factory=Counter)
    fences: dict[int, Fence] = field(default_factory=dict)
    """As they were last seen in Redis, or moved there."""
    failure: Exception | None = None
    """The last one of what was on its way, to be told of at the end of the step."""
    _held: dict[int, Part] = field(default_factory=dict)  # from a fence to a position: not sent on their way yet
    _applying: deque[Applying] = field(default_factory=deque)  # on their way, the oldest first

    def expected(self, partition: int) -> Fence:
        """The partition's fence once what is on its way is in."""
        sent = [applying.fence for applying in self._applying if applying.partition == partition]
        return sent[-1] if sent else self.fences[partition]

    def take(self, partition: int) -> Part | None:
        """What is held of a partition, to go on with; should that fail, all of it is read again."""
        part = self._held.pop(partition, None)
        if part:
            self.source.goes_on(partition, part.start)
        return part

    def keep(self, partition: int, part: Part) -> bool:
        """Hold the part if it may grow: a long one costs Redis less an event, and the log has as much again."""
        n_waiting = (self.source.end(partition) or 0) - part.end
        may_grow = part.has_only_counts and part.tallies.total() < MOST_HELD and n_waiting >= part.end - part.start
        if may_grow:
            self._held[partition] = part
            self.source.goes_on(partition, part.end)
        return may_grow

    def apply(self, partition: int, part: Part) -> None:
        """Send a part on its way; should it be refused, the fence tells where to go on."""
        fence = self.expected(partition)
        identity = counted_as(self.source.topic_id(), fence.rebuilt)
        done = self.submit(partial(self.store.apply, partition, identity, part))
        moved = replace(fence, next_offset=part.end, stream_time=part.stream_time)
        self._applying.append(Applying(partition, part, moved, done))
        self.source.goes_on(partition, part.end)
        told = self.source.topic, partition, part.start, part.end, dict(part.tallies)
        log.debug(
            "%s partition %d: offsets %d to %d are %s", *told, extra=place(self.source.topic, partition, part.start)
        )

    def make_room(self) -> None:
        """Send the longest that are held, one after another, while all together are too large."""
        while sum([part.size for part in self._held.values()]) > MOST_SIZE:
            self._send(max(self._held, key=lambda partition: self._held[partition].tallies.total()))

    def release(self) -> None:
        """Have everything in Redis that is held or on its way; a failure is told of later."""
        while self._held:
            self._send(next(iter(self._held)))
        self.settle()

    def drop(self, partition: int) -> None:
        """Forget what is held of a partition, which is read again, and have everything in Redis that is on its way."""
        self._held.pop(partition, None)
        self.settle()

    def settle(self, most: int = 0) -> None:
        """Wait until no more than so many parts are on their way; a failure is its partition's, and told of later."""
        while len(self._applying) > most:
            applying = self._applying.popleft()
            try:
                self.guarded(applying.partition, partial(self._finish, applying))
            except PASSING as cause:
                self.failure = cause

    def _send(self, partition: int) -> None:
        part = self._held.pop(partition)
        self.settle(MOST_APPLYING - 1)
        if partition in self.source.positions:
            try:
                self.guarded(partition, partial(self.apply, partition, part))
            except PASSING as cause:
                self.failure = cause
                self.source.wait(partition)

    def _finish(self, applying: Applying) -> None:
        applying.done.result()
        self.fences[applying.partition] = applying.fence
        self.tallies += applying.part.tallies
        self.applied(applying.partition)
        self.source.commit({partition: self.fences[partition].next_offset for partition in self.source.positions})
