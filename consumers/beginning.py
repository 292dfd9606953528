"""Where the counting of a partition begins: at its fence, unless that would lose or double something."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from features.fence import Fence
from features.parts import Part
from features.store import CounterStore


class Stopped(Exception):
    """A partition must not be counted on; the message names both sides and the ways out."""


class Log(Protocol):
    """What is asked of a topic: a consumer's, or one that is only looked at."""

    @property
    def topic(self) -> str:
        """Its name."""

    def topic_id(self) -> str:
        """Its id."""

    def log_start(self, partition: int) -> int:
        """The first offset that the log still holds."""

    def committed(self, partition: int) -> int | None:
        """What the group last committed, if it ever did."""


@dataclass(slots=True)
class Beginning:
    """What a fence must agree with: settings; and check, which refuses it for a reason of the consumer's own."""

    source: Log
    store: CounterStore
    settings: Mapping[str, str]
    check: Callable[[Fence], None] = lambda fence: None
    accept_loss: bool = False

    def fence(self, partition: int) -> Fence:
        """The partition's fence, made where there is none, and moved past a loss that is accepted.

        Raises:
            Stopped: counting on from there would lose or double something.
        """
        fence = self.store.fence(partition) or self._first(partition)
        self._agrees(partition, fence)
        self.check(fence)
        return self._past_loss(partition, fence)

    def look(self, partition: int) -> Fence | None:
        """The fence as it is, None where there is none; nothing is made or moved.

        Raises:
            Stopped: as fence() would.
        """
        fence = self.store.fence(partition)
        if fence is None:
            self._first_offset(partition)
            return None
        self._agrees(partition, fence)
        self.check(fence)
        self._lost(partition, fence)
        return fence

    def _where(self, partition: int) -> str:
        return f"{self.source.topic} partition {partition}"

    def _first(self, partition: int) -> Fence:
        return self.store.init(partition, self._first_offset(partition), self.source.topic_id(), self.settings)

    def _first_offset(self, partition: int) -> int:
        log_start = self.source.log_start(partition)
        committed = self.source.committed(partition)
        if log_start > 0 and committed is not None and not self.accept_loss:
            raise Stopped(
                f"{self._where(partition)} has no fence in Redis, but was counted up to offset {committed}, and its "
                f"log begins at {log_start}: Redis was emptied, and the log has lost what was counted. Bring Redis' "
                "data back, or count what is left with --accept-loss"
            )
        return log_start if committed is None else 0  # what had been counted before log_start is tallied as lost

    def _agrees(self, partition: int, fence: Fence) -> None:
        for name, ours in self.settings.items():
            found = fence.settings.get(name)
            if found != ours:
                raise Stopped(
                    f"{self._where(partition)} was counted with {name} {found}, this consumer has {ours}. Set it back "
                    f"to {found}, or count anew: `hitparade drop {self.source.topic}` removes what was counted, and "
                    "`hitparade rebuild` counts sessions anew before it does"
                )
        topic_id = self.source.topic_id()
        if fence.topic_id != topic_id:
            raise Stopped(
                f"{self._where(partition)}: Redis counts topic id {fence.topic_id}, Kafka has {topic_id}. "
                f"{way_out(self.source.topic)}"
            )

    def _past_loss(self, partition: int, fence: Fence) -> Fence:
        lost = self._lost(partition, fence)
        if not lost:
            return fence
        end, since = fence.next_offset + lost, fence.stream_time
        part = Part(fence.next_offset, end, since, tallies=Counter(lost=lost), since=since)
        self.store.apply(partition, fence.identity, part)
        return replace(fence, next_offset=end)

    def _lost(self, partition: int, fence: Fence) -> int:
        """How many offsets were deleted before they were counted, where that is accepted."""
        log_start = self.source.log_start(partition)
        lost = max(0, log_start - fence.next_offset)
        if lost and not self.accept_loss:
            raise Stopped(
                f"{self._where(partition)}: the fence is at offset {fence.next_offset}, but the log begins at "
                f"{log_start}: {lost} offsets were deleted before they were counted. Raise the topic's retention, and "
                "go on without them with --accept-loss (they are tallied as lost)"
            )
        return lost


def beyond_end(topic: str, partition: int, fence: Fence, end: int) -> Stopped:
    """What is wrong with a fence that names an offset which the log does not have yet."""
    return Stopped(
        f"{topic} partition {partition}: the fence is at offset {fence.next_offset}, but the log ends at {end}: the "
        f"log was cut, or Redis is of another cluster. {way_out(topic)}"
    )


def way_out(topic: str) -> str:
    """What to do where Redis counts another log than the one that is there."""
    return (
        f"If the topic was created anew, count it from its beginning: `hitparade drop {topic}` removes what was "
        "counted. Otherwise point this consumer at the Kafka that Redis was counted from"
    )
