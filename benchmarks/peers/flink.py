"""Flink SQL: compiled here with the jars of two packages, two slots in one process, exactly once by checkpoints.

Its own package has no connector for Kafka, and the other one redistributes it. Chosen to be fast: the plainest query,
no mini-batches (which cost a tenth here), objects used again, a checkpoint in 10 s, and a heap of 1.5 GiB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from benchmarks.environments import python_of, versions
from benchmarks.peers.java import JAVA, compiled
from benchmarks.peers.scripted import script
from benchmarks.peers.stage import Stage
from benchmarks.peers.watch import Going

PROGRAM = "CountFlink"
PACKAGES = ("apache-flink-libraries==2.3.0", "shigawire-apache-flink-libraries==2.0.0.post1")
JARS = (
    "flink-*-2.3.0.jar",
    "log4j-*.jar",
    "flink-connector-kafka.jar",
    "flink-connector-base.jar",
    "kafka-clients.jar",
)
OPEN = ("lang", "lang.reflect", "net", "nio", "time", "util", "util.concurrent")
"""What of java.base Flink's serializers look into."""


@cache
def class_path() -> str:
    """Compile the program.

    Raises:
        Missing: the packages or a compiler are not to be had, or they do not fit.
    """
    (jars,) = python_of("flink", *PACKAGES).parent.parent.glob("lib/python*/site-packages/pyflink/lib")
    return compiled(PROGRAM, ":".join([str(jar) for pattern in JARS for jar in sorted(jars.glob(pattern))]))


def ready() -> dict[str, str]:
    """The versions of Flink and of its connector's package, once the program is compiled."""
    class_path()
    return versions(python_of("flink", *PACKAGES), *(package.partition("==")[0] for package in PACKAGES))


@contextmanager
def flink(stage: Stage, backend: str) -> Iterator[Going]:
    """Run it with a state backend of Flink's."""
    opened = [part for name in OPEN for part in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")]
    command = [*JAVA, "-Xmx1500m", *opened, "-cp", class_path(), PROGRAM, backend, str(stage.folder / "state")]
    with script(stage, command) as going:
        yield going
