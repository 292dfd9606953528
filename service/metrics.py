"""What the service tells Prometheus: the pipeline's figures, as they were last seen, and the requests to itself."""

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumers.metrics import (
    FALLBACK,
    LAG,
    MODEL,
    OFFSET,
    READY,
    REVISION,
    STREAM_TIME,
    Named,
    Row,
    by_outcome,
    of_lists,
    registry_of,
    standing,
)
from models.kept_reports import KeptReports
from producers.playlists import Evaluation
from service.figures import TopicFigures
from service.parts import Memory

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SHARES = ("precision_at_50", "ndcg_at_50", "captured_plays", "rbo")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REACHABLE = Named("hitparade_reachable", "gauge", ("what",), "whether `kafka` and `redis` answer, as `/readyz`")
STORED = Named(
    "hitparade_stored_events_total",
    "counter",
    ("topic", "outcome", "cause"),
    "events by how they ended, of all consumers, as Redis has it",
)
EVALUATION = Named(
    "hitparade_evaluation_ratio",
    "gauge",
    ("group", "metric", "ranking"),
    "what the lists of the last week that was judged were worth, 1 is best: `list`, and `naive` beside it",
)
RATIO = Named(
    "hitparade_sample_ratio_p_value",
    "gauge",
    ("experiment", "what"),
    "how likely groups as uneven as in the last report are by chance: below 0.001 the experiment is broken",
)
REPORTED = Named(
    "hitparade_report_timestamp_seconds", "gauge", ("experiment",), "Unix time of the experiment's last report"
)
LISTS = Named("hitparade_lists", "gauge", (), "weeks and groups that have a list")
READERS = Named("hitparade_event_readers", "gauge", (), "readers of `/events`")
REQUESTS = Named(
    "hitparade_http_requests_total",
    "counter",
    ("route", "method", "status"),
    "requests that were answered, by the route's template; `none` where there is no such route",
)
REQUEST_SECONDS = Named(
    "hitparade_http_request_seconds", "histogram", ("route",), "from a request's head to the head of its answer"
)
SERVICE = (
    *(READY, REACHABLE, STORED, OFFSET, STREAM_TIME, LAG, LISTS, REVISION, FALLBACK, MODEL),
    *(EVALUATION, RATIO, REPORTED),
    *(READERS, REQUESTS, REQUEST_SECONDS),
)


def registry(memory: Memory, reports: KeptReports) -> CollectorRegistry:
    """What is known without asking anybody."""
    return registry_of(lambda: _read(memory), lambda: _reported(reports))


def _read(memory: Memory) -> Iterator[Metric]:
    figures = memory.figures
    yield READY.only(figures.lists.ok)
    yield REACHABLE.of(((name,), getattr(figures, name).ok) for name in ("kafka", "redis"))
    topics = [found for found in (figures.sessions, figures.tracks) if found]
    yield STORED.of(row for found in topics for row in by_outcome(found.topic, found.tallies))
    yield from standing([row for found in topics for row in _rows(found)])
    yield LISTS.only(sum(len(memory.lists.of_week(week)) for week in memory.lists.weeks()))
    yield from of_lists(memory.lists.latest_of_each_group())
    yield EVALUATION.of(_worth(memory.judged.all()))
    yield READERS.only(memory.n_readers)


def _worth(evaluations: Sequence[Evaluation]) -> Iterator[Row]:
    last = max((evaluation.week for evaluation in evaluations), default=None)
    for found in (evaluation for evaluation in evaluations if evaluation.week == last):
        for ranking, metrics in (("list", found.metrics), ("naive", found.naive)):
            yield from (((found.group, name, ranking), metrics[name]) for name in SHARES if name in metrics)


def _reported(reports: KeptReports) -> Iterator[Metric]:
    kept = reports.read()
    yield REPORTED.of(((report.name,), made) for report, made in kept)
    yield RATIO.of(
        ((report.name, ratio.what), ratio.p_value)
        for report, _ in kept
        for ratio in report.ratios
        if ratio.p_value is not None
    )


def _rows(found: TopicFigures) -> Iterator[tuple[str, int, int, float | None, int | None]]:
    for p in found.partitions:
        moment = p.stream_time.timestamp() if p.stream_time else None
        yield found.topic, p.partition, p.next_offset, moment, p.lag


class Measured:
    """An application whose answers are counted and timed, by route: a path may be anything."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self.requests = Counter(REQUESTS.name, REQUESTS.meaning, REQUESTS.labels, registry=registry)
        self.seconds = Histogram(
            REQUEST_SECONDS.name, REQUEST_SECONDS.meaning, REQUEST_SECONDS.labels, registry=registry, buckets=BUCKETS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and take down how."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, began = scope["method"], time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = _route(scope)
                self.requests.labels(route, method if method in METHODS else "other", str(message["status"])).inc()
                self.seconds.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, sending)


def _route(scope: Scope) -> str:
    """The template of the route that answers, or where a folder of files is."""
    if route := scope.get("route"):
        return str(route.path)
    return str(scope.get("root_path") or "none")
