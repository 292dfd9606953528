"""The catalogue from lines of JSON into Kafka: one record a track, keyed by its id."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from producers.files import read_lines
from producers.kafka import KafkaConfig, Sender, Sent

_decode_json = msgspec.json.Decoder().decode


def produce_tracks(
    file: Path, kafka: KafkaConfig, topic: str, *, progress: Callable[[int], None] = lambda n: None
) -> Sent:
    """Send every line that is a track; the others are counted as refused, and the first is named.

    Raises:
        SourceError: the file cannot be read.
        KafkaUnreachable, TopicMissing, DeliveryError: see Sender.
    """
    lines = ((f"{file} line {number:,}", line) for number, line in read_lines(file))
    return send_tracks(lines, kafka, topic, progress=progress)


def send_tracks(
    lines: Iterable[tuple[str, bytes]],
    kafka: KafkaConfig,
    topic: str,
    *,
    progress: Callable[[int], None] = lambda n: None,
) -> Sent:
    """Send named lines as produce_tracks() does.

    Raises:
        KafkaUnreachable, TopicMissing, DeliveryError: see Sender.
    """
    refusals: list[str] = []
    with Sender(kafka, topic, "tracks") as sender:
        for name, line in lines:
            try:
                sender.send(line, key_of(line))
            except Refused as why:
                refusals.append(f"{name} {why}")
            progress(1)
        sent = sender.finish()
    return replace(sent, refused=len(refusals), first_refusal=refusals[0] if refusals else "")


class Refused(ValueError):
    """A line is no track; the message goes on after the line's name."""


def key_of(line: bytes) -> bytes:
    """The id of a track as the key of its record.

    Raises:
        Refused: not a JSON object, or without an id of text or an integer.
    """
    try:
        track = _decode_json(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise Refused(f"is not JSON: {cause}") from cause
    if not isinstance(track, dict):
        raise Refused(f"is not a track: expected a JSON object, found {type(track).__name__}")
    track_id = track.get("id")
    if type(track_id) is int or (type(track_id) is str and track_id):
        return str(track_id).encode()
    raise Refused(f"has no id: expected text or an integer, found {track_id!r}")
