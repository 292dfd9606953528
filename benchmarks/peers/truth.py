"""What must come out: counted slowly and plainly from the events as written, by the standard library alone."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

Counts = Counter[tuple[str, str, str]]
"""(week, track id, kind) -> how many"""


def truth(lines: Iterable[str]) -> Counts:
    """Count lines of one event each by ISO week, track and kind.

    >>> event = '{"timestamp": "2023-06-18T23:59:59.5", "track_id": "t", "event_type": "play"}'
    >>> truth([event, event])
    Counter({('2023-W24', 't', 'play'): 2})
    """
    counts: Counts = Counter()
    for line in lines:
        event = json.loads(line)
        year, week, _ = datetime.fromisoformat(event["timestamp"]).isocalendar()
        counts[f"{year}-W{week:02}", event["track_id"], event["event_type"]] += 1
    return counts


def of_rows(rows: Iterable[tuple[str, str, int, int, int]]) -> Counts:
    """Week, track id, plays, skips and likes as the same counters; those of one track and week are added up."""
    counts: Counts = Counter()
    for week, track_id, *numbers in rows:
        for kind, number in zip(("play", "skip", "like"), numbers, strict=True):
            if number:
                counts[week, track_id, kind] += number
    return counts
