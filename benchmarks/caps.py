"""What a cap on one user's plays and telling listeners apart cost, and what the cap does to a list with bots."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from math import inf
from statistics import fmean
from typing import Any

from redis import Redis

from benchmarks.duplicates import ARRAY, BATCH, N_RECORDS, ROUNDS, TOPIC, Record, empty_store, records, redis
from consumers.recount import Recount
from consumers.sessions import deciding
from consumers.source import Batch
from features.parts import Bucket, Part
from features.rules import Rules
from features.weeks import Calendar, ChartWeek
from models.experiments import load
from models.metrics import K, best, precision_at
from producers.damage import Damage
from producers.simulator import Simulation

WEEK = "2023-W24"
CAP = 10
CAPS = (0, 50, 10, 2)
N_BOTS = 20
LISTENERS = ((10, 5000), (100, 2000), (1000, 500), (10_000, 100), (100_000, 20))
"""Of a track, and how many tracks are tried."""
WAYS: Mapping[str, dict[str, Any]] = {"off": {}, "cap": {"plays_cap": CAP}, "listeners": {"listeners": True}}


def run() -> Iterator[dict[str, Any]]:
    """Bytes a pair and a sketch, errors, processor time without and with, and lists of a week with bots."""
    with redis() as client:
        for n_pairs in (100_000, 1_000_000):
            yield {
                "name": f"caps:memory-{n_pairs}",
                "pairs": n_pairs,
                "bytes_per_pair": bytes_per_pair(client, n_pairs),
            }
        for n_listeners, n_tracks in LISTENERS:
            yield {"name": f"caps:listeners-{n_listeners}", "listeners": n_listeners} | sketches(
                client, n_listeners, n_tracks
            )
        yield from costs(client)
    yield from lists()


def costs(client: Redis) -> Iterator[dict[str, Any]]:
    """What it takes to look a log up, tally and apply it, in turns; Kafka is not part of it."""
    log, least = list(records()), dict.fromkeys(WAYS, inf)
    for _ in range(ROUNDS):
        for name, changes in WAYS.items():
            least[name] = min(least[name], cpu_us_per_event(client, log, **changes))
    for name, found in least.items():
        row = {"name": f"caps:cost-{name}", "events": N_RECORDS * ARRAY, "cpu_us_per_event": round(found, 2)}
        yield row | {"ratio": round(found / least["off"], 1)}


def bytes_per_pair(client: Redis, n_pairs: int) -> float:
    """The memory that Redis takes for so many users and tracks of a week."""
    store, before, chunk = empty_store(client), used(client), 5000
    for at in range(n_pairs // chunk):
        store.apply(0, "id", Part(at, at + 1, None, plays={WEEK: {os.urandom(16): 1 for _ in range(chunk)}}))
    return round((used(client) - before) / n_pairs, 1)


def sketches(client: Redis, n_listeners: int, n_tracks: int) -> dict[str, float]:
    """The memory that Redis takes for tracks of so many listeners each, and how far its estimates are from that."""
    store = empty_store(client)
    ids = [f"{n:022}" for n in range(n_tracks)]
    for at, track_id in enumerate(ids):
        heard = {track_id: {f"{at}:{n}" for n in range(n_listeners)}}
        store.apply(0, "id", Part(at, at + 1, None, buckets=[Bucket(WEEK, ("all",), "f", {}, 1, heard)]))
    n_bytes = (
        sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(match="*:listeners:*")) / n_tracks
    )
    off = [store.listeners_of(0, [WEEK], track_id)[WEEK] / n_listeners - 1 for track_id in ids]
    error = fmean(one**2 for one in off) ** 0.5
    return {"tracks": n_tracks, "bytes_per_track": round(n_bytes), "error": round(error, 4)}


def used(client: Redis) -> float:
    """Bytes."""
    return float(client.info("memory")["used_memory"])


def cpu_us_per_event(client: Redis, log: list[Record], **changes: Any) -> float:
    """Of this process and of Redis, by the very way in which a consumer decides and applies."""
    store, calendar = empty_store(client), Calendar()
    rules = Rules(calendar, load(None, calendar).in_force, topic=TOPIC, **changes)
    decide: Any = deciding(store, rules)
    stream_time, began = None, cpu_s(client)
    for first in range(0, len(log), BATCH):
        batch = log[first : first + BATCH]
        for part in decide(Batch(0, first, first + len(batch), batch), stream_time):
            store.apply(0, "id", part)
            stream_time = part.stream_time
    return 1e6 * (cpu_s(client) - began) / (len(log) * ARRAY)


def cpu_s(client: Redis) -> float:
    """Processor time so far, of this process and of Redis."""
    cpu = client.info("cpu")
    return time.process_time() + float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def lists() -> Iterator[dict[str, Any]]:
    """The most played tracks of a week with bots, under several caps, against what listeners were expected to play."""
    simulation = Simulation(1, 5000, 2000, 7, ChartWeek(date(2025, 1, 6)), damage=Damage(bots=N_BOTS))
    week, log = simulation.start, list(in_arrays(simulation))
    truth = {track_id: round(1000 * rate) for track_id, rate in simulation.rates(week).items()}
    bots = frozenset(map(str, simulation.bots))
    for cap in CAPS:
        rules = Rules(simulation.calendar, simulation.experiment, plays_cap=cap)
        played = Played()
        recount = Recount(rules, 0, lambda track_id: 0, witness=played)
        recount.add(Batch(0, 0, len(log), log))
        ranking = best(played.by_track)
        by_bots = {track_id for user_id, track_id in played.by_pair if user_id in bots}
        n_listeners = sum(n for (user_id, _), n in played.by_pair.items() if user_id not in bots)
        yield {
            "name": f"caps:list-{cap}",
            "cap": cap,
            "bots": N_BOTS,
            "plays": played.by_track.total(),
            "capped": recount.tallies["capped"],
            "listeners_plays": n_listeners,
            "bots_tracks_listed": len(by_bots & {*ranking}),
            "bots_tracks_belong": len(by_bots & {*best(truth)}),
            "precision_at_50": round(precision_at(ranking, truth, K), 2),
        }


class Played:
    """A witness that adds up plays."""

    def __init__(self) -> None:
        self.by_track: Counter[str] = Counter()
        self.by_pair: Counter[tuple[str, str]] = Counter()

    def counted(self, week: Any, event: Any) -> None:
        """A play of a user and a track."""
        if event.kind == 0:
            self.by_track[event.track_id] += 1
            self.by_pair[event.user_id, event.track_id] += 1

    def exposed(self, week: Any, exposure: Any) -> None:
        """Nobody has seen a list."""


def in_arrays(simulation: Simulation) -> Iterator[Record]:
    """The events in the order of their time, in arrays."""
    lines = list(simulation.events())
    for offset, first in enumerate(range(0, len(lines), ARRAY)):
        yield Record(offset, b"[" + b",".join(lines[first : first + ARRAY]) + b"]")
