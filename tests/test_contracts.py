"""The documents that others build on: as the command writes them, and as the decoder does it."""

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.kafka import read_to_end
from consumers.tracks import read_entries
from features.duplicates import EPOCH
from features.events import CAUSES, EXPOSURE, IGNORED, KINDS
from features.fence import accounted
from features.reader import catalogue_of
from features.topics import Topics
from features.tracks import Track
from hitparade import wiring
from hitparade.commands.mending import LETTER_CAUSES
from hitparade.embedded import Embedded
from hitparade.settings import Settings
from producers import contracts
from producers.playlists import Evaluation, Playlist
from producers.publisher import Message
from producers.schemas import SCHEMAS
from producers.topics import topic_specs
from producers.triggers import Trigger
from tests.builders import Record, array, log_of
from tests.builders_counting import Counted, counted_on, letters_of
from tests.builders_weekly import Stage, staged
from tests.compatible import Draft7Validator, yaml
from tests.node import node_modules
from tests.servers import ROOT
from tests.test_tally import count

DOCS = ROOT / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
SAID = re.compile(r"Key: (\S+)\. .*?(?:Ends as: (.*)\.)?")


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "schemas" / f"{name}.json").read_text())
    return found


EVENT, TRACK = Draft7Validator(schema("session-event")), Draft7Validator(schema("track"))


# The documents are those that the command writes, and their own tools take them.


def test_what_is_checked_in_is_what_the_command_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "producers.contracts", str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*")}
    files = [DOCS / "asyncapi.yaml", *(DOCS / "schemas").iterdir()]
    assert written == {str(path.relative_to(DOCS)): path.read_text() for path in files}, (
        "run python -m producers.contracts"
    )


def test_the_yaml_is_the_document() -> None:
    assert json.loads(json.dumps(contracts.asyncapi())) == DOCUMENT


