"""Events of others, read through a mapping as those of the contract are without one."""

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from consumers.recount import Recount
from consumers.sessions import deciding
from consumers.source import Batch
from features.events import BadRecord, RawEvent, SessionEvent, decode, parse
from features.mapping import Mapping
from features.mapping_file import MappingError, load_mapping, parse_mapping
from features.store import CounterStore
from tests.builders import array, fields, log_of, rules, wire
from tests.faults.known import known_log
from tests.oracle import Totals
from tests.test_tally import count

RENAMED = parse_mapping("""
[fields]
event_type = "payload.what"
track_id = "payload.song.id"
user_id = "payload.who"
timestamp = "at"
event_id = "key"
week = "payload.list.week"
group = "payload.list.group"
""")
NOTHING = parse_mapping("")
FRAME = b"\0\0\0\0\7"


def renamed(event: Any) -> Any:
    """The same event under other names, in other objects; what is no object stays."""
    if not isinstance(event, dict):
        return event
    of = event.get
    song, chart = {"id": of("track_id")}, {"week": of("week"), "group": of("group")}
    payload = {"what": of("event_type"), "song": song, "who": of("user_id"), "list": chart}
    return {
        "schema": {"type": "struct", "optional": False},
        "payload": payload,
        "at": of("timestamp"),
        "key": of("event_id"),
    }


def read(mapping: Mapping, value: bytes | None) -> list[SessionEvent | str]:
    return [verdict(raw) for raw in mapping.decode(value)]


def verdict(raw: RawEvent | BadRecord) -> SessionEvent | str:
    """The event, `ignored`, or why it is dead."""
    try:
        if isinstance(raw, BadRecord):
            raise raw
        return parse(raw) or "ignored"
    except BadRecord as cause:
        return cause.cause


def only(text: str, **event: Any) -> SessionEvent | str:
    """What comes of one event under the mapping that the text is."""
    (found,) = read(parse_mapping(text), json.dumps(event).encode())
    return found


def without_bytes(totals: Totals) -> Any:
    """Everything but what was set aside byte for byte."""
    return (
        totals.counts,
        totals.outcomes,
        totals.touched,
        totals.stream_time,
        [(topic, cause, offset, index) for topic, cause, offset, index, _ in totals.aside],
    )


# Renaming changes nothing else.

texts = st.sampled_from(["a", "b", "", "PLAY", "skip", "Like", "advertisment", "exposure", "2023-06-17T10:09:50Z", "é"])
numbers = st.integers(-3, 3) | st.sampled_from([10**30, 0.5, True, False, None])
values = texts | numbers | st.sampled_from(["\ud800", [], {}, ["a"], {"id": 1}])
kinds = st.sampled_from(["play", "Skip", "LIKE", "advertisment", "exposure"])
times = st.sampled_from(
    ["2023-06-17T10:09:50.547000", "2023-06-18T23:59:59Z", "2023-03-01", "9999-12-31T23:59:59-14:00"]
)
events = st.fixed_dictionaries(
    {},
    optional={
        "event_type": kinds | kinds | values,
        "track_id": st.sampled_from(["a", 1]) | values,
        "user_id": st.sampled_from(["u", 2]) | values,
        "timestamp": times | times | values,
        "event_id": values,
        "week": st.just("2023-W24") | values,
        "group": values,
    },
)
logs = st.lists(events | st.lists(events | values, max_size=4), max_size=12)


def encoded(log: Sequence[Any]) -> list[bytes]:
    return [json.dumps(value).encode() for value in log]


def in_another_form(value: Any) -> Any:
    return [renamed(event) for event in value] if isinstance(value, list) else renamed(value)


@given(log=logs, hours=st.sampled_from([0, 24]), exposures=st.booleans(), cap=st.sampled_from([0, 1]))
def test_under_other_names_everything_counts_as_under_ours(
    log: list[Any], hours: int, exposures: bool, cap: int
) -> None:
    options: dict[str, Any] = {"duplicate_hours": hours, "exposures": exposures, "plays_cap": cap}
    theirs = encoded([in_another_form(value) for value in log])
    ours = count(log_of(encoded(log)), **options)
    assert without_bytes(count(log_of(theirs), mapping=RENAMED, **options)) == without_bytes(ours)


