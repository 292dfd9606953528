"""Following a topic from its beginning, in a thread: the service is a subscriber like any other."""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from consumers.kafka import KafkaUnavailable, TopicWatch, end_offsets, follow, place_of
from producers.kafka import KafkaConfig

log = logging.getLogger(__name__)
PAUSE_S = 2.0
SILENT_LOOKS = 10  # what a transaction leaves at the end of a log is no record, and never comes


class Subscription:
    """Hands every record of a topic on, in the order of the log; a topic that was created anew is read from 0."""

    def __init__(self, kafka: KafkaConfig, topic: str, take: Callable[[bytes], None]) -> None:
        self.kafka = kafka
        self.topic = topic
        self.take = take
        self.is_caught_up = threading.Event()
        """set once everything that was there at first has been read"""
        self.trouble = "it is starting"
        """why nothing is read now; empty while something can be"""
        self.last_at: datetime | None = None
        """when the last record that was handed on was sent"""
        self._topic_id = ""
        self._next: dict[int, int] = {}

    def missing(self) -> str:
        """Why not everything that was there at first has been read; empty where it has."""
        if self.is_caught_up.is_set():
            return ""
        return self.trouble or f"{self.topic} is being read"

    def run(self, stop: threading.Event) -> None:
        """Read on until told to stop."""
        while not stop.is_set():
            try:
                self._follow(stop)
            except KafkaUnavailable as cause:
                if self.trouble != str(cause):
                    log.warning("%s; reading %s on when it is back", cause, self.topic, extra={"topic": self.topic})
                self.trouble = str(cause)
                stop.wait(PAUSE_S)
            except Exception as cause:  # a bug, or the client's: those who read what is known already do not suffer
                log.exception("reading %s failed; going on", self.topic, extra={"topic": self.topic})
                self.trouble = f"reading {self.topic} failed: {type(cause).__name__}"
                stop.wait(PAUSE_S)

    def _follow(self, stop: threading.Event) -> None:
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            facts = watch.facts(self.topic)
            if facts.topic_id != self._topic_id:
                self._topic_id, self._next = facts.topic_id, {}
            ends = {} if self.is_caught_up.is_set() else self._ends(facts.partitions)
            n_silent = 0
            with contextlib.closing(follow(self.kafka, self.topic, facts.partitions, self._next)) as records:
                for record in records:
                    if stop.is_set() or watch.facts(self.topic) != facts:
                        return
                    self.trouble = ""
                    if record is not None:
                        self._next[record.partition] = record.offset + 1
                        self._take(record)
                    n_silent = 0 if record else n_silent + 1
                    if n_silent >= SILENT_LOOKS or all(self._next.get(p, 0) >= end for p, end in ends.items()):
                        self.is_caught_up.set()

    def _ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return end_offsets(self.kafka, {self.topic: partitions})[self.topic]

    def _take(self, record: Any) -> None:
        if record.value is not None:
            try:
                self.take(record.value)
                self.last_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            except ValueError as cause:
                told = record.offset, self.topic, _reason(cause)
                log.error("the record at offset %d of %s is passed over: %s", *told, extra=place_of(record))


def _reason(cause: ValueError) -> str:
    """What is wrong, without the record, which may be large."""
    if not isinstance(cause, ValidationError):
        return str(cause)
    (error, *_) = cause.errors(include_url=False, include_input=False, include_context=False)
    return f"{'.'.join(map(str, error['loc']))} {error['msg']}"
