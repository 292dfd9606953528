"""docs/integrating.md as it stands there; and events of others, from a real broker to the counters and back."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumers.kafka import read_to_end
from features.events import BadRecord, SessionEvent, decode, parse
from features.history import History
from features.mapping_file import parse_mapping
from features.tracks import Track
from producers.publisher import Message, Publisher
from tests.builders import MONDAY, WEEK, array, play
from tests.builders_counting import PARTITIONS, Counted, letters_of
from tests.commands import Command, Ended, run
from tests.servers import KAFKA, ROOT
from tests.stored import stored
from tests.test_mapping import FRAME, renamed

PAGE = (ROOT / "docs" / "integrating.md").read_text(encoding="utf-8")
TRACK = "4p8QcNkaq2FQj8uGJ7HEDK"
CONNECT = {"renamed": "row", "extracted": "change", "enveloped": "row"}


def shown(name: str) -> str:
    """An example of the page."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"no {name} in integrating.md"
    return found[1]


def read(value: str | bytes, mapping: str | None = None) -> SessionEvent | None:
    """The only event of a value, under a mapping of the page."""
    content = value.encode() if isinstance(value, str) else value
    (raw,) = parse_mapping(shown(mapping)).decode(content) if mapping is not None else decode(content)
    assert not isinstance(raw, BadRecord), raw
    return parse(raw)


# The page


def test_the_first_record_is_the_second_with_the_mapping_in_the_consumer_and_in_the_producer() -> None:
    assert read(shown("theirs"), "mapping") == read(shown("ours"))
    (rewritten,) = parse_mapping(shown("mapping")).rewrite(shown("theirs").encode())
    assert {**json.loads(rewritten), "user_id": 101} == json.loads(shown("ours"))
    stopped = shown("theirs").replace("STARTED", "paused")
    assert read(stopped, "mapping") is None
    assert read(stopped.replace("paused", "Next Track"), "mapping")


def test_what_is_left_out_of_the_mapping_can_be_put_in() -> None:
    text = re.sub(r"^# (?=kind|add|\[constants|event_type)", "", shown("mapping"), flags=re.MULTILINE)
    uuid = "0B8F6F6E5C3D4E9A8F5D0D7C2B1A3E4F"
    theirs = shown("theirs").replace(TRACK, uuid).replace('"action": "STARTED", ', "")
    (raw,) = parse_mapping(text).decode(theirs.encode())
    assert not isinstance(raw, BadRecord)
    assert (raw.event_type, raw.track_id) == ("play", "spotify:0b8f6f6e-5c3d-4e9a-8f5d-0d7c2b1a3e4f")


