"""What a peer costs, watched from outside in the same way for all.

A run is looked at every 50 ms. The clock starts at the first look that finds a tenth of the events counted (starting,
joining the group and warming up are over) and stops at the first look that finds eight tenths of them; events a second
and processor time are of what was counted between the two looks. A peer has read more than it has counted, we most of
all: it stops before the end, so that this is as much at the one look as at the other. Counted means: in the peer's own
state. That is the friendliest reading for the others: ours are in Redis by then, theirs may still wait to be committed.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from benchmarks.peers.truth import Counts
from hitparade.processes import last_lines

LOOK_EVERY_S = 0.05
WARM, ENOUGH = 0.1, 0.8
PATIENCE_S = 240.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A peer ended, hung or stumbled before it had counted everything; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Going:
    """A peer that has been started: its processes, their logs, and how to ask it.

    store is the process beside them that holds the state, where there is one: its processor time is the peer's too,
    its memory is told apart. counts waits until the peer hands its counters out; None where it counts nothing.
    """

    processes: Sequence[Popen[bytes]]
    logs: Sequence[Path]
    counted: Callable[[], int]
    counts: Callable[[], Counts | None]
    store: Popen[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one peer; store_us_per_event is the share of the processor time that its store took."""

    events_per_s: float
    cpu_us_per_event: float
    rss_mib: float
    store_us_per_event: float | None
    store_mib: float | None
    exact: bool | None


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    counted: int
    cpu_s: float
    store_cpu_s: float


def measure(going: Going, n_events: int, expected: Counts) -> Measured:
    """Watch a peer until it has counted everything; then compare its counters with the truth.

    Raises:
        Failed: it did not come to the end.
    """
    first = _look_until(going, max(1, round(n_events * WARM)))
    last = _look_until(going, round(n_events * ENOUGH))
    n, end = last.counted - first.counted, _look_until(going, n_events).counted
    if end > n_events or n <= 0:
        raise Failed(
            f"{first.counted:,} events counted at the first look, {last.counted:,} at the last, {end:,} of "
            f"{n_events:,} in the end"
        )
    cpu_s, store_cpu_s = last.cpu_s - first.cpu_s, last.store_cpu_s - first.store_cpu_s
    rss_mib = sum(peak_mib(process.pid) for process in going.processes)
    store_mib = peak_mib(going.store.pid) if going.store else None
    found = going.counts()
    return Measured(
        n / (last.at_s - first.at_s),
        (cpu_s + store_cpu_s) / n * 1e6,
        rss_mib,
        store_cpu_s / n * 1e6 if going.store else None,
        store_mib,
        None if found is None else found == expected,
    )


def _look_until(going: Going, n_events: int) -> _Look:
    deadline = time.monotonic() + PATIENCE_S
    while (counted := going.counted()) < n_events:
        for process, log in zip(going.processes, going.logs, strict=True):
            if process.poll() is not None:
                raise Failed(f"it ended with exit code {process.returncode} at {counted:,} events:\n{last_lines(log)}")
        if time.monotonic() > deadline:
            raise Failed(f"it hung at {counted:,} of {n_events:,} events for {PATIENCE_S:.0f} s")
        time.sleep(LOOK_EVERY_S)
    store_cpu_s = cpu_s(going.store.pid) if going.store else 0.0
    return _Look(time.perf_counter(), counted, sum(cpu_s(process.pid) for process in going.processes), store_cpu_s)


def cpu_s(pid: int) -> float:
    """The processor time of a process and of its children that have ended: Redis rewrites its file in one."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def peak_mib(pid: int) -> float:
    """The highest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
