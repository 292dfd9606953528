"""The table of peers: the same counting work on the same topics, by us and by others.

HITPARADE_BENCH_EVENTS bounds the events of each peer, HITPARADE_BENCH_PEERS names those to run (separated by commas),
HITPARADE_BENCH_ROUNDS the rounds (3): for trying out.
"""

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.environments import Missing
from benchmarks.kept import RESULTS
from benchmarks.peers.picture import plot
from benchmarks.peers.roster import ROSTER, Peer
from benchmarks.peers.rows import failed_row, finished, row_of
from benchmarks.peers.stage import Ground, ground
from benchmarks.peers.table import page, software
from benchmarks.peers.watch import Measured, measure
from benchmarks.stand import is_missing

ROUNDS = int(os.environ.get("HITPARADE_BENCH_ROUNDS", "3"))
MOST_EVENTS = int(os.environ.get("HITPARADE_BENCH_EVENTS", "3000000"))
ONLY = os.environ.get("HITPARADE_BENCH_PEERS", "")


def run() -> Iterator[dict[str, Any]]:
    """A row a peer, without those that cannot be had; a page and a picture too. No row without Apache Kafka."""
    if is_missing("peers") or _has_no_java():
        return
    wanted = [peer for peer in ROSTER if not ONLY or peer.name in ONLY.split(",")]
    ready, versions, skipped = _ready(wanted)
    with TemporaryDirectory(prefix="hitparade-bench-", ignore_cleanup_errors=True) as folder:
        rows = finished(_measured(Path(folder), ready))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "peers.md").write_text(page(rows, skipped, versions, ROUNDS))
    plot(rows, RESULTS / "peers.png")
    yield from rows


def _has_no_java() -> bool:
    if shutil.which("java"):
        return False
    print("peers: skipped, and its rows left as they are: Apache Kafka needs java on the PATH", file=sys.stderr)
    return True


def _ready(peers: Sequence[Peer]) -> tuple[list[Peer], dict[str, str], dict[str, str]]:
    """Those that can run, the versions of everything, and why the others cannot."""
    ready, versions, skipped = [], software(), {}
    for peer in peers:
        try:
            versions |= peer.ready()
            ready.append(peer)
        except Missing as cause:
            skipped[peer.name] = str(cause)
            print(f"peers: {peer.name} is skipped: {cause}", file=sys.stderr)
    return ready, versions, skipped


def _measured(folder: Path, peers: Sequence[Peer]) -> list[dict[str, Any]]:
    """Round after round, so that whatever else the machine does hits all alike; who fails once is not tried again."""
    runs: Mapping[str, list[Measured]] = defaultdict(list)
    failures: dict[str, str] = {}
    sizes = {peer.name: min(peer.n_events, MOST_EVENTS) for peer in peers}
    with ground(folder, {(sizes[peer.name], peer.arrays) for peer in peers}) as there:
        for n_round in range(ROUNDS):
            for peer in peers:
                if peer.name not in failures:
                    _run_once(there, peer, sizes[peer.name], n_round, runs[peer.name], failures)
    return [
        failed_row(name, n_events, failures[name]) if name in failures else row_of(name, n_events, runs[name])
        for name, n_events in sizes.items()
    ]


def _run_once(
    there: Ground, peer: Peer, n_events: int, n_round: int, runs: list[Measured], failures: dict[str, str]
) -> None:
    try:
        with peer.start(there.stage(f"{peer.name}-{n_round}", n_events, peer.arrays)) as going:
            found = measure(going, n_events, there.truths[n_events])
    except Exception as cause:  # whatever it is, the figures of the others are worth keeping
        failures[peer.name] = f"{type(cause).__name__}: {cause}"
        print(f"peers: {peer.name} failed: {cause}", file=sys.stderr)
        return
    runs.append(found)
    print(
        f"peers: round {n_round + 1} of {ROUNDS}, {peer.name}: {found.events_per_s:,.0f} events/s, "
        f"{found.cpu_us_per_event:.2f} µs of CPU, {found.rss_mib:,.0f} MiB, exact: {found.exact}",
        file=sys.stderr,
    )
