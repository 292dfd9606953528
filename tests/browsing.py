"""The service as a browser sees it: parts with weeks of lists, a server on a free port, Chromium."""

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, Request, sync_playwright

from features.weeks import Calendar
from models.metrics import evaluate
from producers.playlists import Entry, Evaluation, Playlist, Worth, canonical
from producers.simulator import Simulation
from service.app import build
from service.figures import ChartEntry, LiveChart, PartitionFigures, TopicFigures
from service.parts import Parts
from tests.builders_reports import a_report
from tests.servers import missing
from tests.serving import NOW, a_list, parts

N_WEEKS = 13
GROUPS = {"control": "linear", "treatment": "neural"}
Plays = Mapping[str, Counter[str]]
"""By week and track."""


@cache
def simulated() -> tuple[dict[str, str], dict[str, Counter[str]]]:
    """Names by track id, and the plays of each week, of a listening service that always plays the same."""
    simulation = Simulation(N_WEEKS + 1, 150, 600, 7, Calendar().parse("2025-W01"))
    plays: dict[str, Counter[str]] = {week.name: Counter() for week in simulation.chart_weeks()}
    for event, at in ((json.loads(line), at) for at, line in simulation.timed_events()):
        if event["event_type"] == "play":
            plays[Calendar().week_of(at).name][event["track_id"]] += 1
    return {track["id"]: track["name"] for track in simulation.catalogue()}, plays


def forecast(group: str, history: Sequence[Mapping[str, int]]) -> Counter[str]:
    """What a group's model makes of four weeks, oldest first: the last one alone, or the recent ones weighed."""
    weights = (0.0, 0.1, 0.3, 0.6) if group == "control" else (0.0, 0.0, -0.35, 1.35)
    found: Counter[str] = Counter()
    for weight, week in zip(weights, history, strict=True):
        for track_id, n in week.items():
            found[track_id] += round(100 * weight * n)
    return found


def a_real_list(week: str, group: str, **changes: Any) -> Playlist:
    """The list that the group would have got for a week of the simulation."""
    names, plays = simulated()
    history = [plays[of_span.name] for of_span in Calendar().parse(week).before().span(4)]
    scores = forecast(group, history)
    for known in history[1:]:
        for track_id, n in known.items():
            scores[track_id] += 100 * n
    entries = tuple(
        Entry(rank=rank, track_id=i, name=names[i], score=scores[i] / 100, plays=tuple(w[i] for w in history))  # type: ignore[arg-type]
        for rank, i in enumerate(top(scores), 1)
    )
    made_by = {"model": GROUPS[group], "model_version": f"{Calendar().parse(week).before()}-0a1b2c3d"}
    return a_list(week, group, tracks=entries, **{**made_by, **changes})


def an_evaluation(made: Playlist) -> Evaluation:
    """What a list of the simulation was worth once its week had closed."""
    _, plays = simulated()
    history = [plays[of_span.name] for of_span in Calendar().parse(made.week).span(5)]
    now, before = history[-1], history[:-1]
    sums = sum(history[1:], Counter[str]())
    naive = sum(before[1:], Counter[str]()) + before[-1]
    return Evaluation(
        **made.model_dump(include={"week", "group", "experiment", "model", "model_version", "revision"}),
        playlist_id=made.id,
        span_weeks=4,
        n_ranked=50,
        metrics=evaluate([entry.track_id for entry in made.tracks], sums),
        naive=evaluate(top(naive), sums),
        forecast=Worth(metrics=evaluate(top(forecast(made.group, before)), now), naive=evaluate(top(before[-1]), now)),
    )


def top(scores: Counter[str]) -> list[str]:
    """The 50 best."""
    return sorted(scores, key=lambda track_id: (-scores[track_id], track_id))[:50]


def full(folder: Path) -> Parts:
    """Parts after months of service: lists of two groups, evaluations, an open week, figures."""
    names, plays = simulated()
    weeks = list(plays)
    lists = [a_real_list(week, group) for week in weeks[4:] for group in GROUPS]
    found = parts(folder, *lists)
    memory = found.memory
    for made in lists[:-2]:
        memory.judged.take(canonical(an_evaluation(made).model_dump(mode="json")))
    found.reports.keep(a_report())
    most = plays[weeks[-1]].most_common(50)
    memory.live = LiveChart(
        week=weeks[-1],
        at=NOW,
        stream_time=datetime(2025, 4, 3, 18, 22, 9, tzinfo=UTC),
        n_tracks=len(plays[weeks[-1]]),
        tracks=tuple(
            ChartEntry(rank=rank, track_id=i, name=names[i], plays=n, skips=n // 7, likes=n // 5)
            for rank, (i, n) in enumerate(most, 1)
        ),
    )
    run, now = datetime(2025, 3, 31, 1, 0, 42, tzinfo=UTC), datetime(2025, 4, 3, 18, 22, 11, tzinfo=UTC)
    memory.figures = memory.figures.model_copy(
        update={"at": now, "sessions": sessions(), "tracks": tracks(), "last_run": run}
    )
    return found


def sessions(rate: float = 412.5, lag: int = 37, **tallies: int) -> TopicFigures:
    """The figures of the session topic."""
    at = datetime(2025, 4, 3, 18, 22, 9, tzinfo=UTC)
    known = {"counted": 1_126_045, "ignored": 115_659, "late": 214, "dead": 96, "dead:json": 14, "dead:timestamp": 82}
    return TopicFigures(
        topic="hitparade.sessions.v1",
        partitions=tuple(
            PartitionFigures(partition=p, next_offset=15_820 + 733 * p, lag=lag if p == 1 else 0, stream_time=at)
            for p in range(3)
        ),
        tallies={**known, **tallies},
        events_per_s=rate,
    )


def tracks() -> TopicFigures:
    """The figures of the track topic."""
    partitions = tuple(PartitionFigures(partition=p, next_offset=660 + p, lag=0, stream_time=None) for p in range(3))
    return TopicFigures(
        topic="hitparade.tracks.v1", partitions=partitions, tallies={"counted": 1983}, events_per_s=None
    )


@contextmanager
def served(made: Parts, port: int = 0) -> Iterator[str]:
    """The real application over these parts, answering on this machine; port 0 is a free one."""
    config = uvicorn.Config(
        build(made), port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1, http="h11", ws="none"
    )
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    listener.listen()  # who comes before the server has started waits for it
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    path = os.environ.get("HITPARADE_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        missing("no Chromium: install it (apt-get install chromium), or name it in HITPARADE_TEST_CHROMIUM")
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Faults(list[str]):
    """What a page complained of: its console, errors, refused requests, and its policy."""

    def listen(self, page: Page) -> None:
        """Note all of it from now on."""
        page.on("console", lambda said: self.append(f"{said.type}: {said.text}") if said.type != "log" else None)
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("requestfailed", self._failed)
        page.expose_function("violated", lambda what: self.append(what))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => violated(`${e.violatedDirective} ${e.blockedURI}`))"
        )

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what who leaves a page does to its stream
            self.append(f"{request.url}: {request.failure}")
