"""Counting, purely: the records of one span in, what to add and what to set aside out.

Late and future are decided event by event in the order of the log, so that neither the borders of batches nor the wall
clock change an answer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Protocol

from features.duplicates import EPOCH, NOTHING_KNOWN, Headers, Ids, KnownIds, Memory, Origin, ids_of
from features.events import BadRecord, RawEvent, SessionEvent, decode, elements, parse
from features.weeks import Calendar, ChartWeek

MOST_TRACKS = 5000  # in one atomic step: 6 to 13 ms of Redis' time


class LogRecord(Protocol):
    """What is read of a Kafka record."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, negative where there is none."""

    @property
    def key(self) -> bytes | None:
        """What it was partitioned by."""

    @property
    def value(self) -> bytes | None:
        """One event or an array of them; anything, from outside."""

    @property
    def headers(self) -> Headers:
        """Names and values; those of an Origin make it a replay."""


class Assignment(Protocol):
    """Who is in which group; fingerprint changes whenever an answer of group_of could."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits."""

    def group_of(self, user_id: str) -> str:
        """The user's group."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides how an event ends, other than the log itself."""

    calendar: Calendar
    assignment_of: Callable[[ChartWeek], Assignment]
    weeks_kept: int = 12
    event_zone: tzinfo = UTC
    future_tolerance: timedelta = timedelta(minutes=10)
    topic: str = ""  # that is read: whose letters may come back
    duplicate_hours: int = 0  # of stream time, for which the ids of events are remembered; 0: not at all


@dataclass(slots=True)
class Bucket:
    """Plays, skips and likes to add for one week and group; touched is the offset after the last record in it."""

    week: str
    group: str
    fingerprint: str
    counts: dict[str, list[int]] = field(default_factory=dict)
    touched: int = 0


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that was not counted, by its own bytes; topic is `late` or `dead`, index its place in its array.

    origin, of a replay, is where it was first read.
    """

    topic: str
    cause: str
    offset: int
    index: int
    key: bytes | None
    value: bytes | None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A track as its record has it; an empty value is a track that was taken down."""

    track_id: str
    timestamp: int
    offset: int
    value: str