def test_what_is_remembered_between_spans_is_known_by_what_the_mapping_reads(redis: Redis, prefix: str) -> None:
    """Ids of events, and plays of a user and track, in Redis and in a recount: as of events in our words."""
    ours = [wire(track_id=f"t{n % 2}", event_id=f"e{n % 3}") for n in range(8)]
    theirs = [json.dumps(renamed(json.loads(event))).encode() for event in ours]
    found = []
    more = parse_mapping('[ids.track_id]\nadd = "x:"')
    for name, values, mapping in (("ours", ours, None), ("theirs", theirs, RENAMED), ("more", ours, more)):
        of = rules(topic="t", duplicate_hours=24, plays_cap=1, mapping=mapping)
        store = CounterStore(redis, f"{prefix}{name}", 3)
        store.init(0, 0, "id", {})
        recount, decide = Recount(of, 0, store.slice_of), deciding(store, of)
        for offset, record in enumerate(log_of(values)):
            batch = Batch(0, offset, offset + 1, [record])
            recount.add(batch)
            for part in decide(batch, store.fences([0])[0].stream_time):
                store.apply(0, "id", part)
        found += [store.fences([0])[0].tallies, dict(recount.tallies)]
    assert found == [{"counted": 2, "capped": 2, "duplicate": 4}] * 6


@given(log=logs)
def test_a_mapping_of_nothing_changes_nothing_not_even_what_is_set_aside(log: list[Any]) -> None:
    assert count(log_of(encoded(log)), mapping=NOTHING) == count(log_of(encoded(log)))


def test_events_that_are_plain_in_our_words_are_read_through_the_mapping_too() -> None:
    mapping = parse_mapping('[ids.track_id]\nadd = "x:"')
    assert {track for _, _, track in count(log_of([wire(), array(wire(), wire())]), mapping=mapping).counts} == {"x:a"}


def test_the_dirt_of_a_known_log_ends_as_it_does_without_a_mapping() -> None:
    values = [sending.value for sending in known_log(3, 2000, 1)]
    assert count(log_of(values), mapping=NOTHING) == count(log_of(values))


@given(value=st.binary(max_size=80) | st.binary(max_size=80).map(lambda some: FRAME + some))
@example(value=b'{"payload": ' * 500 + b"1" + b"}" * 500)
@example(value=b'{"at": 1e999, "payload": {"who": 1e999}}')
@example(value=b"\0")
@example(value=FRAME + b"[[],{}]")
def test_any_bytes_are_events_or_dead(value: bytes) -> None:
    for mapping in (NOTHING, RENAMED, EVERYTHING):
        assert read(mapping, value)
        assert len(mapping.decode(value)) == len(mapping.elements(value))


EVERYTHING = parse_mapping("""
[fields]
event_type = ["at", "payload.who", "event_type"]
track_id = ["payload.who", "track_id"]
user_id = ["at", "user_id"]
timestamp = ["at", "timestamp"]
[event_types]
started = "play"
"1" = "skip"
"*" = "like"
[ids.track_id]
strip = "a"
kind = "uuid"
add = "b:"
[ids.user_id]
add = "u"
[timestamp]
format = "unix_ms"
[constants]
user_id = 7
""")
UUIDS = ("0B8F6F6E-5C3D-4E9A-8F5D-0D7C2B1A3E4F", "a0b8f6f6e5c3d4e9a8f5d0d7c2b1a3e4f", "urn:uuid:zz")
anything = st.recursive(
    values | st.floats() | st.sampled_from([1686996590547, "1686996590547", 10**400, "nan", *UUIDS]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["who", "id", "song"]), inner, max_size=2)
    ),
    max_leaves=4,
)
objects = st.dictionaries(
    st.sampled_from(["at", "payload", "event_type", "track_id", "user_id", "timestamp", "event_id"]), anything
)


@given(value=objects | st.lists(objects | anything, max_size=3), frame=st.sampled_from([b"", FRAME]))
@example(value=[[fields(), fields()]], frame=b"")  # an array in an array is one dead event
def test_what_is_rewritten_ends_as_the_consumer_would_have_had_it_end(value: Any, frame: bytes) -> None:
    theirs = frame + json.dumps(value).encode()
    for mapping in (NOTHING, RENAMED, EVERYTHING):
        rewritten = [verdict(raw) for line in mapping.rewrite(theirs) for raw in decode(line)]
        assert rewritten == read(mapping, theirs)


def test_numbers_that_json_can_write_and_python_cannot_are_dead_either_way() -> None:
    for text in (b"1e999", b"9" * 5000):
        theirs = wire().replace(b'"a"', text)
        assert read(NOTHING, theirs) == [verdict(raw) for raw in decode(NOTHING.rewrite(theirs)[0])]


# Where fields are


def test_of_several_paths_the_first_that_leads_to_something_counts() -> None:
    text = '[fields]\nuser_id = ["user.id", "device"]'
    for user, expected in (
        ({"id": 5}, "5"),
        ({"id": ""}, "d"),
        ({"id": None}, "d"),
        ({}, "d"),
        ("text", "d"),
        ([1], "d"),
    ):
        found = only(text, **fields(user=user, device="d"))
        assert isinstance(found, SessionEvent)
        assert found.user_id == expected
    assert only(text, **fields(user={}, device="")) == "user_id"


