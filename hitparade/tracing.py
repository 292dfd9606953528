"""OpenTelemetry: the only file that knows it. The standard OTEL_ variables say where traces go."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from producers.spans import Headers, Kind, Parent

W3C = TraceContextTextMapPropagator()
OPERATIONS = {"producer": "send", "consumer": "process"}


class Traced:
    """Spans of OpenTelemetry."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("hitparade")

    @contextmanager
    def span(self, name: str, parent: Parent = (), kind: Kind = "internal", **attributes: str | int) -> Iterator[None]:
        """A span around a block; what is raised in it is noted there."""
        given = {name: value for name, value in parent or () if name in W3C.fields and value}
        context = (
            W3C.extract({name: value.decode(errors="replace") for name, value in given.items()}) if given else None
        )
        named = _named(attributes)
        if kind in OPERATIONS:
            named |= {"messaging.system": "kafka", "messaging.operation.type": OPERATIONS[kind]}
        with self._tracer.start_as_current_span(name, context, SpanKind[kind.upper()], named):
            yield

    def note(self, **attributes: str | int) -> None:
        """Add to the span that is open."""
        trace.get_current_span().set_attributes(_named(attributes))

    def headers(self) -> Headers:
        """The header traceparent, and tracestate where there is one."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return tuple((name, value.encode()) for name, value in carrier.items())


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    """A topic by the name of the conventions, all else as ours."""
    return {"messaging.destination.name" if n == "topic" else f"hitparade.{n}": v for n, v in attributes.items()}


@cache
def start_tracing() -> Traced:
    """Trace from now on until the process ends, which waits for what has not been sent; logs name their trace."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "hitparade"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logging.setLogRecordFactory(_naming_traces)
    return Traced(provider)


def _naming_traces(*arguments: Any, **fields: Any) -> logging.LogRecord:
    """A line of the log, with the trace in which it was written."""
    record = logging.LogRecord(*arguments, **fields)
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = trace.format_trace_id(context.trace_id)
    return record