def test_asyncapis_own_parser_takes_the_document() -> None:
    command = ["node", "tests/asyncapi.mjs", str(node_modules("@asyncapi/parser")), "docs/asyncapi.yaml"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    found = ended.stdout.splitlines()
    assert [line for line in found if not line.startswith("2 asyncapi-latest-version")] == [], ended.stderr
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [("asyncapi.yaml", 'action: "send"', 'action: "give"'), ("schemas/track.json", '"object"', '"thing"')],
)
def test_asyncapis_own_parser_refuses_what_is_wrong(file: str, right: str, wrong: str, tmp_path: Path) -> None:
    contracts.write(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(right, wrong, 1))
    command = ["node", "tests/asyncapi.mjs", str(node_modules("@asyncapi/parser")), str(tmp_path / "asyncapi.yaml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "0 asyncapi-" in ended.stdout


def test_asyncapis_schema_takes_the_document() -> None:
    folder = node_modules("@asyncapi/specs") / "@asyncapi" / "specs" / "schemas"
    validator = Draft7Validator(json.loads((folder / "3.0.0-without-$id.json").read_text()))
    assert [(error.json_path, error.message) for error in validator.iter_errors(DOCUMENT)] == []
    del DOCUMENT_WITHOUT_ACTION["operations"]["receive_tracks"]["action"]
    assert not validator.is_valid(DOCUMENT_WITHOUT_ACTION)


DOCUMENT_WITHOUT_ACTION = copy.deepcopy(DOCUMENT)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_says_what_it_is_about(name: str) -> None:
    Draft7Validator.check_schema(schema(name))
    for field, part in fields_of(schema(name)):
        assert {*part} & {"description", "pattern", "type", "enum"}, field


def fields_of(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        yield from part.get("properties", {}).items()
        for inner in part.values():
            yield from fields_of(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from fields_of(inner)


def test_the_topics_are_those_that_are_made_with_the_default_settings() -> None:
    default = Settings.from_env({})
    specs = topic_specs(default.topics, default.partitions, default.weeks_kept)
    found = {}
    for channel in DOCUMENT["channels"].values():
        topic = channel["bindings"]["kafka"]
        assert channel["address"].format(prefix=channel["parameters"]["prefix"]["default"]) == topic["topic"]
        found[topic["topic"]] = (topic["partitions"], topic["topicConfiguration"])
    assert found == {
        spec.name: (
            spec.partitions,
            {
                k: [v] if k == "cleanup.policy" else int(v) if v.lstrip("-").isdigit() else v
                for k, v in spec.configs.items()
            },
        )
        for spec in specs
    }
    assert len(found) == len([name for name in vars(Topics) if isinstance(getattr(Topics, name), property)])


def test_the_schemas_name_every_field_and_word_of_the_models() -> None:
    assert schema("track")["properties"].keys() == Track.model_fields.keys()
    assert schema("trigger")["properties"].keys() == Trigger.model_fields.keys()
    assert schema("playlist")["properties"].keys() == Playlist.model_fields.keys()
    assert schema("evaluation")["properties"].keys() == Evaluation.model_fields.keys()
    assert set(schema("letter-headers")["properties"]["hitparade-cause"]["enum"]) == set(LETTER_CAUSES) >= set(CAUSES)
    for model, name in ((Playlist, "playlist"), (Evaluation, "evaluation")):
        assert all(schema(name)["properties"][field]["description"] for field in model.model_fields)


# JSON Schema and the decoder say the same.

GOOD_TIMES = (
    st.integers(10**12, 4 * 10**15)
    .map(lambda n: EPOCH + timedelta(microseconds=n))
    .flatmap(
        lambda time: st.sampled_from(
            [
                time.isoformat(),
                f"{time:%Y-%m-%dT%H:%M:%S.%f}",
                f"{time:%Y-%m-%dT%H:%M:%SZ}",
                f"{time:%Y-%m-%dt%H:%M:%Sz}",
                f"{time:%Y-%m-%d %H:%M:%S.%fz}",
                f"{time:%Y-%m-%d %H:%M:%S,%f+0530}",
                f"{time:%Y-%m-%d_%H:%M-03:00}",
                f"{time:%Y%m%dT%H%M%S.%f+01}",
                f"{time:%Y%m%dT%H%M}",
                f"{time:%Y-%m-%d}",
                f"{time:%Y%m%d}",
                f"{time:%G-W%V-%u}",
                f"{time:%GW%V%uT%H}",
                f"{time:%G-W%V}",
                f"{time:%GW%V}",
                f"{time:%Y-%m-%dT%H:%M:%S}+23:59:59.5",
            ]
        )
    )
)
BAD_TIMES = st.sampled_from(
    "|yesterday|2023-06|2023-168|17.06.2023|2023/06/17|1687000000|2023-06-17T|2023-06-17T1|2023-06-17T10:0950|T10:09:50|"
    "2023-06-17T10:09:50.|2023-06-17T10:09:50+1|2023-06-17T10:09:50 CET|23-06-17|2023-6-17|2023-W5|2023-06-17T10Zulu|"
    "2023-06-17T10:09:50Z\n|\n2023-06-17|\uff12023-06-17|2023-06-17T10:09:50+01:|2023-06-17_10:09:50z".split("|")
)
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.just([]), st.just({}), st.just(["a"]), st.sampled_from([1.5, -0.1])
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
IDS = st.one_of(TEXTS, st.integers(), st.sampled_from([10**30, -(2**70), 10**700, "\x00", "😀"]), JUNK)
TYPES = st.one_of(
    st.sampled_from([*KINDS, *IGNORED, "PLAY", "Skip", "li\u212ae", "buy_Premium", "play\n", " play", "pla", "plays"]),
    TEXTS,
    JUNK,
)
WEEKS = st.one_of(
    st.sampled_from(["2023-W01", "2020-W53", "0001-W01", "2023-W1", "2023-W011", "2023W01", "2023-W25\n", ""]),
    TEXTS,
    JUNK,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "event_type": TYPES,
        "track_id": IDS,
        "user_id": IDS,
        "timestamp": st.one_of(GOOD_TIMES, BAD_TIMES, JUNK, st.integers()),
        "event_id": IDS,
        "week": WEEKS,
        "group": IDS,
        "other": JUNK,
    },
)
NEARLY = st.fixed_dictionaries(
    {"event_type": st.sampled_from([*KINDS, EXPOSURE]), "track_id": TEXTS, "user_id": IDS, "timestamp": GOOD_TIMES},
    optional={"event_id": IDS, "week": WEEKS, "group": IDS},
)


def ends(value: Any) -> Counter[str]:
    """How the events of a record end, without the causes."""
    outcomes = count(log_of([json.dumps(value).encode()]), exposures=True).outcomes
    return Counter({name: n for name, n in outcomes.items() if ":" not in name})


def agrees(event: Any) -> None:
    takes = EVENT.is_valid(event)
    assert ends(event) == Counter([*ends(event)][:1])
    assert ends(event)["dead"] == (not takes), event


@given(EVENTS)
@settings(max_examples=250, deadline=None)
def test_an_event_is_dead_if_and_only_if_the_schema_refuses_it(event: dict[str, Any]) -> None:
    agrees(event)


@given(NEARLY)
@settings(max_examples=200, deadline=None)
def test_the_same_of_events_that_are_nearly_right(event: dict[str, Any]) -> None:
    agrees(event)


@pytest.mark.parametrize("missing", [None, "event_type", "track_id", "user_id", "timestamp"])
@pytest.mark.parametrize("kind", ["play", "SKIP", "li\u212ae"])
def test_an_event_needs_four_fields(missing: str | None, kind: str) -> None:
    event = {"event_type": kind, "track_id": "a", "user_id": "u", "timestamp": "2023-06-17"}
    event.pop(missing or "", None)
    assert EVENT.is_valid(event) == (missing is None)
    agrees(event)


@pytest.mark.parametrize("missing", [None, "user_id", "timestamp", "week", "group"])
def test_an_exposure_needs_all_of_its_fields(missing: str | None) -> None:
    event = {"event_type": "Exposure", "user_id": "u", "timestamp": "2023-06-17", "week": "2023-W24", "group": "g"}
    event.pop(missing or "", None)
    assert EVENT.is_valid(event) == (missing is None)
    assert EVENT.is_valid(event) == Draft7Validator(schema("exposure")).is_valid(event)
    agrees(event)


@given(st.one_of(JUNK, st.integers(), TEXTS))
def test_what_is_no_object_is_no_event(value: Any) -> None:
    assert not EVENT.is_valid(value)
    if not isinstance(value, list | dict):
        assert ends(value) == {"dead": 1}


@given(st.lists(st.one_of(NEARLY, EVENTS), max_size=3))
@settings(max_examples=200, deadline=None)
def test_an_array_is_taken_where_it_has_events_and_none_is_dead(events: list[Any]) -> None:
    takes = Draft7Validator(schema("sessions")).is_valid(events)
    assert takes == (ends(events)["dead"] == 0 and bool(events))


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "2023-02-30"},
        {"timestamp": "2023-06-17T25:00:00"},
        {"timestamp": "0000-01-01"},
        {"timestamp": "2023-W54"},
        {"timestamp": "2023-06-17T10:00:00+24:00"},
        {"track_id": 1.0},
        {"user_id": "\ud800"},
        {"event_type": EXPOSURE, "week": "2023-W53", "group": "g"},
        {"other": json.loads("[" * 101 + "]" * 101)},
    ],
)
def test_what_json_schema_cannot_say_is_dead_all_the_same(change: dict[str, Any]) -> None:
    event = {"event_type": "play", "track_id": "a", "user_id": "u", "timestamp": "2023-06-17", **change}
    assert EVENT.is_valid(event)
    assert ends(event) == {"dead": 1}


