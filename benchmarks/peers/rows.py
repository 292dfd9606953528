"""From runs to rows: medians, ratios, and whether what was aimed at holds."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.peers.watch import Measured

Row = dict[str, Any]
Condition = Callable[[Row, Mapping[str, Row]], bool | None]
"""Whether a row holds what it must by the others; None where that cannot be told."""
OURS = "count-kafka-python-single"


def row_of(name: str, n_events: int, runs: Sequence[Measured]) -> Row:
    """The medians of a peer's runs, and its highest memory; exact where every counter of every run was right."""
    exact = [run.exact for run in runs]
    row: Row = {
        "name": name,
        "events": n_events,
        "events_per_s": round(median(run.events_per_s for run in runs)),
        "cpu_us_per_event": round(median(run.cpu_us_per_event for run in runs), 2),
        "rss_mib": round(max(run.rss_mib for run in runs)),
        "exact": None if None in exact else all(exact),
    }
    sizes = [run.store_mib for run in runs if run.store_mib is not None]
    times = [run.store_us_per_event for run in runs if run.store_us_per_event is not None]
    stores = {"redis_us_per_event": round(median(times), 2), "redis_mib": round(max(sizes))} if sizes else {}
    return row | stores


def failed_row(name: str, n_events: int, reason: str) -> Row:
    """A peer that did not come to the end has no figures."""
    figures = dict.fromkeys(("events_per_s", "cpu_us_per_event", "rss_mib"))
    return {"name": name, "events": n_events, **figures, "exact": False, "failed": reason}


def finished(rows: Sequence[Row]) -> list[Row]:
    """The rows with their ratios to our own path with kafka-python and single events, and with what was aimed at."""
    by_name = {row["name"]: row for row in rows}
    speed = {name: row["events_per_s"] for name, row in by_name.items() if row["events_per_s"] is not None}
    base = speed.get(OURS)
    return [
        {**row, "ratio": round(speed[name] / base, 2) if base and name in speed else None} | _target(name, by_name)
        for name, row in by_name.items()
    ]


def _times(factor: float, other: str, figure: str = "events_per_s") -> Condition:
    """Whether a row has at least `factor` times another's figure; None where the other was not measured."""

    def holds(row: Row, rows: Mapping[str, Row]) -> bool | None:
        theirs = rows.get(other, {}).get(figure)
        return None if theirs is None else row[figure] >= factor * theirs

    return holds


def _first(*conditions: Condition) -> Condition:
    """The first of these that can be told."""

    def holds(row: Row, rows: Mapping[str, Row]) -> bool | None:
        answers = [condition(row, rows) for condition in conditions]
        return next((answer for answer in answers if answer is not None), None)

    return holds


def _less_cpu(other: str) -> Condition:
    def holds(row: Row, rows: Mapping[str, Row]) -> bool | None:
        theirs = rows.get(other, {}).get("cpu_us_per_event")
        return None if theirs is None else row["cpu_us_per_event"] < theirs

    return holds


STREAMS, FLINK = "streams-exactly-once", "flink-heap"
ARRAYS = "at least 2.5 times Kafka Streams exactly once and 1.45 times Flink SQL on the heap"
AIMS: dict[str, tuple[str, Sequence[Condition]]] = {
    OURS: (
        "at least 0.55 of its raw poll and 3 times Quix, ahead of Bytewax, less CPU than Kafka Streams",
        [
            _times(0.55, "raw-kafka-python"),
            _times(3, "quix"),
            _times(1, "bytewax-stateful"),
            _times(1, "bytewax-window"),
            _less_cpu(STREAMS),
            _less_cpu("streams-at-least-once"),
        ],
    ),
    "count-kafka-python-arrays": (ARRAYS, [_times(2.5, STREAMS), _times(1.45, FLINK)]),
    "count-kafka-python-arrays-2": (ARRAYS, [_times(2.5, STREAMS), _times(1.45, FLINK)]),
    "count-confluent-single": (
        "at least 1.4 times Flink SQL on the heap; 2.4 times Kafka Streams exactly once where there is no Flink",
        [_first(_times(1.4, FLINK), _times(2.4, STREAMS))],
    ),
    "count-confluent-arrays": ("at least 3.5 times Kafka Streams exactly once", [_times(3.5, STREAMS)]),
}


def _target(name: str, rows: Mapping[str, Row]) -> Row:
    """What the row is held to: it holds if all does that can be told, its counters too; None where nothing can."""
    if name not in AIMS:
        return {}
    target, conditions = AIMS[name]
    row = rows[name]
    if not row["exact"]:
        return {"target": target, "holds": False}
    told = [answer for holds in conditions if (answer := holds(row, rows)) is not None]
    return {"target": target, "holds": all(told) if told else None}
