"""Looking at the pipeline once a second, in a thread, so that no visitor has to: Redis' fences, and Kafka's ends."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from consumers.kafka import KafkaUnavailable, end_offsets
from features.connect import StoreUnavailable
from features.fence import Fence
from features.reader import CounterReader, WeekError
from producers.kafka import KafkaConfig
from service.figures import Figures, PartitionFigures, Reach, TopicFigures
from service.live import live_chart
from service.parts import Memory
from service.tracks import Catalogue, TrackLookup

log = logging.getLogger(__name__)
EVERY_S = 1.0
ENDS_EVERY_S = 5.0
LIVE_EVERY_S = 10.0
REOPEN_EVERY_S = 60.0  # a topic may have been given more partitions
LIVE_SHARE = 20  # the open week is read in at most one part of so many of the time
BOOTSTRAP_MS = 3000
RATE_OVER = 6  # looks


@dataclass(slots=True)
class Watcher:
    """Keeps the figures, the open week's chart, and what a look at one track needs."""

    kafka: KafkaConfig
    open_counters: Callable[[], CounterReader]
    """asks Kafka for the partitions"""
    open_catalogue: Callable[[], Catalogue]
    memory: Memory
    lookup: TrackLookup
    missing: Callable[[], str]
    """why the lists have not been read; empty where they have"""
    last_run: Callable[[], datetime | None] = lambda: None
    """when a list was last published"""
    _open_until: float = float("-inf")
    _ends: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    _ends_at: float = float("-inf")
    _live_at: float = float("-inf")
    _counted: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_OVER))

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            try:
                self.look()
            except Exception as cause:  # a bug, or a record that nobody foresaw: what is known is served, as old
                log.exception("looking at the pipeline failed; looking again")
                self._failed(f"the look at it failed: {type(cause).__name__}")
            stop.wait(EVERY_S)

    def _failed(self, reason: str) -> None:
        before, now = self.memory.figures, datetime.now(UTC)
        self.memory.figures = before.model_copy(update={"redis": _reach("redis", before.redis, reason, now)})

    def look(self) -> None:
        """Look once; what does not answer leaves what was known of it as it was."""
        before = self.memory.figures
        now = datetime.now(UTC)
        lists = _reach("lists", before.lists, self.missing(), now)
        kafka = _reach("kafka", before.kafka, self._ask_kafka(), now)
        found: dict[str, TopicFigures] = {}
        redis = _reach("redis", before.redis, self._ask_redis(found), now)
        self.memory.figures = before.model_copy(
            update={"at": now, "kafka": kafka, "redis": redis, "lists": lists, "last_run": self.last_run(), **found}
        )

    def _ask_kafka(self) -> str:
        """Why Kafka does not answer; empty where it does, or need not be asked yet."""
        if time.monotonic() < self._ends_at + ENDS_EVERY_S:
            return self.memory.figures.kafka.reason
        self._ends_at = time.monotonic()
        try:
            if self._ends_at >= self._open_until:
                catalogue, counters = self.open_catalogue(), self.open_counters()
                self.lookup.catalogue, self.lookup.counters = catalogue, counters
                self._open_until = self._ends_at + REOPEN_EVERY_S
            self._ends = end_offsets({**self.kafka, "bootstrap_timeout_ms": BOOTSTRAP_MS}, self._topics())
        except (KafkaUnavailable, StoreUnavailable) as cause:
            self._open_until = self._ends_at
            return str(cause)
        return ""

    def _topics(self) -> dict[str, Sequence[int]]:
        known = (self.lookup.counters, self.lookup.catalogue)
        return {part.store.topic: part.partitions for part in known if part}

    def _ask_redis(self, found: dict[str, TopicFigures]) -> str:
        """Why Redis does not answer, or what it holds cannot be used; else what stands in it."""
        counters, catalogue = self.lookup.counters, self.lookup.catalogue
        if counters is None or catalogue is None:
            return "it has not been asked yet: Kafka has not said what partitions there are"
        try:
            fences = counters.store.fences(counters.partitions)
            found["sessions"] = self._figures(counters.store.topic, fences, self._rate(fences))
            tracks = catalogue.store.fences(catalogue.partitions)
            found["tracks"] = self._figures(catalogue.store.topic, tracks, None)
            self._chart(counters, catalogue)
        except StoreUnavailable as cause:
            return str(cause)
        return ""

    def _figures(self, topic: str, fences: Mapping[int, Fence], rate: float | None) -> TopicFigures:
        ends = self._ends.get(topic, {})
        partitions = tuple(_partition(p, fences.get(p), ends.get(p)) for p in sorted({*ends, *fences}))
        tallies: dict[str, int] = {}
        for fence in fences.values():
            for name, n in fence.tallies.items():
                tallies[name] = tallies.get(name, 0) + n
        return TopicFigures(topic=topic, partitions=partitions, tallies=tallies, events_per_s=rate)

    def _rate(self, fences: Mapping[int, Fence]) -> float | None:
        """Events a second over the last looks; of counters that were set back, none."""
        read = sum(n for fence in fences.values() for name, n in fence.tallies.items() if ":" not in name)
        if self._counted and read < self._counted[-1][1]:
            self._counted.clear()
        self._counted.append((time.monotonic(), read))
        (began, at_first), (ended, at_last) = self._counted[0], self._counted[-1]
        return round((at_last - at_first) / (ended - began), 1) if ended > began else None

    def _chart(self, counters: CounterReader, catalogue: Catalogue) -> None:
        began = time.monotonic()
        if began < self._live_at:
            return
        try:
            standing = counters.standing()
            chart = live_chart(counters, standing, catalogue, datetime.now(UTC))
        except WeekError:  # nothing has been counted yet
            return
        self.memory.live = chart
        self._live_at = time.monotonic() + max(LIVE_EVERY_S, LIVE_SHARE * (time.monotonic() - began))


def _reach(name: str, before: Reach, reason: str, now: datetime) -> Reach:
    """The same as before, with the reason of now; since then, where it has changed to or from good."""
    if before.ok == (not reason):
        return before.model_copy(update={"reason": reason})
    if reason:
        log.warning("%s: %s", name, reason)
    else:
        log.info("%s: all is well, after %.0f s", name, (now - before.since).total_seconds())
    return Reach(ok=not reason, since=now, reason=reason)


def _partition(partition: int, fence: Fence | None, end: int | None) -> PartitionFigures:
    next_offset = fence.next_offset if fence else 0
    lag = None if end is None else max(0, end - next_offset)
    stream_time = fence.stream_time if fence else None
    return PartitionFigures(partition=partition, next_offset=next_offset, lag=lag, stream_time=stream_time)


def nothing_seen(now: datetime) -> Figures:
    """The figures before the first look."""
    reach = Reach(ok=False, since=now, reason="it is starting")
    return Figures(at=now, kafka=reach, redis=reach, lists=reach)
