"""What the service learns from Kafka and Redis, and what it does when they go away; on the embedded stack."""

import contextlib
import json
import logging
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hitparade import serving
from hitparade.embedded import Embedded, embedded
from producers.publisher import Message
from service.lists import Lists
from service.parts import Memory
from service.subscription import Subscription
from service.tracks import TrackLookup
from service.watcher import Watcher, nothing_seen
from tests.builders_weekly import Stage, plays, staged
from tests.commands import end, nothing_left_running, start  # noqa: F401
from tests.raw_http import asked, request
from tests.servers import wait_until
from tests.serving import NOW, a_list


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        yield stage


def publish(stage: Stage, *lists: Any) -> None:
    stage.publisher.publish([made.message(stage.settings.topics.playlists) for made in lists])


@contextlib.contextmanager
def subscribed(stage: Stage, take: Any) -> Iterator[Subscription]:
    """A subscription to the lists, in a thread."""
    found, stop = Subscription(stage.settings.kafka, stage.settings.topics.playlists, take), threading.Event()
    thread = threading.Thread(target=found.run, args=(stop,))
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_lists_are_learnt_from_the_beginning_of_their_topic_and_then_as_they_come(stage: Stage) -> None:
    lists, early = Lists(), list[bool]()

    def take(value: bytes) -> None:
        early.append(found.is_caught_up.is_set())
        lists.take(value)

    publish(stage, a_list("2025-W11"), a_list("2025-W12"))
    with subscribed(stage, take) as found:
        assert found.missing() == "it is starting"
        wait_until(found.is_caught_up.is_set, "the lists that were there")
        assert lists.weeks() == ["2025-W11", "2025-W12"]
        assert found.missing() == ""
        assert early == [False, False]
        assert found.last_at
        assert abs(datetime.now(UTC) - found.last_at) < timedelta(minutes=1)
        publish(stage, a_list("2025-W13"), a_list("2025-W12", revision=2))
        wait_until(lambda: len(lists.revisions("2025-W12", "control")) == 2, "the lists that came")
        assert lists.weeks() == ["2025-W11", "2025-W12", "2025-W13"]


def test_a_topic_without_a_record_has_been_read(stage: Stage) -> None:
    with subscribed(stage, Lists().take) as found:
        wait_until(found.is_caught_up.is_set, "nothing")
        assert found.last_at is None


