"""The wire contract of a session event: bytes in, SessionEvent or the reason why not out."""

import json
from datetime import UTC, datetime, tzinfo
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec


class Kind(IntEnum):
    """What is counted, and its place in a track's counts."""

    PLAY = 0
    SKIP = 1
    LIKE = 2


KINDS = {"play": Kind.PLAY, "skip": Kind.SKIP, "like": Kind.LIKE}
IGNORED = frozenset({"advertisment", "advertisement", "buy_premium", "exposure"})
CAUSES = ("json", "event_type", "track_id", "user_id", "timestamp", "future")


class SessionEvent(NamedTuple):
    """One listener did one thing to one track; event_time is aware and in UTC."""

    event_time: datetime
    user_id: str
    track_id: str
    kind: Kind


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


_decode_value = msgspec.json.Decoder(RawEvent | list[RawEvent]).decode
_decode_event = msgspec.json.Decoder(RawEvent).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(value: bytes | None) -> list[RawEvent | BadRecord]:
    """The events of one Kafka value in their order; never empty: what holds no event is one BadRecord."""
    if value is None:
        return [BadRecord("json", "the value is null")]
    try:
        events = _decode_value(value)
        _check_utf8(value)
    except _REFUSED:
        return [_decode_alone(element) for element in elements(value)]
    if isinstance(events, RawEvent):
        return [events]
    return events or [BadRecord("json", "the array is empty")]


def elements(value: bytes) -> list[bytes]:
    """The bytes of each event of a value; the value itself where it is no array that can be split."""
    if not value.lstrip(b" \t\r\n").startswith(b"["):
        return [value]
    try:
        return [bytes(raw) for raw in _split_array(value)] or [value]
    except _REFUSED:
        return [value]


def _decode_alone(element: bytes) -> RawEvent | BadRecord:
    """One event that msgspec may refuse although it is JSON: lone surrogates, numbers beyond a double."""
    try:
        _check_utf8(element)
        return _decode_event(element)
    except UnicodeDecodeError as cause:
        return BadRecord("json", str(cause))
    except _REFUSED:
        pass
    try:
        fields = json.loads(element.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as cause:
        return BadRecord("json", str(cause))
    if not isinstance(fields, dict):
        return BadRecord("json", f"expected an object, found {type(fields).__name__}")
    return RawEvent(**{name: fields.get(name) for name in RawEvent.__struct_fields__})


def _check_utf8(value: bytes) -> None:
    """Msgspec does not look into the strings of fields that it skips."""
    if not value.isascii():
        value.decode()


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
    track_id = _id(raw.track_id, "track_id")
    user_id = _id(raw.user_id, "user_id")
    return SessionEvent(_utc(raw.timestamp, zone), user_id, track_id, kind)


def _kind(event_type: Any) -> Kind | None:
    if type(event_type) is not str:
        raise BadRecord("event_type", f"expected text, found {_shown(event_type)}")
    kind = KINDS.get(event_type.lower())
    if kind is None and event_type.lower() not in IGNORED:
        raise BadRecord("event_type", f"expected {', '.join((*KINDS, *sorted(IGNORED)))}, found {_shown(event_type)}")
    return kind


def _id(value: Any, field: str) -> str:
    """An id as text; type() and not isinstance(), because True is an int."""
    if type(value) is int:
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
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=zone)
        return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise BadRecord("timestamp", f"expected ISO 8601 text, found {_shown(text)}") from cause


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
