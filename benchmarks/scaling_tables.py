"""The tables of docs/scaling.md, from the rows of the benchmarks."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.kept import LATEST, RESULTS
from hitparade.arguments import Client
from hitparade.capacity import Capacity, Costs, Load, capacity
from hitparade.sizing import cores, duration, size

COUNTING = (
    "count-kafka-python-single",
    "count-kafka-python-arrays",
    "count-confluent-single",
    "count-confluent-arrays",
)
FIELDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(COUNTING, ("events_per_s", "cpu_us_per_event", "redis_us_per_event", "rss_mib")),
    "lines:tracks": ("redis_us_per_event",),
    "lines:redis-bytes": ("bytes_per_track_week", "groups"),
    "lines:catalogue-bytes": ("bytes_per_track",),
    "lines:log-bytes": ("single", "arrays"),
}
"""What the calculator needs: fields by row."""
SCORING = {"weekly:million": "seconds", "forecast:neural-scoring": "with_reading_cpu_s"}
"""The field with the seconds; the first row that there is counts."""
TARGETS = ("lines", "scale", "weekly", "latency", "recovery")
CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent-kafka")
EVENTS_PER_S, TRACKS = (10_000, 100_000, 1_000_000), (1_000_000, 10_000_000, 100_000_000)
Rows = Mapping[str, Mapping[str, Any]]


class MissingRow(Exception):
    """A benchmark has not been run."""


def latest() -> Rows:
    """The rows that are kept, by name."""
    rows = map(json.loads, (RESULTS / LATEST).read_text().splitlines())
    return {row["name"]: row for row in rows}


def costs(rows: Rows) -> Costs:
    """What the calculator needs of the rows.

    Raises:
        MissingRow: naming the benchmark to run.
    """
    found = {name: {field: _row(rows, name)[field] for field in fields} for name, fields in FIELDS.items()}
    scored, row = scoring_row(rows), _row(rows, scoring_row(rows))
    return found | {"scoring": {"seconds": row[SCORING[scored]], "tracks": row["tracks"], "peak_mib": row["peak_mib"]}}


def scoring_row(rows: Rows) -> str:
    """The row that says how long scoring takes."""
    return next((name for name in SCORING if name in rows), next(iter(SCORING)))


def _row(rows: Rows, name: str) -> Mapping[str, Any]:
    if name not in rows or "failed" in rows[name]:
        only = f" ONLY={name.partition(':')[0]}" if ":" in name else ""
        raise MissingRow(f"{LATEST} has no row {name}: run `make bench{only}`")
    return rows[name]


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def costs_table(rows: Rows) -> str:
    found = costs(rows)
    lines = [
        [f"an event, {name.removeprefix('count-')}", f"{row['events_per_s']:,.0f} a second", f"`{name}`"]
        for name in COUNTING
        for row in [found[name]]
    ]
    lines += [
        [
            f"its processor time, and of that Redis', {name.removeprefix('count-')}",
            f"{found[name]['cpu_us_per_event']:.2f} µs, {found[name]['redis_us_per_event']:.2f} µs",
            f"`{name}`",
        ]
        for name in COUNTING
    ]
    for text, name, field, unit in (
        ("Redis' of an event, a million tracks", "lines:tracks", "redis_us_per_event", "{:.2f} µs"),
        ("a track and week in Redis, two groups", "lines:redis-bytes", "bytes_per_track_week", "{:.1f} bytes"),
        ("a track of the catalogue in Redis", "lines:catalogue-bytes", "bytes_per_track", "{:.0f} bytes"),
        ("an event in the log, alone", "lines:log-bytes", "single", "{:.0f} bytes"),
        ("an event in the log, in arrays of 25", "lines:log-bytes", "arrays", "{:.0f} bytes"),
        ("a million tracks read and scored", "scoring", "seconds", "{:.1f} s"),
        ("and the memory for it", "scoring", "peak_mib", "{:.0f} MiB"),
    ):
        row_name = scoring_row(rows) if name == "scoring" else name
        lines.append([text, unit.format(found[name][field]), f"`{row_name}`"])
    return table(("what", "measured", "row"), lines)


def lines_table(rows: Rows) -> str:
    lines = []
    for name in ("events", "tracks", "partitions", "consumers"):
        row = _row(rows, f"lines:{name}")
        xs = row[name]
        exponents = [f"{row[field]:.2f}" for field in ("exponent", "exponent_cpu", "exponent_redis_cpu")]
        lines.append([f"{name}, {xs[0]:,} to {xs[-1]:,}", *exponents, f"{row['s'][0]:g} to {row['s'][-1]:g} s"])
    return table(("against", "wall time", "consumers' processor time", "Redis' processor time", "from, to"), lines)


def memory_table(rows: Rows) -> str:
    weeks, tracks, of_redis = (_row(rows, f"lines:{name}") for name in ("weeks", "tracks", "redis-bytes"))
    return table(
        ("memory", "exponent", "most"),
        [
            [
                f"of a consumer, against weeks after {weeks['weeks_kept']}",
                f"{weeks['exponent_rss']:.2f}",
                f"{weeks['rss_mib']} MiB",
            ],
            [
                f"of Redis, against weeks after {weeks['weeks_kept']}",
                f"{weeks['exponent_redis']:.2f}",
                f"{weeks['redis_mib']} MiB",
            ],
            ["of Redis, against tracks", f"{tracks['exponent_redis']:.2f}", size(max(tracks["redis_bytes"]))],
            ["of Redis, a track and week", "", f"{of_redis['bytes_per_track_week']} bytes"],
        ],
    )


def consumers_table(rows: Rows) -> str:
    row = _row(rows, "lines:consumers")
    each = zip(row["consumers"], row["events_per_s"], row["cpu_s"], strict=True)
    return table(
        ("consumers", "events/s", "processor time of all, an event"),
        [[str(n), f"{per_s:,}", f"{cpu_s / row['events'] * 1e6:.2f} µs"] for n, per_s, cpu_s in each],
    )


def scale_table(rows: Rows) -> str:
    found = [row for name, row in rows.items() if name.startswith("scale:")]
    if not found:
        _row(rows, "scale:consumers-1")
    parts = ("cpu_us_per_event", "apart_cpu_us_per_event", "redis_us_per_event", "brokers_us_per_event")
    lines = [
        [str(row["consumers"]), f"{row['events_per_s']:,}", *(f"{row[part]:.2f} µs" for part in parts)] for row in found
    ]
    head = ("all consumers' time, an event", "the same, if they share nothing", "Redis'", "the brokers'")
    return table(("consumers", "events/s", *head), lines)


def latency_table(rows: Rows) -> str:
    found = [row for name, row in rows.items() if name.startswith("latency:")]
    if not found:
        _row(rows, "latency:10k")
    lines = [
        [
            f"{row['events_per_s']:,}" + ("" if row["kept_pace"] else " (the producer's most)"),
            str(row["events_per_record"]),
            row["client"],
            f"{row['p50_ms']:.0f} ms",
            f"{row['p99_ms']:.0f} ms",
        ]
        for row in found
    ]
    return table(("events/s", "a record", "consumer's client", "p50", "p99"), lines)


def targets_table(rows: Rows) -> str:
    """Every target of the benchmarks that this page is about, held or not."""
    found = [row for name, row in rows.items() if name.partition(":")[0] in TARGETS]
    lines = [
        [f"`{row['name']}`", row["target"], "yes" if row["holds"] else "**no**"] for row in found if row.get("target")
    ]
    return table(("row", "target", "held"), lines)


def recovery_table(rows: Rows) -> str:
    names = {
        "start": "from start to the first count, less the join",
        "stop-idle": "from SIGTERM to the end, idle",
        "stop-at-work": "the same, at work",
        "stop-joining": "the same, while the group waits for a member that was killed",
        "kill": "from the SIGKILL of one of two until all partitions move on",
    }
    found = {text: _row(rows, f"recovery:{name}") for name, text in names.items()}
    return table(
        ("what", "median", "most"), [[t, f"{row['median_s']} s", f"{row['most_s']} s"] for t, row in found.items()]
    )


def load_table(rows: Rows) -> str:
    """By events a second; a million tracks."""
    lines = []
    for events_per_s in EVENTS_PER_S:
        for client in CLIENTS:
            for array in (1, 25):
                found = _capacity(rows, Load(events_per_s, TRACKS[0], array=array, client=client))
                lines.append([
                    f"{events_per_s:,}", client, str(array), f"{found.consumers}", f"{found.partitions}",
                    f"{cores(found.consumer_cores)} + {cores(found.redis_cores)}", size(found.consumers_mib * 2**20),
                    size(found.log_bytes_per_day), size(found.log_bytes), duration(found.recount_days * 86_400),
                ])  # fmt: skip
    return table(
        ("events/s", "client", "a record", "consumers", "partitions", "cores: consumers + Redis", "memory", "log a day",
         "log kept", "counted again"),
        lines,
    )  # fmt: skip


def tracks_table(rows: Rows) -> str:
    """By tracks."""
    lines = []
    for tracks in TRACKS:
        found = _capacity(rows, Load(EVENTS_PER_S[0], tracks))
        lines.append(
            [f"{tracks:,}", size(found.redis_bytes), duration(found.scoring_s), size(found.scoring_mib * 2**20)]
        )
    return table(("tracks", "Redis' memory", "scoring", "its memory"), lines)


def both_table(rows: Rows) -> str:
    """Redis nodes, and what one of each is short of first and second."""
    lines = []
    for events_per_s in EVENTS_PER_S:
        cells = []
        for tracks in TRACKS:
            found = _capacity(rows, Load(events_per_s, tracks))
            short = [f"{of}: {much:,.1f}" for of, much in found.strain.items() if much > 1]
            cells.append(f"{found.redis_nodes}; {', then '.join(short[:2]) or 'nothing'}")
        lines.append([f"{events_per_s:,} events/s", *cells])
    return table(("Redis nodes; what breaks first", *(f"{tracks:,} tracks" for tracks in TRACKS)), lines)


def _capacity(rows: Rows, load: Load) -> Capacity:
    return capacity(load, costs(rows))


BLOCKS: Mapping[str, Callable[[Rows], str]] = {
    "load": load_table,
    "tracks": tracks_table,
    "both": both_table,
    "costs": costs_table,
    "lines": lines_table,
    "memory": memory_table,
    "consumers": consumers_table,
    "scale": scale_table,
    "latency": latency_table,
    "recovery": recovery_table,
    "targets": targets_table,
}
