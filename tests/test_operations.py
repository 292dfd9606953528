"""What docs/operations.md tells an operator to do, done: restore a backup, restart one by one, add partitions."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.kafka import end_offsets
from features.store import LAYOUT
from hitparade import serving, wiring
from hitparade.embedded import Embedded
from hitparade.processes import leash
from hitparade.settings import Settings
from service import watcher
from service.parts import Memory
from service.tracks import TrackLookup
from service.watcher import Watcher, nothing_seen
from tests.builders_counting import PARTITIONS, Counted, running
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.commands import Command, run
from tests.faults.servers import Redis
from tests.servers import KAFKA, ROOT, wait_until
from tests.serving import NOW

Capture = pytest.CaptureFixture[str]
RUN_BOOK = (ROOT / "docs" / "operations.md").read_text()
PACK = re.findall(r"-v hitparade_(\w+):/from:ro .*? (tar -C /from -czf /to/\w+\.tar\.gz \.)", RUN_BOOK)
UNPACK = re.findall(r"-v hitparade_(\w+):/to .*? (tar -C /to -xzf /from/\w+\.tar\.gz)", RUN_BOOK)


def tar(command: str, place: Path, kept: Path) -> None:
    """A command of the run book, whose container sees a volume and the folder of what is kept."""
    ours = {"/from": place, "/to": kept} if "-czf" in command else {"/from": kept, "/to": place}
    words = [re.sub(r"^/(from|to)", lambda name: str(ours[name[0]]), word) for word in command.split()]
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@contextmanager
def valkey(folder: Path) -> Iterator[Redis]:
    with leash() as group:
        server = Redis(folder, group)
        server.start()
        try:
            yield server
        finally:
            server.close()


def commands_of(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stage.env.items():
        monkeypatch.setenv(name, value)


def test_what_was_backed_up_as_the_run_book_says_is_restored_counted_on_and_exact(
    embedded_stack: Embedded, prefix: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = {"valkey": tmp_path / "valkey", "data": tmp_path / "data"}
    assert {name for name, _ in PACK} == {name for name, _ in UNPACK} == set(volumes)
    kept = tmp_path / "kept"
    kept.mkdir()
    with valkey(volumes["valkey"]) as server, staged(
        embedded_stack.kafka, server.url, prefix, volumes["data"], HITPARADE_WEEKS_KEPT="5"
    ) as stage:  # fmt: skip
        commands_of(stage, monkeypatch)
        stage.catalogue("a", "b", "c")
        stage.send(*(plays(week, {"a": week, "b": 30 - week}) for week in range(20, 25)))
        stage.count()
        stage.weekly_run().run(stage.triggers.fire(chart_week(20), "manual"))
        stage.weekly_run().run(stage.triggers.fire(chart_week(23), "manual"))
        server.stop()
        for name, command in PACK:
            tar(command, volumes[name], kept)
        server.start()
        stage.send(plays(24, {"c": 50}), plays(25, {"a": 1}), partition=1)
        stage.count()
        stage.weekly_run().run(stage.triggers.fire(chart_week(24), "manual"))
        published = stage.published()
        assert "exact: 201 events" in run(capsys, "audit").out

        server.kill()
        for place in volumes.values():
            shutil.rmtree(place)
            place.mkdir()
        for name, command in UNPACK:
            tar(command, volumes[name], kept)
        server.start()
        assert "exact: 150 events" in run(capsys, "audit").out  # as far as the backup goes
        for topic in ("sessions", "tracks"):
            assert run(capsys, "consume", topic, "--until-idle").code == 0
        audited = run(capsys, "audit")
        assert (audited.code, "exact: 201 events" in audited.out) == (0, True), audited.out + audited.err
        again = stage.weekly_run()
        again.run(stage.triggers.fire(chart_week(24), "manual"))
        # 2023-W20 has fallen out of the counters: what is known of it is in the data folder alone.
        assert again.snapshot.history.weeks() == [f"2023-W{week}" for week in range(20, 25)]
        assert stage.published() == [*published, published[-1]]
        assert stage.lists()[-1].tracks[0].plays == (21, 22, 23, 24)


# One after the other


def test_consumers_are_replaced_one_by_one_by_the_other_client_while_events_come(
    apache_log: Counted, command: Command
) -> None:
    """Nobody waits for a session time-out: it is longer than the test's patience."""
    before = apache_log.other(SESSION_TIMEOUT_MS="45000")
    after = before.other(KAFKA_CLIENT="confluent-kafka")
    with ExitStack() as stack:
        old = [stack.enter_context(ExitStack()) for _ in range(2)]
        for one in old:
            one.enter_context(running(before.consumer()))
        n_sent = 0
        for one in old:
            n_sent = fill_until_counted(before, n_sent)
            one.close()
            n_sent = fill_until_counted(before, n_sent)
            stack.enter_context(running(after.consumer()))
        fill_until_counted(before, n_sent)
    assert command(before, "audit").code == 0