def test_what_is_no_list_is_told_of_in_a_line_without_repeating_it_and_passed_over(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    lists, topic = Lists(), stage.settings.topics.playlists
    for value in (b"junk", None, b'{"week": "<script>"}', b"\xff"):
        stage.publisher.publish([Message(topic, b"k", value)])
    publish(stage, a_list())
    with caplog.at_level(logging.ERROR), subscribed(stage, lists.take) as found:
        wait_until(found.is_caught_up.is_set, "the list")
    assert lists.weeks() == ["2025-W12"]
    told = [record.getMessage() for record in caplog.records]
    assert [
        f"the record at offset {offset} of {topic} is passed over: " in text
        for offset, text in zip((0, 2, 3), told, strict=True)
    ]
    assert not any("script" in text or "\n" in text for text in told)


def test_a_bug_in_taking_a_record_is_logged_and_the_next_one_taken(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[bytes] = []

    def take(value: bytes) -> None:
        if value == b"first":
            raise KeyError("a bug")
        taken.append(value)

    topic = stage.settings.topics.playlists
    stage.publisher.publish([Message(topic, b"k", b"first"), Message(topic, b"k", b"second")])
    with caplog.at_level(logging.ERROR), subscribed(stage, take) as found:
        wait_until(lambda: taken == [b"second"], "the second record")
        wait_until(found.is_caught_up.is_set, "the end")
    assert f"reading {topic} failed; going on" in caplog.text


def test_a_topic_that_was_created_anew_is_read_from_its_beginning(
    apache: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    from tests.test_schedule import recreate

    lists = Lists()
    with staged(apache, redis_url, prefix, tmp_path) as stage:
        publish(stage, a_list("2025-W10"), a_list("2025-W11"))
        with subscribed(stage, lists.take) as found:
            wait_until(found.is_caught_up.is_set, "the old topic")
            recreate(stage, stage.settings.topics.playlists)
            weeks = ["2025-W12", "2025-W13", "2025-W14", "2025-W15"]
            publish(stage, *[a_list(week) for week in weeks])
            wait_until(lambda: lists.weeks() == ["2025-W10", "2025-W11", *weeks], "the new topic's records")


def watching(stage: Stage, missing: str = "") -> Watcher:
    settings, memory = stage.settings, Memory(nothing_seen(NOW))
    lookup = TrackLookup()
    return Watcher(
        settings.kafka,
        lambda: serving._counters(settings),
        lambda: serving._catalogue(settings),
        memory,
        lookup,
        lambda: missing,
        lambda: NOW,
    )


def test_a_look_sees_offsets_lag_stream_time_tallies_and_the_open_week(stage: Stage) -> None:
    stage.catalogue("a", "b")
    stage.send(plays(20, {"a": 3, "b": 1}), b"junk")
    stage.count()
    stage.send(plays(21, {"a": 1}))
    watcher = watching(stage)
    watcher.look()
    figures = watcher.memory.figures
    assert figures.sessions
    assert figures.tracks
    assert (figures.kafka.ok, figures.redis.ok, figures.lists.ok) == (True, True, True)
    assert [(p.partition, p.next_offset, p.lag) for p in figures.sessions.partitions] == [(0, 2, 1), (1, 0, 0)]
    assert figures.sessions.lag == 1
    assert figures.last_run == NOW
    assert figures.sessions.tallies == {"counted": 4, "dead": 1, "dead:json": 1}
    assert figures.tracks.tallies["counted"] == 2
    assert watcher.memory.live
    assert [(entry.track_id, entry.plays) for entry in watcher.memory.live.tracks] == [("a", 3), ("b", 1)]
    assert watcher.lookup.counters


def test_a_look_before_anything_is_counted_sees_nothing_and_is_well(stage: Stage) -> None:
    watcher = watching(stage, "not all lists have been read")
    watcher.look()
    figures = watcher.memory.figures
    assert (figures.kafka.ok, figures.redis.ok) == (True, True)
    assert (figures.lists.ok, figures.lists.reason) == (False, "not all lists have been read")
    assert figures.sessions
    assert figures.sessions.tallies == {}
    assert watcher.memory.live is None


def test_a_look_that_fails_is_logged_told_and_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            found.append(watcher.memory.figures.redis)
            if len(found) == 2:
                self.set()
            return self.is_set()

    def failing() -> str:
        if not found:
            raise KeyError("a bug")
        return ""

    found: list[Any] = []
    watcher = replace(watching(stage), missing=failing)
    with caplog.at_level(logging.INFO):
        watcher.run(Once())
    assert [reach.ok for reach in found] == [False, True]
    assert found[0].reason == "the look at it failed: KeyError"
    assert "redis: all is well, after" in caplog.text


def test_it_is_told_who_has_come_and_who_has_gone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service.watcher")
    watching(stage, "they are being read").look()
    records = [record for record in caplog.records if record.name == "service.watcher"]
    told = [record.getMessage().partition(", after")[0] for record in records]
    assert told == ["kafka: all is well", "redis: all is well"]


SECRET, PASSWORD = "token-that-nobody-may-see", "password-that-nobody-may-see"


@contextlib.contextmanager
def serving_of(
    stack: Embedded, folder: Path, log: Any = subprocess.PIPE, **env: str
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """`hitparade serve` in a process of its own, and the port that it says."""
    given = {"HTTP_PORT": "0", "API_TOKEN": SECRET, "DATA_DIR": str(folder), **env}
    found = {**stack.environment, **{f"HITPARADE_{name}": value for name, value in given.items()}}
    process = start("serve", env=found, stderr=log)
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("serving on http://127.0.0.1:"), line
    yield int(line.rpartition(":")[2]), process


def readiness(port: int) -> Any:
    return json.loads(asked(port, request("GET", "/readyz")).body)


@pytest.mark.usefixtures("nothing_left_running", "leaky")
def test_without_kafka_and_redis_lists_are_served_from_memory_and_who_is_away_is_told_with_since(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(embedded(tmp_path / "first"))
        with staged(servers.kafka, servers.redis_url, "hitparade", tmp_path / "data") as stage:
            publish(stage, a_list())
        port, process = stack.enter_context(serving_of(servers, tmp_path / "data"))
        wait_until(lambda: readiness(port)["ready"], "the lists")
        wait_until(lambda: readiness(port)["redis"]["ok"], "Redis")
        (kafka_port, redis_port) = (int(servers.kafka.rpartition(":")[2]), int(servers.redis_url.split(":")[2][:-2]))
        servers.servers["Valkey"].kill()
        servers.servers["Valkey"].wait()
        wait_until(lambda: not readiness(port)["redis"]["ok"], "Redis to be missed")
        since = readiness(port)["redis"]["since"]
        answer = asked(port, request("GET", "/playlists/2025-W12"))
        assert (answer.status, answer.headers["hitparade-stale"]) == (200, "redis")
        servers.servers["Tansu"].kill()
        servers.servers["Tansu"].wait()
        wait_until(lambda: not readiness(port)["kafka"]["ok"], "Kafka to be missed")
        found = readiness(port)
        assert found["ready"]
        assert found["redis"]["since"] == since
        assert found["kafka"]["reason"]
        answer = asked(port, request("GET", "/playlists/2025-W12"))
        assert (answer.status, answer.headers["hitparade-stale"]) == (200, "kafka, redis")
        assert b"2025-W12" in answer.body
        again = stack.enter_context(embedded(tmp_path / "second", kafka_port, redis_port))
        anew = stack.enter_context(staged(again.kafka, again.redis_url, "hitparade", tmp_path / "data"))
        wait_until(lambda: readiness(port)["kafka"]["ok"] and readiness(port)["redis"]["ok"], "both to be back")
        assert "hitparade-stale" not in asked(port, request("GET", "/livez")).headers
        publish(anew, a_list("2025-W13"))
        wait_until(lambda: asked(port, request("GET", "/playlists/2025-W13")).status == 200, "the new list")
        ended = end(process, signal.SIGTERM)
        assert ended.code == 0
        for text in ("kafka: ", "redis: ", "kafka: all is well, after", "redis: all is well, after"):
            assert text in ended.err
        assert "uvicorn" not in ended.err


@pytest.mark.usefixtures("nothing_left_running")
def test_no_secret_is_in_an_answer_or_in_the_log(embedded_stack: Embedded, tmp_path: Path, redis: Any) -> None:
    user = "probed"
    redis.acl_setuser(user, enabled=True, passwords=[f"+{PASSWORD}"], keys=["nothing"], commands=["+@all"])
    url = embedded_stack.redis_url.replace("redis://", f"redis://{user}:{PASSWORD}@")
    settings = {"REDIS_URL": url, "TOPIC_PREFIX": "nowhere", "LOG_LEVEL": "DEBUG"}
    answers, log, bearer = b"", tmp_path / "log", f"Authorization: Bearer {SECRET}"
    try:
        with log.open("w") as sink, serving_of(embedded_stack, tmp_path, sink, **settings) as (port, process):
            wait_until(lambda: "does not exist" in readiness(port)["lists"]["reason"], "the missing topic")
            for found in (
                *(
                    request("GET", path)
                    for path in ("/readyz", "/metrics", "/openapi.json", "/tracks/a", "/charts/live")
                ),
                request("POST", "/triggers", bearer, "Content-Length: 2") + b"{}",
                request("POST", "/triggers", bearer, "Content-Length: 1") + b"{",
                request("POST", "/triggers", bearer + "x"),
                request("GET", "/livez", bearer, f"X-Redis: {url}"),
                request("GET", f"/{SECRET[:3]}?{'x' * 20000}", bearer),
                b"GET / \r\n" + bearer.encode() + b"\r\n\r\n",
            ):
                answers += asked(port, found).body
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
    finally:
        redis.acl_deluser(user)
    everything = out + log.read_text() + answers.decode()
    assert "nowhere" in everything
    assert SECRET not in everything
    assert PASSWORD not in everything


@pytest.mark.usefixtures("nothing_left_running")
def test_a_port_that_is_taken_is_told_in_a_sentence(embedded_stack: Embedded, tmp_path: Path) -> None:
    with serving_of(embedded_stack, tmp_path) as (port, process):
        second = start("serve", env={**embedded_stack.environment, "HITPARADE_HTTP_PORT": str(port)})
        ended = end(second)
        assert (ended.code, ended.out) == (1, "")
        assert f"cannot listen on 127.0.0.1:{port} (HITPARADE_HTTP_HOST, HITPARADE_HTTP_PORT)" in ended.err
        assert end(process, signal.SIGINT).code == 130
