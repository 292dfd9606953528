"""The wire contract and the counting, slowly and event by event: what the fast code must equal."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from features.records import LogRecord

WHITESPACE = b" \t\r\n"
COUNTED = ("play", "skip", "like")
IGNORED = ("advertisment", "advertisement", "buy_premium", "exposure")
WEEK = re.compile(r"(\d{4})-W(\d\d)", re.ASCII)
RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?", re.ASCII
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)

Event = tuple[datetime, str, str, int]
Bucket = tuple[str, str, str]  # week, group, track
Origin = tuple[int, int, int]  # partition, offset, index


class Exposure(NamedTuple):
    """Somebody has seen the list of a week and group."""

    instant: datetime
    user: str
    week: str
    group: str


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


def judge(element: bytes | None, zone: tzinfo = UTC) -> Event | str:
    """A counted event as (time, user, track, kind), or why it is none; a time that names no zone is in this one."""
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
    instant = _instant(found.get("timestamp"), zone)
    if not track or not user or not instant:
        return "track_id" if not track else "user_id" if not user else "timestamp"
    return instant, user, track, COUNTED.index(kind.lower())


def judge_exposure(element: bytes | None, zone: tzinfo = UTC) -> Exposure | str:
    """The same of an event that is not counted: ignored is whatever is no exposure."""
    found = json.loads((element or b"").decode(), parse_int=_long)
    if found["event_type"].lower() != "exposure":
        return "ignored"
    user, instant = _id(found.get("user_id")), _instant(found.get("timestamp"), zone)
    week, group = found.get("week"), found.get("group")
    if not user or not instant:
        return "user_id" if not user else "timestamp"
    if not isinstance(group, str) or not _id(group) or not isinstance(week, str) or not _is_a_week(week):
        return "exposure"
    return Exposure(instant, user, week, group)


def _is_a_week(name: str) -> bool:
    """A year has 52 weeks; 53, where it begins or ends with a Thursday."""
    found = WEEK.fullmatch(name)
    year, week = (int(found[1]), int(found[2])) if found else (0, 0)
    is_long = year > 0 and 3 in (date(year, 1, 1).weekday(), date(year, 12, 31).weekday())
    return year > 0 and 1 <= week <= 52 + is_long


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


def _instant(value: Any, zone: tzinfo) -> datetime | None:
    try:
        found = RFC_3339.fullmatch(value)
        shown = (found and _to_the_nearest(*found.groups())) or datetime.fromisoformat(value)
        return shown.astimezone(UTC) if shown.tzinfo else _first_shown(shown, zone)
    except (TypeError, ValueError, OverflowError):
        return None


def _to_the_nearest(day: str, clock: str, fraction: str | None, offset: str | None) -> datetime | None:
    """To the nearest microsecond, a half goes up; None where that is in the year 10000."""
    digits = (fraction or "0").ljust(7, "0")
    micros = int(digits[:6]) + (digits[6] >= "5")
    try:
        return datetime.fromisoformat(f"{day}T{clock}{(offset or '').upper()}") + micros * MICROSECOND
    except OverflowError:
        return None


def _first_shown(shown: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clocks of a zone show this, or would have, had they not been set forward."""
    as_utc = shown.replace(tzinfo=UTC)
    near = [as_utc + step for step in (-DAY, DAY) if 1 < shown.year < 9999 or (step > 0 * DAY) == (shown.year == 1)]
    offsets = [instant.astimezone(zone).utcoffset() or timedelta() for instant in near]
    found = [instant for instant in (as_utc - offset for offset in offsets) if _shown(instant, zone) == shown]
    return min(found, default=as_utc - offsets[0])


