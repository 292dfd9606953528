"""Reading what was set aside: every event once, although its letter may be there twice."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumers.kafka import stream_to_end
from features.duplicates import EPOCH, NEVER, Origin, replay_digest
from producers.kafka import KafkaConfig


@dataclass(frozen=True, slots=True)
class Letter:
    """An event that was set aside: why, when, and where it was first read; origin is None where no header tells.

    Letters of one identity are of one event.
    """

    identity: bytes
    cause: str
    origin: Origin | None
    set_aside_at: datetime
    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, record: Any, source_topic: str) -> "Letter":
        """Read a record of a letter topic; of any record, whoever wrote it."""
        cause = dict(record.headers).get("hitparade-cause") or b"unknown"
        origin = Origin.of(record.headers, source_topic)
        identity = replay_digest(origin or Origin(record.partition, record.offset, -1), record.value, 0)
        at = _instant(record.timestamp)
        return cls(identity, cause.decode(errors="replace"), origin, at, record.key, record.value)


def _instant(timestamp_ms: int) -> datetime:
    try:
        return EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:  # whoever wrote it
        return NEVER


class LetterTopic:
    """The letters of one topic; what is kept of each while reading is 16 bytes and its cause."""

    def __init__(self, kafka: KafkaConfig, name: str, partitions: Sequence[int], source_topic: str) -> None:
        self.kafka = kafka
        self.name = name
        self.partitions = partitions
        self.source_topic = source_topic
        self._causes: dict[bytes, str] = {}

    def read(self) -> Iterator[Letter]:
        """Every event up to the end of now, as letters come; again only where it was set aside for another cause."""
        self._causes.clear()
        for record in stream_to_end(self.kafka, self.name, self.partitions, {}):
            letter = Letter.of(record, self.source_topic)
            if self._causes.get(letter.identity) != letter.cause:
                self._causes[letter.identity] = letter.cause
                yield letter

    def totals(self) -> Counter[str]:
        """How many events have been read, by the cause of the last letter of each."""
        return Counter(self._causes.values())
