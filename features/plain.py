"""Runs of records in which every event is plain, so that they can be looked at together rather than one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import chain
from types import NoneType
from typing import Annotated, Any, Literal, cast

import msgspec

from features.events import EXPOSURE, IGNORED, KINDS, MOST_DEPTH, REFUSED, check_utf8, n_brackets
from features.records import Run

KNOWN = (*KINDS, *sorted(IGNORED))
RUN_BYTES = 1 << 16  # an odd event costs the others of its run their speed

Text = Annotated[str, msgspec.Meta(min_length=1)]
Id = Text | int


class UsualEvent(msgspec.Struct, gc=False):
    """An event that is counted, as most are; msgspec looks for all that must be there."""

    event_type: Literal[tuple(KINDS)]  # type: ignore[valid-type]  # of these it gives always the same, hashed once
    track_id: Text
    user_id: Id
    timestamp: datetime


class PlainEvent(msgspec.Struct, gc=False):
    """The fields of the contract, as events that nothing is wrong with ordinarily have them; msgspec judges them."""

    event_type: Literal[KNOWN]  # type: ignore[valid-type]
    track_id: Id | None = None
    user_id: Id | None = None
    timestamp: datetime | None = None


Event = UsualEvent | PlainEvent
Plain = Sequence[Event | list[UsualEvent] | list[PlainEvent]]
"""What each of some Kafka values holds: one event, or an array of them."""
_decode_usual = msgspec.json.Decoder(UsualEvent | list[UsualEvent]).decode
_decode = msgspec.json.Decoder(PlainEvent | list[PlainEvent]).decode


def _decode_plain(records: Run) -> tuple[Plain, Sequence[Event], bool] | None:
    """What each record holds, all events, and whether all are usual; None where any needs the care of decode().

    A plain event is one that decode() and parse() read just so, once its kind is known and what it must have is there.
    """
    given = cast(Sequence[bytes], records.values)  # None is refused, as it must be
    try:
        found, are_usual = _decoded(given)
        if not all(map(bytes.isascii, given)):
            check_utf8(b"".join(given))  # of JSON: no character can begin in one value and end in the next
    except (*REFUSED, TypeError):
        return None
    events = found
    if list in set(map(type, found)):
        if not all(found):  # an empty one is dead
            return None
        events = list(chain.from_iterable([some if type(some) is list else [some] for some in found]))
    if records.longest > 2 * MOST_DEPTH and _may_be_deep(given, found, len(events)):  # what is opened is closed
        return None
    return found, events, are_usual


def _decoded(values: Sequence[bytes]) -> tuple[list[Any], bool]:
    """What each value holds, and whether all of it is usual."""
    found = list[Any]()
    try:
        found.extend(map(_decode_usual, values))
    except msgspec.ValidationError:  # what was decoded before is there
        found.extend(map(_decode, values[len(found) :]))
        return found, False
    return found, True


def _may_be_deep(values: Sequence[bytes], found: Plain, n_events: int) -> bool:
    n_each = [len(some) if type(some) is list else 0 for some in found]
    if n_brackets(b"".join(values)) == n_events + sum(map(bool, n_each)):  # those that they and their arrays begin with
        return False
    return any(n_brackets(value) - (n or 1) >= MOST_DEPTH for value, n in zip(values, n_each, strict=True))


@dataclass(frozen=True, slots=True)
class PlainRun:
    """The events that are to be counted, one at least, in the order of their records.

    times are theirs, all with a zone or all without, which is UTC; first and last are the bounds of these, in UTC.
    """

    records: Run
    found: Plain
    events: Sequence[Event]
    times: Sequence[datetime]
    first: datetime
    last: datetime
    n_ignored: int
    has_numbers: bool
    """Whether the id of a track is an integer."""

    def within(self, start: datetime, end: datetime) -> Sequence[Event]:
        """Those of [start, end)."""
        if start <= self.first and self.last < end:
            return self.events
        if self.times[0].tzinfo is None:
            start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
        return [event for event, time in zip(self.events, self.times, strict=True) if start <= time < end]

    def timed(self, events: Sequence[Event]) -> Iterator[tuple[Event, datetime]]:
        """Some of these events, in their order, with their times in UTC."""
        times = iter(zip(self.events, self.times, strict=True))
        return ((event, _utc(next(time for other, time in times if other is event))) for event in events)

    def offset_after(self, event: Event) -> int:
        """The offset after the record that holds the event, which is looked for from the end on."""
        return next(
            self.records.offset_after(-n)
            for n, some in enumerate(reversed(self.found), 1)
            if some is event or (type(some) is list and any(one is event for one in some))
        )


def plain_run(records: Run, zone: tzinfo, exposures: bool = False) -> PlainRun | None:
    """The events of these records, if every one is plain and has what it must; a time without a zone is in `zone`.

    Where exposures are looked at, one is not plain.
    """
    decoded = _decode_plain(records)
    if decoded is None:
        return None
    found, everything, are_usual = decoded
    events, has_numbers = everything, False
    if not are_usual:
        kinds = {event.event_type for event in everything}
        if exposures and EXPOSURE in kinds:
            return None
        events = [event for event in everything if event.event_type in KINDS]
        types = set(map(type, [event.track_id for event in events]))
        if NoneType in types or None in [event.user_id for event in events]:
            return None
        has_numbers = int in types
    given = [event.timestamp for event in events]
    try:
        times, first, last = _in_order(cast(list[datetime], given), zone)
    except (AttributeError, TypeError, ValueError, OverflowError):  # some lack a time, or have no zone; none is there
        return None
    return PlainRun(records, found, events, times, first, last, len(everything) - len(events), has_numbers)


def _in_order(times: list[datetime], zone: tzinfo) -> tuple[list[datetime], datetime, datetime]:
    first, last = min(times), max(times)
    if first.tzinfo is None and zone is not UTC:
        times = [time.replace(tzinfo=zone).astimezone(UTC) for time in times]
        first, last = min(times), max(times)
    return times, _utc(first), _utc(last)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
