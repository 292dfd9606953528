"""Kafka Streams: compiled here with the jars beside Apache Kafka, two threads, a RocksDB store with its changelog.

Chosen to be fast: one row a track with the counters of its weeks, under the record's own bytes as key, so that nothing
is repartitioned; a cache that holds them all (128 MiB; with Kafka's 10 MiB most events reach RocksDB); a heap of 1 GiB.
The commit interval is the default of each guarantee: 30 s at least once, 100 ms exactly once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from benchmarks.peers.java import JAVA, compiled, jar_version
from benchmarks.peers.scripted import script
from benchmarks.peers.stage import Stage
from benchmarks.peers.watch import Going
from tests.servers import KAFKA

PROGRAM = "CountStreams"


@cache
def class_path() -> str:
    """Compile the program.

    Raises:
        Missing: Kafka Streams or a compiler is not here, or they do not fit.
    """
    jar_version(KAFKA / "streams", "kafka-streams")
    return compiled(PROGRAM, f"{KAFKA}/libs/*:{KAFKA}/streams/*")


def ready() -> dict[str, str]:
    """The version of Kafka Streams, once the program is compiled."""
    class_path()
    return {"kafka-streams": jar_version(KAFKA / "streams", "kafka-streams")}


@contextmanager
def streams(stage: Stage, guarantee: str) -> Iterator[Going]:
    """Run it with a processing guarantee of Kafka Streams."""
    command = [*JAVA, "-Xmx1g", "-cp", class_path(), PROGRAM, guarantee, str(stage.folder / "state")]
    with script(stage, command) as going:
        yield going
