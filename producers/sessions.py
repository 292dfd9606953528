"""Session events from lines of JSON into Kafka, in the order of event time."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import takewhile
from pathlib import Path

from features.mapping import Mapping
from producers.arrays import Arrays, Key, Progress, paced, place, read_fields
from producers.files import read_all_lines
from producers.kafka import KafkaConfig, Sender, Sent


def produce_sessions(
    files: Sequence[Path],
    kafka: KafkaConfig,
    topic: str,
    *,
    batch: int = 25,
    key: Key = "track",
    sort: bool = True,
    rate: float | None = None,
    zone: tzinfo = UTC,
    mapping: Mapping | None = None,
    progress: Progress = lambda n: None,
    stop: Callable[[], bool] = lambda: False,
) -> Sent:
    """Send the lines of several files as one stream, until stop() is true; sorting holds all of them in memory.

    A mapping rewrites each line on the way in: what is sent is of the contract.

    Raises:
        SourceError: a file cannot be read.
        KafkaUnreachable, TopicMissing, DeliveryError: see Sender.
    """
    lines: Iterable[bytes] = takewhile(lambda _: not stop(), read_all_lines(files))
    if mapping:
        lines = (event for line in lines for event in mapping.rewrite(line))
    if sort:
        lines = takewhile(lambda _: not stop(), in_event_time(lines, zone))
    return send_sessions(lines, kafka, topic, batch=batch, key=key, rate=rate, progress=progress)


def in_event_time(lines: Iterable[bytes], zone: tzinfo = UTC) -> list[bytes]:
    """All lines, earliest event first, equal ones as they came; one without a readable time stays with the one before.

    A time without a zone is in `zone`.
    """
    kept = list(lines)
    times: list[datetime] = []
    latest = datetime.min.replace(tzinfo=UTC)
    for line in kept:
        latest = event_time(line, zone) or latest
        times.append(latest)
    return [kept[n] for n in sorted(range(len(kept)), key=times.__getitem__)]


def send_sessions(
    lines: Iterable[bytes],
    kafka: KafkaConfig,
    topic: str,
    *,
    batch: int = 25,
    key: Key = "track",
    rate: float | None = None,
    progress: Progress = lambda n: None,
) -> Sent:
    """Send events as they are, in arrays of up to `batch`; progress is told how many events each record took.

    An array holds events of one partition only, so the events of a partition keep their order whatever the batch. What
    is not a JSON object goes alone, because it would spoil an array. `rate` is events a second.

    Raises:
        KafkaUnreachable, TopicMissing, DeliveryError: see Sender.
    """
    with Sender(kafka, topic, "events") as sender:
        arrays = Arrays(sender, batch, progress)
        for line in lines if rate is None else paced(lines, rate, arrays.flush):
            arrays.add(place(line, key, sender.n_partitions))
        arrays.flush()
        return sender.finish()


def event_time(line: bytes, zone: tzinfo = UTC) -> datetime | None:
    """When a line's event happened, in UTC; None where that cannot be read."""
    try:
        time_of = datetime.fromisoformat(read_fields(line)[0].timestamp)
        return (time_of if time_of.tzinfo else time_of.replace(tzinfo=zone)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
