"""The log that all peers count: the same events as single records, and in arrays of 25."""

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from producers.arrays import partition_of
from tests.servers import KAFKA

N_PARTITIONS = 4
N_TRACKS = 100_000  # drawn alike: every batch has other tracks, which is the hardest for counters per track
N_USERS = 50_000
N_WEEKS = 4
ARRAY = 25
SEED = 20230612
START = np.datetime64("2023-06-12T00:00:00", "us")  # a Monday
SHARE_LATE, MEAN_LATE_S, MOST_LATE_S = 0.02, 12 * 3600, 10 * 24 * 3600
KINDS, SHARES = ("play", "skip", "like"), (0.7, 0.2, 0.1)
CHUNK = 100_000
LETTERS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
ID_LENGTH = 22


class Event(NamedTuple):
    """One line of JSON, of about 134 bytes, and the track that is its key."""

    track_id: str
    line: str


def events(n_events: int, n_tracks: int = N_TRACKS, seed: int = SEED) -> Iterator[Event]:
    """The same events every time: four weeks in near order, one in fifty late by hours or days.

    Tracks and users are drawn alike.
    """
    draw = np.random.default_rng(seed)
    track_ids = ["".join(row) for row in draw.choice(LETTERS, (n_tracks, ID_LENGTH))]
    step_us = N_WEEKS * 7 * 24 * 3600 * 10**6 / n_events
    for first in range(0, n_events, CHUNK):
        n = min(CHUNK, n_events - first)
        times = START + _offsets_us(draw, first, n, step_us).astype("timedelta64[us]")
        texts = np.datetime_as_string(times, unit="us").tolist()
        tracks = draw.integers(n_tracks, size=n).tolist()
        users = draw.integers(1, N_USERS + 1, size=n).tolist()
        sessions = draw.integers(100_000, 1_000_000, size=n).tolist()
        kinds = draw.choice(len(KINDS), size=n, p=SHARES).tolist()
        for time, track, user, session, kind in zip(texts, tracks, users, sessions, kinds, strict=True):
            track_id = track_ids[track]
            yield Event(
                track_id,
                f'{{"session_id":{session},"timestamp":"{time}","user_id":{user},"track_id":"{track_id}",'
                f'"event_type":"{KINDS[kind]}"}}',
            )


def _offsets_us(draw: np.random.Generator, first: int, n: int, step_us: float) -> np.ndarray:
    """Microseconds since the start, of events that a clock gave in turn, and some of which came late."""
    late_s = draw.exponential(MEAN_LATE_S, n).clip(max=MOST_LATE_S) * (draw.random(n) < SHARE_LATE)
    offsets: np.ndarray = ((first + np.arange(n)) * step_us + draw.random(n) * step_us - late_s * 10**6).astype(
        np.int64
    )
    return offsets


def arrays(singles: Iterable[Event], size: int = ARRAY) -> Iterator[Event]:
    """The events in arrays of one partition each, keyed by their first; the last ones may be shorter."""
    partitions: dict[str, int] = {}
    waiting: list[list[Event]] = [[] for _ in range(N_PARTITIONS)]
    for event in singles:
        partition = partitions.get(event.track_id)
        if partition is None:
            partition = partitions[event.track_id] = partition_of(event.track_id.encode(), N_PARTITIONS)
        waiting[partition].append(event)
        if len(waiting[partition]) == size:
            yield _array(waiting[partition])
            waiting[partition] = []
    yield from (_array(some) for some in waiting if some)


def _array(some: list[Event]) -> Event:
    return Event(some[0].track_id, "[" + ",".join(event.line for event in some) + "]")


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The events on disk, a line `key TAB value` each, as Kafka's own producer reads them."""

    single: Path
    arrays: Path


def write_files(folder: Path, n_events: int) -> LogFiles:
    """Both forms of a log of so many events."""
    files = LogFiles(folder / f"{n_events}.single", folder / f"{n_events}.arrays")
    with files.single.open("w") as single, files.arrays.open("w") as many:
        many.writelines(map(_line, arrays(_copied(events(n_events), single))))
    return files


def _copied(found: Iterable[Event], sink: TextIO) -> Iterator[Event]:
    for event in found:
        sink.write(_line(event))
        yield event


def _line(event: Event) -> str:
    return f"{event.track_id}\t{event.line}\n"


def values(path: Path) -> Iterator[str]:
    """The values of a file."""
    with path.open() as source:
        for line in source:
            yield line.rstrip("\n").partition("\t")[2]


def send_file(kafka: str, topic: str, path: Path) -> None:
    """Write a file into a topic with Kafka's own console producer, acknowledged and in order.

    Raises:
        CalledProcessError: it has failed.
    """
    command = [str(KAFKA / "tool"), "kafka-console-producer", "--bootstrap-server", kafka, "--topic", topic]
    command += ["--reader-property", "parse.key=true", "--reader-property", "key.separator=\t"]
    command += ["--batch-size", "262144", "--timeout", "50", "--request-required-acks", "-1"]
    with path.open("rb") as source:
        subprocess.run(command, stdin=source, check=True, capture_output=True)
