"""How long an event takes from its producer's acknowledgement to its counter in Redis, at steady rates.

python -m benchmarks.latency KAFKA TOPIC RATE ARRAY OUT.npy sends at the pace of the clock, and writes what was
acknowledged when. It never waits for an answer, so a consumer that stands still is not spared the events of that time.
An event is counted when the fence has passed its offset: the script that moves it adds the counts in the same step.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.kept import RESULTS
from benchmarks.logs import Log, records
from benchmarks.stand import Counting, Stand, is_missing, read_fences, stand, wait_for
from features.topics import Topics
from hitparade.settings import Settings
from producers.kafka import build_producer

N_PARTITIONS = 6
SECONDS, WARM_S = 25.0, 5.0
LOOK_EVERY_S = 0.002
LINGER_MS = 5
LEAST_PACE = 0.98
TARGETS = {"10k": 250.0}


@dataclass(frozen=True, slots=True)
class Pace:
    """Events a second, and how many travel in a record."""

    name: str
    rate: int
    array: int


PACES = (Pace("1k", 1_000, 1), Pace("10k", 10_000, 1), Pace("50k", 50_000, 25), Pace("50k-single", 50_000, 1))


def clients() -> list[str]:
    """Kafka clients that a consumer can use here, the default first."""
    known = get_args(Settings.model_fields["kafka_client"].annotation)
    return [client for client in known if find_spec(client.replace("-", "_").removesuffix("_python"))]


def run() -> Iterator[dict[str, Any]]:
    """A row a pace and client, and a picture of them all; none where there is no broker."""
    if is_missing("latency"):
        return
    found: dict[str, np.ndarray] = {}
    default = clients()[0]
    with stand() as servers:
        for client in clients():
            for pace in PACES:
                name = pace.name if client == default else f"{pace.name}-{client}"
                found[name], row = _measured(servers, name, pace, client)
                yield row
    draw(found, RESULTS / "latency.png")


def _measured(servers: Stand, name: str, pace: Pace, client: str) -> tuple[np.ndarray, dict[str, Any]]:
    prefix = f"latency-{name}"
    servers.topics(prefix, N_PARTITIONS)
    out = servers.folder / f"{name}.npy"
    with servers.consumer(prefix, KAFKA_CLIENT=client) as consumer:
        wait_for(lambda: servers.is_shared(prefix, 1), "a consumer to have its partitions", consumer, every_s=0.1)
        seen = _watched(servers, prefix, pace, out, consumer)
    acks = np.load(out)
    sent_s = float(np.ptp(acks["at"]))
    acks = acks[acks["at"] >= acks["at"].min() + WARM_S]
    ms = latencies_ms(acks, seen)
    p50, p99 = (round(float(np.percentile(ms, q)), 1) for q in (50, 99))
    achieved = pace.rate * SECONDS / max(sent_s, SECONDS)
    target = TARGETS.get(name)
    return ms, {
        "name": f"latency:{name}",
        "target": f"p99 below {target:g} ms" if target else None,
        "holds": p99 < target if target else None,
        "p50_ms": p50,
        "p99_ms": p99,
        "most_ms": round(float(ms.max()), 1),
        "client": client,
        "events_per_record": pace.array,
        "events_per_s": round(achieved),
        "kept_pace": achieved >= LEAST_PACE * pace.rate,  # else the producer, not the consumer, is what was measured
    }


def _watched(servers: Stand, prefix: str, pace: Pace, out: Path, consumer: Counting) -> list[tuple[float, list[int]]]:
    """Send, and write down whenever a fence has moved, until everything is counted."""
    topic, n_records = Topics(prefix).sessions, round(pace.rate * SECONDS) // pace.array
    seen: list[tuple[float, list[int]]] = [(0.0, [0] * N_PARTITIONS)]

    def all_counted() -> bool:
        fences = [fence or 0 for fence in read_fences(servers.redis, topic, N_PARTITIONS)]
        if fences != seen[-1][1]:
            seen.append((time.monotonic(), fences))
        return sum(fences) >= n_records

    command = [
        sys.executable,
        "-m",
        "benchmarks.latency",
        servers.kafka,
        topic,
        str(pace.rate),
        str(pace.array),
        str(out),
    ]
    sender = subprocess.Popen(command, process_group=servers.group)
    try:
        wait_for(all_counted, f"{n_records} records to be counted", consumer, every_s=LOOK_EVERY_S)
        if code := sender.wait(60):
            raise RuntimeError(f"the sender ended with {code}")
    finally:
        sender.kill()
    return seen


def latencies_ms(acks: np.ndarray, seen: list[tuple[float, list[int]]]) -> np.ndarray:
    """Of each record, how long after its acknowledgement the fence was first seen beyond it; never below 0."""
    times = np.array([at for at, _ in seen])
    fences = np.array([offsets for _, offsets in seen])
    found = []
    for partition in range(fences.shape[1]):
        own = acks[acks["partition"] == partition]
        counted = times[np.searchsorted(fences[:, partition], own["offset"], side="right")]
        found.append(np.maximum(counted - own["at"], 0))
    return np.concatenate(found) * 1000


def draw(found: Mapping[str, np.ndarray], path: Path) -> None:
    """The share of events that were counted within a time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, ms in found.items():
        shares = np.linspace(0, 1, 500)
        axes.plot(np.quantile(ms, shares), shares, label=f"{name}: p99 {np.percentile(ms, 99):.0f} ms")
    axes.set(
        xlabel="ms from the acknowledgement to the counter", ylabel="share of events", xscale="log", xlim=(1, None)
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small", title="events/s")
    figure.savefig(path, format="png", dpi=120)


def send(kafka: str, topic: str, rate: int, array: int, out: Path) -> None:
    """Send for SECONDS; a record is due at a time that does not depend on the one before."""
    acks: list[tuple[int, int, float]] = []

    def acknowledged(metadata: Any) -> None:
        acks.append((metadata.partition, metadata.offset, time.monotonic()))

    n_records = round(rate * SECONDS) // array
    ready = list(records(Log(min(n_records, 20_000) * array, n_partitions=N_PARTITIONS, array=array)))
    values = cycle(ready)
    producer = build_producer({"bootstrap_servers": kafka}, linger_ms=LINGER_MS)
    producer.partitions_for(topic)
    began, n_sent = time.monotonic(), 0
    while n_sent < n_records:
        n_due = min(n_records, int((time.monotonic() - began) * rate / array) + 1)
        for _ in range(n_due - n_sent):
            partition, value = next(values)
            producer.send(topic, value, partition=partition).add_callback(acknowledged)
        n_sent = n_due
        time.sleep(0.001)
    producer.flush()
    producer.close()
    np.save(out, np.array(acks, dtype=[("partition", "i4"), ("offset", "i8"), ("at", "f8")]))


if __name__ == "__main__":
    kafka_, topic_, rate_, array_, out_ = sys.argv[1:]
    send(kafka_, topic_, int(rate_), int(array_), Path(out_))
