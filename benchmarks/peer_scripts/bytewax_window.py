"""Bytewax: tumbling windows of a week in event time, which wait for late events as long as ours do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax import operators
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.run import cli_main

from benchmarks.peer_scripts.bytewax_log import Event, Keeping, decode, source
from benchmarks.peer_scripts.task import KINDS, Task

WEEK = timedelta(days=7)
FIRST = datetime(2023, 6, 12, tzinfo=UTC)  # a Monday
LATEST = timedelta(weeks=11)


def time_of(event: Event) -> datetime:
    """When it happened."""
    return datetime.fromisoformat(event.timestamp).replace(tzinfo=UTC)


def parse(message) -> tuple[str, Event]:  # type: ignore[no-untyped-def]
    """A record as its track and event."""
    event = decode(message.value)
    return event.track_id, event


def rows(kept: list[Any]) -> Iterator[tuple[str, str, int, int, int]]:
    """The counters as the task wants them."""
    for track, (window, (plays, skips, likes)) in kept:
        year, week, _ = (FIRST + window * WEEK).isocalendar()
        yield f"{year}-W{week:02}", track, plays, skips, likes


def main() -> None:
    """Run on one worker until the log ends, when every window closes."""
    task = Task.given()

    def fold(counts: list[int], event: Event) -> list[int]:
        counts[KINDS[event.event_type]] += 1
        task.add(1)
        return counts

    def merge(counts: list[int], more: list[int]) -> list[int]:
        return [a + b for a, b in zip(counts, more, strict=True)]

    flow, sink = Dataflow("window"), Keeping(None)
    events = operators.map("parse", operators.input("log", flow, source(task)), parse)
    clock, windower = EventClock(time_of, LATEST), TumblingWindower(WEEK, FIRST)
    # Unordered: counting needs no order within a window, and ordering would hold back every event for weeks.
    weeks = fold_window("count", events, clock, windower, lambda: [0, 0, 0], fold, merge, ordered=False)
    operators.output("counts", weeks.down, sink)
    cli_main(flow)
    task.finish(rows(sink.kept))


if __name__ == "__main__":
    main()
