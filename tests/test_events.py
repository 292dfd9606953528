import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from features.contracts import SessionEventContract
from features.events import BadRecord, Kind, RawEvent, SessionEvent, decode, elements, parse
from tests.builders import array, fields, wire
from tests.oracle import judge, split

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2023, 6, 17, 12, tzinfo=UTC)
MEGABYTE = 1_000_000


def verdict(raw: RawEvent | BadRecord) -> SessionEvent | str:
    """The event, `ignored`, or why it is dead."""
    try:
        if isinstance(raw, BadRecord):
            raise raw
        return parse(raw) or "ignored"
    except BadRecord as cause:
        str(cause).encode()  # what is said of it can itself be logged
        return cause.cause


def read(value: bytes | None) -> list[SessionEvent | str]:
    return [verdict(raw) for raw in decode(value)]


def only(value: bytes | None) -> SessionEvent | str:
    (found,) = read(value)
    return found


def with_text(field: str, json_text: str) -> bytes:
    """The play, with this text as the JSON of a field."""
    return wire(**{field: "HERE"}).replace(b'"HERE"', json_text.encode())


def time_of(text: str, zone: Any = UTC) -> datetime:
    (raw,) = decode(wire(timestamp=text))
    assert isinstance(raw, RawEvent)
    event = parse(raw, zone)
    assert event is not None
    return event.event_time


def test_an_event_is_its_time_user_track_and_kind() -> None:
    expected = SessionEvent(datetime(2023, 6, 17, 10, 9, 50, 547000, tzinfo=UTC), "101", "a", Kind.PLAY)
    assert only(wire()) == expected


def test_an_array_is_its_events_in_their_order() -> None:
    found = read(array(wire(track_id="a"), wire(track_id="b", event_type="skip"), wire(event_type="advertisment")))
    assert [(event.track_id, event.kind) if isinstance(event, SessionEvent) else event for event in found] == [
        ("a", Kind.PLAY),
        ("b", Kind.SKIP),
        "ignored",
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"null",
        b"[]",
        b"[[]]",
        b"[null]",
        b"17",
        b"true",
        b'"play"',
        b"{",
        b"[",
        b"[}",
        b"{}{}",
        b"[{}][{}]",
        b"[{}],",
        b"NaN",
        b"\xef\xbb\xbf" + wire(),
        wire().decode().encode("utf-16"),
        wire() + b"x",
        array(wire(), wire()) + b"x",
        array(wire(), wire())[:-1],
        array(wire(), b"{]}", wire()),
        array(wire(), b'{"a": "b}', wire()),
        with_text("extra", '"\u00ff"').replace("\u00ff".encode(), b"\xff"),
        with_text("extra", "NaN"),
        with_text("extra", "Infinity"),
        with_text("extra", "-Infinity"),
        with_text("extra", "01"),
        with_text("extra", '"\n"'),
        with_text("extra", "[" * 101 + "]" * 101),
        with_text("extra", "[" * MEGABYTE + "]" * MEGABYTE),
        with_text("extra", "[" * MEGABYTE),
    ],
)
def test_what_is_not_an_object_of_json_is_one_dead_event(value: bytes | None) -> None:
    assert read(value) == ["json"]


@pytest.mark.parametrize(
    "bad",
    [
        b"null",
        b"7",
        b"[]",
        b'{"extra": NaN}',
        b'{"extra": "\xff"}',
        b'{"extra": 01}',
        b'{"a" "b"}',
        b'{"extra": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"",
    ],
)
def test_a_bad_element_is_set_aside_alone(bad: bytes) -> None:
    value = array(wire(track_id="a"), bad, wire(track_id="b"))
    first, dead, last = read(value)
    assert (first, dead, last) == (only(wire(track_id="a")), "json", only(wire(track_id="b")))
    assert elements(value) == [wire(track_id="a"), bad, wire(track_id="b")]