NUMBERS = st.one_of(JUNK, st.integers(-9, 9), st.just("a text"))
TRACKS = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "name": IDS,
        "id_artist": IDS,
        "release_date": st.sampled_from(["2019", "2019-07", "2019-07-05", "2019-7", "2019\n", "", None, 2019]),
        "tempo": NUMBERS,
        "explicit": NUMBERS,
        "other": JUNK,
    },
)


@given(TRACKS)
@settings(max_examples=200, deadline=None)
def test_a_track_is_read_if_and_only_if_the_schema_takes_it(track: dict[str, Any]) -> None:
    try:
        Track.model_validate_json(json.dumps(track))
    except ValueError:
        is_read = False
    else:
        is_read = True
    assert is_read == TRACK.is_valid(track)


@pytest.mark.parametrize(
    ("field", "value", "is_read"),
    [
        *[("explicit", True, True), ("explicit", None, True), ("tempo", 118.2, True), ("tempo", [], False)],
        *[("name", None, True), ("name", 7, False), ("id_artist", 7, True), ("release_date", "2019-7", False)],
        *[("id", 7, True), ("id", "", False), ("id", None, False), ("id", True, False)],
    ],
)
def test_a_field_of_a_track_is_taken_or_it_is_not(field: str, value: Any, is_read: bool) -> None:
    track = {"id": "a", field: value}
    assert TRACK.is_valid(track) == is_read
    part = next(iter(read_entries([Record(0, json.dumps(track).encode(), 0)], 0, 1)))
    assert part.tallies["counted"] == is_read


