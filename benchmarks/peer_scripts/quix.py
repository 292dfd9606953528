"""Quix Streams: state per track in RocksDB with its changelog topic, one value a week."""

from collections.abc import Iterator
from typing import Any

from quixstreams import Application, State

from benchmarks.peer_scripts.task import KINDS, Task, week_of

CLIENT = {"fetch.queue.backoff.ms": 10, "isolation.level": "read_committed"}
_weeks: dict[str, str] = {}


def main() -> None:
    """Run until every event is counted, then stop in good order."""
    task = Task.given()
    app = Application(
        broker_address=task.kafka,
        consumer_group=task.name,
        auto_offset_reset="earliest",
        consumer_extra_config=CLIENT,
        state_dir=str(task.dump.with_name("state")),
        loglevel="WARNING",
    )
    totals: dict[tuple[str, str], list[int]] = {}

    def count(event: dict[str, Any], state: State) -> None:
        week = week_of(event["timestamp"], _weeks)
        counts = state.get(week) or [0, 0, 0]
        counts[KINDS[event["event_type"]]] += 1
        state.set(week, counts)
        totals[week, event["track_id"]] = counts
        if task.add(1):
            task.finish(rows(totals))
            app.stop()

    app.dataframe(app.topic(task.topic, value_deserializer="json", key_deserializer="str")).update(count, stateful=True)
    app.run()


def rows(totals: dict[tuple[str, str], list[int]]) -> Iterator[tuple[str, str, int, int, int]]:
    """The counters as the task wants them."""
    for (week, track), (plays, skips, likes) in totals.items():
        yield week, track, plays, skips, likes


if __name__ == "__main__":
    main()