@pytest.mark.parametrize("field", ["track_id", "user_id"])
@pytest.mark.parametrize("half", ['"\\ud800"', '"x\\udfff"', '"\\ude00\\ud83d"'])
def test_half_a_surrogate_pair_in_an_id_is_dead_alone(field: str, half: str) -> None:
    assert only(with_text(field, half)) == field
    assert read(array(wire(), with_text(field, half), wire())) == [only(wire()), field, only(wire())]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    event = only(with_text("track_id", '"\\ud83d\\ude00"'))
    assert isinstance(event, SessionEvent)
    assert event.track_id == "\N{GRINNING FACE}"


@pytest.mark.parametrize("field", ["track_id", "user_id"])
@pytest.mark.parametrize(
    "text", ["null", '""', "true", "false", "1.0", "1e3", "1e400", "-1e400", "[]", "{}", "[1]", '{"id": 1}']
)
def test_an_id_is_text_or_an_integer(field: str, text: str) -> None:
    assert only(with_text(field, text)) == field


@pytest.mark.parametrize("field", ["event_type", "track_id", "user_id", "timestamp"])
def test_what_is_absent_or_null_is_dead_by_its_own_cause(field: str) -> None:
    assert only(wire(**{field: None})) == field
    assert only(json.dumps({name: value for name, value in fields().items() if name != field}).encode()) == field


