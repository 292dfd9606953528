"""Runs of records in which every event is plain, so that they can be looked at together rather than one by one."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import accumulate
from typing import cast

from features.events import EXPOSURE, IGNORED, KINDS, Plain, PlainEvent, decode_plain
from features.parts import LogRecord

KNOWN = KINDS.keys() | IGNORED
RUN_BYTES = 1 << 16  # an odd event costs the others of its run their speed


@dataclass(frozen=True, slots=True)
class PlainRun:
    """The events that are to be counted, one at least, in the order of their records.

    times are theirs, all with a zone or all without, which is UTC; first and last are the bounds of these, in UTC.
    """

    records: Sequence[LogRecord]
    found: Plain
    events: Sequence[PlainEvent]
    times: Sequence[datetime]
    first: datetime
    last: datetime
    n_ignored: int

    def within(self, start: datetime, end: datetime) -> Sequence[PlainEvent]:
        """Those of [start, end)."""
        if start <= self.first and self.last < end:
            return self.events
        if self.times[0].tzinfo is None:
            start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
        return [event for event, time in zip(self.events, self.times, strict=True) if start <= time < end]

    def timed(self, events: Sequence[PlainEvent]) -> Iterator[tuple[PlainEvent, datetime]]:
        """Some of these events, in their order, with their times in UTC."""
        times = iter(zip(self.events, self.times, strict=True))
        return ((event, _utc(next(time for other, time in times if other is event))) for event in events)

    def offset_after(self, event: PlainEvent) -> int:
        """The offset after the record that holds the event, which is looked for from the end on."""
        return next(
            record.offset + 1
            for record, some in zip(reversed(self.records), reversed(self.found), strict=True)
            if some is event or (type(some) is list and any(one is event for one in some))
        )


def runs(records: Sequence[LogRecord], most_bytes: int) -> Iterator[Sequence[LogRecord]]:
    """The records in runs of about so many bytes, of one record at least."""
    sizes = list(accumulate([len(record.value or b"") for record in records]))
    first = 0
    while first < len(records):
        after = bisect_left(sizes, (sizes[first - 1] if first else 0) + most_bytes, first) + 1
        yield records[first:after]
        first = after


def plain_run(records: Sequence[LogRecord], zone: tzinfo, exposures: bool = False) -> PlainRun | None:
    """The events of these records, if every one is plain and has what it must; a time without a zone is in `zone`.

    Where exposures are looked at, one is not plain.
    """
    decoded = decode_plain([record.value for record in records])
    if decoded is None:
        return None
    found, everything = decoded
    kinds = {event.event_type for event in everything}
    if not kinds <= KNOWN or (exposures and EXPOSURE in kinds):
        return None
    events = everything if kinds <= KINDS.keys() else [event for event in everything if event.event_type in KINDS]
    given = [event.timestamp for event in events]
    if None in given or None in [event.track_id for event in events] or None in [event.user_id for event in events]:
        return None
    try:
        times, first, last = _in_order(cast(list[datetime], given), zone)
    except (TypeError, ValueError, OverflowError):  # some have zones and some have not; there is no event
        return None
    return PlainRun(records, found, events, times, first, last, len(everything) - len(events))


def _in_order(times: list[datetime], zone: tzinfo) -> tuple[list[datetime], datetime, datetime]:
    first, last = min(times), max(times)
    if first.tzinfo is None and zone is not UTC:
        times = [time.replace(tzinfo=zone).astimezone(UTC) for time in times]
        first, last = min(times), max(times)
    return times, _utc(first), _utc(last)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