ENDS = st.dictionaries(st.sampled_from(["0", "17", "", "x", "1\n"]), st.integers(-1, 2), max_size=2)
TRIGGERS = st.fixed_dictionaries(
    {
        "closed_week": st.sampled_from(["2023-W24", "2023-W1", "2023-W24\n", ""]),
        "reason": st.sampled_from(["schedule", "manual", "mood"]),
        "topic_ids": st.fixed_dictionaries({"sessions": TEXTS, "tracks": TEXTS}, optional={"x": TEXTS}),
        "cut": st.fixed_dictionaries({"sessions": ENDS}, optional={"tracks": ENDS}),
    },
    optional={"more": st.just(1)},
)


@given(TRIGGERS)
@settings(max_examples=200, deadline=None)
def test_a_trigger_is_read_if_and_only_if_the_schema_takes_it(trigger: dict[str, Any]) -> None:
    try:
        Trigger.model_validate_json(json.dumps(trigger))
    except ValueError:
        is_read = False
    else:
        is_read = True
    assert is_read == Draft7Validator(schema("trigger")).is_valid(trigger)


@pytest.mark.parametrize(("partition", "end", "is_read"), [("0", 0, True), ("0", -1, False), ("x", 0, False)])
def test_an_end_is_of_a_partition_and_not_below_0(partition: str, end: int, is_read: bool) -> None:
    trigger = copy.deepcopy(examples("triggers")[0][2]["payload"])
    trigger["cut"]["tracks"][partition] = end
    assert Draft7Validator(schema("trigger")).is_valid(trigger) == is_read
    if is_read:
        assert Trigger.model_validate(trigger)
    else:
        with pytest.raises(ValueError, match="cut"):
            Trigger.model_validate(trigger)


# Every example of the documents is sent, and read as they say.


def examples(topic: str) -> list[tuple[str, dict[str, int], dict[str, Any]]]:
    """Key, how its events end, and the example itself."""
    found = []
    for example in DOCUMENT["channels"][topic]["messages"]["record"]["examples"]:
        said = SAID.fullmatch(example["summary"])
        assert said, example["summary"]
        outcome = {part.split(" ")[1]: int(part.split(" ")[0]) for part in (said[2] or "").split(", ") if part}
        found.append((said[1], outcome, example))
    return found


def wire_of(example: dict[str, Any]) -> bytes:
    return json.dumps(example["payload"]).encode()


@pytest.fixture
def sessions(embedded_stack: Embedded, redis: Any, redis_url: str, prefix: str, tmp_path: Path) -> Counted:
    """A topic on which exposures and duplicates are told of."""
    options = {"EXPOSURES": "true", "DUPLICATE_HOURS": "24"}
    return counted_on(embedded_stack.kafka, redis, redis_url, prefix, tmp_path, **options)


