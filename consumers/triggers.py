"""The weekly consumer's loop: one trigger at a time, beside the poll loop, so that a long run costs no membership."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from consumers.group import GroupReader
from consumers.health import Health
from consumers.kafka import KafkaRefused, KafkaUnavailable, place_of
from consumers.snapshot import WrongTopic
from consumers.troubles import PASSING, REFUSED
from features.history import HistoryError
from features.reader import WeekError
from producers.playlists import Playlist
from producers.spans import UNTRACED, Spans
from producers.triggers import Trigger

log = logging.getLogger(__name__)
NEVER = (WeekError, WrongTopic, HistoryError)
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run that went well has published, when it ended (Unix time), and how long it took."""

    ended: float
    seconds: float
    lists: Sequence[Playlist]


@dataclass(slots=True)
class TriggerConsumer:
    """Runs triggers in their order; each is committed once its lists are published, or can never be."""

    reader: GroupReader
    run: Callable[[Trigger], Any]
    stop: threading.Event
    n_refused: int = 0
    n_run: int = 0
    n_failed: int = 0
    """How often a run has failed, and was tried again"""
    last: LastRun | None = None
    spans: Spans = UNTRACED
    clock: Callable[[], float] = time.monotonic
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        self.health = Health(self.clock())

    def consume(self, until_idle: bool = False) -> int:
        """Go on until told to stop, or until no trigger is left; return 1 if one could never be run, else 0."""
        try:
            with ThreadPoolExecutor(1, "weekly-run") as beside:
                self._consume(beside, until_idle)
        finally:
            self.health.ended(self.clock())
            self.reader.close()
        return 1 if self.n_refused else 0

    def _consume(self, beside: ThreadPoolExecutor, until_idle: bool) -> None:
        while not self.stop.is_set():
            self.health.turned(self.clock())
            try:
                record = self.reader.poll(timeout_s=0.5)
                if record is not None:
                    self._run(record, beside)
                elif until_idle and self.reader.has_read_everything():
                    break
                self.health.recovered(self.clock())
            except KafkaRefused:
                raise
            except KafkaUnavailable as cause:
                self.health.failed(str(cause), self.clock())
                self.stop.wait(1.0)

    def _run(self, record: Any, beside: ThreadPoolExecutor) -> None:
        """Run one trigger until it is done, or known to be one that never can be."""
        pause_s = 0.0
        try:
            trigger = Trigger.model_validate_json(record.value or b"null")
        except ValidationError as cause:
            return self._pass_over(record, cause, place_of(record))
        while not self.stop.is_set():
            try:
                began = self.clock()
                lists = self._wait_for(beside.submit(self._traced, record, trigger))
                self.last = LastRun(time.time(), self.clock() - began, lists or ())
                self.n_run += 1
                self.health.progressed(self.clock())
                return self.reader.commit(record)
            except NEVER as cause:
                return self._pass_over(record, cause, _fields(record, trigger))
            except REFUSED:
                raise
            except (*PASSING, OSError) as cause:  # of the data folder: the disk is full, or may not be written
                pause_s = min(LONGEST_PAUSE_S, max(1.0, 2 * pause_s))
                what = f"the data folder cannot be used now: {cause}" if isinstance(cause, OSError) else cause
                told = _name(record), what, pause_s
                log.warning("%s: %s; trying again in about %.0f s", *told, extra=_fields(record, trigger))
                self.n_failed += 1
                self.health.failed(f"{_name(record)}: {what}", self.clock(), is_told=True)
                self.stop.wait(pause_s * random.uniform(0.5, 1.0))

    def _traced(self, record: Any, trigger: Trigger) -> Any:
        """Run it, in the trace that its record names."""
        of = {"topic": record.topic, "week": trigger.closed_week}
        with self.spans.span("weekly run", record.headers, "consumer", **of):
            return self.run(trigger)

    def _pass_over(self, record: Any, cause: Exception, fields: Mapping[str, Any]) -> None:
        log.error("%s is passed over: %s", _name(record), cause, extra=fields)
        self.n_refused += 1
        self.reader.commit(record)

    def _wait_for(self, running: "Future[Any]") -> Any:
        """What the run returns, or raises; the membership is kept while it goes on."""
        while not running.done():
            self.health.turned(self.clock())
            wait([running], timeout=1.0)
            if not running.done():
                self.reader.keep_membership()
        return running.result()


def _fields(record: Any, trigger: Trigger) -> Mapping[str, Any]:
    return {"week": trigger.closed_week, **place_of(record)}


def _name(record: Any) -> str:
    return f"the trigger at offset {record.offset} of {record.topic}"