@pytest.mark.parametrize("digits", [1, 18, 19, 20, 40, 600, 4300, 4301, 10_000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_id_is_its_decimal_text_however_long(digits: int, sign: str) -> None:
    text = sign + "9" * digits
    event = only(with_text("track_id", text))
    assert isinstance(event, SessionEvent)
    assert event.track_id == text


def test_the_last_of_equal_keys_counts() -> None:
    event = only(wire()[:-1] + b', "track_id": "b"}')
    assert isinstance(event, SessionEvent)
    assert event.track_id == "b"


@pytest.mark.parametrize("text", ["1e400", "9" * 5000, '"\\ud800"', "[" * 90 + "]" * 90, '{"a": {"b": []}}', "{}"])
def test_unknown_fields_may_hold_any_json(text: str) -> None:
    assert only(with_text("extra", text)) == only(wire())


@pytest.mark.parametrize("text", ["play", "PLAY", "Play", "pLaY"])
def test_event_types_are_read_in_any_case(text: str) -> None:
    assert only(wire(event_type=text)) == only(wire())
    assert only(wire(event_type=f"{text}s")) == "event_type"


@pytest.mark.parametrize("kind", ["advertisment", "Advertisement", "BUY_PREMIUM", "exposure"])
@pytest.mark.parametrize("others", [{}, {"track_id": None, "user_id": 1.5, "timestamp": "never"}])
def test_what_is_not_counted_is_ignored_whatever_else_it_holds(kind: str, others: dict[str, Any]) -> None:
    assert only(wire(event_type=kind, **others)) == "ignored"


@pytest.mark.parametrize("text", ["null", "true", "0", "[]", '""', '"plays"', '"skip "'])
def test_other_event_types_are_dead(text: str) -> None:
    assert only(with_text("event_type", text)) == "event_type"


def test_the_first_cause_that_holds_is_the_cause() -> None:
    wrong = {"event_type": "jump", "track_id": "", "user_id": True, "timestamp": 0}
    causes = []
    for name in list(wrong):
        causes.append(only(wire(**wrong)))
        del wrong[name]
    assert causes == ["event_type", "track_id", "user_id", "timestamp"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-06-17T12:00:00", NOON),
        ("2023-06-17 12:00", NOON),
        ("2023-06-17T12:00:00Z", NOON),
        ("2023-06-17T12:00:00.000000+00:00", NOON),
        ("2023-06-17T14:30:00+02:30", NOON),
        ("20230617T120000", NOON),
        ("2023-06-17T12:00:00.5", datetime(2023, 6, 17, 12, 0, 0, 500000, tzinfo=UTC)),
        ("2023-06-17t12:00:00z", NOON),
        ("2023-06-17T12:00:00.123456789", datetime(2023, 6, 17, 12, 0, 0, 123457, tzinfo=UTC)),
        ("2023-06-17T12:00:00.1234564999999999", datetime(2023, 6, 17, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2023-06-17T11:59:59.9999995+00:00", NOON),
        ("2023-06-17T11:59:59,9999999", datetime(2023, 6, 17, 11, 59, 59, 999999, tzinfo=UTC)),  # no RFC 3339: cut
        ("2023-W24-6T12", NOON),
        ("0001-01-01T00:00:00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59+00:01", datetime(9999, 12, 31, 23, 58, 59, tzinfo=UTC)),
    ],
)
def test_a_time_is_iso_8601_with_or_without_fraction_and_zone(text: str, expected: datetime) -> None:
    assert time_of(text) == expected
    assert time_of(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        '"9999-12-31T23:59:59-01:00"',
        '"0001-01-01T00:00:00+01:00"',
        '"10000-01-01T00:00:00"',
        '"0000-01-01T00:00:00"',
        '"2023-02-29T00:00:00"',
        '"2023-06-17T25:00:00"',
        '"1686996000"',
        '"2023-06-17T10:09\\ud800"',
        '"\u0662\u0660\u0662\u0663-06-17"',
        '"yesterday"',
        '""',
        "1686996000",
        "9" * 5000,
        "1e400",
        "[]",
    ],
)
def test_a_time_that_is_no_instant_is_dead(text: str) -> None:
    assert only(with_text("timestamp", text)) == "timestamp"


def test_of_an_hour_that_comes_twice_the_first_is_meant() -> None:
    assert time_of("2023-10-29T02:30:00", BERLIN) == datetime(2023, 10, 29, 0, 30, tzinfo=UTC)
    assert time_of("2023-10-29T03:30:00", BERLIN) == datetime(2023, 10, 29, 2, 30, tzinfo=UTC)


def test_in_an_hour_that_does_not_come_the_clock_was_not_set_forward() -> None:
    assert time_of("2023-03-26T02:30:00", BERLIN) == datetime(2023, 3, 26, 1, 30, tzinfo=UTC)


def test_the_zone_of_events_is_for_times_that_name_none() -> None:
    assert time_of("2023-06-17T12:00:00", BERLIN) == datetime(2023, 6, 17, 10, tzinfo=UTC)
    assert time_of("2023-06-17T12:00:00Z", BERLIN) == NOON


def test_a_time_of_a_year_too_far_for_the_zone_is_dead() -> None:
    (raw,) = decode(wire(timestamp="0001-01-01T00:00:00"))
    assert isinstance(raw, RawEvent)
    with pytest.raises(BadRecord, match="timestamp: "):
        parse(raw, BERLIN)


@pytest.mark.parametrize("depth", [98, 99, 100, 400, 800])
def test_how_deep_an_event_may_nest_does_not_depend_on_the_caller(depth: int) -> None:
    def from_deep(value: bytes, frames: int) -> list[SessionEvent | str]:
        return from_deep(value, frames - 1) if frames else read(value)

    event = with_text("extra", "[" * depth + "]" * depth)
    for value in (event, array(event, wire()), array(*[wire()] * 120, event)):
        assert read(value) == from_deep(value, 600)
    assert only(event) == (only(wire()) if depth < 100 else "json")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", [b"x", b'"', b'\\"', b'\\"x', b"\\", b"\xff", b"\xd8\x00"])
def test_ten_megabytes_of_anything_are_one_dead_event_in_time_that_grows_with_them(unit: bytes) -> None:
    long = unit * (10 * MEGABYTE // len(unit))
    assert only(long) == "json"
    assert only(b"[" + long) == "json"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", [b"[", b"[0", b'{"', b"{}"])
def test_brackets_without_end_are_one_dead_event_in_time_that_grows_with_them(unit: bytes) -> None:
    assert only(b"[" + unit * (MEGABYTE // 4)) == "json"


def test_ten_megabytes_of_events_are_all_read() -> None:
    assert read(array(*[wire()] * 80_000)) == [only(wire())] * 80_000


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
# Without a `categories` argument, characters() leaves out the halves of surrogate pairs.
IDS = st.sampled_from(["a", "b", "", 7, 2**70, True, 1.5, None]) | st.text(
    st.characters(categories=["L", "Cs"]), max_size=2
)
TYPES = st.sampled_from(["play", "SKIP", "Like", "advertisment", "buy_premium", "jump", None])
TIMES = st.sampled_from(["9999-12-31T23:59:59-01:00", "0001-01-01", 17, None, "2023-06-17T10:09:50+02:00"]) | (
    st.datetimes().map(datetime.isoformat)
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "event_type": TYPES | JUNK,
        "track_id": IDS | JUNK,
        "user_id": IDS | JUNK,
        "timestamp": TIMES | JUNK,
        "extra": JUNK,
    },
)
WHOLE = st.fixed_dictionaries({"event_type": TYPES, "track_id": IDS, "user_id": IDS, "timestamp": TIMES})


def encodings(value: Any) -> st.SearchStrategy[bytes]:
    """With what is not ASCII escaped, or raw, which half a surrogate pair makes bad UTF-8."""
    return st.sampled_from([True, False]).map(
        lambda escape: json.dumps(value, ensure_ascii=escape).encode(errors="surrogatepass")
    )


ELEMENTS = (OBJECTS | WHOLE | WHOLE).flatmap(encodings)
ARRAYS = st.lists(ELEMENTS | ELEMENTS | JUNK.flatmap(encodings), max_size=5).map(lambda found: array(*found))


def spoil(value: bytes, at: int, junk: bytes) -> bytes:
    at %= len(value) + 1
    return value[:at] + junk + value[at + len(junk) :]


SPOILT = st.builds(spoil, ARRAYS, st.integers(0, 1000), st.binary(max_size=2) | st.sampled_from([b'"', b"]", b"{"]))
VALUES = st.binary(max_size=40) | ELEMENTS | ARRAYS | SPOILT | st.binary(max_size=20).map(lambda junk: b"[" + junk)


def as_oracle(found: SessionEvent | str) -> object:
    return tuple(found) if isinstance(found, SessionEvent) else found


@settings(max_examples=600, deadline=None)
@given(VALUES)
@example(b'[{"track_id":"\\ud800"},{}]')
def test_any_bytes_give_what_a_slow_reader_says(value: bytes) -> None:
    assert elements(value) == split(value)
    assert [as_oracle(found) for found in read(value)] == [judge(element) for element in split(value)]


@settings(max_examples=300, deadline=None)
@given(st.lists(ELEMENTS, min_size=1, max_size=5))
def test_an_array_decoded_at_once_equals_its_elements_one_by_one(found: list[bytes]) -> None:
    one_by_one = [only(element) for element in found]
    assert read(array(*found)) == one_by_one
    assert read(array(*found, b"null")) == [*one_by_one, "json"]  # which msgspec does not take at once


def by_contract(event: dict[str, Any]) -> SessionEvent | str:
    try:
        contract = SessionEventContract.model_validate(event)
    except ValidationError as cause:
        return str(cause.errors()[0]["loc"][0])
    return SessionEvent(contract.timestamp, contract.user_id, contract.track_id, Kind[contract.event_type.upper()])


@settings(max_examples=300, deadline=None)
@given(OBJECTS | WHOLE)
def test_the_contract_of_pydantic_takes_the_same_events(event: dict[str, Any]) -> None:
    (raw,) = decode(json.dumps(event).encode())
    found = verdict(raw)
    if found in ("ignored", "json"):  # ignored is whatever has such a type; NaN is not JSON
        return
    assert by_contract(event) == found


@pytest.mark.parametrize("change", [str.upper, str.title])
def test_the_contract_reads_types_in_any_case(change: Callable[[str], str]) -> None:
    assert SessionEventContract.model_validate(fields(event_type=change("like"))).event_type == "like"
