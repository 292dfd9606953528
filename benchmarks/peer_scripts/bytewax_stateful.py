"""Bytewax: one state a track with stateful_map, the counters of its weeks. Without recovery, which would only cost."""

from collections.abc import Iterator

from bytewax import operators
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from benchmarks.peer_scripts.bytewax_log import Keeping, decode, source
from benchmarks.peer_scripts.task import KINDS, Task, week_of

Weeks = dict[str, list[int]]
_weeks: dict[str, str] = {}


def parse(message) -> tuple[str, tuple[str, int]]:  # type: ignore[no-untyped-def]
    """A record as its track, and the week and kind to count."""
    event = decode(message.value)
    return event.track_id, (week_of(event.timestamp, _weeks), KINDS[event.event_type])


def count(state: Weeks | None, event: tuple[str, int]) -> tuple[Weeks, Weeks]:
    """The state with one event more, which is also what is told."""
    week, kind = event
    state = {} if state is None else state
    counts = state.get(week)
    if counts is None:
        counts = state[week] = [0, 0, 0]
    counts[kind] += 1
    return state, state


def rows(last: dict[str, Weeks]) -> Iterator[tuple[str, str, int, int, int]]:
    """The counters as the task wants them."""
    for track, weeks in last.items():
        for week, (plays, skips, likes) in weeks.items():
            yield week, track, plays, skips, likes


def main() -> None:
    """Run on one worker until the log ends."""
    task = Task.given()
    flow, sink = Dataflow("stateful"), Keeping(task)
    events = operators.map("parse", operators.input("log", flow, source(task)), parse)
    operators.output("counts", operators.stateful_map("count", events, count), sink)
    cli_main(flow)
    task.finish(rows(sink.last))


if __name__ == "__main__":
    main()
