"""Session events, records and rules, with little in them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from features.records import Headers
from features.rules import Rules
from features.weeks import Calendar, ChartWeek

MONDAY = datetime(2023, 6, 12, tzinfo=UTC)  # 2023-W24 begins
WEEK = timedelta(weeks=1)


def fields(**changes: Any) -> dict[str, Any]:
    """A play in 2023-W24, as JSON has it."""
    play = {"timestamp": "2023-06-17T10:09:50.547000", "user_id": 101, "track_id": "a", "event_type": "play"}
    return {"session_id": 125, **play, **changes}


def wire(**changes: Any) -> bytes:
    return json.dumps(fields(**changes)).encode()


def play(weeks: float = 0, track: str = "a", user: str = "u", kind: str = "play") -> bytes:
    """An event so many weeks after MONDAY."""
    return wire(timestamp=(MONDAY + weeks * WEEK).isoformat(), track_id=track, user_id=user, event_type=kind)


def array(*events: bytes) -> bytes:
    return b"[" + b",".join(events) + b"]"


@dataclass(frozen=True)
class Record:
    """A Kafka record, as far as counting looks at it."""

    offset: int
    value: bytes | None
    timestamp: int = -1
    key: bytes | None = b"k"
    headers: Headers = ()


def log_of(values: Sequence[bytes | None]) -> list[Record]:
    return [Record(offset, value) for offset, value in enumerate(values)]


def millis(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


@dataclass(frozen=True)
class Halves:
    """An experiment that puts users of an even length in one group, the others in another."""

    fingerprint: str = "00000000000000aa"
    group_names: tuple[str, ...] = ("even", "odd")

    def group_of(self, user_id: str) -> str:
        return "even" if len(user_id) % 2 == 0 else "odd"


def halves(week: ChartWeek) -> Halves:
    return Halves()


def rules(**changes: Any) -> Rules:
    return Rules(**{"calendar": Calendar(), "assignment_of": halves, **changes})
