"""A trace from trigger to playlist: what is told of it, how it goes on, and that nobody is harmed by it."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.triggers import TriggerConsumer
from features.connect import StoreUnavailable
from hitparade import wiring
from hitparade.embedded import Embedded
from hitparade.processes import HOST
from hitparade.settings import Settings
from hitparade.tracing import Traced
from producers.spans import UNTRACED
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.commands import COMMAND
from tests.faults.servers import environment
from tests.servers import ROOT, free_port_pair
from tests.test_imports import modules_of
from tests.test_triggers import Given, Hasty, Record, failing, wire

STEPS = {
    "weekly run": {"wait for the cut", "read", "open model", "build", "score", "list", "evaluate", "publish"},
    "read": {"history", "catalogue"},
    "trigger": {"weekly run"},
}


@dataclass
class Memory:
    """Spans as values, and where they are kept."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = Traced(provider)

    def finished(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.finished() if span.name == name]


@pytest.fixture
def stage(embedded_stack: Embedded, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """Two closed weeks, counted."""
    with staged(embedded_stack.kafka, redis_url, prefix, tmp_path) as stage:
        stage.catalogue("a", "b")
        stage.send(plays(20, {"a": 3, "b": 1}), plays(21, {"a": 2, "b": 2}), plays(22, {"a": 1}))
        stage.count()
        yield stage


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found
    return found


def traceparent(record: Any) -> tuple[str, str]:
    """Trace and span that a record's header names; it says that they are sampled."""
    version, trace_id, span_id, flags = dict(record.headers)["traceparent"].decode().split("-")
    assert (version, int(flags, 16) & TraceFlags.SAMPLED) == ("00", TraceFlags.SAMPLED)
    return trace_id, span_id


def below(record: Any) -> tuple[int, int]:
    """The trace and the parent of what a subscriber does with a record, who has nothing of ours."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    above = TraceContextTextMapPropagator().extract({name: value.decode() for name, value in record.headers})
    with provider.get_tracer("theirs").start_as_current_span("deliver", above):
        pass
    (theirs,) = exporter.get_finished_spans()
    assert theirs.parent
    return context(theirs).trace_id, theirs.parent.span_id


def run_as_a_consumer(stage: Stage, memory: Memory) -> None:
    """The last trigger of the topic, run by the weekly consumer as it stands there."""
    run = stage.weekly_run()
    run = replace(run, spans=memory.spans, snapshot=replace(run.snapshot, spans=memory.spans))
    reader = Given()
    reader.records = stage.records(stage.settings.topics.triggers)[-1:]
    consumer = TriggerConsumer(reader, run.run, Hasty(), spans=memory.spans)
    assert consumer.consume(until_idle=True) == 0
    assert len(reader.committed) == 1


def test_one_trace_goes_from_the_trigger_through_every_step_to_the_playlist(stage: Stage) -> None:
    memory = Memory()
    stage.triggers.spans = memory.spans
    stage.triggers.fire(chart_week(21), "manual")
    run_as_a_consumer(stage, memory)
    by_id = {context(span).span_id: span for span in memory.finished()}
    children: dict[str, set[str]] = {}
    for span in memory.finished():
        if span.parent:
            children.setdefault(by_id[span.parent.span_id].name, set()).add(span.name)
    assert children == STEPS
    (trace_id,) = {context(span).trace_id for span in memory.finished()}
    assert [(span.attributes or {})["hitparade.group"] for span in memory.named("list")] == ["control", "treatment"]
    lists = stage.records(stage.settings.topics.playlists)
    (publish,) = memory.named("publish")
    assert len(lists) == 2
    for record in lists:  # a subscriber goes on below the span that published it
        assert traceparent(record) == (format_trace_id(trace_id), format_span_id(context(publish).span_id))
        assert dict(record.headers)["content-type"] == b"application/json"
    assert below(lists[0]) == (trace_id, context(publish).span_id)
    attributes = dict(memory.named("weekly run")[0].attributes or {})
    assert attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": stage.settings.topics.triggers,
        "hitparade.week": "2023-W21",
    }


def test_a_list_has_the_same_id_and_bytes_whoever_traces(stage: Stage) -> None:
    stage.weekly_run().run(stage.triggers.fire(chart_week(21), "manual"))
    untraced = stage.records(stage.settings.topics.playlists)
    stage.triggers.spans = (memory := Memory()).spans
    stage.triggers.fire(chart_week(21), "manual")
    run_as_a_consumer(stage, memory)
    traced = stage.records(stage.settings.topics.playlists)[len(untraced) :]
    assert [record.value for record in traced] == [record.value for record in untraced]
    assert all("traceparent" in dict(record.headers) for record in traced)
    assert not any("traceparent" in dict(record.headers) for record in untraced)


def test_a_run_that_fails_is_told_of_and_tried_again_in_the_same_trace() -> None:
    memory = Memory()
    parent = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    reader = Given()
    reader.records = [Record(0, wire("2023-W20"), headers=(parent, ("tracestate", b"vendor=7")))]
    run, _ = failing(StoreUnavailable("away"))
    TriggerConsumer(reader, run, Hasty(), spans=memory.spans).consume(until_idle=True)
    first, second = memory.named("weekly run")
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert "away" in (first.status.description or "")
    assert {format_trace_id(context(span).trace_id) for span in (first, second)} == {"0af7651916cd43dd8448eb211c80319c"}
    assert context(second).trace_state["vendor"] == "7"


@pytest.mark.parametrize("value", [b"", None, b"junk", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_trigger_with_a_header_that_is_none_begins_a_trace_of_its_own(value: bytes | None) -> None:
    memory = Memory()
    with memory.spans.span("weekly run", [("traceparent", value), ("other", b"x")], "consumer"):
        pass
    (span,) = memory.finished()
    assert span.parent is None
    assert context(span).is_valid


def test_what_was_not_sampled_upstream_is_not_told_and_goes_on_unsampled() -> None:
    memory = Memory()
    with memory.spans.span("run", [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]):
        ((_, header),) = memory.spans.headers()
    assert memory.finished() == ()
    assert header.startswith(b"00-0af7651916cd43dd8448eb211c80319c-")
    assert header.endswith(b"-00")


def test_without_tracing_nothing_is_told_and_no_header_is_added() -> None:
    with UNTRACED.span("weekly run", [("traceparent", b"x")], "consumer", week="2023-W20"):
        UNTRACED.note(revision=1)
        assert UNTRACED.headers() == ()


def test_without_its_package_it_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hitparade.tracing", None)
    assert wiring.spans(Settings.from_env({})) is UNTRACED
    with pytest.raises(wiring.ClientMissing, match=r"pip install -e '\.\[tracing\]', or unset HITPARADE_TRACING"):
        wiring.spans(Settings.from_env({"HITPARADE_TRACING": "true"}))


# What is sent, by the commands as they are


class Collector(ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP, and keeps what was sent."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), Taking)
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()

    @property
    def spans(self) -> dict[str, list[tuple[str, Any]]]:
        """By name: the service and the span."""
        found: dict[str, list[tuple[str, Any]]] = {}
        for request in self.requests:
            for of_resource in request.resource_spans:
                service = {a.key: a.value.string_value for a in of_resource.resource.attributes}["service.name"]
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        found.setdefault(span.name, []).append((service, span))
        return found


class Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.add(self.path)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def hitparade(stage: Stage, *words: str, **otel: str) -> subprocess.CompletedProcess[str]:
    settings = {name.removeprefix("HITPARADE_"): value for name, value in stage.env.items()}
    env = environment(**settings, TRACING="true", LOG_FORMAT="json") | {f"OTEL_{k}": v for k, v in otel.items()}
    return subprocess.run([*COMMAND, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_commands_send_one_trace_to_where_the_standard_variables_say(stage: Stage) -> None:
    with collecting() as collector:
        where = {"EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{collector.server_port}", "BSP_SCHEDULE_DELAY": "60000"}
        triggered = hitparade(stage, "trigger", "2023-W21", SERVICE_NAME="by-hand", **where)
        weekly = hitparade(stage, "consume", "weekly", "--until-idle", EXPORTER_OTLP_COMPRESSION="gzip", **where)
        assert (triggered.returncode, weekly.returncode) == (0, 0), triggered.stderr + weekly.stderr
        spans = collector.spans
    assert collector.paths == {"/v1/traces"}
    assert set(spans) == {"trigger", *(name for steps in STEPS.values() for name in steps)}
    assert {service for service, _ in spans["trigger"]} == {"by-hand"}
    assert {service for name in STEPS["weekly run"] for service, _ in spans[name]} == {"hitparade"}
    (trace_id,) = {span.trace_id.hex() for found in spans.values() for _, span in found}
    ((_, publish),) = spans["publish"]
    (record, _) = stage.records(stage.settings.topics.playlists)
    assert traceparent(record) == (trace_id, publish.span_id.hex())
    assert f'"trace_id": "{trace_id}"' in weekly.stderr  # of the fall-back: none is trained


def test_a_collector_that_is_away_keeps_no_list_from_being_made(stage: Stage) -> None:
    stage.triggers.fire(chart_week(21), "manual")
    where = {"EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{free_port_pair()}", "EXPORTER_OTLP_TIMEOUT": "1"}
    ended = hitparade(stage, "consume", "weekly", "--until-idle", **where)
    assert ended.returncode == 0, ended.stderr
    assert len(stage.lists("control")) == 1
    assert "Traceback" not in ended.stderr


def test_nothing_of_it_is_imported_unless_it_is_asked_for(stage: Stage, tmp_path: Path) -> None:
    settings = {name.removeprefix("HITPARADE_"): value for name, value in stage.env.items()}
    found = modules_of("consume weekly --until-idle", tmp_path, environment(**settings))
    assert not found & {"hitparade.tracing", "opentelemetry.exporter", "opentelemetry.proto"}  # redis takes the sdk
    traced = environment(**settings, TRACING="true") | {"OTEL_SDK_DISABLED": "true"}
    assert "hitparade.tracing" in modules_of("schedule --once", tmp_path, traced)
