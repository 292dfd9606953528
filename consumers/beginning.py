"""Where the counting of a partition begins: at its fence, unless that would lose or double something."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from consumers.source import Source
from features.fence import Fence
from features.parts import Part
from features.store import CounterStore


class Stopped(Exception):
    """A partition must not be counted on; the message names both sides and the ways out."""


@dataclass(slots=True)
class Beginning:
    """What a fence must agree with: settings; and check, which refuses it for a reason of the consumer's own."""

    source: Source
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

    def _where(self, partition: int) -> str:
        return f"{self.source.topic} partition {partition}"

    def _first(self, partition: int) -> Fence:
        log_start = self.source.log_start(partition)
        committed = self.source.committed(partition)
        if log_start > 0 and committed is not None and not self.accept_loss:
            raise Stopped(
                f"{self._where(partition)} has no fence in Redis, but was counted up to offset {committed}, and its "
                f"log begins at {log_start}: Redis was emptied, and the log has lost what was counted. Bring Redis' "
                "data back, or count what is left with --accept-loss"
            )
        start = log_start if committed is None else 0  # what had been counted before log_start is tallied as lost
        return self.store.init(partition, start, self.source.topic_id(), self.settings)

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
        log_start = self.source.log_start(partition)
        lost = log_start - fence.next_offset
        if lost <= 0:
            return fence
        if not self.accept_loss:
            raise Stopped(
                f"{self._where(partition)}: the fence is at offset {fence.next_offset}, but the log begins at "
                f"{log_start}: {lost} offsets were deleted before they were counted. Raise the topic's retention, and "
                "go on without them with --accept-loss (they are tallied as lost)"
            )
        since = fence.stream_time
        part = Part(fence.next_offset, log_start, since, tallies=Counter(lost=lost), since=since)
        self.store.apply(partition, fence.identity, part)
        return replace(fence, next_offset=log_start)


def way_out(topic: str) -> str:
    """What to do where Redis counts another log than the one that is there."""
    return (
        f"If the topic was created anew, count it from its beginning: `hitparade drop {topic}` removes what was "
        "counted. Otherwise point this consumer at the Kafka that Redis was counted from"
    )
