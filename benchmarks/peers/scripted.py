"""Peers that are a script or a program of their own: given a task, watched through the file of their progress."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from benchmarks.environments import ROOT
from benchmarks.peers.stage import Stage
from benchmarks.peers.truth import Counts, of_rows
from benchmarks.peers.watch import Failed, Going
from hitparade.processes import child, last_lines
from tests.faults.servers import environment

DUMP_PATIENCE_S = 60.0


@contextmanager
def script(stage: Stage, command: Sequence[str], counts: bool = True) -> Iterator[Going]:
    """Run a command with the task as its last arguments; see benchmarks/peer_scripts/task.py."""
    progress, dump, log = stage.folder / "progress", stage.folder / "counts.txt", stage.folder / "peer.log"
    progress.write_bytes(bytes(16))
    task = [stage.kafka, stage.topic, str(stage.n_events), stage.name, str(progress), str(dump)]
    env = environment() | {"PYTHONPATH": str(ROOT)}
    with child([*command, *task], log, stage.group, env=env) as process:

        def counted() -> int:
            return int(struct.unpack_from("<q", progress.read_bytes())[0])

        def dumped() -> Counts | None:
            with progress.open("r+b") as file:
                file.seek(8)
                file.write(b"\1")
            return _read(process, dump, log) if counts else None

        yield Going([process], [log], counted, dumped)


def _read(process: Popen[bytes], dump: Path, log: Path) -> Counts:
    with suppress(TimeoutExpired):
        process.wait(DUMP_PATIENCE_S)
    if not dump.exists():
        raise Failed(f"it gave no counters within {DUMP_PATIENCE_S:.0f} s:\n{last_lines(log)}")
    with dump.open() as source:
        rows = (line.split() for line in source)
        return of_rows((week, track, int(plays), int(skips), int(likes)) for week, track, plays, skips, likes in rows)
