"""Faust: a table keyed by week and track, in memory with its changelog topic."""

import os
from collections.abc import Iterator
from typing import Any

import faust
import orjson

from benchmarks.peer_scripts.task import KINDS, Task, week_of

_weeks: dict[str, str] = {}


def main() -> None:
    """Run until every event is counted."""
    task = Task.given()
    app = faust.App(
        task.name,
        broker=f"kafka://{task.kafka}",
        store="memory://",
        datadir=str(task.dump.with_name("faust")),
        topic_partitions=4,
        topic_replication_factor=1,
        web_enabled=False,
        stream_wait_empty=False,
    )
    topic = app.topic(task.topic, value_serializer="raw")
    table = app.Table("counts", partitions=4)

    @app.agent(topic)
    async def count(values: Any) -> None:
        async for value in values:
            event = orjson.loads(value)
            key = f"{week_of(event['timestamp'], _weeks)} {event['track_id']}"
            counts = table.get(key) or [0, 0, 0]
            counts[KINDS[event["event_type"]]] += 1
            table[key] = counts
            if task.add(1):
                task.finish(rows(table.items()))
                os._exit(0)

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


def rows(items: Any) -> Iterator[tuple[str, str, int, int, int]]:
    """The counters as the task wants them."""
    for key, (plays, skips, likes) in items:
        week, track = key.split()
        yield week, track, plays, skips, likes


if __name__ == "__main__":
    main()
