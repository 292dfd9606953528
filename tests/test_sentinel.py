"""A master that dies, and the replica that a real Sentinel puts in its place."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from redis import Redis

from consumers.kafka import end_offsets
from features.connect import StoreUnavailable, connect
from hitparade.embedded import VALKEY, Embedded
from hitparade.processes import HOST, child, comes_up, last_lines, leash
from tests.builders_counting import PARTITIONS, Counted, counted_on, running
from tests.commands import Command
from tests.servers import free_port_pair, wait_until

ACL = ["--user", "ours", "on", ">pass/word", "~*", "&*", "+@all"]


@dataclass(frozen=True)
class Watched:
    """A master, its replica, and the Sentinel that watches them."""

    master: Popen[bytes]
    replica_port: int
    sentinel_port: int

    @property
    def url(self) -> str:
        return f"redis+sentinel://ours:pass%2Fword@{HOST}:{self.sentinel_port}/charts"

    def master_port(self) -> int:
        """Where Sentinel says that the master is."""
        with Redis(HOST, self.sentinel_port) as sentinel:
            _, port = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "charts")
            return int(port)

    def is_in_step(self) -> bool:
        """Sentinel knows the replica, which has everything."""
        with Redis(HOST, self.sentinel_port) as sentinel, Redis(HOST, self.replica_port) as replica:
            ask: Any = sentinel.execute_command
            return (
                bool(ask("SENTINEL REPLICAS", "charts")) and replica.info("replication")["master_link_status"] == "up"
            )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    master, replica, sentinel = (free_port_pair() for _ in range(3))
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind {HOST}\nsentinel monitor charts {HOST} {master} 1\n"
        "sentinel down-after-milliseconds charts 1000\nsentinel failover-timeout charts 5000\n"
    )
    with leash() as group, ExitStack() as stack:

        def start(name: str, port: int, *options: str) -> Popen[bytes]:
            folder = tmp_path / name
            folder.mkdir()
            process = stack.enter_context(child([str(VALKEY.binary()), *options], folder / "log", group))
            assert comes_up(process, port, b"PING\r\n", [b"PONG"], 30), last_lines(folder / "log", 20)
            return process

        died = start("master", master, *VALKEY.options(master, "m"), *ACL, "--repl-diskless-sync-delay", "0")
        start("replica", replica, *VALKEY.options(replica, "r"), *ACL, "--replicaof", HOST, str(master))
        start("sentinel", sentinel, str(config), "--sentinel")
        found = Watched(died, replica, sentinel)
        wait_until(found.is_in_step, "the replica")
        yield found


def test_counting_goes_on_with_the_replica_and_every_counter_is_exact(
    watched: Watched, embedded_stack: Embedded, prefix: str, tmp_path: Path, command: Command
) -> None:
    with closing(connect(watched.url)) as redis:
        log = counted_on(embedded_stack.kafka, redis, watched.url, prefix, tmp_path / "data")
        log.fill(1000)
        with running(log.consumer()) as consumer:
            wait_until(lambda: consumer.tallies["counted"], "the first events")
            watched.master.kill()
            log.fill(1000, first=1000)
            wait_until(lambda: watched.master_port() == watched.replica_port, "another master")
            ends = end_offsets(log.settings.kafka, {log.topic: range(PARTITIONS)})[log.topic]
            wait_until(lambda: fences(log) == ends, "all events")
        assert redis.info("replication")["role"] == "master"
    ended = command(log, "audit")
    assert ended.code == 0, ended.out
    assert "exact: " in ended.out


def fences(log: Counted) -> dict[int, int]:
    """How far each partition is counted; nothing while Sentinel looks whether the new master is well."""
    with suppress(StoreUnavailable):
        return {partition: fence.next_offset for partition, fence in log.store.fences(range(PARTITIONS)).items()}
    return {}
