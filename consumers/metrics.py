"""What a consumer's process tells Prometheus: read from what stands in memory when it is asked for."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # a process has one of these loops, and imports no other for its metrics
    from consumers.health import Health
    from consumers.loop import Consumer
    from consumers.schedule import Triggers
    from consumers.triggers import TriggerConsumer
    from features.fence import Fence
    from producers.playlists import Playlist

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Row = tuple[Sequence[str], float]
"""The labels' values, and the number."""
Standing = tuple[str, int, int, float | None, int | None]
"""Topic, partition, next offset; stream time (Unix) and lag (records), where they are known."""


@dataclass(frozen=True, slots=True)
class Named:
    """A metric as the documentation has it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str

    def of(self, rows: Iterable[Row]) -> Metric:
        """The metric with these rows."""
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        found = family(self.name, self.meaning, labels=self.labels)
        for labels, value in rows:
            found.add_metric(labels, value)
        return found

    def only(self, value: float) -> Metric:
        """The metric without labels."""
        return self.of([((), value)])


LIVE = Named("hitparade_live", "gauge", (), "0 where only a restart can help, else 1, as `/livez`")
READY = Named("hitparade_ready", "gauge", (), "1 while work goes on, 0 while it stands still, as `/readyz`")
PROGRESSED = Named(
    "hitparade_progress_timestamp_seconds", "gauge", (), "Unix time at which something was last counted, run or fired"
)
EVENTS = Named(
    "hitparade_events_total", "counter", ("topic", "outcome", "cause"), "events by how they ended, in this process"
)
OFFSET = Named("hitparade_next_offset", "gauge", ("topic", "partition"), "first offset that is not in Redis yet")
STREAM_TIME = Named(
    "hitparade_stream_timestamp_seconds", "gauge", ("topic", "partition"), "stream time of the partition, as Unix time"
)
LAG = Named(
    "hitparade_lag_records",
    "gauge",
    ("topic", "partition"),
    "records between the next offset and the end of the log, as Kafka last told it",
)
STOPPED = Named(
    "hitparade_stopped_partitions", "gauge", ("topic",), "partitions that are not counted on, as `/readyz` says why"
)
FENCED = Named(
    "hitparade_fence_refusals_total", "counter", ("topic",), "how often Redis has stood elsewhere than was thought"
)
STALLS = Named("hitparade_stalls_total", "counter", ("topic",), "partitions that gave nothing while their logs went on")
ASSIGNED = Named(
    "hitparade_assigned_partitions_total",
    "counter",
    ("topic",),
    "partitions that rebalances have given to this process",
)
ERRORS = Named(
    "hitparade_errors_total",
    "counter",
    ("topic", "what"),
    "how often `redis` or `kafka` has failed this process; it tries again",
)
BATCH_SECONDS = Named(
    "hitparade_batch_seconds",
    "histogram",
    ("topic",),
    "from a batch of one partition to its last part's being on its way to Redis",
)
APPLY_SECONDS = Named("hitparade_apply_seconds", "histogram", ("topic",), "how long Redis takes to apply one part")
TRIGGERS_RUN = Named(
    "hitparade_triggers_total",
    "counter",
    ("outcome",),
    "triggers by how their runs ended: `run`, `refused` for good, `failed` and to be tried again",
)
RUN_ENDED = Named("hitparade_run_timestamp_seconds", "gauge", (), "Unix time at which the last run ended")
RUN_SECONDS = Named("hitparade_run_seconds", "gauge", (), "how long the last run took")
REVISION = Named(
    "hitparade_playlist_revision", "gauge", ("group", "week"), "revision of the group's last list, for this week"
)
FALLBACK = Named(
    "hitparade_playlist_fallback", "gauge", ("group",), "1 where another model than the group's made its last list"
)
MODEL = Named(
    "hitparade_playlist_model_info", "gauge", ("group", "model", "model_version"), "what made the group's last list: 1"
)
FIRED = Named("hitparade_triggers_fired_total", "counter", (), "triggers that this scheduler has fired")

LOOP = (LIVE, READY, PROGRESSED)
COUNTING = (EVENTS, OFFSET, STREAM_TIME, LAG, STOPPED, FENCED, STALLS, ASSIGNED, ERRORS, BATCH_SECONDS, APPLY_SECONDS)
WEEKLY = (TRIGGERS_RUN, RUN_ENDED, RUN_SECONDS, REVISION, FALLBACK, MODEL)
SCHEDULER = (FIRED,)
"""What docs/metrics.md has tables of, beside those of the service."""


@dataclass(frozen=True, slots=True)
class Reading(Collector):
    """Metrics that are made when they are asked for."""

    read: Callable[[], Iterable[Metric]]

    def collect(self) -> Iterable[Metric]:
        """Read them."""
        return self.read()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing is read before it is asked for."""
        return ()