def _shown(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@dataclass
class Totals:
    """What a whole log comes to: the kept counts, how events ended, and what was set aside."""

    counts: dict[Bucket, list[int]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    aside: list[tuple[str, str, int, int, bytes | None]] = field(default_factory=list)
    touched: dict[str, int] = field(default_factory=dict)
    stream_time: datetime | None = None
    listeners: dict[tuple[str, str], set[str]] = field(default_factory=dict, compare=False)
    """Who has a play that counts, by week and track, of the weeks kept."""
    events: list[tuple[str, Event]] = field(default_factory=list, compare=False)
    """Every event that was counted, with its week, whether that is kept or not."""
    exposures: list[tuple[str, Exposure]] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Chart:
    """Where weeks begin, and in which zone; the zone of a time that names none."""

    first_weekday: int = 0
    zone: tzinfo = UTC
    event_zone: tzinfo = UTC

    def first_day(self, instant: datetime) -> date | None:
        """Back to the last first weekday, day by day; None where that week is not wholly in the years 1 to 9999."""
        try:
            day = instant.astimezone(self.zone).date()
            while day.weekday() != self.first_weekday:
                day -= DAY
            for border in (day, day + 7 * DAY):
                datetime.combine(border, time(), self.zone).astimezone(UTC)
        except OverflowError:
            return None
        return day


UTC_FROM_MONDAY = Chart()


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
    chart: Chart = UTC_FROM_MONDAY,
    exposures: bool = False,
    plays_cap: int = 0,
) -> Totals:
    """Count a partition's log.

    What was set aside has the offset and index of its origin where it is a replay of a letter of `topic`.
    """
    totals, seen = Totals(), Seen(duplicate_hours)
    for record in log:
        origin = _origin(record, topic)
        for index, element in enumerate([None] if record.value is None else split(record.value)):
            verdict: Event | Exposure | str = judge(element, chart.event_zone)
            if verdict == "ignored" and exposures:
                verdict = judge_exposure(element, chart.event_zone)
            if isinstance(verdict, tuple) and _is_future(verdict[0], record.timestamp, tolerance):
                verdict = "future"
            if isinstance(verdict, Exposure):
                verdict = _settle_exposure(totals, verdict, chart, weeks_kept)
            elif isinstance(verdict, tuple):
                names = seen.names(element, record.value, origin, index)
                cap = plays_cap or None
                verdict = _settle(totals, seen, names, verdict, record.offset + 1, chart, weeks_kept, group_of, cap)
            if verdict in ("counted", "ignored", "duplicate", "capped", "seen"):
                totals.outcomes["exposure" if verdict == "seen" else verdict] += 1
                continue
            kind = "late" if verdict == "late" else "dead"
            totals.outcomes[kind] += 1
            totals.outcomes["dead:" + verdict] += kind == "dead"
            place = origin[1:] if origin and element == record.value else (record.offset, index)
            totals.aside.append((kind, verdict, *place, element))
    oldest = _oldest(totals.stream_time, weeks_kept, chart)
    totals.counts = {bucket: counts for bucket, counts in totals.counts.items() if bucket[0] >= oldest}
    totals.touched = {week: offset for week, offset in totals.touched.items() if week >= oldest}
    totals.listeners = {pair: users for pair, users in totals.listeners.items() if pair[0] >= oldest}
    totals.outcomes = +totals.outcomes
    return totals


@dataclass
class Seen:
    """Every name of an event that was counted, with the generation of stream time that took it in; nothing expires."""

    hours: int
    counted_in: dict[object, int] = field(default_factory=dict)

    def names(self, element: bytes | None, value: bytes | None, origin: Origin | None, index: int) -> list[object]:
        """What an event can be known by."""
        fields = json.loads((element or b"").decode(), parse_int=_long)
        by_id = _id(fields.get("event_id")) if self.hours else None
        return [name for name in (by_id, origin and (origin, value, index)) if name]

    def knows(self, name: object, stream_time: datetime | None) -> bool:
        """A replay for ever, an id in the generation it was counted in and the next."""
        if isinstance(name, str) and name in self.counted_in:
            return self.generation(stream_time) - self.counted_in[name] <= 1
        return name in self.counted_in

    def generation(self, stream_time: datetime | None) -> int:
        """Which span of so many hours since 1970 stream time is in."""
        since = (stream_time or datetime.min.replace(tzinfo=UTC)) - EPOCH
        return (since.days * 24 + since.seconds // 3600) // (self.hours or 1)


def _origin(record: LogRecord, topic: str) -> Origin | None:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    numbers = [headers.get("hitparade-" + name, "") for name in ("partition", "offset", "index")]
    if headers.get("hitparade-topic") != topic or not all(re.fullmatch("[0-9]{1,19}", n, re.ASCII) for n in numbers):
        return None
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _is_future(instant: datetime, timestamp_ms: int, tolerance: timedelta) -> bool:
    return timestamp_ms >= 0 and (instant - EPOCH - tolerance) // MICROSECOND > timestamp_ms * 1000


def _settle(
    totals: Totals,
    seen: Seen,
    names: list[object],
    event: Event,
    next_offset: int,
    chart: Chart,
    weeks_kept: int,
    group_of: Callable[[str], str],
    plays_cap: int | None,
) -> str:
    instant, user, track, kind = event
    first_day, group = chart.first_day(instant), group_of(user)
    if first_day is None:
        return "timestamp"
    week = _name(first_day)
    if week < _oldest(totals.stream_time, weeks_kept, chart):
        return "late"
    if any(seen.knows(name, totals.stream_time) for name in names):
        return "duplicate"
    if kind == 0 and plays_cap is not None:
        n_before = sum(other[1:] == event[1:] and in_week == week for in_week, other in totals.events)
        if n_before >= plays_cap:
            return "capped"
    totals.stream_time = max(instant, totals.stream_time or instant)
    totals.counts.setdefault((week, group, track), [0, 0, 0])[kind] += 1
    totals.touched[week] = next_offset
    totals.events.append((week, event))
    if kind == 0:
        totals.listeners.setdefault((week, track), set()).add(user)
    seen.counted_in |= dict.fromkeys(names, seen.generation(totals.stream_time))
    return "counted"


def _settle_exposure(totals: Totals, exposure: Exposure, chart: Chart, weeks_kept: int) -> str:
    first_day = chart.first_day(exposure.instant)
    if first_day is None:
        return "timestamp"
    if _name(first_day) < _oldest(totals.stream_time, weeks_kept, chart):
        return "late"
    totals.exposures.append((_name(first_day), exposure))
    return "seen"


def _oldest(stream_time: datetime | None, weeks_kept: int, chart: Chart) -> str:
    """The name of the oldest week kept."""
    newest = stream_time and chart.first_day(stream_time)
    if newest is None or newest - date.min < timedelta(weeks=weeks_kept - 1):
        return ""
    return _name(newest - timedelta(weeks=weeks_kept - 1))


def _name(first_day: date) -> str:
    year, week, _ = first_day.isocalendar()
    return f"{year:04}-W{week:02}"
