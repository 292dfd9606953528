"""The weekly consumer's loop: one trigger at a time, beside the poll loop, so that a long run costs no membership."""

import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from consumers.group import GroupReader
from consumers.kafka import KafkaUnavailable
from consumers.snapshot import WrongTopic
from features.connect import StoreUnavailable
from features.history import HistoryError
from features.reader import WeekError
from producers.publisher import NotAcknowledged
from producers.triggers import Trigger

log = logging.getLogger(__name__)
PASSING = (StoreUnavailable, KafkaUnavailable, NotAcknowledged, OSError)
"""An OSError is of the data folder: the disk is full, or may not be written."""
NEVER = (WeekError, WrongTopic, HistoryError)
LONGEST_PAUSE_S = 30.0


@dataclass(slots=True)
class TriggerConsumer:
    """Runs triggers in their order; each is committed once its lists are published, or can never be."""

    reader: GroupReader
    run: Callable[[Trigger], Any]
    stop: threading.Event
    n_refused: int = 0

    def consume(self, until_idle: bool = False) -> int:
        """Go on until told to stop, or until no trigger is left; return 1 if one could never be run, else 0."""
        with ThreadPoolExecutor(1, "weekly-run") as beside:
            while not self.stop.is_set():
                try:
                    record = self.reader.poll(timeout_s=0.5)
                    if record is not None:
                        self._run(record, beside)
                    elif until_idle and self.reader.has_read_everything():
                        break
                except KafkaUnavailable as cause:
                    log.warning("%s; trying again", cause)
                    self.stop.wait(1.0)
        self.reader.close()
        return 1 if self.n_refused else 0

    def _run(self, record: Any, beside: ThreadPoolExecutor) -> None:
        """Run one trigger until it is done, or known to be one that never can be."""
        pause_s = 0.0
        try:
            trigger = Trigger.model_validate_json(record.value or b"null")
        except ValidationError as cause:
            return self._pass_over(record, cause)
        while not self.stop.is_set():
            try:
                self._wait_for(beside.submit(self.run, trigger))
                return self.reader.commit(record)
            except NEVER as cause:
                return self._pass_over(record, cause)
            except PASSING as cause:
                pause_s = min(LONGEST_PAUSE_S, max(1.0, 2 * pause_s))
                what = f"the data folder cannot be used now: {cause}" if isinstance(cause, OSError) else cause
                log.warning("%s: %s; trying again in about %.0f s", _name(record), what, pause_s)
                self.stop.wait(pause_s * random.uniform(0.5, 1.0))

    def _pass_over(self, record: Any, cause: Exception) -> None:
        log.error("%s is passed over: %s", _name(record), cause)
        self.n_refused += 1
        self.reader.commit(record)

    def _wait_for(self, running: "Future[Any]") -> None:
        """Keep the membership while the run goes on; raise what it raised."""
        while not running.done():
            wait([running], timeout=1.0)
            if not running.done():
                self.reader.keep_membership()
        running.result()


def _name(record: Any) -> str:
    return f"the trigger at offset {record.offset} of {record.topic}"