def test_a_dot_may_be_part_of_a_name() -> None:
    found = only('[fields]\ntrack_id = "payload.song"', **{**fields(track_id=None), "payload.song": "x"})
    assert isinstance(found, SessionEvent)
    assert found.track_id == "x"


def test_a_field_that_is_mapped_is_not_looked_for_under_our_name() -> None:
    assert only('[fields]\ntrack_id = "song"', **fields()) == "track_id"


def test_an_envelope_with_a_schema_is_looked_into() -> None:
    text = "".join(f'{name} = "payload.{name}"\n' for name in ("event_type", "track_id", "user_id", "timestamp"))
    assert only(f"[fields]\n{text}", schema={"type": "struct"}, payload=fields()) == only("", **fields())
    assert only(f"[fields]\n{text}", schema={"type": "struct"}, payload=None) == "event_type"


def test_a_schema_id_before_the_json_is_passed_over_and_stays_on_each_letter() -> None:
    value = FRAME + array(wire(), b"17", wire(track_id=None))
    assert [found if isinstance(found, str) else "event" for found in read(NOTHING, value)] == [
        "event",
        "json",
        "track_id",
    ]
    aside = count(log_of([value, FRAME + b"\1\2"]), mapping=NOTHING).aside
    assert [(cause, index, letter) for _, cause, _, index, letter in aside] == [
        ("json", 1, FRAME + b"17"),
        ("track_id", 2, FRAME + wire(track_id=None)),
        ("json", 0, FRAME + b"\1\2"),
    ]


def test_letters_are_the_bytes_that_came() -> None:
    theirs = [b'{"payload" : {"what":"play", "odd": 1.50}, "at": 3}', b" [17 , {} ]", None]
    assert [letter for *_, letter in count(log_of(theirs), mapping=RENAMED).aside] == [theirs[0], b"17", b"{}", None]


# How fields are written

TYPES = """
[event_types]
"Track Started" = "play"
thumbs_up = "like"
3 = "skip"
true = "play"
"*" = "ignored"
"""


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(("TRACK STARTED", 0), ("track started", 0), (3, 1), ("3", 1), (True, 0), ("Skip", 1)),
        *(("unheard of", "ignored"), ("Advertisment", "ignored"), (4, "ignored"), (False, "ignored")),
        *((None, "event_type"), ("", "event_type"), (3.0, "event_type"), ([], "event_type"), ({}, "event_type")),
    ],
)
def test_event_types_have_other_names_in_any_case(theirs: Any, ours: int | str) -> None:
    found = only(TYPES, **fields(event_type=theirs))
    assert (found.kind if isinstance(found, SessionEvent) else found) == ours


def test_without_a_star_a_name_that_is_not_listed_is_dead() -> None:
    assert only('[event_types]\nstarted = "play"', **fields(event_type="sang")) == "event_type"


UUID = "0b8f6f6e-5c3d-4e9a-8f5d-0d7c2b1a3e4f"


@pytest.mark.parametrize(
    ("rule", "theirs", "ours"),
    [
        ('strip = "spotify:track:"', "spotify:track:4p8Q", "4p8Q"),
        ('strip = "spotify:track:"', "4p8Q", "4p8Q"),
        ('strip = "spotify:track:"', "spotify:track:", None),
        ('add = "mb:"', 17, "mb:17"),
        ('add = "mb:"', "", None),
        ('add = "mb:"', None, None),
        ('kind = "uuid"', UUID.upper(), UUID),
        ('kind = "uuid"', f"{{{UUID}}}", UUID),
        ('kind = "uuid"', UUID.replace("-", ""), UUID),
        ('kind = "uuid"', "4p8Q", None),
        ('kind = "uuid"', 17, None),
        ('kind = "uuid"\nstrip = "x:"\nadd = "mb:"', f"x:{UUID.upper()}", f"mb:{UUID}"),
        ('kind = "any"', 17, "17"),
        ('add = "mb:"', 1.0, None),
        ('add = "mb:"', True, None),
        ('add = "mb:"', {"$oid": "1"}, None),
    ],
)
def test_ids_of_any_kind(rule: str, theirs: Any, ours: str | None) -> None:
    found = only(f"[ids.track_id]\n{rule}", **fields(track_id=theirs))
    assert (found.track_id if isinstance(found, SessionEvent) else found) == (ours or "track_id")


NO_TIMES: list[Any] = [10**400, 10**15, "nan", "inf", "", None, True, [], {"a": 1}, "noon"]


