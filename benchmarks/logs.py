"""Session logs of a wanted shape, written into a topic."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from features.tracks import AUDIO_FEATURES
from features.weeks import Calendar
from hitparade.settings import Settings
from producers.kafka import build_producer

FIRST = Calendar().parse("2023-W01")
START = Calendar().start(FIRST)
N_USERS = 50_000
KINDS = ("play",) * 7 + ("skip",) * 2 + ("like",)
MOST_IN_FLIGHT = 4000  # records
GATE = {"transaction_timeout_ms": 900_000, "max_block_ms": 60_000}  # the broker's longest


@dataclass(frozen=True, slots=True)
class Log:
    """So many events of 134 bytes, in order of time; tracks and users are drawn alike."""

    n_events: int
    n_tracks: int = 100_000
    n_weeks: int = 1
    n_partitions: int = 6
    array: int = 25


def records(log: Log) -> Iterator[tuple[int, bytes]]:
    """Partition and value of each record; partitions take turns."""
    draw, n_records = np.random.default_rng(1), log.n_events // log.array
    step = timedelta(weeks=log.n_weeks) / max(1, n_records)
    tracks = draw.integers(max(1, log.n_tracks // log.n_partitions), size=(n_records, log.array))
    users = draw.integers(N_USERS, size=(n_records, log.array))
    kinds = draw.integers(len(KINDS), size=(n_records, log.array))
    for n in range(n_records):
        partition, second = n % log.n_partitions, (START + n * step).isoformat(timespec="seconds")[:19]
        rows = zip(tracks[n].tolist(), users[n].tolist(), kinds[n].tolist(), strict=True)
        events = [
            f'{{"session_id":{100_000 + n % 900_000},"timestamp":"{second}.{i:06}","user_id":{user},'
            f'"track_id":"track-{track * log.n_partitions + partition:016}","event_type":"{KINDS[kind]}"}}'
            for i, (track, user, kind) in enumerate(rows)
        ]
        yield partition, (events[0] if log.array == 1 else f"[{','.join(events)}]").encode()


def every_track(
    n_tracks: int, users: Sequence[int], n_partitions: int, in_record: int = 4
) -> Iterator[tuple[int, bytes]]:
    """Records in which every track is played, skipped and liked by each of the users, within one week."""
    kinds = sorted(set(KINDS))
    for first in range(0, n_tracks, in_record):
        partition = first // in_record % n_partitions
        events = [
            f'{{"session_id":1,"timestamp":"{START:%Y-%m-%dT%H:%M:%S}","user_id":{user},'
            f'"track_id":"track-{track:016}","event_type":"{kind}"}}'
            for track in range(first, min(first + in_record, n_tracks))
            for user in users
            for kind in kinds
        ]
        yield partition, f"[{','.join(events)}]".encode()


def catalogue_line(n: int) -> bytes:
    """A track with everything that a catalogue may say of it."""
    known: dict[str, Any] = {
        "id": f"track-{n:016}",
        "name": f"The {n}th Song of Many",
        "id_artist": f"artist-{n // 9:015}",
    }
    known |= {
        "duration_ms": 180_000 + n % 90_000,
        "explicit": n % 2,
        "popularity": n % 100,
        "release_date": "2019-07-05",
    }
    return json.dumps(known | {name: round(n % 997 / 997, 3) for name in AUDIO_FEATURES if name not in known}).encode()


@contextmanager
def gate(settings: Settings, values: Iterable[tuple[int, bytes]]) -> Iterator[Any]:
    """All records written in a transaction, which nobody reads before the commit() of what this gives."""
    topic = settings.topics.sessions
    producer = build_producer(settings.kafka, transactional_id=f"{topic}.gate", **GATE)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        futures: deque[Any] = deque()
        for partition, value in values:
            futures.append(producer.send(topic, value, partition=partition))
            while len(futures) > MOST_IN_FLIGHT:
                futures.popleft().get(60)
        while futures:
            futures.popleft().get(60)
        yield producer.commit_transaction
    finally:
        producer.close()
