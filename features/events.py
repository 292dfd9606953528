"""The wire contract of a session event: bytes in, SessionEvent or the reason why not out."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

from features.weeks import Calendar


class Kind(IntEnum):
    """What is counted, and its place in a track's counts."""

    PLAY = 0
    SKIP = 1
    LIKE = 2


KINDS = {"play": Kind.PLAY, "skip": Kind.SKIP, "like": Kind.LIKE}
EXPOSURE = "exposure"
IGNORED = frozenset({"advertisment", "advertisement", "buy_premium", EXPOSURE})
CAUSES = ("json", "event_type", "track_id", "user_id", "timestamp", EXPOSURE, "future")
MOST_DEPTH = 100  # of brackets in an event; Python's own limit is some hundreds, and depends on who calls


class SessionEvent(NamedTuple):
    """One listener did one thing to one track; event_time is aware and in UTC."""

    event_time: datetime
    user_id: str
    track_id: str
    kind: Kind


class Exposure(NamedTuple):
    """One listener has seen the list of a week and group, whichever they are in; event_time is aware and in UTC."""

    event_time: datetime
    user_id: str
    week: str
    group: str


class BadRecord(ValueError):
    """This event can never be counted; cause is one of CAUSES."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class RawEvent(msgspec.Struct, gc=False):
    """The fields of the contract as JSON has them, not yet judged."""

    event_type: Any = None
    track_id: Any = None
    user_id: Any = None
    timestamp: Any = None
    event_id: Any = None
    week: Any = None
    group: Any = None


_decode_value = msgspec.json.Decoder(RawEvent | list[RawEvent]).decode
_decode_event = msgspec.json.Decoder(RawEvent).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Read = TypeVar("_Read")
_WHITESPACE = b" \t\r\n"
# A string (one without an end takes the rest), a bracket or a comma; possessive, so that the time is never quadratic.
_TOKENS = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[][{},]', re.DOTALL)
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1, b",": 0}


def decode(value: bytes | None) -> list[RawEvent | BadRecord]:
    """The events of one Kafka value in their order; never empty: what holds no event is one BadRecord."""
    if value is None:
        return [BadRecord("json", "the value is null")]
    return _decode_at_once(value) or [_decode_alone(element) for element in elements(value)]


def _decode_at_once(value: bytes) -> list[RawEvent | BadRecord]:
    """Every event, where msgspec takes them all and none can be nested too deep; otherwise nothing."""
    try:
        found = _decode_value(value)
        check_utf8(value)
    except REFUSED:
        return []
    events = [found] if isinstance(found, RawEvent) else found
    return events if n_brackets(value) - len(events) < MOST_DEPTH else []


def elements(value: bytes) -> list[bytes]:
    """The bytes of each event of a value; the value itself where it is no array that can be split."""
    if not value.lstrip(_WHITESPACE).startswith(b"["):
        return [value]
    try:
        return [bytes(raw) for raw in _split_array(value)] or [value]
    except REFUSED:
        return _split_by_brackets(value)


def _split_by_brackets(value: bytes) -> list[bytes]:
    """As elements(), whatever is between the commas, so that one bad event does not spoil its array."""
    found: list[bytes] = []
    start = value.index(b"[") + 1
    for at, mark, depth in _structure(value):
        if depth == 0 or (depth == 1 and mark == b","):
            found.append(value[start:at].strip(_WHITESPACE))
            start = at + 1
        if depth == 0:
            is_array = mark == b"]" and not value[start:].strip(_WHITESPACE)
            return found if is_array else [value]
    return [value]


def _structure(value: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The place of every bracket and comma outside of strings, and how many brackets are open after it."""
    depth = 0
    for token in _TOKENS.finditer(value):
        mark = token[0]
        if mark in _STEPS:  # a string is not
            depth += _STEPS[mark]
            yield token.start(), mark, depth


def n_brackets(value: bytes) -> int:
    """How many are opened, those in strings too."""
    return value.count(b"[") + value.count(b"{")


def _decode_alone(element: bytes) -> RawEvent | BadRecord:
    """One event that msgspec may refuse although it is JSON: lone surrogates, numbers beyond a double."""
    try:
        fields = _read_alone(element, _decode_event)
    except BadRecord as cause:
        return cause
    if isinstance(fields, RawEvent):
        return fields
    return RawEvent(**{name: fields.get(name) for name in RawEvent.__struct_fields__})


def fields_of(element: bytes) -> dict[str, Any]:
    """Every field of one event, read just as decode() reads those of the contract.

    Raises:
        BadRecord: it is no JSON object.
    """
    return _read_alone(element, _decode_fields)