@pytest.mark.parametrize(
    ("form", "theirs", "ours"),
    [
        ("unix_s", 1686996590, "2023-06-17T10:09:50"),
        ("unix_s", 1686996590.547, "2023-06-17T10:09:50.547000"),
        ("unix_s", "1686996590", "2023-06-17T10:09:50"),
        ("unix_ms", 1686996590547, "2023-06-17T10:09:50.547000"),
        ("unix_us", 1686996590547001, "2023-06-17T10:09:50.547001"),
        ("unix_ns", 1686996590547001000, "2023-06-17T10:09:50.547001"),
        ("unix_s", -1, "1969-12-31T23:59:59"),
        ("unix_s", "2023-06-17T10:09:50Z", "2023-06-17T10:09:50"),
        *[("unix_s", wrong, None) for wrong in NO_TIMES],
        ("iso", 1686996590, None),
    ],
)
def test_times_as_numbers(form: str, theirs: Any, ours: str | None) -> None:
    found = only(f'[timestamp]\nformat = "{form}"', **fields(timestamp=theirs))
    shown = found.event_time.isoformat().removesuffix("+00:00") if isinstance(found, SessionEvent) else found
    assert shown == (ours or "timestamp")


def test_a_constant_stands_where_nothing_is() -> None:
    text = '[constants]\nevent_type = "play"\nuser_id = 7'
    found = only(text, timestamp="2023-06-17", track_id="a")
    assert isinstance(found, SessionEvent)
    assert (found.kind, found.user_id) == (0, "7")
    assert only(text, **fields(event_type="skip", user_id="u")) == only("", **fields(event_type="skip", user_id="u"))


# The data of the field


@pytest.mark.parametrize("form", [lambda event: event, renamed], ids=["ours", "renamed"])
def test_the_data_of_the_field_is_counted_the_same(listening_data: Path, form: Callable[[Any], Any]) -> None:
    lines = (listening_data / "sessions" / "sessions_dirty.jsonl").read_bytes().splitlines()
    theirs = [json.dumps(form(json.loads(line))).encode() for line in lines]
    options: dict[str, Any] = {"weeks_kept": 520, "mapping": NOTHING if form is not renamed else RENAMED}
    totals = count(log_of(theirs), **options)
    causes = {"dead:event_type": 1333, "dead:track_id": 1060, "dead:user_id": 997}
    assert totals.outcomes == {"counted": 19417, "ignored": 3540, "dead": 3390, **causes}
    assert totals.counts == count(log_of(lines), weeks_kept=520).counts


# The file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[fields", "expected TOML: "),
        ('[fields]\nsong = "a"', "fields.song: expected 'event_type', 'track_id'"),
        ('[fields]\ntrack_id = "a..b"', "fields.track_id: expected names with a dot between them"),
        ("[fields]\ntrack_id = []", "fields.track_id: List should have at least 1 item"),
        ("[fields]\ntrack_id = 7", "fields.track_id: expected a valid string, found 7"),
        ('[event_types]\na = "sing"', "event_types.a: expected one of play, skip, like, advertisement, advertisment"),
        ('[event_types]\na = "play"\nA = "skip"', "event_types: expected each name once in any case"),
        ("[tracks]", "tracks: there is no such entry"),
        ('[ids.session_id]\nadd = "a"', "ids.session_id: expected 'track_id', 'user_id' or 'event_id'"),
        ('[ids.track_id]\nkind = "int"', "ids.track_id.kind: expected 'any' or 'uuid', found 'int'"),
        ('[timestamp]\nformat = "rfc"', "timestamp.format: expected 'iso', 'unix_s'"),
        ("[constants]\nuser_id = true", "constants.user_id: expected a valid string, found True"),
        ('[constants]\nevent_type = "listen"', "constants.event_type: expected one of play"),
        ('[tracks]\n[timestamp]\nformat = "rfc"', "; tracks: there is no such entry"),
    ],
)
def test_a_file_that_makes_no_sense_says_where_and_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(MappingError) as error:
        parse_mapping(text)
    assert expected in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, content in (("none.toml", None), ("latin.toml", b"# \xe9"), ("bad.toml", b"[fields")):
        if content is not None:
            (tmp_path / path).write_bytes(content)
        with pytest.raises(MappingError, match=f"mapping file .*{path}"):
            load_mapping(tmp_path / path)


def test_the_fingerprint_is_of_what_the_file_says() -> None:
    texts = [
        "",
        '[timestamp]\nformat = "unix_s"',
        '[ids.user_id]\nadd = "a"',
        '[event_types]\nx = "play"',
        '[fields]\nweek = "a"',
    ]
    assert len({parse_mapping(text).fingerprint for text in texts}) == len(texts)
    assert parse_mapping("# nothing").fingerprint == NOTHING.fingerprint


def test_other_processes_get_the_same_mapping() -> None:
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING
