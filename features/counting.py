"""The running state of a count: stream time, the buckets at hand, and the part so far.

Late and future are decided event by event in the order of the log, so that neither the borders of batches nor the wall
clock change an answer. Where all events of a run are plain, and lie between what would be late and what would be
future, their order cannot matter, and they are counted together. Anything odd takes the careful way.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

from features.caps import PLAY, Cap, Plays
from features.duplicates import EPOCH, NOTHING_KNOWN, Ids, KnownIds, Memory, Origin, ids_of
from features.events import KINDS, BadRecord, Exposure, Kind, RawEvent, SessionEvent, parse, parse_exposure
from features.fence import CAPPED, DUPLICATE, EXPOSURE
from features.parts import Bucket, Part, SetAside
from features.plain import PlainRun, plain_run
from features.records import LogRecord, Run
from features.rules import CountedWeek, Rules, Units
from features.weeks import ChartWeek

NAMES = tuple(KINDS)  # of each Kind


class Witness(Protocol):
    """Is told of what each event came to, as it is decided."""

    def counted(self, week: CountedWeek, event: SessionEvent) -> None:
        """An event counts in its week, even if that falls out of the horizon later."""

    def exposed(self, week: CountedWeek, exposure: Exposure) -> None:
        """Somebody has seen a list; the week is the one of the event's time."""