def fill_until_counted(counted: Counted, first: int) -> int:
    """Events in every partition, and the wait until they are in; the number of those sent so far."""
    counted.fill(200, first)
    topic = counted.topic
    ends = end_offsets(counted.settings.kafka, {topic: range(PARTITIONS)})[topic]

    def is_counted() -> bool:
        fences = counted.store.fences(range(PARTITIONS))
        return {p: fence.next_offset for p, fence in fences.items()} == ends

    wait_until(is_counted, "what was sent to be counted")
    return first + 200


# More partitions


@pytest.fixture
def grown(apache: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """Two weeks counted of two partitions."""
    with staged(apache, redis_url, prefix, tmp_path, HITPARADE_WEEKS_KEPT="6") as stage:
        stage.catalogue("a", "b")
        stage.send(plays(20, {"a": 2}), plays(21, {"a": 3}))
        stage.count()
        yield stage


def grow(stage: Stage) -> None:
    """As the run book says, by Kafka's own tool."""
    found = re.search(r"/opt/kafka/bin/(kafka-topics)\.sh (.*) --partitions 12\n", RUN_BOOK)
    assert found
    topic = stage.settings.topics.sessions
    words = found[2].replace("localhost:9092", stage.settings.kafka_bootstrap_servers)
    words = words.replace("hitparade.sessions.v1", topic)
    command = [str(KAFKA / "tool"), found[1], *words.split(), "--partitions", "4"]
    subprocess.run(command, check=True, capture_output=True, timeout=60, env={**os.environ, "KAFKA_HEAP": "64m"})
    wait_until(lambda: len(wiring.partitions_of(stage.settings, topic)) == 4, what="four partitions")
    stage.publisher.close()  # it knows two


def test_partitions_that_are_added_are_in_the_next_cut_and_its_lists(
    grown: Stage, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler and the weekly run were there before."""
    commands_of(grown, monkeypatch)
    triggers, weekly = grown.triggers, grown.weekly_run()
    weekly.run(triggers.fire(chart_week(20), "manual"))
    grow(grown)
    grown.send(plays(21, {"a": 4}), plays(22, {"b": 1}), partition=3)  # the track's key may lead elsewhere now
    grown.count()
    assert [week.name for week in triggers.fire_due(None, timedelta())] == ["2023-W21"]
    trigger = triggers.fire(chart_week(21), "manual")
    assert trigger.cut["sessions"] == {"0": 2, "1": 0, "2": 0, "3": 2}
    weekly.run(trigger)
    (newest,) = [found for found in grown.lists() if found.closed_week == "2023-W21"]
    assert newest.tracks[0].plays == (0, 0, 2, 7)
    assert run(capsys, "audit").code == 0
    told = run(capsys, "topics")
    assert (told.code, "partitions" in told.out) == (1, True)
    monkeypatch.setenv("HITPARADE_PARTITIONS", "4")
    assert "sessions.v1: partitions" not in run(capsys, "topics").out


def test_the_service_tells_of_partitions_that_were_added(grown: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDS_EVERY_S", "REOPEN_EVERY_S"):
        monkeypatch.setattr(watcher, name, 0.0)
    memory = Memory(nothing_seen(NOW))
    found = Watcher(
        grown.settings.kafka,
        lambda: serving._counters(grown.settings),
        lambda: serving._catalogue(grown.settings),
        memory,
        TrackLookup(),
        lambda: "",
    )
    found.look()
    grow(grown)
    grown.send(plays(22, {"b": 1}), partition=3)
    found.look()
    assert memory.figures.sessions
    assert {p.partition: p.lag for p in memory.figures.sessions.partitions} == {0: 0, 1: 0, 2: 0, 3: 1}


# What it says beside its commands


def test_how_old_things_may_be_and_which_layout_there_is_are_what_the_code_has() -> None:
    told = {
        "a second; ends of logs": (watcher.EVERY_S, 1),
        f"ends of logs {watcher.ENDS_EVERY_S:.0f} s": (watcher.ENDS_EVERY_S, 5),
        f"| {watcher.LIVE_EVERY_S:.0f} s, longer where reading it takes more than half a second": (
            watcher.LIVE_EVERY_S / watcher.LIVE_SHARE,
            0.5,
        ),
        "the service's figures within a minute": (watcher.REOPEN_EVERY_S, 60),
        "the service looks once a minute": (serving.FETCH_EVERY_S, 60),
        "`HITPARADE_GRACE_S` (an hour)": (Settings.from_env({}).grace_s, 3600),
        f"counted in ({LAYOUT} now)": (LAYOUT, "2"),
    }
    for words, (found, expected) in told.items():
        assert words in RUN_BOOK.replace("\n", " "), words
        assert found == expected, words
