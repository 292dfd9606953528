"""Events into arrays: where each belongs, and how many travel together."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
from kafka.partitioner import murmur2

from features.events import RawEvent, decode
from producers.kafka import Sender

Key = Literal["track", "user"]
Progress = Callable[[int], None]

MOST_ARRAY_BYTES = 256 * 1024
LONGEST_WAIT_S = 1.0  # of an event in an array that is not full, where events are paced

_decode_json = msgspec.json.Decoder().decode


class Placed(NamedTuple):
    """A line, the key and partition it goes to, and whether it can stand in an array."""

    line: bytes
    key: bytes | None
    partition: int
    fits_array: bool


def place(line: bytes, key: Key, n_partitions: int) -> Placed:
    """Where Kafka's own clients would put a line of this key.

    Without a key it goes by the event's other id, and without either to partition 0: the same lines give the same logs.
    """
    event, fits_array = read_fields(line)
    track, user = _id_bytes(event.track_id), _id_bytes(event.user_id)
    own, other = (track, user) if key == "track" else (user, track)
    decisive = own if own is not None else other
    partition = 0 if decisive is None else partition_of(decisive, n_partitions)
    return Placed(line, own, partition, fits_array)


@lru_cache(maxsize=65536)
def partition_of(key: bytes, n_partitions: int) -> int:
    """The partition of a key as Kafka's clients compute it.

    >>> partition_of(b"4p8QcNkaq2FQj8uGJ7HEDK", 6)
    3
    """
    return int(murmur2(key) & 0x7FFFFFFF) % n_partitions


class Arrays:
    """Events on their way into arrays, one open array a partition."""

    def __init__(self, sender: Sender, batch: int, progress: Progress) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected 1 or more events a record")
        self._sender, self._batch, self._progress = sender, batch, progress
        self._open: list[list[Placed]] = [[] for _ in range(sender.n_partitions)]
        self._sizes = [0] * sender.n_partitions

    def add(self, event: Placed) -> None:
        """Take one event, and send its partition's array when that is full; what does not fit an array goes alone."""
        partition, size = event.partition, len(event.line)
        if not event.fits_array or self._batch == 1:
            self._send(partition)
            self._sender.send(event.line, event.key, partition)
            self._progress(1)
            return
        if self._sizes[partition] + size > MOST_ARRAY_BYTES:
            self._send(partition)
        self._open[partition].append(event)
        self._sizes[partition] += size
        if len(self._open[partition]) == self._batch:
            self._send(partition)

    def flush(self) -> None:
        """Send every open array, full or not."""
        for partition in range(len(self._open)):
            self._send(partition)

    def _send(self, partition: int) -> None:
        """Send the partition's open array with the first key in it."""
        events = self._open[partition]
        if not events:
            return
        key = next((event.key for event in events if event.key is not None), None)
        value = b"[" + b",".join([event.line for event in events]) + b"]"
        self._sender.send(value, key, partition, items=len(events))
        self._progress(len(events))
        self._open[partition], self._sizes[partition] = [], 0


def paced(
    lines: Iterable[bytes],
    rate: float,
    flush: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """The lines at `rate` a second; calls flush at least once a second, or before a longer wait.

    Raises:
        ValueError: the rate is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"rate is {rate:g}; expected more than 0 events a second")
    start = flushed = clock()
    for n, line in enumerate(lines):
        wait = start + n / rate - clock()
        if max(wait, clock() - flushed) >= LONGEST_WAIT_S:
            flush()
            flushed = clock()
        if wait > 0:
            sleep(wait)
        yield line


def read_fields(line: bytes) -> tuple[RawEvent, bool]:
    """The fields of a line as far as they can be read, and whether every JSON reader takes it as an object."""
    try:
        fields = _decode_json(line)
        if isinstance(fields, dict):
            return RawEvent(**{name: fields.get(name) for name in RawEvent.__struct_fields__}), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    first = decode(line)[0]
    return (first if isinstance(first, RawEvent) else RawEvent()), False


def _id_bytes(value: Any) -> bytes | None:
    """An id as the bytes of its text; None where it is none."""
    try:
        return (str(value) if type(value) is int else value).encode() or None
    except (AttributeError, ValueError):
        return None
