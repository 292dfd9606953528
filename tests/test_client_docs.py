"""The programs of docs/producing.md and docs/subscribing.md do what the pages say, as they stand there."""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from consumers.kafka import read_to_end
from features.events import CAUSES
from features.fence import accounted
from features.reader import catalogue_of
from hitparade import wiring
from hitparade.embedded import Embedded
from hitparade.settings import Settings
from producers.arrays import partition_of
from producers.playlists import Playlist
from producers.publisher import Message
from tests.builders_counting import Counted
from tests.builders_weekly import PARTITIONS, Stage, staged
from tests.node import node_modules
from tests.servers import KAFKA, ROOT
from tests.stored import stored
from tests.test_playlists import playlist, wire

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("producing", "subscribing")}
TOPIC = re.compile(r"\bhitparade\.(?=(?:sessions|tracks|playlists|evaluations)\.)")
PYTHON = ("kafka-python", "confluent-kafka")
PATIENCE_S = 60
OPTIONS = {"HITPARADE_DUPLICATE_HOURS": "24", "HITPARADE_EXPOSURES": "true"}


@pytest.fixture
def stage(embedded_stack: Embedded, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(embedded_stack.kafka, redis_url, prefix, tmp_path, **OPTIONS) as stage:
        yield stage


@pytest.fixture
def apache_stage(apache: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    with staged(apache, redis_url, prefix, tmp_path, **OPTIONS) as stage:
        yield stage


# Setting a page free: its program, where it runs, and with what.


def program(page: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGES[page], re.DOTALL)
    assert found, f"no {name} in {page}.md"
    return found[1]


def command(page: str, name: str, settings: Settings, folder: Path) -> tuple[list[str], dict[str, str]]:
    """How to run the program of a page on the topics of a test, and in what environment."""
    text = TOPIC.sub(f"{settings.topic_prefix}.", program(page, name))
    text = text.replace("localhost:9092", settings.kafka_bootstrap_servers)
    path = folder / "program"
    path.write_text(text)
    if name in PYTHON:
        return [sys.executable, str(path)], {}
    if name == "kafkajs":
        path = path.rename(folder / "program.cjs")
        return ["node", str(path)], {"NODE_PATH": str(node_modules("kafkajs"))}
    for tool in ("kafka-console-producer", "kafka-console-consumer"):
        script = folder / f"{tool}.sh"
        script.write_text(f'#!/bin/sh\nexec "{KAFKA / "tool"}" {tool} "$@"\n')
        script.chmod(0o755)
    return ["bash", "-eu", str(path)], {"PATH": f"{folder}:{os.environ['PATH']}", "KAFKA_HEAP": "64m"}


def ran(page: str, name: str, settings: Settings, folder: Path) -> str:
    """What the program prints until it ends."""
    arguments, env = command(page, name, settings, folder)
    ended = subprocess.run(
        arguments, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def first_lines(page: str, name: str, settings: Settings, folder: Path, n_lines: int) -> list[str]:
    """So many lines of a program that goes on for ever, which is ended then."""
    arguments, env = command(page, name, settings, folder)
    with (
        (folder / "errors").open("w+") as errors,
        subprocess.Popen(
            arguments,
            cwd=folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout

        def end() -> None:
            os.killpg(process.pid, signal.SIGKILL)  # a shell's tool too

        too_long = threading.Timer(PATIENCE_S, end)
        too_long.start()
        try:
            lines = [process.stdout.readline().rstrip("\n") for _ in range(n_lines)]
        finally:
            too_long.cancel()
            end()
    assert all(lines), (folder / "errors").read_text()
    return lines


# What a page claims beside its programs.


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", PYTHON)
def test_nothing_of_ours_is_needed(page: str, name: str) -> None:
    imported = {
        part
        for node in ast.walk(ast.parse(program(page, name)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for part in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported == {"json", "kafka" if name == "kafka-python" else "confluent_kafka"}


def test_the_page_names_every_cause() -> None:
    named = {
        cause
        for row in re.findall(r"^\| (`[^|]*`) \|", PAGES["producing"], re.MULTILINE)
        for cause in re.findall(r"`(\w+)`", row)
    }
    assert named == {*CAUSES, "late"}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_at_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGES[page]):
        assert (ROOT / "docs" / target).exists(), target


# Producers


def check_what_was_sent(stage: Stage, redis: Redis, event_records: int) -> None:
    """Three events, the same again, an exposure, and the catalogue."""
    counted, topics = Counted(stage.env, redis), stage.settings.topics
    records = {
        name: read_to_end(stage.settings.kafka, name, PARTITIONS, {}) for name in (topics.sessions, topics.tracks)
    }
    assert [len(found) for found in records.values()] == [event_records, 3]
    for record in records[topics.sessions] + records[topics.tracks]:
        assert record.partition == partition_of(record.key, len(PARTITIONS))
    counted.count()
    fences = counted.store.fences(list(PARTITIONS)).values()
    assert accounted([fence.tallies for fence in fences]) == {
        **{"counted": 3, "late": 0, "dead": 0, "ignored": 0},
        **{"duplicate": 3, "exposure": 1},
    }
    counts = {name[2]: row for partition in PARTITIONS for name, row in stored(counted.store, partition).items()}
    assert counts == {"T1": [1, 1, 0], "T2": [1, 0, 0]}
    stage.count_tracks()
    catalogue = catalogue_of(wiring.track_store(stage.settings), PARTITIONS, ["T1", "T2"])
    assert list(catalogue) == ["T2"]
    assert "The Borrowed Orchard" in catalogue["T2"]


@pytest.mark.parametrize("name", [*PYTHON, "kafkajs"])
def test_a_producer_sends_what_the_page_says(stage: Stage, redis: Redis, name: str, tmp_path: Path) -> None:
    ran("producing", name, stage.settings, tmp_path)
    check_what_was_sent(stage, redis, event_records=3)


def test_the_console_producer_sends_the_same_and_the_console_consumer_shows_letters(
    apache_stage: Stage, redis: Redis, tmp_path: Path
) -> None:
    ran("producing", "console", apache_stage.settings, tmp_path)
    check_what_was_sent(apache_stage, redis, event_records=5)
    apache_stage.send(b'{"event_type": "sing"}')
    Counted(apache_stage.env, redis).consume()
    (shown,) = first_lines("producing", "letters", apache_stage.settings, tmp_path, 1)
    headers, key, value = shown.split("\t")
    assert (key, value) == ("k", '{"event_type": "sing"}')
    assert headers.startswith("hitparade-cause:event_type,hitparade-topic:")


def test_without_the_two_settings_all_of_it_counts(
    embedded_stack: Embedded, redis: Redis, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    with staged(embedded_stack.kafka, redis_url, prefix, tmp_path) as stage:
        ran("producing", "kafka-python", stage.settings, tmp_path)
        counted = Counted(stage.env, redis)
        counted.count()
        fences = counted.store.fences(list(PARTITIONS)).values()
        assert accounted([fence.tallies for fence in fences]) == {"counted": 6, "late": 0, "dead": 0, "ignored": 1}


# Subscribers


def lists() -> list[Playlist]:
    """One list that is revised, and one of another group."""
    first = playlist("a", "b").following(None)
    second = playlist("b").following(first)
    return [first, second, playlist("c", group="treatment").following(None)]


def publish(stage: Stage) -> None:
    """What a subscriber may meet: a list again, its revision, an old one replayed, and a key that is no more."""
    topic = stage.settings.topics.playlists
    first, second, other = (made.message(topic) for made in lists())
    gone = Message(topic, b"2023-W01/control", None)
    stage.publisher.publish([first, first, second, gone, first, second, other])


NEWS = [
    "2023-W25/control revision 1 by linear: Lied für a, Lied für b",
    "2023-W25/control revision 2 by linear: Lied für b",
    "2023-W25/treatment revision 1 by linear: Lied für c",
]


@pytest.mark.parametrize("name", PYTHON)
def test_a_subscriber_tells_of_each_revision_once(
    kafka: str, redis_url: str, prefix: str, name: str, tmp_path: Path
) -> None:
    with staged(kafka, redis_url, prefix, tmp_path) as stage:
        publish(stage)
        assert first_lines("subscribing", name, stage.settings, tmp_path, 3) == NEWS


def test_a_subscriber_in_javascript_tells_the_same(apache_stage: Stage, tmp_path: Path) -> None:
    publish(apache_stage)
    assert first_lines("subscribing", "kafkajs", apache_stage.settings, tmp_path, 3) == NEWS


def test_the_console_consumer_shows_every_record(apache_stage: Stage, tmp_path: Path) -> None:
    publish(apache_stage)
    shown = first_lines("subscribing", "console", apache_stage.settings, tmp_path, 7)
    first, second, other = (f"{made.key}|{wire(made).decode()}" for made in lists())
    assert shown == [first, first, second, "2023-W01/control|null", first, second, other]