def registry_of(*reads: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """These, and the process' memory, time and files."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for read in reads:
        registry.register(Reading(read))
    return registry


def exposed(registry: CollectorRegistry) -> tuple[int, str, bytes]:
    """What is answered to a scrape."""
    return 200, MEDIA_TYPE, generate_latest(registry)


def of_health(health: "Health", clock: Callable[[], float]) -> Iterator[Metric]:
    """Whether the loop lives, is ready, and when it last got on."""
    state = health.state(clock())
    yield LIVE.only(state.live)
    yield READY.only(state.ready)
    if state.progressed_s_ago is not None:
        yield PROGRESSED.only(time.time() - state.progressed_s_ago)


def counting(consumer: "Consumer") -> CollectorRegistry:
    """The metrics of a counting consumer; its batches and parts are timed from now on."""
    registry = registry_of(lambda: of_health(consumer.health, consumer.clock), lambda: _counted(consumer))
    batch, apply = (
        Histogram(named.name, named.meaning, named.labels, registry=registry).labels(consumer.store.topic)
        for named in (BATCH_SECONDS, APPLY_SECONDS)
    )
    submit, consumer.timing = consumer.writer.submit, batch.time

    def submit_timed(action: Callable[[], None]) -> "Future[None]":
        def applying() -> None:
            with apply.time():
                action()

        return submit(applying)

    consumer.writer.submit = submit_timed
    return registry


def _counted(consumer: "Consumer") -> Iterator[Metric]:
    topic, fences, source = consumer.store.topic, consumer.fences, consumer.source
    yield EVENTS.of(by_outcome(topic, consumer.tallies.copy()))
    yield from standing([_row(topic, p, fence, source.end(p)) for p, fence in sorted(fences.items())])
    for metric, value in (
        (STOPPED, sum(source.holds(p) for p in list(consumer.stopped))),
        (FENCED, consumer.n_fenced),
        (STALLS, consumer.n_stalls),
        (ASSIGNED, source.n_assigned),
    ):
        yield metric.of([((topic,), value)])
    yield ERRORS.of(((topic, what), consumer.errors[what]) for what in ("kafka", "redis"))


def by_outcome(topic: str, tallies: Mapping[str, int]) -> Iterator[Row]:
    """Rows of EVENTS: those of an outcome that has causes stand under these alone, so that the sum is right.

    >>> list(by_outcome("t", {"counted": 5, "dead": 3, "dead:json": 3}))
    [(('t', 'counted', ''), 5), (('t', 'dead', 'json'), 3)]
    """
    told = {name.partition(":")[0] for name in tallies if ":" in name}
    for name, n in sorted(tallies.items()):
        outcome, _, cause = name.partition(":")
        if cause or outcome not in told:
            yield (topic, outcome, cause), n


def _row(topic: str, partition: int, fence: "Fence", end: int | None) -> Standing:
    moment = fence.stream_time.timestamp() if fence.stream_time else None
    return topic, partition, fence.next_offset, moment, None if end is None else max(0, end - fence.next_offset)


def standing(rows: Sequence[Standing]) -> Iterator[Metric]:
    """Where partitions stand."""
    yield OFFSET.of(((topic, str(p)), offset) for topic, p, offset, _, _ in rows)
    yield STREAM_TIME.of(((topic, str(p)), moment) for topic, p, _, moment, _ in rows if moment is not None)
    yield LAG.of(((topic, str(p)), lag) for topic, p, _, _, lag in rows if lag is not None)


def weekly(consumer: "TriggerConsumer") -> CollectorRegistry:
    """The metrics of the weekly consumer."""
    return registry_of(lambda: of_health(consumer.health, consumer.clock), lambda: _run(consumer))


def _run(consumer: "TriggerConsumer") -> Iterator[Metric]:
    outcomes = {"run": consumer.n_run, "refused": consumer.n_refused, "failed": consumer.n_failed}
    yield TRIGGERS_RUN.of(((outcome,), n) for outcome, n in outcomes.items())
    if last := consumer.last:
        yield RUN_ENDED.only(last.ended)
        yield RUN_SECONDS.only(last.seconds)
        yield from of_lists(last.lists)


def of_lists(lists: "Sequence[Playlist]") -> Iterator[Metric]:
    """What the last list of each group is, and who made it."""
    yield REVISION.of(((made.group, made.week), made.revision) for made in lists)
    yield FALLBACK.of(((made.group,), made.fallback is not None) for made in lists)
    yield MODEL.of(((made.group, made.model, made.model_version), 1) for made in lists)


def scheduler(triggers: "Triggers") -> CollectorRegistry:
    """The metrics of the scheduler."""
    return registry_of(lambda: of_health(triggers.health, triggers.clock), lambda: [FIRED.only(triggers.n_fired)])
