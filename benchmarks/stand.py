"""What the benchmarks measure on: Apache Kafka, Valkey with its append-only file, and consumers as processes."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from tempfile import TemporaryDirectory

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from redis import Redis

from features.topics import Topics
from hitparade.processes import last_lines, leash
from hitparade.settings import Settings
from producers.topics import ensure_topics, topic_specs
from tests.faults.servers import Redis as Valkey
from tests.faults.servers import environment
from tests.servers import KAFKA, apache_kafka

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SETTLE_S = 1.5
PATIENCE_S = 600.0


def is_missing(name: str) -> bool:
    """Whether there is no broker to measure on; says so, and that old rows stay."""
    if (KAFKA / "broker").is_file():
        return False
    print(
        f"{name}: skipped, and its rows left as they are: HITPARADE_TEST_KAFKA must name Apache Kafka's folder",
        file=sys.stderr,
    )
    return True


@dataclass(frozen=True)
class Stand:
    """Where the servers are; `redis` is a connection of the benchmark's own."""

    kafka: str
    redis: Redis
    redis_url: str
    redis_pid: int
    folder: Path
    group: int

    def settings(self, prefix: str, **more: str) -> Settings:
        """Those of a topic prefix, which shares nothing with another."""
        return Settings.from_env(self._environment(prefix, more))

    def _environment(self, prefix: str, more: Mapping[str, str]) -> dict[str, str]:
        return environment(KAFKA_BOOTSTRAP_SERVERS=self.kafka, REDIS_URL=self.redis_url, TOPIC_PREFIX=prefix, **more)

    def topics(self, prefix: str, partitions: int) -> None:
        """Make a prefix's topics."""
        settings = self.settings(prefix)
        ensure_topics(settings.kafka, topic_specs(settings.topics, partitions, settings.weeks_kept))

    @contextmanager
    def consumer(self, prefix: str, *arguments: str, what: str = "sessions", **more: str) -> Iterator["Counting"]:
        """`hitparade consume sessions`, or tracks, as a process; killed at the end, if it still runs."""
        log = self.folder / f"{prefix}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "hitparade", "consume", what, *arguments]
        with log.open("wb") as sink:
            began = time.monotonic()
            process = Popen(
                command,
                stdin=DEVNULL,
                stdout=sink,
                stderr=STDOUT,
                env=self._environment(prefix, more),
                process_group=self.group,
            )
        try:
            yield Counting(process, log, began)
        finally:
            process.kill()
            process.wait()

    def fences(self, prefix: str, partitions: int) -> list[int | None]:
        """The offset that each partition has been counted to; None before its consumer has begun."""
        return read_fences(self.redis, Topics(prefix).sessions, partitions)

    def settled_bytes(self) -> int:
        """What Redis holds, once the buffers of those that have left are gone."""
        time.sleep(SETTLE_S)
        return int(self.redis.info("memory")["used_memory"])

    def log_bytes(self, topic: str) -> int:
        """What the broker has on disk of a topic's records."""
        return sum(
            path.stat().st_size
            for path in (self.folder / "kafka").rglob("*.log")
            if path.parent.name.startswith(f"{topic}-")
        )

    def is_shared(self, prefix: str, n_members: int) -> bool:
        """Whether the group has so many members, each with partitions of its own, and is not changing."""
        group = Topics(prefix).group("sessions")
        try:
            with KafkaAdminClient(bootstrap_servers=self.kafka) as admin:
                found = admin.describe_groups([group])[group]
        except KafkaError:  # it has not met yet
            return False
        if found["group_state"] != "Stable":
            return False
        shares = [member["member_assignment"]["assigned_partitions"] for member in found["members"]]
        return len(shares) == n_members and all(shares)


def read_fences(redis: Redis, topic: str, partitions: int) -> list[int | None]:
    """The offset that each partition has been counted to; every event before it is in the counters."""
    with redis.pipeline(transaction=False) as pipeline:
        for partition in range(partitions):
            pipeline.hget(f"{{hp:{topic}:{partition}}}:fence", "next_offset")
        return [None if found is None else int(found) for found in pipeline.execute()]


@dataclass(frozen=True)
class Counting:
    """A consumer's process, and when it was started (time.monotonic)."""

    process: Popen[bytes]
    log: Path
    began: float

    def cpu_s(self) -> float:
        """The processor time that it has used so far."""
        return cpu_s(self.process.pid)

    def rss_mib(self) -> float:
        """Its resident memory now."""
        return rss_mib(self.process.pid)

    def ended_well(self) -> None:
        """Wait until it has ended by itself."""
        self.process.wait(60)
        self.check()

    def check(self) -> None:
        """Raise where it has ended with an error."""
        if self.process.poll():
            raise RuntimeError(f"a consumer ended with {self.process.returncode}:\n{last_lines(self.log, 20)}")


def cpu_s(pid: int) -> float:
    """The processor time of a process, user and system."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS_PER_S


def rss_mib(pid: int) -> float:
    """The resident memory of a process now."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def stand() -> Iterator[Stand]:
    """Both servers, in a folder that is removed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hitparade-bench-", ignore_cleanup_errors=True)))
        kafka = stack.enter_context(apache_kafka(folder / "kafka"))
        group = stack.enter_context(leash())
        valkey = Valkey(folder / "valkey", group)
        stack.callback(valkey.close)
        valkey.start()
        assert valkey.process is not None
        client = stack.enter_context(closing(Redis.from_url(valkey.url)))
        yield Stand(kafka, client, valkey.url, valkey.process.pid, folder, group)


def wait_for(condition: Callable[[], object], what: str, *consumers: Counting, every_s: float = 0.005) -> float:
    """Look again and again; the time.monotonic at which it was true.

    Raises:
        TimeoutError: it was not, in PATIENCE_S.
        RuntimeError: a consumer has failed meanwhile.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        for consumer in consumers:
            consumer.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(every_s)
    return time.monotonic()
