"""Who is measured, on how many events, and how each is made ready."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from benchmarks.environments import python_of, versions
from benchmarks.peers import flink, streams
from benchmarks.peers.ours import count, need
from benchmarks.peers.scripted import script
from benchmarks.peers.stage import Stage
from benchmarks.peers.watch import Going

MANY, SOME, FEW, FEWER, FEWEST = 3_000_000, 600_000, 300_000, 100_000, 30_000
MODULES = {"kafka-python": "kafka", "confluent-kafka": "confluent_kafka"}
CONFLUENT = "confluent-kafka==2.16.1"


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table.

    ready makes what it needs and returns the versions that count, or raises Missing; start begins a run.
    """

    name: str
    n_events: int
    ready: Callable[[], dict[str, str]]
    start: Callable[[Stage], AbstractContextManager[Going]]
    arrays: bool = False


def _ours(name: str, client: str, arrays: bool, n_consumers: int = 1) -> Peer:
    def ready() -> dict[str, str]:
        need(client, MODULES[client])
        return {client: version(client), "hitparade": version("hitparade")}

    return Peer(name, MANY, ready, partial(count, client=client, n_consumers=n_consumers), arrays)


def _script(
    name: str, n_events: int, module: str, environment: str, *packages: str, arguments: tuple[str, ...] = ()
) -> Peer:
    """A script in an environment of its own; the first packages are those whose versions are told."""

    def ready() -> dict[str, str]:
        return versions(
            python_of(environment, *packages), *(package.partition("[")[0].partition("==")[0] for package in packages)
        )

    def start(stage: Stage) -> AbstractContextManager[Going]:
        command = [str(python_of(environment, *packages)), "-m", f"benchmarks.peer_scripts.{module}", *arguments]
        return script(stage, command, counts=not name.startswith("raw"))

    return Peer(name, n_events, ready, start)


def _streams(name: str, guarantee: str) -> Peer:
    return Peer(name, MANY, streams.ready, partial(streams.streams, guarantee=guarantee))


def _flink(name: str, backend: str) -> Peer:
    return Peer(name, MANY, flink.ready, partial(flink.flink, backend=backend))


def _raw_kafka_python() -> Peer:
    command = [sys.executable, "-m", "benchmarks.peer_scripts.raw_kafka_python"]
    return Peer(
        "raw-kafka-python",
        MANY,
        lambda: {"kafka-python": version("kafka-python")},
        partial(script, command=command, counts=False),
    )


BYTEWAX = ("bytewax[kafka]==0.21.1", CONFLUENT, "msgspec==0.22.0")

ROSTER = (
    _raw_kafka_python(),
    _script("raw-confluent", MANY, "raw_confluent", "confluent", CONFLUENT),
    _ours("count-kafka-python-single", "kafka-python", arrays=False),
    _ours("count-kafka-python-arrays", "kafka-python", arrays=True),
    _ours("count-kafka-python-arrays-2", "kafka-python", arrays=True, n_consumers=2),
    _ours("count-confluent-single", "confluent-kafka", arrays=False),
    _ours("count-confluent-single-2", "confluent-kafka", arrays=False, n_consumers=2),
    _ours("count-confluent-arrays", "confluent-kafka", arrays=True),
    _ours("count-confluent-arrays-2", "confluent-kafka", arrays=True, n_consumers=2),
    _streams("streams-at-least-once", "at_least_once"),
    _streams("streams-exactly-once", "exactly_once_v2"),
    _flink("flink-heap", "hashmap"),
    _flink("flink-rocksdb", "rocksdb"),
    _script("bytewax-stateful", SOME, "bytewax_stateful", "bytewax", *BYTEWAX),
    _script("bytewax-window", FEWER, "bytewax_window", "bytewax", *BYTEWAX),
    _script("quix", FEW, "quix", "quix", "quixstreams==3.28.1"),
    _script("faust", FEWEST, "faust_agent", "faust", "faust-streaming==0.15.3", "orjson==3.13.0"),
)