@dataclass(slots=True)
class Part:
    """What a span [start, end) of one partition changes: all of it in one step, or nothing.

    since is the stream time at start. horizon, where not empty, names the oldest week still kept: the buckets of older
    ones are removed. ids are to be remembered, by set; kept, where not empty, or with a horizon, are the generations of
    them that are not removed.
    """

    start: int
    end: int
    stream_time: datetime | None
    horizon: str = ""
    buckets: list[Bucket] = field(default_factory=list)
    entries: list[CatalogueEntry] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    tallies: Counter[str] = field(default_factory=Counter)
    ids: dict[str, list[bytes]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    since: datetime | None = None


def tally(
    records: Iterable[LogRecord],
    start: int,
    end: int,
    stream_time: datetime | None,
    rules: Rules,
    most_tracks: int = MOST_TRACKS,
    known: KnownIds = NOTHING_KNOWN,
) -> Iterator[Part]:
    """Count a span in parts of about most_tracks tracks, ids and events set aside, cut between records, up to `end`.

    known are those of ids_in(records) that are remembered at `start`, by set.
    """
    counting = _Counting(rules, start, stream_time, known)
    for record in records:
        counting.add(record)
        if counting.size() >= most_tracks and record.offset + 1 < end:
            yield counting.part(record.offset + 1)
    yield counting.part(end)


@dataclass(slots=True)
class _Open:
    """A week that takes events, with what has been counted for it in this part."""

    week: ChartWeek
    name: str
    start: datetime
    end: datetime
    assignment: Assignment
    buckets: dict[str, Bucket] = field(default_factory=dict)


class _Counting:
    """The running state of a span: stream time, the weeks at hand, and the part so far."""

    def __init__(self, rules: Rules, start: int, stream_time: datetime | None, known: KnownIds) -> None:
        self.rules = rules
        self.memory = Memory(rules.duplicate_hours, known, stream_time)
        self.stream_time = stream_time
        self.weeks: dict[ChartWeek, _Open] = {}
        self.now: _Open | None = None
        self.newest = rules.calendar.week_of(stream_time).first_day if stream_time else date.min
        self.horizon = self._horizon()
        self._begin(start)

    def _begin(self, start: int) -> None:
        self.done = Part(start, start, self.stream_time, since=self.stream_time)
        self.n_tracks = 0
        self.oldest = self.horizon

    def size(self) -> int:
        """How much the part so far makes Redis and Kafka do."""
        return self.n_tracks + self.memory.n_added + len(self.done.set_aside)

    def add(self, record: LogRecord) -> None:
        """Decide every event of one record, in the order of its array."""
        origin = Origin.of(record.headers, self.rules.topic) if record.headers else None
        hours = self.rules.duplicate_hours
        has_ids = hours > 0 or origin is not None
        latest = _latest(record.timestamp, self.rules.future_tolerance)
        next_offset, tallies, n_counted = record.offset + 1, self.done.tallies, 0
        aside: list[tuple[str, str, int]] = []
        for index, raw in enumerate(decode(record.value)):
            try:
                event = self._read(raw, latest)
                if event is None:
                    tallies["ignored"] += 1
                    continue
                ids = ids_of(raw, hours, origin, record.value, index) if has_ids else None
                outcome = self._count(event, next_offset, ids)
                if outcome == "counted":
                    n_counted += 1
                    continue
                tallies[outcome] += 1
                if outcome == "late":
                    aside.append(("late", "late", index))
            except BadRecord as cause:
                tallies["dead"] += 1
                tallies[f"dead:{cause.cause}"] += 1
                aside.append(("dead", cause.cause, index))
        if n_counted:
            tallies["counted"] += n_counted
        if aside:
            self._set_aside(record, aside, origin)

    def _read(self, raw: RawEvent | BadRecord, latest: datetime) -> SessionEvent | None:
        if isinstance(raw, BadRecord):
            raise raw
        event = parse(raw, self.rules.event_zone)
        if event is not None and event.event_time > latest:
            raise BadRecord("future", f"{event.event_time} is after {latest}")
        return event

    def _count(self, event: SessionEvent, next_offset: int, ids: Ids | None) -> str:
        """Add the event to its bucket, unless its week is no longer kept, or it was added before; say which."""
        week = self.now
        if week is None or not week.start <= event.event_time < week.end:
            week = self.now = self._open(event.event_time)
        if week.week.first_day < self.horizon:
            return "late"
        if ids and self.memory.knows(ids, self.stream_time):
            return "duplicate"
        if self.stream_time is None or event.event_time > self.stream_time:
            self.stream_time = event.event_time
            if week.week.first_day > self.newest:
                self.newest = week.week.first_day
                self.horizon = self._horizon()
        group = week.assignment.group_of(event.user_id)
        bucket = week.buckets.get(group) or _new_bucket(week, group)
        counts = bucket.counts.get(event.track_id)
        if counts is None:
            counts = bucket.counts[event.track_id] = [0, 0, 0]
            self.n_tracks += 1
        counts[event.kind] += 1
        bucket.touched = next_offset
        if ids:
            self.memory.remember(ids, self.stream_time, week.name)
        return "counted"

    def _open(self, instant: datetime) -> _Open:
        try:
            week = self.rules.calendar.week_of(instant)
            if week not in self.weeks:
                self.weeks[week] = self._new(week)
        except OverflowError as cause:
            raise BadRecord("timestamp", f"{instant} is in no week of the years 1 to 9999") from cause
        return self.weeks[week]

    def _new(self, week: ChartWeek) -> _Open:
        calendar, assignment = self.rules.calendar, self.rules.assignment_of(week)
        return _Open(week, week.name, calendar.start(week), calendar.end(week), assignment)

    def _horizon(self) -> date:
        """The first day of the oldest week kept."""
        return ChartWeek(self.newest).span(self.rules.weeks_kept)[0].first_day

    def _set_aside(self, record: LogRecord, aside: list[tuple[str, str, int]], origin: Origin | None) -> None:
        values = [None] if record.value is None else elements(record.value)
        if values != [record.value]:  # several events cannot all have one origin
            origin = None
        self.done.set_aside += [
            SetAside(topic, cause, record.offset, index, record.key, values[index], origin)
            for topic, cause, index in aside
        ]

    def part(self, end: int) -> Part:
        """Close the part at `end`; counts and ids that fell out of the horizon since are tallied, but not kept."""
        part = self.done
        part.end, part.stream_time = end, self.stream_time
        part.horizon = ChartWeek(self.horizon).name if self.horizon > self.oldest else ""
        for open_week in self.weeks.values():
            if open_week.week.first_day >= self.horizon:
                part.buckets += open_week.buckets.values()
            open_week.buckets = {}
        part.ids, part.kept = self.memory.take(self.stream_time, ChartWeek(self.horizon).name, bool(part.horizon))
        self._begin(end)
        return part


def _new_bucket(week: _Open, group: str) -> Bucket:
    bucket = week.buckets[group] = Bucket(week.name, group, week.assignment.fingerprint)
    return bucket


def _latest(timestamp_ms: int, tolerance: timedelta) -> datetime:
    """The latest event time that a record of this timestamp may hold."""
    never = datetime.max.replace(tzinfo=UTC)
    try:
        return EPOCH + timedelta(milliseconds=timestamp_ms) + tolerance if timestamp_ms >= 0 else never
    except OverflowError:  # a producer may write any 64 bits
        return never
