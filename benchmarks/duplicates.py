"""What remembering event ids costs: bytes of Redis an id, and how much of the counting speed is left."""

import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from features.duplicates import ids_in
from features.parts import Part
from features.rules import Rules
from features.store import CounterStore
from features.tally import tally
from features.weeks import Calendar
from hitparade.embedded import embedded
from models.experiments import load

N_RECORDS = 8000
BATCH = 400  # records
ARRAY = 25
ROUNDS = 3
HOURS = 24
TOPIC = "bench"


@dataclass(frozen=True)
class Record:
    """A Kafka record, as far as counting looks at it."""

    offset: int
    value: bytes
    timestamp: int = -1
    key: bytes | None = b"k"
    headers: tuple[tuple[str, bytes], ...] = ()


def run() -> Iterator[dict[str, Any]]:
    """Bytes an id in sets of two sizes, and events a second without and with ids, in turns."""
    with redis() as client:
        for n_ids in (100_000, 1_000_000):
            yield {"name": f"duplicates:memory-{n_ids}", "ids": n_ids, "bytes_per_id": bytes_per_id(client, n_ids)}
        log = list(records())
        best = {0: 0.0, HOURS: 0.0}
        for _ in range(ROUNDS):
            for hours in best:
                best[hours] = max(best[hours], events_per_s(client, log, hours))
    for name, hours in (("off", 0), ("on", HOURS)):
        row = {"name": f"duplicates:{name}", "events": N_RECORDS * ARRAY, "events_per_s": round(best[hours])}
        yield row | {"ratio": round(best[hours] / best[0], 2)}


@contextmanager
def redis() -> Iterator[Redis]:
    """The embedded Valkey, with its append-only file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded(Path(folder)) as stack,
        closing(Redis.from_url(stack.redis_url)) as client,
    ):
        client.config_set("lazyfree-lazy-user-flush", "no")  # else what was emptied still counts as used for a while
        yield client


def empty_store(client: Redis) -> CounterStore:
    client.flushall()
    store = CounterStore(client, TOPIC, 16)
    store.init(0, 0, "id", {"slices": "16"})
    return store


def bytes_per_id(client: Redis, n_ids: int) -> float:
    """The memory that Redis takes for so many ids of one generation."""
    store, chunk = empty_store(client), 5000
    before = client.info("memory")["used_memory"]
    for at in range(n_ids // chunk):
        store.apply(0, "id", Part(at, at + 1, None, ids={f"{HOURS}h:1": [os.urandom(16) for _ in range(chunk)]}))
    return round(float(client.info("memory")["used_memory"] - before) / n_ids, 1)


def records() -> Iterator[Record]:
    """Arrays of plays of 5,000 users and 20,000 tracks, one a second, each event with an id of 32 characters."""
    draw, start = random.Random(1), datetime(2023, 6, 12, tzinfo=UTC)
    for offset in range(N_RECORDS):
        events = [
            {
                "session_id": offset,
                "timestamp": (start + timedelta(seconds=offset * ARRAY + n)).isoformat(),
                "user_id": draw.randrange(5000),
                "track_id": f"t{int(draw.paretovariate(0.7)) % 20_000:05}",
                "event_type": "play",
                "event_id": f"{draw.getrandbits(128):032x}",
            }
            for n in range(ARRAY)
        ]
        yield Record(offset, json.dumps(events).encode())


def events_per_s(client: Redis, log: list[Record], hours: int) -> float:
    """How fast the log is decoded, looked up, tallied and applied; Kafka is not part of it."""
    store = empty_store(client)
    calendar = Calendar()
    rules = Rules(calendar, load(None, calendar).in_force, topic=TOPIC, duplicate_hours=hours)
    stream_time, began = None, time.perf_counter()
    for first in range(0, len(log), BATCH):
        batch = log[first : first + BATCH]
        known = store.known_ids(0, first, ids_in(batch, TOPIC, hours))
        for part in tally(batch, first, first + len(batch), stream_time, rules, known=known):
            store.apply(0, "id", part)
            stream_time = part.stream_time
    return len(log) * ARRAY / (time.perf_counter() - began)
