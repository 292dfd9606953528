"""Running commands as people do: in this process, or in one of their own that can be sent signals."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hitparade.__main__ import main
from tests.servers import ROOT

COMMAND = [sys.executable, "-m", "hitparade"]


@dataclass(frozen=True)
class Ended:
    """What a command did: its exit code, and what it wrote."""

    code: object
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """What --json printed; an error where anything else is on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Ended]
"""Runs a command in this process, with the settings of what its first argument has counted."""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run a command here; the settings are those of the environment."""
    capsys.readouterr()
    with handlers_kept():
        try:
            code: object = main(arguments)
        except SystemExit as ended:
            code = ended.code
    wrote = capsys.readouterr()
    assert "Traceback" not in wrote.err
    return Ended(code, wrote.out, wrote.err)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """A command logs and listens to signals in its own way for as long as its process lasts."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, logging.getLogger("kafka"))}
    handlers = root.handlers[:]
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)


def start(*arguments: str, env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own; env comes on top of this process's."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env={**os.environ, **env}, text=True, encoding="utf-8", **{**pipes, **more}
    )
    started.append(process)
    return process


started: list[subprocess.Popen[str]] = []


@pytest.fixture
def nothing_left_running() -> Iterator[None]:
    """Kills what a failed test would leave behind."""
    yield
    while started:
        with started.pop() as process:  # closes its pipes, and waits
            process.kill()


def end(process: subprocess.Popen[str], number: signal.Signals | None = None, timeout_s: float = 60) -> Ended:
    """Send a signal, if one is given, and wait for the end."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=timeout_s)
    assert "Traceback" not in err
    return Ended(exit_code(process.returncode), out, err)


def exit_code(returncode: int) -> int:
    """As shells give it: Python ends by SIGINT itself where a KeyboardInterrupt, caught or not, came out of an exec."""
    return 128 + signal.SIGINT if returncode == -signal.SIGINT else returncode
