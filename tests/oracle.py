"""The wire contract and the counting, slowly and event by event: what the fast code must equal."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from features.tally import LogRecord

WHITESPACE = b" \t\r\n"
COUNTED = ("play", "skip", "like")
IGNORED = ("advertisment", "advertisement", "buy_premium", "exposure")

Event = tuple[datetime, str, str, int]
Bucket = tuple[str, str, str]  # week, group, track
Origin = tuple[int, int, int]  # partition, offset, index


def split(value: bytes) -> list[bytes]:
    """The elements of an array, byte by byte; the value itself where its brackets and quotes do not make one."""
    text = value.strip(WHITESPACE)
    depth, in_string, escaped, start, found = 0, False, False, 1, []
    for at, char in enumerate(text):
        if in_string:
            in_string = escaped or char != ord('"')
            escaped = char == ord("\\") and not escaped
            continue
        in_string = char == ord('"')
        depth += (char in b"[{") - (char in b"]}")
        if depth == 0 or (depth == 1 and char == ord(",")):
            found.append(text[start:at].strip(WHITESPACE))
            start = at + 1
        if depth == 0:
            break
    is_array = text.startswith(b"[") and depth == 0 and start == len(text) and text.endswith(b"]") and found != [b""]
    return found if is_array else [value]


def judge(element: bytes | None) -> Event | str:
    """A counted event as (time, user, track, kind), or why it is none."""
    try:
        found = json.loads((element or b"").decode(), parse_constant=_refuse, parse_int=_long)
    except (ValueError, RecursionError):
        return "json"
    if not isinstance(found, dict) or _depth(found) > 100:
        return "json"
    kind = found.get("event_type")
    if not isinstance(kind, str) or kind.lower() not in COUNTED + IGNORED:
        return "event_type"
    if kind.lower() in IGNORED:
        return "ignored"
    track, user = _id(found.get("track_id")), _id(found.get("user_id"))
    time = _time(found.get("timestamp"))
    if not track or not user or not time:
        return "track_id" if not track else "user_id" if not user else "timestamp"
    return time, user, track, COUNTED.index(kind.lower())


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _long(text: str) -> int | str:
    return int(text) if len(text) < 4000 else text


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value)
    return None if any("\ud800" <= char <= "\udfff" for char in text) else text


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass
class Totals:
    """What a whole log comes to: the kept counts, how events ended, and what was set aside."""

    counts: dict[Bucket, list[int]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    aside: list[tuple[str, str, int, int, bytes | None]] = field(default_factory=list)
    touched: dict[tuple[str, str], int] = field(default_factory=dict)
    stream_time: datetime | None = None


def _halves(user: str) -> str:
    """Users of an even length are one group."""
    return "even" if len(user) % 2 == 0 else "odd"


def recount(
    log: Iterable[LogRecord],
    weeks_kept: int = 12,
    tolerance: timedelta = timedelta(minutes=10),
    group_of: Callable[[str], str] = _halves,
    topic: str = "",
    duplicate_hours: int = 0,
) -> Totals:
    """Count a partition's log in weeks from Monday, UTC.

    What was set aside has the offset and index of its origin where it is a replay of a letter of `topic`.
    """
    totals, seen = Totals(), Seen(duplicate_hours)
    for record in log:
        origin = _origin(record, topic)
        for index, element in enumerate([None] if record.value is None else split(record.value)):
            latest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=record.timestamp) + tolerance
            verdict = judge(element)
            if isinstance(verdict, tuple):
                names = seen.names(element, record.value, origin, index)
                verdict = _settle(totals, seen, names, verdict, record, latest, weeks_kept, group_of)
            if verdict in ("counted", "ignored", "duplicate"):
                totals.outcomes[verdict] += 1
                continue
            kind = "late" if verdict == "late" else "dead"
            totals.outcomes[kind] += 1
            totals.outcomes["dead:" + verdict] += kind == "dead"
            place = origin[1:] if origin and element == record.value else (record.offset, index)
            totals.aside.append((kind, verdict, *place, element))
    oldest = _oldest(totals.stream_time, weeks_kept)
    totals.counts = {bucket: counts for bucket, counts in totals.counts.items() if bucket[0] >= oldest}
    totals.touched = {bucket: offset for bucket, offset in totals.touched.items() if bucket[0] >= oldest}
    totals.outcomes = +totals.outcomes
    return totals


@dataclass
class Seen:
    """Every name of an event that was counted, with the generation of stream time that took it in; nothing expires."""

    hours: int
    counted_in: dict[object, int] = field(default_factory=dict)

    def names(self, element: bytes | None, value: bytes | None, origin: Origin | None, index: int) -> list[object]:
        """What an event can be known by."""
        fields = json.loads((element or b"").decode())
        by_id = _id(fields.get("event_id")) if self.hours else None
        return [name for name in (by_id, origin and (origin, value, index)) if name]

    def knows(self, name: object, stream_time: datetime | None) -> bool:
        """A replay for ever, an id in the generation it was counted in and the next."""
        if isinstance(name, str) and name in self.counted_in:
            return self.generation(stream_time) - self.counted_in[name] <= 1
        return name in self.counted_in

    def generation(self, stream_time: datetime | None) -> int:
        """Which span of so many hours since 1970 stream time is in."""
        since = (stream_time or datetime.min.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 24 + since.seconds // 3600) // (self.hours or 1)


def _origin(record: LogRecord, topic: str) -> Origin | None:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    numbers = [headers.get("hitparade-" + name, "") for name in ("partition", "offset", "index")]
    if headers.get("hitparade-topic") != topic or not all(re.fullmatch("[0-9]{1,19}", n, re.ASCII) for n in numbers):
        return None
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _settle(
    totals: Totals,
    seen: Seen,
    names: list[object],
    event: Event,
    record: LogRecord,
    latest: datetime,
    weeks_kept: int,
    group_of: Callable[[str], str],
) -> str:
    time, user, track, kind = event
    if record.timestamp >= 0 and time > latest:
        return "future"
    if time.date() >= date(9999, 12, 27):  # that week ends in the year 10000
        return "timestamp"
    week, group = _week(time), group_of(user)
    if week < _oldest(totals.stream_time, weeks_kept):
        return "late"
    if any(seen.knows(name, totals.stream_time) for name in names):
        return "duplicate"
    totals.stream_time = max(time, totals.stream_time or time)
    totals.counts.setdefault((week, group, track), [0, 0, 0])[kind] += 1
    totals.touched[week, group] = record.offset + 1
    seen.counted_in |= dict.fromkeys(names, seen.generation(totals.stream_time))
    return "counted"


def _oldest(stream_time: datetime | None, weeks_kept: int) -> str:
    """The name of the oldest week kept."""
    if stream_time is None or stream_time - datetime.min.replace(tzinfo=UTC) < timedelta(weeks=weeks_kept):
        return ""
    return _week(stream_time - timedelta(weeks=weeks_kept - 1))


def _week(time: datetime) -> str:
    year, week, _ = time.isocalendar()
    return f"{year:04}-W{week:02}"
