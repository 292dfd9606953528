"""Kafka Streams: compiled here with the jars beside Apache Kafka, two threads, a RocksDB store with its changelog.

Chosen to be fast: one row a track with the counters of its weeks, under the record's own bytes as key, so that nothing
is repartitioned; a cache that holds them all (128 MiB; with Kafka's 10 MiB most events reach RocksDB); a heap of 1 GiB
and the parallel collector, which took a fifth less processor time than the default one. The commit interval is the
default of each guarantee: 30 s at least once, 100 ms exactly once.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks.environments import PEERS, ROOT, Missing
from benchmarks.peers.scripted import script
from benchmarks.peers.stage import Stage
from benchmarks.peers.watch import Going
from tests.servers import KAFKA

SOURCE = ROOT / "benchmarks" / "peer_scripts" / "CountStreams.java"
CLASSES = PEERS / "streams"
CLASS_PATH = f"{KAFKA}/libs/*:{KAFKA}/streams/*"
JAVA = ["java", "-Xmx1g", "-XX:+UseParallelGC", "-Dlog4j2.level=WARN"]


@cache
def compile_streams() -> str:
    """Compile the program; the version of Kafka Streams.

    Raises:
        Missing: Kafka Streams or a compiler is not here, or they do not fit.
    """
    version = jar_version(KAFKA / "streams", "kafka-streams")
    if shutil.which("javac") is None:
        raise Missing("no javac on the PATH")
    CLASSES.mkdir(parents=True, exist_ok=True)
    command = ["javac", "-d", str(CLASSES), "-cp", CLASS_PATH, str(SOURCE)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise Missing(f"{SOURCE.name} does not compile with {KAFKA}: {answer.stderr.splitlines()[0]}")
    return version


def jar_version(folder: Path, name: str) -> str:
    """The version in the name of a jar.

    Raises:
        Missing: the folder has none of that name.
    """
    for jar in folder.glob(f"{name}-[0-9]*.jar"):
        return jar.stem.removeprefix(f"{name}-")
    raise Missing(f"no {name} in {folder}")


@contextmanager
def streams(stage: Stage, guarantee: str) -> Iterator[Going]:
    """Run it with a processing guarantee of Kafka Streams."""
    state = stage.folder / "state"
    command = [*JAVA, "-cp", f"{CLASSES}:{CLASS_PATH}", SOURCE.stem, guarantee, str(state)]
    with script(stage, command) as going:
        yield going
