"""The known log: seeded, every event its own, with all that comes from the field among the good."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

FIRST = datetime(2023, 5, 1, tzinfo=UTC)  # 2023-W18 begins
WEEKS = 8
N_TRACKS = 120
TRACKS = [f"track{n:03}" for n in range(N_TRACKS)]


@dataclass(frozen=True)
class Sending:
    """A record to send; the partition is chosen here, so that two logs of one seed are the same."""

    partition: int
    key: bytes | None
    value: bytes | None


def known_log(seed: int, n_events: int, n_partitions: int, first: int = 0) -> Iterator[Sending]:
    """About n_events events in records of one, in arrays, and in what no client should send.

    Of a hundred, about 85 are good, 5 ignored, 4 late, 2 ahead of the clock by years, 4 dead by other causes. Event
    time moves through WEEKS weeks, so that weeks open, close and fall out of the horizon of 6 that the scenarios keep.
    first: the number of the first event, for a log that goes on.
    """
    draw = random.Random(f"{seed}:{first}")
    n = 0
    while n < n_events:
        size = draw.choice((1, 1, 1, 5, 25))
        # The position in the log moves stream time; at its end the last week is open.
        instant = FIRST + timedelta(weeks=WEEKS) * ((first + n) / (first + n_events)) * 0.999
        events = [_event(draw, instant, first + n + m) for m in range(size)]
        n += size
        partition = draw.randrange(n_partitions)
        key = draw.choice((None, b"", b"key", b"\xff\x00", f"user{draw.randrange(40)}".encode()))
        yield Sending(partition, key, events[0] if size == 1 else b"[" + b",".join(e or b"null" for e in events) + b"]")
    for partition in range(n_partitions):
        yield Sending(partition, None, b"[]")
        yield Sending(partition, b"null", None)


def _event(draw: random.Random, instant: datetime, number: int) -> bytes | None:
    kind = draw.random()
    track = TRACKS[min(int(draw.expovariate(6.0) * N_TRACKS), N_TRACKS - 1)]
    event: dict[str, Any] = {
        "session_id": number,
        "timestamp": (instant + timedelta(seconds=draw.randrange(-40_000, 40_000))).isoformat(),
        "user_id": draw.choice((draw.randrange(60), f"u{draw.randrange(60)}")),
        "track_id": track,
        "event_type": draw.choice(("play", "play", "play", "skip", "LIKE")),
    }
    if kind < 0.05:
        event |= {"event_type": draw.choice(("advertisment", "advertisement", "buy_premium")), "track_id": None}
    elif kind < 0.09:
        event["timestamp"] = (instant - timedelta(weeks=draw.choice((8, 20, 2700)))).isoformat()
    elif kind < 0.11:
        event["timestamp"] = "2105-01-01T00:00:00+01:00"
    elif kind < 0.15:
        return draw.choice(_poisons(event))
    return json.dumps(event).encode()


def _poisons(event: dict[str, Any]) -> list[bytes]:
    return [
        b"{",
        b"nonsense",
        b"1e999",
        b"\xff\xfe{}",
        json.dumps(event | {"event_type": None}).encode(),
        json.dumps(event | {"track_id": ""}).encode(),
        json.dumps(event | {"user_id": 1.5}).encode(),
        json.dumps(event | {"timestamp": "noon"}).encode(),
    ]


def catalogue() -> Iterator[tuple[bytes, bytes]]:
    """Every track of the log but the last ten, as (key, value)."""
    for n, track_id in enumerate(TRACKS[:-10]):
        track = {"id": track_id, "name": f"Song {n}", "release_date": "2019-07-05", "energy": n / N_TRACKS}
        yield track_id.encode(), json.dumps(track).encode()
