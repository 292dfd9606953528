"""What every run stands on: one broker with the logs written, and a folder and a name of the run's own."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.log import N_PARTITIONS, send_file, values, write_files
from benchmarks.peers.truth import Counts, truth
from benchmarks.peers.watch import Failed
from consumers.kafka import end_offsets
from features.topics import Topics
from hitparade.processes import leash
from producers.topics import ensure_topics, topic_specs
from tests.servers import apache_kafka

# Whoever joins a group first waits for the others: two consumers then start together, as with Kafka's own default.
BROKER = {"group.initial.rebalance.delay.ms": "1500", "log.retention.check.interval.ms": "3600000"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a run happens; group is a leash's process group, name and folder are the run's own."""

    kafka: str
    group: int
    folder: Path
    name: str
    n_events: int
    arrays: bool

    @property
    def prefix(self) -> str:
        """The topic prefix of the log that is read."""
        return prefix(self.n_events, self.arrays)

    @property
    def topic(self) -> str:
        """The topic that is read."""
        return Topics(self.prefix).sessions


def prefix(n_events: int, arrays: bool) -> str:
    """The topic prefix of a log."""
    return f"bench-{n_events}-{'arrays' if arrays else 'single'}"


@dataclass(frozen=True, slots=True)
class Ground:
    """The broker, and what is true of the logs by their number of events."""

    kafka: str
    group: int
    folder: Path
    truths: dict[int, Counts] = field(default_factory=dict)

    def write(self, n_events: int, forms: Collection[bool]) -> None:
        """Make a log of so many events, with arrays (True), without (False) or both, and count it."""
        print(f"peers: writing {n_events:,} events", file=sys.stderr)
        files = write_files(self.folder, n_events)
        self.truths[n_events] = truth(values(files.single))
        for arrays in forms:
            path, topics = files.arrays if arrays else files.single, Topics(prefix(n_events, arrays))
            ensure_topics({"bootstrap_servers": [self.kafka]}, topic_specs(topics, N_PARTITIONS, 12))
            send_file(self.kafka, topics.sessions, path)
            self._check_written(topics.sessions, sum(1 for _ in values(path)))
        files.single.unlink()
        files.arrays.unlink()

    def _check_written(self, topic: str, n_records: int) -> None:
        ends = end_offsets({"bootstrap_servers": [self.kafka]}, {topic: range(N_PARTITIONS)})[topic]
        if sum(ends.values()) != n_records:
            raise Failed(f"{topic}: expected {n_records:,} records written, found {sum(ends.values()):,}")

    def stage(self, name: str, n_events: int, arrays: bool) -> Stage:
        """A place for one run."""
        folder = self.folder / name
        folder.mkdir()
        return Stage(self.kafka, self.group, folder, name, n_events, arrays)


@contextmanager
def ground(folder: Path, logs: Collection[tuple[int, bool]]) -> Iterator[Ground]:
    """A broker with these logs: of how many events, and whether in arrays."""
    with apache_kafka(folder / "kafka", 0, **BROKER) as kafka, leash() as group:
        found = Ground(kafka, group, folder)
        for n_events in sorted({n_events for n_events, _ in logs}):
            found.write(n_events, {arrays for n, arrays in logs if n == n_events})
        yield found