class Counting:
    """A span that is being counted."""

    def __init__(
        self,
        rules: Rules,
        start: int,
        stream_time: datetime | None,
        known: KnownIds | None,
        witness: Witness | None,
        played: Plays,
        going_on: Part | None,
    ) -> None:
        self.rules = rules
        self.witness = witness
        self.may_have_ids = known is not None
        self.memory = Memory(rules.duplicate_hours, known or NOTHING_KNOWN, stream_time)
        self.cap = Cap(rules.plays_cap, played) if rules.plays_cap else None
        self.stream_time = stream_time
        self.now: CountedWeek | None = None
        self.newest = rules.calendar.week_of(stream_time).first_day if stream_time else date.min
        self.horizon = self._horizon(self.newest)
        self._begin(going_on or self._nothing(start))

    def _nothing(self, start: int) -> Part:
        return Part(start, start, self.stream_time, since=self.stream_time)

    def _begin(self, part: Part) -> None:
        self.done = part
        self.has_numbers = False  # among the tracks of plain events
        self.buckets = {self.rules.calendar.parse(bucket.week): bucket for bucket in part.buckets}
        self.oldest = self.horizon

    def size(self) -> int:
        """How much the part so far makes Redis and Kafka do."""
        n_tracks = sum([len(bucket.counts) for bucket in self.buckets.values()])
        n_remembered = self.memory.n_added + (self.cap.n_changed if self.cap else 0)
        return n_tracks + n_remembered + len(self.done.set_aside)

    def add_run(self, records: Run) -> None:
        """Decide every event of these records: together where that makes no difference, else one by one."""
        has_ids = self.may_have_ids and (records.has_headers or self.rules.duplicate_hours > 0)
        if self.rules.mapping or has_ids or not self._add_together(records):
            for record in records:
                self.add(record)

    def _add_together(self, records: Run) -> bool:
        """Count a run of plain events of which none can be late or in the future; False, and nothing, if it is none."""
        run = plain_run(records, self.rules.event_zone, self.rules.exposures)
        if run is None or run.last > _earliest(records.timestamps, self.rules.future_tolerance):
            return False
        try:
            week, newest = self.rules.week_of(run.first), self.rules.week_of(run.last)
        except OverflowError:
            return False
        if week.week.first_day < self._horizon(max(self.newest, newest.week.first_day)):
            return False
        n_counted = sum([self._add_events(run, week) for week in self.rules.weeks_between(run.first, run.last)])
        if n_counted:
            self.done.tallies["counted"] += n_counted
        if n_counted < len(run.events):
            self.done.tallies[CAPPED] += len(run.events) - n_counted
        if run.n_ignored:
            self.done.tallies["ignored"] += run.n_ignored
        return True

    def _add_events(self, run: PlainRun, week: CountedWeek) -> int:
        """Add those of the week to its bucket, let stream time come as far, and return how many these are."""
        found = run.within(week.start, week.end)
        events = self.cap.let(week, found) if self.cap else found
        if not events:
            return 0
        has_last = run.last < week.end and len(events) == len(found)
        self._pass(run.last if has_last else max(time for _, time in run.timed(events)), week)
        bucket = self._bucket(week)
        _count(events, bucket.counts, week.units)
        self.has_numbers |= run.has_numbers
        bucket.touched = run.offset_after(events[-1])
        if self.witness:
            for event, time in run.timed(events):
                ids = str(event.user_id), str(event.track_id)
                self.witness.counted(week, SessionEvent(time, *ids, KINDS[event.event_type]))
        if self.rules.listeners:
            for event in events:
                if event.event_type == PLAY:
                    bucket.listeners[str(event.track_id)].add(str(event.user_id))
        return len(events)

    def add(self, record: LogRecord) -> None:
        """Decide every event of one record, in the order of its array."""
        origin = Origin.of(record.headers, self.rules.topic) if record.headers else None
        hours = self.rules.duplicate_hours
        is_known_by_ids = hours > 0 or origin is not None
        latest = _latest(record.timestamp, self.rules.future_tolerance)
        next_offset, tallies, n_counted = record.offset + 1, self.done.tallies, 0
        aside: list[tuple[str, str, int]] = []
        for index, raw in enumerate(self.rules.decode(record.value)):
            try:
                event = self._read(raw, latest)
                if event is None:
                    tallies["ignored"] += 1
                    continue
                ids = ids_of(raw, hours, origin, record.value, index) if is_known_by_ids else None
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

    def _read(self, raw: RawEvent | BadRecord, latest: datetime) -> SessionEvent | Exposure | None:
        if isinstance(raw, BadRecord):
            raise raw
        event: SessionEvent | Exposure | None = parse(raw, self.rules.event_zone)
        if event is None and self.rules.exposures:
            event = parse_exposure(raw, self.rules.event_zone)
        if event is not None and event.event_time > latest:
            raise BadRecord("future", f"{event.event_time} is after {latest}")
        return event

    def _count(self, event: SessionEvent | Exposure, next_offset: int, ids: Ids | None) -> str:
        """Add the event to its bucket, unless its week is no longer kept or it is refused; say which.

        An exposure moves no stream time and takes no id: nothing else ends otherwise for it.
        """
        week = self.now
        if week is None or not week.start <= event.event_time < week.end:
            week = self.now = self._week_of(event.event_time)
        if week.week.first_day < self.horizon:
            return "late"
        if isinstance(event, Exposure):
            if self.witness:
                self.witness.exposed(week, event)
            return EXPOSURE
        if refused := self._refused(event, week, ids):
            return refused
        stream_time = self._pass(event.event_time, week)
        bucket = self._bucket(week)
        _add(bucket.counts, event.track_id, week.units[event.user_id][NAMES[event.kind]])
        bucket.touched = next_offset
        self._hear(bucket, event)
        if ids:
            self.memory.remember(ids, stream_time, week.name)
        if self.witness:
            self.witness.counted(week, event)
        return "counted"

    def _refused(self, event: SessionEvent, week: CountedWeek, ids: Ids | None) -> str:
        """How the event ends that was added before, or is one too many; empty where it is neither, and then counts."""
        if ids and self.memory.knows(ids, self.stream_time):
            return DUPLICATE
        if self.cap and event.kind is Kind.PLAY and not self.cap.lets(week.name, event.user_id, event.track_id):
            return CAPPED
        return ""

    def _hear(self, bucket: Bucket, event: SessionEvent) -> None:
        if self.rules.listeners and event.kind is Kind.PLAY:
            bucket.listeners[event.track_id].add(event.user_id)

    def _week_of(self, instant: datetime) -> CountedWeek:
        try:
            return self.rules.week_of(instant)
        except OverflowError as cause:
            raise BadRecord("timestamp", f"{instant} is in no week of the years 1 to 9999") from cause

    def _bucket(self, week: CountedWeek) -> Bucket:
        bucket = self.buckets.get(week.week)
        if bucket is None:
            bucket = Bucket(week.name, week.groups, week.fingerprint, {}, listeners=defaultdict(set))
            self.buckets[week.week] = bucket
        return bucket

    def _pass(self, instant: datetime, week: CountedWeek) -> datetime:
        """Let stream time come as far as this instant, which is in that week; return it."""
        if self.stream_time is None or instant > self.stream_time:
            self.stream_time = instant
            if week.week.first_day > self.newest:
                self.newest = week.week.first_day
                self.horizon = self._horizon(self.newest)
        return self.stream_time

    def _horizon(self, newest: date) -> date:
        """The first day of the oldest week kept, when stream time is in the week of `newest`."""
        return _oldest_kept(newest, self.rules.weeks_kept)

    def _set_aside(self, record: LogRecord, aside: list[tuple[str, str, int]], origin: Origin | None) -> None:
        values = [None] if record.value is None else self.rules.elements(record.value)
        if values != [record.value]:  # several events cannot all have one origin
            origin = None
        self.done.set_aside += [
            SetAside(topic, cause, record.offset, index, record.key, values[index], origin)
            for topic, cause, index in aside
        ]

    def part(self, end: int) -> Part:
        """Close the part at `end`; what fell out of the horizon since is tallied, but not kept."""
        part = self.done
        part.end, part.stream_time = end, self.stream_time
        part.horizon = ChartWeek(self.horizon).name if self.horizon > self.oldest else ""
        part.buckets = [bucket for week, bucket in self.buckets.items() if week.first_day >= self.horizon]
        if self.has_numbers:
            for bucket in part.buckets:
                _name_by_text(bucket.counts)
        part.plays = self.cap.take(ChartWeek(self.horizon).name) if self.cap else {}
        part.ids, part.kept = self.memory.take(self.stream_time, ChartWeek(self.horizon).name, bool(part.horizon))
        self._begin(self._nothing(end))
        return part


