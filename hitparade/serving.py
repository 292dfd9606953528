"""The command `serve`: the HTTP service over what topics, Redis and the data folder tell."""

import argparse
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from features.reader import CounterReader
from features.weeks import ChartWeek
from hitparade import data_folder, output, wiring
from hitparade.errors import NotInstalled
from hitparade.probing import listen
from hitparade.settings import Settings
from hitparade.signals import stop_on_signals

log = logging.getLogger(__name__)
REDIS_TIMEOUT_S = 2.0  # somebody is waiting
CLOSE_TIMEOUT_S = 2
FETCH_EVERY_S = 60.0
BACKLOG = 1024

try:
    import uvicorn
    from starlette.types import ASGIApp

    from service.app import build
    from service.connections import Connection
    from service.limits import MOST_HEAD_BYTES
    from service.parts import Limits, Memory, Parts
    from service.subscription import Subscription
    from service.tracks import Catalogue, TrackLookup
    from service.watcher import Watcher, nothing_seen
except ModuleNotFoundError as cause:
    raise NotInstalled(f"{cause.name} is not installed: pip install -e '.[service]'") from cause


def serve(settings: Settings, arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    with listen(settings, "http_port", BACKLOG) as listener, running(settings) as app:
        stop_on_signals()  # uvicorn hands the signals on to these when it has ended
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        output.print_done(arguments.json, f"serving on {url}", url=url)
        server_of(app).run(sockets=[listener])
    return 0


def server_of(app: ASGIApp) -> uvicorn.Server:
    """What serves the application, with limits for connections."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a visitor could fill the log with warnings
    return uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            backlog=BACKLOG,
            date_header=True,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            http=Connection,
            lifespan="off",
            log_config=None,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        )
    )


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[ASGIApp]:
    """The application, and the threads that keep what it knows up to date."""
    memory, lookup, stop = Memory(nothing_seen(datetime.now(UTC))), TrackLookup(), threading.Event()
    topics = settings.topics
    lists = Subscription(settings.kafka, topics.playlists, memory.lists.take)
    judged = Subscription(settings.kafka, topics.evaluations, memory.judged.take)
    watcher = Watcher(
        settings.kafka,
        lambda: _counters(settings),
        lambda: _catalogue(settings),
        memory,
        lookup,
        lists.missing,
    )
    parts: list[Callable[[threading.Event], None]] = [lists.run, judged.run, watcher.run]
    if settings.data_url:
        parts.append(partial(_fetch, settings))
    threads = [threading.Thread(target=part, args=(stop,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    try:
        yield build(_parts(settings, memory, lookup))
    finally:
        stop.set()
        for thread in threads:
            thread.join(CLOSE_TIMEOUT_S)


def _fetch(settings: Settings, stop: threading.Event) -> None:
    """Bring what other machines have sent, for as long as the service runs."""
    while not stop.wait(FETCH_EVERY_S):
        try:
            data_folder.ready(settings)
        except OSError as cause:
            log.warning("%s; serving what is here", cause)


def _parts(settings: Settings, memory: Memory, lookup: TrackLookup) -> Parts:
    hosts = (settings.http_hosts or "").split(",")
    return Parts(
        memory,
        settings.calendar,
        wiring.experiments(settings),
        wiring.runs(settings),
        wiring.history(settings),
        wiring.registry(settings),
        wiring.reports(settings),
        lookup,
        Limits(
            settings.http_max_tracks,
            settings.http_max_body_mb * 1024 * 1024,
            settings.http_timeout_s,
            settings.http_rate,
            tuple(host.strip().lower() for host in hosts if host.strip()),
        ),
        settings.http_data,
        settings.api_token.get_secret_value() if settings.api_token else None,
        lambda week: _fire(settings, week),
    )


def _counters(settings: Settings) -> CounterReader:
    partitions = wiring.partitions_of(settings, settings.topics.sessions)
    store = wiring.patient_store(settings, settings.topics.sessions, REDIS_TIMEOUT_S)
    return CounterReader(store, partitions, settings.calendar, settings.weeks_kept)


def _catalogue(settings: Settings) -> Catalogue:
    partitions = wiring.partitions_of(settings, settings.topics.tracks)
    return Catalogue(wiring.patient_store(settings, settings.topics.tracks, REDIS_TIMEOUT_S), partitions)


def _fire(settings: Settings, week: str | None) -> ChartWeek:
    triggers = wiring.triggers(settings)
    with contextlib.closing(triggers.publisher):
        found = triggers.closed(settings.calendar.parse(week) if week else None)[-1]
        triggers.fire(found, "manual")
    return found