def _read_alone(element: bytes, read: Callable[[bytes], _Read]) -> _Read | dict[str, Any]:
    """What `read` takes it for, else its fields as Python's own reader has them.

    Raises:
        BadRecord: it is no JSON object.
    """
    if n_brackets(element) > MOST_DEPTH and any(depth > MOST_DEPTH for _, _, depth in _structure(element)):
        raise BadRecord("json", f"expected at most {MOST_DEPTH} brackets in one another, found more")
    try:
        check_utf8(element)
        return read(element)
    except UnicodeDecodeError as cause:
        raise BadRecord("json", str(cause)) from cause
    except REFUSED:
        pass
    try:
        fields = json.loads(element.decode(), parse_int=_integer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as cause:
        raise BadRecord("json", str(cause)) from cause
    if not isinstance(fields, dict):
        raise BadRecord("json", f"expected an object, found {type(fields).__name__}")
    return fields


def check_utf8(value: bytes) -> None:
    """Look where msgspec does not, into the strings of fields that it skips.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    if not value.isascii():
        value.decode()


def _integer(text: str) -> int | str:
    """As text where it is too long for Python to read: an id is its decimal text anyway."""
    return int(text) if len(text) < 600 else text


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def parse(raw: RawEvent, zone: tzinfo = UTC) -> SessionEvent | None:
    """The event, or None for a kind that is not counted; a time without a zone is in `zone`.

    Raises:
        BadRecord: naming the first of event_type, track_id, user_id and timestamp that does not hold.
    """
    kind = _kind(raw.event_type)
    if kind is None:
        return None
    track_id = read_id(raw.track_id, "track_id")
    user_id = read_id(raw.user_id, "user_id")
    return SessionEvent(_utc(raw.timestamp, zone), user_id, track_id, kind)


def parse_exposure(raw: RawEvent, zone: tzinfo = UTC) -> Exposure | None:
    """Who has seen which list, or None for another kind that is not counted; a time without a zone is in `zone`.

    Raises:
        BadRecord: naming the first of event_type, user_id, timestamp and exposure (its week, its group) that does not
            hold.
    """
    if _kind(raw.event_type) is not None or raw.event_type.lower() != EXPOSURE:
        return None
    user_id, event_time = read_id(raw.user_id, "user_id"), _utc(raw.timestamp, zone)
    return Exposure(event_time, user_id, _week(raw.week), _group(raw.group))


def event_id(raw: RawEvent) -> str | None:
    """The id that its producer gave the event, as text; None where there is none, or none that an id can be."""
    value = raw.event_id
    if type(value) is str and value.isascii():
        return value or None
    try:
        return None if value is None else read_id(value, "event_id")
    except BadRecord:  # what counts by itself is not lost for its id
        return None


def _kind(event_type: Any) -> Kind | None:
    if type(event_type) is not str:
        raise BadRecord("event_type", f"expected text, found {_shown(event_type)}")
    kind = KINDS.get(event_type.lower())
    if kind is None and event_type.lower() not in IGNORED:
        raise BadRecord("event_type", f"expected {', '.join((*KINDS, *sorted(IGNORED)))}, found {_shown(event_type)}")
    return kind


def read_id(value: Any, field: str) -> str:
    """An id as text.

    Raises:
        BadRecord: of this field; it is none.
    """
    if type(value) is int:  # True is an instance of int
        return str(value)
    if type(value) is not str or not value:
        raise BadRecord(field, f"expected text or an integer, found {_shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as cause:
            raise BadRecord(field, "the id holds half of a surrogate pair") from cause
    return value


def _utc(text: Any, zone: tzinfo) -> datetime:
    """An instant in UTC; of a local hour that comes twice, the first."""
    if type(text) is not str:
        raise BadRecord("timestamp", f"expected ISO 8601 text, found {_shown(text)}")
    try:
        time = _time(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=zone)
        return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise BadRecord("timestamp", f"expected ISO 8601 text, found {_shown(text)}") from cause


def _time(text: str) -> datetime:
    """RFC 3339 as msgspec reads it, to the nearest microsecond; else whatever else ISO 8601 allows.

    Raises:
        ValueError: it is neither.
    """
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return datetime.fromisoformat(text)


def _week(name: Any) -> str:
    """The name of a week that exists, wherever weeks begin."""
    try:
        return Calendar().parse(name).name
    except (TypeError, ValueError) as cause:
        raise BadRecord(EXPOSURE, f"expected a week such as 2023-W25, found {_shown(name)}") from cause


def _group(name: Any) -> str:
    if type(name) is not str:
        raise BadRecord(EXPOSURE, f"expected the name of a group, found {_shown(name)}")
    return read_id(name, EXPOSURE)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
