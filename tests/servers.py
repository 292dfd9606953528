"""Servers and files that tests need but do not have everywhere, and waiting for what takes time."""

import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from hitparade.embedded import KAFKA_METADATA
from hitparade.processes import HOST, child, comes_up, last_lines, leash

ROOT = Path(__file__).resolve().parents[1]
KAFKA = Path(os.environ.get("HITPARADE_TEST_KAFKA", ROOT.parent / "shared" / "kafka")).absolute()
DATA = Path(os.environ.get("HITPARADE_TEST_DATA", ROOT.parent / "shared" / "data")).absolute()


def missing(what: str) -> NoReturn:
    """Skip on a laptop, fail in CI, where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def apache_kafka(folder: Path, port: int = 0, **properties: str) -> Iterator[str]:
    """One Apache Kafka broker with its log in the folder, so a second start there is a restart; gives host:port.

    Port 0 is a free one; the controller listens on the next. Properties are those of server.properties; their names
    hold dots, so pass them as **{"log.retention.ms": "2000"}.
    """
    if not (KAFKA / "broker").is_file():
        missing(f"no Apache Kafka in {KAFKA}: name its folder in HITPARADE_TEST_KAFKA")
    if shutil.which("java") is None:
        missing("Apache Kafka needs java 17 or newer, and there is none on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port_pair(), folder / "broker.log"
    overrides = [f"{key}={value}" for key, value in properties.items()]
    command = [str(KAFKA / "broker"), str(folder.absolute()), str(port), *overrides]
    with leash() as group, child(command, log, group) as broker:
        if not comes_up(broker, port, KAFKA_METADATA, [HOST.encode()], patience_s=120):
            pytest.fail(f"Apache Kafka did not come up, exit code {broker.poll()}:\n{last_lines(log, 20)}")
        yield f"{HOST}:{port}"


def free_port_pair() -> int:
    """A free port whose successor is free too: the broker's controller listens there.

    Below the ephemeral ports: of those, a client's connection may take one in the seconds before a broker binds it.
    """
    while True:
        port = 10_000 + 2 * secrets.randbelow(11_000)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind((HOST, port))
            second.bind((HOST, port + 1))
            return port


def wait_until(condition: Callable[[], object], what: str = "the condition", timeout_s: float = 60.0) -> None:
    """Poll until the condition is true; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain for {what}")
        pause.wait(0.02)
