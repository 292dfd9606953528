"""Whether a consumer is well, for whoever asks from outside its loop."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

REMIND_S = 60.0
SLOW_S = 15.0  # a turn takes a second; that letters are not taken is known after 30 s, for one
STUCK_S = 300.0  # Kafka takes the partitions from a consumer that has not polled for so long


@dataclass(frozen=True, slots=True)
class State:
    """An answer: not live when only a restart can help; not ready, and why, when work stands still."""

    live: bool
    ready: bool
    reason: str
    for_s: float
    """How long it has been ready, or not."""
    progressed_s_ago: float | None
    """None: nothing has been counted since the start."""


@dataclass(frozen=True, slots=True)
class _Phase:
    reason: str  # empty while ready
    since: float


class Health:
    """Kept by a loop, read by any thread; every time is of one clock that never goes back, such as time.monotonic."""

    def __init__(self, now: float, of: Mapping[str, str] | None = None) -> None:
        self._of = of  # what the log's lines about it have as fields
        self._phase = _Phase("it is starting", now)
        self._turned = now
        self._progressed: float | None = None
        self._reminded: float | None = None
        self._has_ended = False

    def turned(self, now: float) -> None:
        """The loop begins another turn."""
        self._turned = now

    def progressed(self, now: float) -> None:
        """Something was counted."""
        self._progressed = now

    def may_take_long(self) -> None:
        """What is begun takes as long as it takes, and is no hang; it lasts until the next turn."""
        self._turned = math.inf

    def failed(self, reason: str, now: float, is_told: bool = False) -> None:
        """Work stands still; it is logged when that begins, and once a minute while it lasts, unless it is told."""
        if is_told:
            self._reminded = now
        elif self._reminded is None:
            log.warning("not ready: %s; trying again until it works", reason, extra=self._of)
            self._reminded = now
        elif now >= self._reminded + REMIND_S:
            log.warning("not ready for %.0f s: %s", now - self._phase.since, reason, extra=self._of)
            self._reminded = now
        starts_anew = not self._phase.reason
        self._phase = _Phase(reason, now if starts_anew else self._phase.since)

    def recovered(self, now: float) -> None:
        """Everything that can be worked on is."""
        if self._phase.reason:
            log.info("ready after %.1f s", now - self._phase.since, extra=self._of)
            self._phase = _Phase("", now)
            self._reminded = None

    def ended(self, now: float) -> None:
        """The loop is over."""
        self._has_ended = True
        self._phase = _Phase("it has ended", now)

    def state(self, now: float) -> State:
        """How it is."""
        phase, silent_s = self._phase, now - self._turned
        reason = phase.reason
        if not reason and silent_s >= SLOW_S:
            reason = f"one turn of the loop has taken {silent_s:.0f} s so far"
        return State(
            live=not self._has_ended and silent_s < STUCK_S,
            ready=not reason,
            reason=reason,
            for_s=now - phase.since if reason == phase.reason else silent_s,
            progressed_s_ago=None if self._progressed is None else now - self._progressed,
        )