def test_json_of_avro_is_led_through() -> None:
    assert read(shown("avro"), "avro-mapping") == read(shown("ours"))


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Kafka Connect's own transforms and converter make of a row, by the properties of the page."""
    folder = tmp_path_factory.mktemp("connect")
    for name in CONNECT:
        (folder / name).write_text(shown(f"connect-{name}"))
    flattened = (
        shown("connect-extracted").replace("ExtractField", "Flatten").replace("transforms.row.field=after\n", "")
    )
    (folder / "flattened").write_text(flattened)
    changed = shown("connect-enveloped")
    (folder / "changed").write_text(changed)
    wanted = {**CONNECT, "flattened": "change", "changed": "change"}
    program = ROOT / "tests" / "reference" / "ConnectTransforms.java"
    files = [f"{name}:{kind}" for name, kind in wanted.items()]
    command = ["java", "-cp", f"{KAFKA}/libs/*", str(program), *files]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return dict(zip(wanted, ended.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("name", CONNECT)
def test_kafka_connect_writes_what_the_page_says(connected: dict[str, str], name: str) -> None:
    assert connected[name] == shown(f"connect-{name}-record").strip()


def test_what_connect_has_renamed_needs_no_mapping(connected: dict[str, str]) -> None:
    assert read(connected["renamed"]) == read(shown("ours"))


@pytest.mark.parametrize("name", ["extracted", "enveloped", "flattened", "changed"])
def test_one_mapping_reads_rows_however_connect_writes_them(connected: dict[str, str], name: str) -> None:
    assert read(connected[name], "connect-mapping") == read(shown("ours"))


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """`hitparade import` in a folder that holds the examples of the page."""
    monkeypatch.chdir(tmp_path)
    for name in ("weekly.csv", "listens.jsonl", "scrobbles.tsv"):
        (tmp_path / name).write_text(shown(name), encoding="utf-8")
    return lambda *arguments: run(capsys, "import", *arguments)


def test_the_history_of_the_page_is_imported(cli: Callable[..., Ended], tmp_path: Path) -> None:
    assert cli("history", "weekly.csv", "--tracks", "tracks.jsonl").code == 0
    found = History(tmp_path / "data" / "history").read(["2023-W24", "2023-W25"])
    assert list(found.itertuples(index=False, name=None)) == [
        ("2023-W24", TRACK, "all", 5012, 310, 0),
        ("2023-W25", TRACK, "all", 4875, 0, 0),
    ]
    (track,) = (tmp_path / "tracks.jsonl").read_bytes().splitlines()
    assert Track.model_validate_json(track) == Track(id=TRACK, name="The Borrowed Orchard", id_artist="Alva")
    assert {row.get("cause") for row in cli("history", "weekly.csv", "--json").rows()} == {"kept", None}


def test_the_listen_and_the_scrobbles_of_the_page_are_imported(cli: Callable[..., Ended], tmp_path: Path) -> None:
    assert cli("listens", "listens.jsonl", "--out", "listens").code == 0
    assert cli("scrobbles", "scrobbles.tsv", "--out", "scrobbles").code == 0
    (listen,) = (tmp_path / "listens" / "sessions.jsonl").read_bytes().splitlines()
    assert read(listen) == read(
        shown("ours")
        .replace(TRACK, "7a1c2f3e-0000-4e9a-8f5d-0d7c2b1a3e4f")
        .replace("101", '"rob"')
        .replace(".547000", "")
    )
    first, second = (tmp_path / "scrobbles" / "sessions.jsonl").read_bytes().splitlines()
    assert first == second


def test_what_the_page_points_at_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


# From a broker to the counters, and back

MAPPING = """
[fields]
event_type = "payload.what"
track_id = "payload.song.id"
user_id = "payload.who"
timestamp = "at"
event_id = "key"
"""


def theirs(*events: bytes) -> list[bytes]:
    """Events of ours as others write them."""
    return [json.dumps(renamed(json.loads(event))).encode() for event in events]


def counts_of(counted: Counted) -> Any:
    fences = counted.store.fences(range(PARTITIONS))
    return [(fences[p].tallies, fences[p].stream_time, stored(counted.store, p)) for p in range(PARTITIONS)]


def send(counted: Counted, topic: str, *values: bytes | None) -> None:
    with closing(Publisher(counted.settings.kafka)) as publisher:
        publisher.publish([Message(topic, b"k", value, partition=n % PARTITIONS) for n, value in enumerate(values)])


def test_events_of_others_are_counted_audited_rebuilt_and_set_aside_as_ours_are(
    log: Counted, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    mapped = log.other(MAPPING_FILE=str(tmp_path / "mapping.toml"))
    events = theirs(*(play(n / 5, f"t{n % 3}", f"u{n}", ("play", "Skip", "LIKE")[n % 3]) for n in range(20)))
    odd = theirs(play(kind="sang"), play(track=""))
    framed = FRAME + array(events[0], odd[0])
    send(log, log.topic, *events, array(*events[:5]), framed, odd[1], b"junk", None, play())
    mapped.consume()
    tallies = sum(fence.tallies.get("counted", 0) for fence in mapped.store.fences(range(PARTITIONS)).values())
    assert tallies == 20 + 5 + 1
    letters = {record.value for record in letters_of(mapped, mapped.settings.topics.dead_sessions)}
    assert letters == {FRAME + odd[0], odd[1], b"junk", None, play()}
    before = counts_of(mapped)

    assert command(mapped, "audit").code == 0
    plain = command(log.other(MAPPING_FILE=""), "audit")
    assert plain.code == 1, "without the mapping nothing of it counts"
    rebuilt = command(mapped, "rebuild")
    assert rebuilt.code == 0, rebuilt.err
    assert counts_of(mapped) == before


def test_a_dead_letter_counts_once_when_the_mapping_can_read_it(log: Counted, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text("")
    mapped = log.other(MAPPING_FILE=str(file))
    send(log, log.topic, FRAME + array(*theirs(play(track="a"), play(track="b"))), *theirs(play(track="c")))
    mapped.consume()
    file.write_text(MAPPING)
    for _ in range(2):
        replayed = command(mapped, "dead-letters", "replay", "--yes")
        assert "sent 3 events in 3 records" in replayed.out, replayed.err
        mapped.consume()
    fences = mapped.store.fences(range(PARTITIONS)).values()
    assert [sum(fence.tallies.get(name, 0) for fence in fences) for name in ("counted", "duplicate", "dead")] == [
        3,
        3,
        3,
    ]


def test_the_producer_rewrites_what_the_consumer_would_have_read(
    log: Counted, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    events = [play(n / 5, f"t{n % 3}", f"u{n}") for n in range(20)]
    lines = [*theirs(*events), array(*theirs(play(4.5), play(4.6))), b"junk", *theirs(play(kind="sang"))]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    sent = command(
        log, "produce", "sessions", str(tmp_path / "events.jsonl"), "--mapping", str(tmp_path / "mapping.toml")
    )
    assert sent.code == 0, sent.err
    log.count()
    fences = log.store.fences(range(PARTITIONS)).values()
    assert [sum(fence.tallies.get(name, 0) for fence in fences) for name in ("counted", "dead")] == [22, 2]
    records = read_to_end(log.settings.kafka, log.topic, range(PARTITIONS), {})
    assert {key.decode() for record in records if (key := record.key)} <= {"t0", "t1", "t2", "a"}
    assert max(fence.stream_time for fence in fences if fence.stream_time) == MONDAY + 4.6 * WEEK


def test_a_mapping_that_makes_no_sense_ends_the_command_with_a_sentence(
    log: Counted, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text("[tracks]")
    bad = log.other(MAPPING_FILE=str(tmp_path / "bad.toml"))
    for arguments in (
        ["consume", "sessions"],
        ["audit"],
        ["produce", "sessions", "x", "--mapping", str(tmp_path / "none")],
    ):
        ended = command(bad, *arguments)
        assert ended.code == 2
        assert "hitparade: mapping file " in ended.err
