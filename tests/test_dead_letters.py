"""Letters looked at and sent again, on both brokers and a real Redis: what has become valid counts, and only once."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consumers.letters import Letter
from features.duplicates import Origin
from features.events import CAUSES
from features.parts import SetAside
from hitparade import wiring
from hitparade.letters import Replayable
from hitparade.settings import Settings
from producers.kafka import build_producer
from producers.letters import Letters
from tests.builders import Record, array, millis, play, wire
from tests.commands import Ended, run
from tests.oracle import recount
from tests.servers import ROOT, wait_until
from tests.stored import stored
from tests.test_counting import PARTITIONS, count, environment, records, send

Capture = pytest.CaptureFixture[str]
UNREADABLE = b'{"track_id": "\xff"}'


@pytest.fixture
def env(kafka: str, redis_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of each broker in turn, in this process too."""
    env = environment(kafka, "kafka-python", redis_url, prefix, tmp_path)
    for name in os.environ:
        if name.startswith("HITPARADE_"):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


def replay(capsys: Capture, *arguments: str) -> str:
    """Send again, and say what it said."""
    ended = run(capsys, "dead-letters", "replay", "--yes", *arguments)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def rows(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    ended = run(capsys, "dead-letters", "--json", *arguments)
    assert ended.code == 0, ended.err
    return ended.rows()


def at(instant: datetime, **changes: Any) -> bytes:
    return wire(timestamp=instant.isoformat(), **changes)


def check(settings: Settings) -> Counter[str]:
    """Redis equals a recount of the log, whose tolerance is the one that every replay was counted with."""
    store, topic = wiring.session_store(settings), settings.topics.sessions
    total: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        log = [r for r in records(settings, topic) if r.partition == partition]
        truth = recount(
            [Record(r.offset, r.value, r.timestamp, r.key, r.headers) for r in log],
            settings.weeks_kept,
            settings.future_tolerance,
            topic=topic,
        )
        fence = store.fence(partition)
        assert fence
        assert fence.tallies == truth.outcomes
        total += truth.outcomes
    return total


def plays_of(settings: Settings, partition: int, time: datetime) -> Counter[str]:
    """Plays of the week that holds a time, by track."""
    store, week = wiring.session_store(settings), settings.calendar.week_of(time).name
    found: Counter[str] = Counter()
    for (name, _, track), (plays, _, _) in stored(store, partition).items():
        found[track] += plays if name == week else 0
    return found


def test_an_event_from_the_future_counts_once_its_time_has_come_however_often_it_is_sent(
    env: dict[str, str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HITPARADE_FUTURE_TOLERANCE_S", "0")
    settings = Settings.from_env(os.environ)
    now = datetime.now(UTC)
    its_time = now + timedelta(seconds=5)
    early = at(its_time, track_id="early")
    send(settings, [array(at(now - timedelta(days=1)), early, b"junk")], partition=1)
    assert count(settings).tallies == {"counted": 1, "dead": 2, "dead:future": 1, "dead:json": 1}
    wait_until(lambda: datetime.now(UTC) > its_time + timedelta(seconds=0.1), what="the event's time to come")
    for _ in range(2):
        assert "sent 1 events in 1 records" in replay(capsys, "--cause", "future")
    assert "sent 2 events in 2 records" in replay(capsys)
    assert count(settings).tallies == {"counted": 1, "duplicate": 2, "dead": 1, "dead:json": 1}
    assert plays_of(settings, 1, its_time)["early"] == 1
    check(settings)
    sent_again = records(settings, settings.topics.sessions)[1:]
    assert {(r.partition, r.key, r.value) for r in sent_again} == {(1, b"key", early), (1, b"key", b"junk")}
    assert [(row["cause"], row["offset"], row["index"], row["value"]) for row in rows(capsys)] == [
        ("future", 0, 1, early.decode()),
        ("json", 0, 2, "junk"),
    ]


def test_a_letter_is_shown_with_its_cause_its_origin_and_all_of_its_value(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    begin = datetime.now(UTC)
    send(settings, [array(play(20), UNREADABLE, play(0)), wire(user_id=None)])
    count(settings)
    bad, dead = rows(capsys)
    assert datetime.fromisoformat(bad.pop("set_aside_at")) > begin - timedelta(seconds=1)
    assert bad == {
        "cause": "json",
        "topic": settings.topics.sessions,
        "partition": 0,
        "offset": 0,
        "index": 1,
        "key": "key",
        "value_base64": base64.b64encode(UNREADABLE).decode(),
    }
    assert (dead["cause"], dead["offset"], dead["index"], json.loads(dead["value"])["user_id"]) == (
        "user_id",
        1,
        0,
        None,
    )
    assert [(row["cause"], row["index"]) for row in rows(capsys, "--topic", "late")] == [("late", 2)]
    assert [row["cause"] for row in rows(capsys, "--cause", "user_id")] == ["user_id"]
    assert rows(capsys, "--topic", "tracks") == []
    table = run(capsys, "dead-letters").out
    assert "2 events in " in table
    assert "(1 json, 1 user_id)" in table
    assert '{"track_id": "\N{REPLACEMENT CHARACTER}"}' in table
    few = run(capsys, "dead-letters", "--limit", "1", "--cause", "json").out
    assert "user_id" not in few
    assert "1 events in " in few


def test_the_newest_letters_are_shown_first_and_no_more_than_asked_for(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    producer, now = build_producer(settings.kafka), millis(datetime.now(UTC))
    for n, name in enumerate((b"first", b"second", b"third")):
        where = Origin(n % 2, n, 0).headers(settings.topics.sessions)
        producer.send(settings.topics.dead_sessions, name, partition=n % 2, headers=where, timestamp_ms=now + n)
    producer.close()
    assert [row["value"] for row in rows(capsys, "--limit", "2")] == ["third", "second"]
    assert [row["value"] for row in rows(capsys, "--limit", "9")] == ["third", "second", "first"]
    table = run(capsys, "dead-letters").out
    assert table.index("third") < table.index("second") < table.index("first")


def test_an_event_with_several_letters_is_one_event(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    letters = {"late": settings.topics.late, "dead": settings.topics.dead_sessions}
    with closing(Letters(settings.kafka, settings.topics.sessions, letters)) as twice:
        for cause in ("json", "json", "user_id"):
            twice.send(1, [SetAside("dead", cause, 5, 1, b"k", b"x")])
        twice.send(1, [SetAside("dead", "json", 5, 2, b"k", b"x")])
        twice.send(0, [SetAside("dead", "json", 9, 0, b"k", b"x", Origin(1, 5, 2))])
    found = Counter((row["cause"], row["partition"], row["offset"], row["index"]) for row in rows(capsys))
    assert found == {("json", 1, 5, 1): 1, ("user_id", 1, 5, 1): 1, ("json", 1, 5, 2): 1}
    assert "2 events in " in run(capsys, "dead-letters").out
    would = run(capsys, "dead-letters", "replay").out
    assert f"would send 2 events of {letters['dead']} again to {settings.topics.sessions}" in would
    why = {"causes": {"json": 2}, "arrays": 0, "without_origin": 0}
    would_send = run(capsys, "dead-letters", "replay", "--json").rows()
    assert would_send == [{"topic": settings.topics.sessions, "would_send": 2, **why}]
    assert records(settings, settings.topics.sessions) == []
    (sent,) = run(capsys, "dead-letters", "replay", "--yes", "--json").rows()
    assert (sent["topic"], sent["items"], sent["arrays"]) == (settings.topics.sessions, 2, 0)
    sent_again = records(settings, settings.topics.sessions)
    assert {(r.partition, dict(r.headers)["hitparade-index"]) for r in sent_again} == {(1, b"1"), (1, b"2")}


def test_a_late_event_stays_late_and_one_until_more_weeks_are_kept_and_counts_once(
    env: dict[str, str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_env(env)
    send(settings, [play(20), play(0)])
    count(settings)
    replay(capsys, "--topic", "late")
    assert count(settings).tallies == Counter(late=1)
    assert len(records(settings, settings.topics.late)) == 2
    (late,) = rows(capsys, "--topic", "late")
    assert (late["offset"], late["value"]) == (1, play(0).decode())
    check(settings)
    monkeypatch.setenv("HITPARADE_WEEKS_KEPT", "30")
    for _ in range(2):
        assert "sent 1 events in 1 records" in replay(capsys, "--topic", "late")
    assert count(Settings.from_env(os.environ)).tallies == Counter(counted=1, duplicate=1)


def test_only_letters_of_the_cause_asked_for_are_sent(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    with closing(Letters(settings.kafka, settings.topics.sessions, {"dead": settings.topics.dead_sessions})) as some:
        some.send(0, [SetAside("dead", cause, 0, n, b"k", cause.encode()) for n, cause in enumerate(CAUSES * 2)])
    assert "would send 2 events" in run(capsys, "dead-letters", "--cause", "track_id", "replay").out
    assert "sent 2 events" in replay(capsys, "--cause", "track_id")
    assert [r.value for r in records(settings, settings.topics.sessions)] == [b"track_id"] * 2
    assert "sent 14 events" in replay(capsys)


HALF_WAY = """
import os, signal, sys
from hitparade.__main__ import main
from producers.kafka import Sender

send, left = Sender.send, iter(range(int(sys.argv[1])))

def until_half_way(sender, *what, **more):
    if next(left, None) is None:
        sender._producer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    send(sender, *what, **more)

Sender.send = until_half_way
main(sys.argv[2:])
"""


@pytest.mark.timeout(120)
def test_a_replay_killed_half_way_and_run_again_counts_every_event_once(
    env: dict[str, str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_events, ahead = 2_000, datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setenv("HITPARADE_FUTURE_TOLERANCE_S", "0")
    early = Settings.from_env(os.environ)
    events = [at(ahead, track_id=f"t{n}") for n in range(n_events)]
    send(early, [array(*events[first : first + 200]) for first in range(0, n_events, 200)])
    assert count(early).tallies == {"dead": n_events, "dead:future": n_events}
    monkeypatch.setenv("HITPARADE_FUTURE_TOLERANCE_S", "7200")
    settings, half = Settings.from_env(os.environ), 867
    command = [sys.executable, "-c", HALF_WAY, str(half), "dead-letters", "replay", "--yes"]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == -signal.SIGKILL
    assert count(settings).tallies == {"counted": half}
    assert f"sent {n_events:,} events" in replay(capsys)
    assert count(settings).tallies == {"counted": n_events - half, "duplicate": half}
    assert plays_of(settings, 0, ahead) == {f"t{n}": 1 for n in range(n_events)}


def test_what_nobody_can_replay_is_said_and_left(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    producer = build_producer(settings.kafka)
    producer.send(settings.topics.dead_sessions, b"a stranger\x1b[2J", partition=0)
    producer.send(
        settings.topics.dead_sessions, b"y", partition=0, headers=Origin(0, 0, 0).headers("another topic"), key=b"k"
    )
    producer.close()
    with closing(Letters(settings.kafka, settings.topics.sessions, {"dead": settings.topics.dead_sessions})) as some:
        values = [b" " + array(play(), play()), b"x"]
        some.send(0, [SetAside("dead", "json", 0, n, b"key", value) for n, value in enumerate(values)])
    said = replay(capsys)
    assert "sent 1 events in 1 records" in said
    assert said.endswith("Not sent: 1 are arrays where one event was expected, 2 do not say where they came from")
    assert "Not sent: 1 are arrays" in run(capsys, "dead-letters", "replay").out
    assert [(r.value, r.key) for r in records(settings, settings.topics.sessions)] == [(b"x", b"key")]
    homeless = [row for row in rows(capsys) if row["partition"] is None]
    assert [(row["cause"], row["topic"], row["key"]) for row in homeless] == [
        ("unknown", None, None),
        ("unknown", None, "k"),
    ]
    assert "\x1b" not in run(capsys, "dead-letters").out


def test_a_letter_with_neither_key_nor_value_is_sent_as_it_lies(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    letters = {"dead": settings.topics.dead_sessions}
    with closing(Letters(settings.kafka, settings.topics.sessions, letters)) as some:
        some.send(0, [SetAside("dead", "json", 1, 0, None, None), SetAside("dead", "json", 2, 0, b"k", None)])
    assert "sent 2 events" in replay(capsys)
    assert {(r.key, r.value) for r in records(settings, settings.topics.sessions)} == {(None, b""), (b"k", None)}


def test_a_letter_of_a_partition_that_is_no_more_goes_by_its_key(env: dict[str, str], capsys: Capture) -> None:
    settings = Settings.from_env(env)
    with closing(Letters(settings.kafka, settings.topics.sessions, {"dead": settings.topics.dead_sessions})) as some:
        some.send(0, [SetAside("dead", "future", 1, 0, b"k", play(), Origin(PARTITIONS, 1, 0))])
    for _ in range(2):
        assert "sent 1 events" in replay(capsys)
    assert count(settings).tallies == Counter(counted=1, duplicate=1)


def test_no_letters_are_said_to_be_none(env: dict[str, str], capsys: Capture) -> None:
    topic = Settings.from_env(env).topics.dead_sessions
    assert run(capsys, "dead-letters").out == f"0 events in {topic}\n"
    assert run(capsys, "dead-letters", "--json").out == ""


def test_tracks_are_not_sent_again(env: dict[str, str], capsys: Capture) -> None:
    ended: Ended = run(capsys, "dead-letters", "--topic", "tracks", "replay", "--yes")
    assert (ended.code, ended.out) == (2, "")
    assert "Expected sessions or late" in ended.err


def test_an_event_is_sent_once_whatever_its_letters_say() -> None:
    def letter(identity: bytes, cause: str) -> Letter:
        return Letter(identity, cause, Origin(0, 1, 2), datetime.now(UTC), b"k", b"{}")

    found = [letter(b"1", "future"), letter(b"2", "future"), letter(b"1", "json"), letter(b"1", "future")]
    assert [sent.identity for sent, _ in Replayable(found)] == [b"1", b"2"]


@pytest.mark.parametrize("value", [b"[{}]", b" [{}]", b"\0\0\0\0\7[{}]"])
def test_an_array_is_not_sent_even_where_a_schemas_id_is_before_it(value: bytes) -> None:
    letters = Replayable([Letter(b"1", "json", Origin(0, 1, 2), datetime.now(UTC), b"k", value)])
    assert list(letters) == []
    assert "1 are arrays" in letters.left_out()


@pytest.mark.parametrize("timestamp", [-1, 2**63 - 1])
def test_a_letter_of_any_timestamp_is_shown(timestamp: int) -> None:
    letter = Letter.of(SimpleNamespace(partition=0, **vars(Record(7, b"x", timestamp, None))), "sessions")
    assert (letter.cause, letter.origin, letter.value) == ("unknown", None, b"x")
    json.dumps(letter.set_aside_at.isoformat())
