"""The catalogue consumer: tracks and their audio features into Redis."""

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from consumers.beginning import Beginning, Log
from consumers.loop import Consumer
from consumers.source import Batch, Source
from features.parts import CatalogueEntry, Part, SetAside
from features.records import LogRecord
from features.store import LAYOUT, CounterStore
from features.topics import Topics
from features.tracks import Track
from producers.kafka import KafkaConfig
from producers.letters import Letters

MOST_ENTRIES = 2000  # in one atomic step


def read_entry(record: LogRecord) -> CatalogueEntry:
    """The entry of one record; a null value takes the track of its key down.

    Raises:
        ValueError: no such track can be: not JSON, a field is wrong, or there is no id.
    """
    if record.value is None:
        if not record.key:
            raise ValueError("a null value needs the track's id as its key")
        return CatalogueEntry(record.key.decode(), record.timestamp, record.offset, "")
    track = Track.model_validate_json(record.value)
    return CatalogueEntry(track.id, record.timestamp, record.offset, track.model_dump_json())


def read_entries(records: Iterable[LogRecord], start: int, end: int) -> Iterator[Part]:
    """The entries of a span in parts of at most MOST_ENTRIES; a record ends as counted or dead."""
    part = Part(start, start, None)
    for record in records:
        try:
            part.entries.append(read_entry(record))
            part.tallies["counted"] += 1
        except (ValidationError, ValueError, RecursionError) as cause:
            name = "json" if _is_unreadable(cause) else "track"
            part.tallies["dead"] += 1
            part.tallies[f"dead:{name}"] += 1
            part.set_aside.append(SetAside("dead", name, record.offset, 0, record.key, record.value))
        if len(part.entries) >= MOST_ENTRIES and record.offset + 1 < end:
            part.end = record.offset + 1
            yield part
            part = Part(part.end, part.end, None)
    part.end = end
    yield part


def _is_unreadable(cause: Exception) -> bool:
    return not isinstance(cause, ValidationError) or any(error["type"] == "json_invalid" for error in cause.errors())


def track_consumer(source: Source, store: CounterStore, letters: Letters, accept_loss: bool = False) -> Consumer:
    """Wire the catalogue consumer from its open edges."""

    def decide(batch: Batch, *_: object, **__: object) -> Iterable[Part]:
        return read_entries(batch.records, batch.start, batch.end)

    return Consumer(source, store, letters, decide, track_beginning(source, store, accept_loss))


def track_beginning(log: Log, store: CounterStore, accept_loss: bool = False) -> Beginning:
    """What the fences of the catalogue must agree with."""
    return Beginning(log, store, {"layout": LAYOUT, "slices": str(store.slices)}, accept_loss=accept_loss)


def track_letters(kafka: KafkaConfig, topics: Topics) -> Letters:
    """Where catalogue records that cannot be read go."""
    return Letters(kafka, topics.tracks, {"dead": topics.dead_tracks})
