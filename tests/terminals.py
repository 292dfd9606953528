"""A command on a terminal of its own, as people have it: what it writes is seen, and keys are pressed."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tests.commands import COMMAND, exit_code, started
from tests.servers import ROOT

CTRL_C = b"\x03"
BAR = "━"
NOT_OURS = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
"""What would speak of the terminal that the tests run on."""


class Terminal:
    """Runs a program on a pseudo-terminal, which is also the terminal whose Ctrl-C it gets."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str], command: Sequence[str] = COMMAND, columns: int = 100
    ) -> None:
        self.seen = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env={**{name: os.environ[name] for name in os.environ.keys() - NOT_OURS}, "TERM": "xterm-256color", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        started.append(self.process)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def read_until(self, text: str, timeout_s: float = 60) -> None:
        """Wait until it has written that."""
        deadline = time.monotonic() + timeout_s
        while text.encode() not in self.seen:
            assert self._read(deadline - time.monotonic()), f"waited in vain for {text!r}: {self.seen.decode()}"

    def end(self, timeout_s: float = 60) -> tuple[int, str]:
        """Its exit code, and all that it wrote, without the echo of Ctrl-C; afterwards nothing of it is left."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline - time.monotonic()):
            pass
        code = exit_code(self.process.wait(max(0.1, deadline - time.monotonic())))
        os.close(self._ours)
        return code, self.seen.decode().replace("\r\n", "\n").replace("^C", "")

    def left(self) -> list[str]:
        """Processes of its session that still run."""
        found = subprocess.run(["pgrep", "-s", str(self.process.pid)], capture_output=True, text=True, check=False)
        return found.stdout.split()

    def _read(self, timeout_s: float) -> bytes:
        """More of what it writes; nothing at its end, or when the time is up."""
        more = b""
        if select.select([self._ours], [], [], max(0, timeout_s))[0]:
            with suppress(OSError):  # the other end is closed
                more = os.read(self._ours, 65536)
        self.seen += more
        return more


def plain(text: str) -> str:
    """Without what colours it and moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]?", "", text)


def words(text: str) -> list[str]:
    """The lines of it that say something, and are no bar."""
    return [line for line in re.split(r"[\r\n]+", plain(text)) if line.strip() and BAR not in line]


def python(code: str) -> list[str]:
    """A command that runs this code."""
    return [sys.executable, "-c", code]