@pytest.fixture
def stage(embedded_stack: Embedded, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(embedded_stack.kafka, redis_url, prefix, tmp_path) as stage:
        yield stage


def test_every_example_of_an_event_ends_as_the_document_says(sessions: Counted) -> None:
    validator, stood = Draft7Validator(schema("sessions")), Counter[str]()
    assert len(examples("sessions")) == 4
    for key, outcome, example in examples("sessions"):
        validator.validate(example["payload"])
        sessions.send((0, key.encode(), wire_of(example)))
        sessions.count()
        stands = Counter(accounted([fence.tallies for fence in sessions.store.fences([0, 1]).values()]))
        assert stands - stood == Counter(outcome), example["name"]
        stood = stands


def test_every_example_of_a_letter_is_what_becomes_of_the_event_that_it_shows(sessions: Counted) -> None:
    play = wire_of(examples("sessions")[0][2])
    shown = [(topic, *examples(topic)[0]) for topic in ("late", "dead_sessions")]
    sessions.send((0, b"k", play))
    for _, key, _, example in shown:
        place = int(example["headers"]["hitparade-index"])
        events = [play] * place + [wire_of(example)]
        sessions.send((0, key.encode(), array(*events) if place else events[0]))
    sessions.consume()
    for offset, (topic, key, _, example) in enumerate(shown, 1):
        (letter,) = letters_of(sessions, getattr(sessions.settings.topics, topic))
        assert (letter.key, json.loads(letter.value)) == (key.encode(), example["payload"])
        headers = {name: value.decode() for name, value in letter.headers}
        Draft7Validator(schema("letter-headers")).validate(headers)
        assert Draft7Validator(schema("letter-headers")).is_valid(example["headers"])
        here = {"hitparade-topic": sessions.topic, "hitparade-offset": str(offset)}
        assert headers == {**example["headers"], **here}
        assert example["headers"]["hitparade-topic"] == Topics().sessions


def test_every_example_of_a_track_is_in_the_catalogue_until_it_is_taken_down(stage: Stage) -> None:
    assert DOCUMENT["channels"]["tracks"]["messages"]["tombstone"]["payload"] == {"type": "null"}
    ((key, _, example),) = examples("tracks")
    TRACK.validate(example["payload"])
    topic = stage.settings.topics.tracks
    stage.publisher.publish([Message(topic, key.encode(), wire_of(example), partition=0)])
    assert key in shown_tracks(stage, key)
    stage.publisher.publish([Message(topic, key.encode(), None, partition=0)])
    assert shown_tracks(stage, key) == {}


def shown_tracks(stage: Stage, key: str) -> dict[str, str]:
    stage.count_tracks()
    return catalogue_of(wiring.track_store(stage.settings), [0, 1], [key])


def test_the_example_of_a_dead_track_is_what_becomes_of_it(stage: Stage) -> None:
    ((key, _, example),) = examples("dead_tracks")
    (part,) = read_entries([Record(0, wire_of(example), 0, key.encode())], 0, 1)
    (letter,) = part.set_aside
    assert not TRACK.is_valid(example["payload"])
    assert letter.cause == example["headers"]["hitparade-cause"]
    Draft7Validator(schema("letter-headers")).validate(example["headers"])


@pytest.mark.parametrize(
    ("topic", "name", "model"),
    [("triggers", "trigger", Trigger), ("playlists", "playlist", Playlist), ("evaluations", "evaluation", Evaluation)],
)
def test_every_example_of_what_we_write_is_what_we_write_and_read(
    stage: Stage, topic: str, name: str, model: Any
) -> None:
    address = getattr(stage.settings.topics, topic)
    for key, _, example in examples(topic):
        Draft7Validator(schema(name)).validate(example["payload"])
        made = model.model_validate(example["payload"])
        message = made.message(address)
        headers = tuple((header, text.encode()) for header, text in example["headers"].items())
        assert (message.key, json.loads(message.value), message.headers) == (key.encode(), example["payload"], headers)
        stage.publisher.publish([message])
        record = read_to_end(stage.settings.kafka, address, [0], {})[-1]
        assert model.model_validate_json(record.value) == made
        assert tuple(record.headers) == headers


def test_the_lists_of_the_examples_have_the_ids_of_their_content_and_follow_one_another() -> None:
    first, second = (Playlist.model_validate(example["payload"]) for _, _, example in examples("playlists"))
    assert (first.id, second.id) == (first.content_id(), second.content_id())
    assert first.following(None) == first
    assert second.following(first) == second
