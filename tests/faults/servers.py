"""Real servers that can die: Apache Kafka brokers and a Valkey with an append-only file, restarted where they lay."""

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

import pytest
import redis

from features.connect import connect
from hitparade.embedded import KAFKA_METADATA, VALKEY
from hitparade.processes import HOST, comes_up, last_lines
from tests.servers import KAFKA, free_port_pair, wait_until


class Server(ABC):
    """A process in a leash's group that listens on a port of its own, and keeps its data in a folder."""

    stop_signal = signal.SIGTERM
    patience_s = 90.0

    def __init__(self, folder: Path, group: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port_pair()
        self.process: Popen[bytes] | None = None
        self._group = group

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it."""

    @abstractmethod
    def is_up(self, process: Popen[bytes]) -> bool:
        """Wait until it answers; False when it ended first, or was too slow."""

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def launch(self) -> None:
        """Start it, without waiting."""
        with self.log.open("ab") as sink:
            self.process = Popen(
                self.command(), stdin=DEVNULL, stdout=sink, stderr=STDOUT, cwd=self.folder, process_group=self._group
            )

    def await_up(self) -> None:
        process = self._running()
        if not self.is_up(process):
            pytest.fail(
                f"{type(self).__name__} did not come up, exit code {process.poll()}:\n{last_lines(self.log, 20)}"
            )

    def start(self) -> None:
        """Start it, or start it again with the data that it has."""
        self.launch()
        self.await_up()

    def kill(self) -> None:
        """A crash."""
        process = self._running()
        process.kill()
        process.wait()

    def stop(self) -> None:
        """A shutdown in good order."""
        process = self._running()
        process.send_signal(self.stop_signal)
        process.wait(30)

    def freeze(self) -> None:
        """It hangs: connections stay, nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """At the end of a scenario, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
            self.process.kill()
            self.process.wait()

    def _running(self) -> Popen[bytes]:
        assert self.process is not None, "it was never started"
        return self.process


class Broker(Server):
    """One Apache Kafka broker and controller."""

    def __init__(self, folder: Path, group: int, *properties: str) -> None:
        super().__init__(folder, group)
        self.properties = list(properties)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [str(KAFKA / "broker"), str(self.folder), str(self.port), *self.properties]

    def is_up(self, process: Popen[bytes]) -> bool:
        return comes_up(process, self.port, KAFKA_METADATA, [HOST.encode()], self.patience_s)


def three_brokers(folder: Path, group: int) -> list[Broker]:
    """Brokers that elect and replicate among themselves; none is started yet."""
    brokers = [Broker(folder / f"broker{n}", group) for n in (1, 2, 3)]
    voters = ",".join(f"{n}@{HOST}:{broker.port + 1}" for n, broker in enumerate(brokers, 1))
    for n, one in enumerate(brokers, 1):
        one.properties += [
            f"node.id={n}",
            f"controller.quorum.voters={voters}",
            "offsets.topic.replication.factor=3",
            "default.replication.factor=3",
            "min.insync.replicas=2",
        ]
    return brokers


class Redis(Server):
    """A Valkey with an append-only file, which it writes to disk every second."""

    def __init__(self, folder: Path, group: int, *options: str) -> None:
        super().__init__(folder, group)
        self.options = list(options)
        self._token = token_hex(8)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        return [str(VALKEY.binary()), *VALKEY.options(self.port, self._token), *self.options]

    def is_up(self, process: Popen[bytes]) -> bool:
        return comes_up(process, self.port, VALKEY.question, [self._token.encode(), VALKEY.mark], self.patience_s)

    def client(self) -> redis.Redis:
        """A connection of the scenario's own."""
        return redis.Redis(HOST, self.port, socket_timeout=10)


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without its settings, with those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HITPARADE_")}
    return kept | {f"HITPARADE_{name}": value for name, value in settings.items()}


class Node(Redis):
    """One node of a cluster; without another node's slots it serves its own."""

    def command(self) -> Sequence[str]:
        bus = ["--cluster-enabled", "yes", "--cluster-port", str(self.port + 1), "--cluster-node-timeout", "2000"]
        return [*super().command(), *bus, "--cluster-require-full-coverage", "no"]

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER MYID").decode())

    def ask(self, *command: str | int | bytes) -> Any:
        with self.client() as client:
            return client.execute_command(*command)


class Cluster:
    """Three nodes that share the slots, each with an append-only file."""

    N_SLOTS = 16384

    def __init__(self, folder: Path, group: int) -> None:
        self.nodes = [Node(folder / f"node{n}", group) for n in range(3)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{HOST}:{self.nodes[0].port}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        share = self.N_SLOTS // 3 + 1
        for n, node in enumerate(self.nodes):
            node.ask("CLUSTER ADDSLOTSRANGE", n * share, min((n + 1) * share, self.N_SLOTS) - 1)
            node.ask("CLUSTER SET-CONFIG-EPOCH", n + 1)
            node.ask("CLUSTER MEET", HOST, self.nodes[0].port, self.nodes[0].port + 1)
        self.await_whole()

    def await_whole(self) -> None:
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), "the cluster to find itself")

    def _is_whole(self, node: Node) -> bool:
        info = node.ask("CLUSTER INFO")
        return (info["cluster_state"], info["cluster_slots_ok"]) == ("ok", str(self.N_SLOTS))

    def client(self) -> Any:
        return connect(self.url)

    def slot_of(self, key: str) -> int:
        return int(self.nodes[0].ask("CLUSTER KEYSLOT", key))

    def owner(self, slot: int) -> Node:
        """The node that serves a slot, as it says itself."""
        (owner,) = [node for node in self.nodes if slot in self._slots_of(node)]
        return owner

    def _slots_of(self, node: Node) -> set[int]:
        rows = node.ask("CLUSTER SLOTS")
        own = [row for row in rows if row[2][2].decode() == node.id]
        return {slot for first, last, *_ in own for slot in range(first, last + 1)}

    def close(self) -> None:
        for node in self.nodes:
            node.close()