@lru_cache(maxsize=16)
def _oldest_kept(newest: date, weeks_kept: int) -> date:
    return ChartWeek(newest).span(weeks_kept)[0].first_day


def _count(events: Sequence[Any], counts: dict[Any, int], units: Units) -> None:
    """Add plain events to the counts of their tracks."""
    of_place, counted, rest = units.of_place, counts.get, iter(events)
    while True:
        places = units.places
        try:
            for event in rest:  # as _add(): a call an event, or a dict that knows what is missing, costs more
                track_id = event.track_id
                counts[track_id] = counted(track_id, 0) + of_place[places[event.user_id]][event.event_type]
            return
        except (KeyError, IndexError, TypeError):  # of a user who is not known there
            _add(counts, event.track_id, units.learn(event.user_id)[event.event_type])


def _add(counts: dict[Any, int], track_id: str | int, n: int) -> None:
    counts[track_id] = counts.get(track_id, 0) + n


def _name_by_text(counts: dict[Any, int]) -> None:
    """Join what was counted of tracks that are integers to that of their decimal texts."""
    for number in [track_id for track_id in counts if type(track_id) is int]:
        _add(counts, str(number), counts.pop(number))


def _latest(timestamp_ms: int, tolerance: timedelta) -> datetime:
    """The latest event time that a record of this timestamp may hold."""
    never = datetime.max.replace(tzinfo=UTC)
    try:
        return EPOCH + timedelta(milliseconds=timestamp_ms) + tolerance if timestamp_ms >= 0 else never
    except OverflowError:  # a producer may write any 64 bits
        return never


def _earliest(timestamps: Sequence[int], tolerance: timedelta) -> datetime:
    """The latest event time that records of all of these timestamps may hold."""
    earliest = min(timestamps)
    if earliest < 0:
        earliest = min([timestamp for timestamp in timestamps if timestamp >= 0], default=earliest)
    return _latest(earliest, tolerance)
