"""Child processes that cannot outlive this one, and how to tell that a server is up."""

import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

HOST = "127.0.0.1"


@contextmanager
def leash() -> Iterator[int]:
    """A process group that is killed when the context or this process ends, however it ends; gives the group's id.

    A shell in the group waits for the end of a pipe that this process alone holds (a fork without exec would hold it
    too). Unlike Linux's PR_SET_PDEATHSIG this works everywhere, and does not fire when only the thread that forked
    ends. Being a group of its own, it never gets the Ctrl-C of the terminal.
    """
    with Popen(["sh", "-c", "read line; kill -9 0"], stdin=PIPE, process_group=0) as shell:
        yield shell.pid


@contextmanager
def child(
    command: Sequence[str],
    log: Path,
    group: int,
    *,
    env: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    patience_s: float = 10.0,
) -> Iterator[Popen[bytes]]:
    """A process in a leash's group, in the folder of its log; at the end it is told to stop, and killed if it does not.

    Raises:
        OSError: the log cannot be written or the command not be run.
    """
    with log.open("wb") as sink:
        process = Popen(
            command, stdin=DEVNULL, stdout=sink, stderr=STDOUT, cwd=log.parent, env=env, process_group=group
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(patience_s)
        except TimeoutExpired:
            process.kill()
            process.wait()


def comes_up(process: Popen[bytes], port: int, question: bytes, marks: Sequence[bytes], patience_s: float) -> bool:
    """Wait until the process answers the question; False when it ended first or was too slow."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port, question, marks):
            return True
        time.sleep(0.002)
    return False


def _answers(port: int, question: bytes, marks: Sequence[bytes]) -> bool:
    """Whether what listens on the port answers with all the marks within half a second of silence."""
    answer = b""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=0.5) as connection:
        connection.sendall(question)
        while chunk := connection.recv(65536):
            answer += chunk
            if all(mark in answer for mark in marks):
                return True
    return False


def last_lines(log: Path, n_lines: int = 5) -> str:
    """The end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-n_lines:])
