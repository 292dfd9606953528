"""What happens to a weekly run: triggers of every kind, and everything that it needs going away under it."""

import contextlib
import itertools
import json
import resource
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from features.table import FEATURES
from features.weeks import Calendar
from hitparade import wiring
from producers.playlists import Playlist
from producers.publisher import Message, Publisher
from producers.topics import ensure_topics, topic_specs
from tests.builders import array
from tests.builders_history import listening
from tests.faults.conftest import NewWorld
from tests.faults.known import FIRST, TRACKS, catalogue
from tests.faults.servers import Broker, Redis
from tests.faults.test_data import WEEK, event, publish
from tests.faults.truth import read_back
from tests.faults.world import WEEKS_KEPT, Process, World
from tests.servers import wait_until

N_CLOSED = WEEKS_KEPT - 1


def ready(world: World, n_events: int = 4000) -> World:
    """The known log and the catalogue, all counted."""
    world.fill(n_events)
    world.catalogue()
    assert world.consumer("--until-idle").wait() == 0
    return world


def closed(world: World) -> list[str]:
    """The weeks that are closed and kept, oldest first."""
    return [week.name for week in wiring.counter_reader(world.settings).standing().closed()]


def week_after(week: str, n: int = 1) -> str:
    return Calendar().parse(week).after(n).name


def published(world: World) -> dict[str, list[bytes]]:
    """Every list ever published, by week and group."""
    lists = defaultdict(list)
    for records in read_back(world.kafka, world.settings.topics.playlists).values():
        for record in records:
            lists[record.key.decode()].append(record.value)
    return lists


def n_published(world: World) -> int:
    return sum(map(len, published(world).values()))


def trigger(world: World, *arguments: str) -> None:
    assert world.command("trigger", *arguments).wait() == 0


def weekly(world: World, plan: str = "", env: Mapping[str, str] | None = None) -> Process:
    """A weekly consumer, which may send itself signals."""
    if plan:
        return world.python("-m", "tests.faults.killed", plan, "consume", "weekly", env=env)
    return world.command("consume", "weekly", env=env)


def await_said(process: Process, text: str, timeout_s: float = 40) -> None:
    wait_until(lambda: process.said(text), f"{text!r} in {process.log}", timeout_s)


def await_lists(world: World, n_weeks: int = N_CLOSED, timeout_s: float = 60) -> None:
    """Wait for a list of each group for so many weeks."""
    wait_until(lambda: len(published(world)) >= 2 * n_weeks, f"lists of {n_weeks} weeks", timeout_s)


def verdict(world: World) -> None:
    """The log is counted exactly, and every list was only ever published as the bytes of a run without faults."""
    before = published(world)
    world.check()
    after = published(world)
    assert before.keys() <= after.keys()
    assert {key: len(set(values)) for key, values in after.items()} == dict.fromkeys(after, 1)
    for values in after.values():
        check_list(json.loads(values[0]))


def check_list(record: Mapping[str, Any], known: Sequence[str] = TRACKS[:-10]) -> None:
    """Finite, in order, no track twice, none that is in no catalogue."""
    ids = [place["track_id"] for place in record["tracks"]]
    scores = [place["score"] for place in record["tracks"]]
    assert len(set(ids)) == len(ids) == min(50, len(known))
    assert set(ids) <= set(known)
    assert all(abs(score) < 1e300 for score in scores)
    assert scores == sorted(scores, reverse=True)


def leftovers(world: World) -> list[Path]:
    return list((world.folder / "data").rglob("*.tmp"))


# Triggers


@pytest.mark.full
def test_a_week_is_triggered_twice_and_late_and_early_and_while_it_is_open(world: World) -> None:
    """Twice, or for a past week: the same bytes. Too early, or open: refused with the weeks that may be asked for."""
    ready(world)
    world.send(*[event(FIRST + 10 * WEEK)] * 4, partition=1)  # after two weeks without any event
    assert world.consumer("--until-idle").wait() == 0
    weeks = closed(world)
    assert (weeks[0], weeks[-1]) == ("2023-W23", "2023-W27")
    running = weekly(world)
    trigger(world)
    trigger(world, "2023-W27")
    trigger(world, "2023-W23")
    trigger(world, "--all")
    await_lists(world)
    early, gone = world.command("trigger", "2023-W28"), world.command("trigger", "2023-W22")
    assert early.wait() == gone.wait() == 1
    assert early.said("week 2023-W28 is not closed, or not kept: expected one of 2023-W23 to 2023-W27")
    assert gone.said("week 2023-W22 is not closed, or not kept: expected one of 2023-W23 to 2023-W27")
    once = world.command("schedule", "--once", "--event-time")
    assert once.wait() == 0
    assert once.said("triggered nothing: no closed week is without a trigger")
    wait_until(lambda: n_published(world) == 2 * 8, "eight triggers' lists")
    assert running.terminate() == 0
    lists = {key: json.loads(values[-1]) for key, values in published(world).items()}
    assert {record["closed_week"] for record in lists.values()} == set(weeks)
    assert [place["plays"][3] for place in lists["2023-W28/control"]["tracks"]] == [0] * 50
    verdict(world)


@pytest.mark.full
def test_a_trigger_is_run_after_its_week_has_fallen_out_of_the_counters(world: World) -> None:
    """It is passed over with an error that names the weeks there are, and the next one is run."""
    ready(world)
    first = closed(world)[0]
    trigger(world, first)
    world.send(event(FIRST + 9 * WEEK), partition=2)
    assert world.consumer("--until-idle").wait() == 0
    assert first not in closed(world)
    trigger(world)
    late = world.command("consume", "weekly", "--until-idle")
    assert late.wait() == 1
    assert late.said(f"is passed over: week {first} is not counted: expected one of {closed(world)[0]} to ")
    assert set(published(world)) == {f"{week_after(closed(world)[-1])}/{group}" for group in ("control", "treatment")}
    verdict(world)


@pytest.mark.full
def test_a_trigger_of_a_topic_that_was_created_anew_waits_for_its_counters(world: World) -> None:
    """While Redis counts the old one it says what to do; then the lists come by themselves."""
    ready(world)
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=world.kafka)) as admin:
        admin.delete_topics([world.topic])
        specs = topic_specs(world.settings.topics, world.n_partitions, WEEKS_KEPT)
        wait_until(lambda: any(s.created for s in ensure_topics(world.settings.kafka, specs, 1)), "the new topic")
    world.fill(3000)
    with world.stage(world.env) as stage:
        stage.triggers.fire(Calendar().parse(closed(world)[2]), "manual")
    running = weekly(world)
    await_said(running, "count the new topic, after `hitparade drop` has removed the old; trying again")
    assert not published(world)
    assert world.command("drop", world.topic, "--yes").wait() == 0
    assert world.consumer("--until-idle").wait() == 0
    await_lists(world, 1)
    assert running.terminate() == 0


# What a run reads


def test_a_run_waits_for_counters_that_are_behind_and_for_a_group_that_rebalances(world: World) -> None:
    """Without a consumer: want and have are told, it is tried again, and nothing is published. With some: the lists."""
    ready(world)
    world.fill(4000)
    trigger(world, "--all")
    running = weekly(world, env={"CUT_TIMEOUT_S": "1"})
    await_said(running, "the counters are behind the cut after 1 s")
    assert running.said(f"{world.topic} partition 0: want ")
    for _ in range(2):
        assert world.python("-m", "tests.faults.killed", "SIGKILL after apply 1", "consume", "sessions").wait() < 0
    assert world.n_decided() < 8000 - 1000
    assert not published(world)
    counting = [world.consumer(), world.consumer()]
    await_lists(world)
    assert [process.terminate() for process in (*counting, running)] == [0, 0, 0]
    verdict(world)


def test_redis_is_killed_while_a_run_reads_it(world: World) -> None:
    """Nothing is published until it is back; then everything."""
    ready(world)
    trigger(world, "--all")
    running = weekly(world, "SIGSTOP after bucket 10")
    await_said(running, "SIGSTOP after bucket 10")
    world.redis.kill()
    running.thaw()
    await_said(running, "Redis cannot serve now")
    assert not published(world)
    world.redis.start()
    await_lists(world)
    assert running.terminate() == 0
    verdict(world)


SLOW = """
import sys, threading
from features.store import CounterStore
from hitparade.__main__ import main
pause, inner = threading.Event(), CounterStore.packed
def packed(*arguments):
    pause.wait(0.02)  # as with 15,000 tracks in a slice
    return inner(*arguments)
CounterStore.packed = packed
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.full
def test_late_events_never_pause_while_a_run_reads_the_weeks_that_they_are_of(world: World) -> None:
    """The run reads copies of one instant, and its list is that of the log up to the cut that it names."""
    ready(world, 12_000)
    counting, over, weeks = world.consumer(), threading.Event(), closed(world)
    times = [Calendar().start(Calendar().parse(week)) for week in weeks[1:]]

    def send_late_events() -> None:
        with contextlib.closing(Publisher(world.settings.kafka)) as publisher:
            for n in itertools.count():
                late = array(*[event(time, track_id=TRACKS[n % 50], user_id=n) for time in times])
                publisher.publish([Message(world.topic, b"key", late, partition=n % 4)])
                if over.wait(0.02):
                    return

    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(send_late_events)
        try:
            trigger(world, weeks[-1])
            running = world.python("-c", SLOW, "consume", "weekly")
            await_lists(world, 1, 120)
        finally:
            over.set()
            sending.result()
    assert running.said(f"{weeks[-1]}: counted on all the while they were read; reading copies")
    assert running.terminate() == 0
    world.await_drained()
    assert counting.terminate() == 0
    log = world.read_back()
    for values in published(world).values():
        check_list(json.loads(values[0]))
        check_plays(world, json.loads(values[0]), weeks[-4:], log)
    assert not list(world.client.scan_iter(match="*copy*"))
    world.check(lists=False)


def check_plays(world: World, record: Mapping[str, Any], weeks: list[str], log: Mapping[int, Sequence[Any]]) -> None:
    """The plays of every track are those of the log up to the record's cut."""
    plays = Counter[tuple[str, str]]()
    for partition, records in log.items():
        known = [r for r in records if r.offset < record["cut"]["sessions"][str(partition)]]
        assert len(known) < len(records), "the late events came too early"
        for (week, _, track), counts in world.truth(known).counts.items():
            plays[week, track] += counts[0]
    for place in record["tracks"]:
        assert place["plays"] == [plays[week, place["track_id"]] for week in weeks]


@pytest.mark.full
def test_a_file_of_the_history_is_broken_in_its_middle(world: World) -> None:
    """Of a week that is still counted: it is written anew. Of an older one: naive's list, and the reason."""
    ready(world)
    oldest, *_, last = closed(world)
    trigger(world, last)
    assert weekly_until_idle(world) == 0
    history = world.folder / "data" / "history"
    for name in (f"weeks/{oldest}.parquet", f"weeks/{last}.parquet", "catalogue.parquet"):
        break_in_its_middle(history / name)
    trigger(world, "--all")
    assert weekly_until_idle(world) == 0
    verdict(world)
    assert weekly_until_idle(world) == 0  # the triggers of that

    world.send(event(FIRST + 9 * WEEK))  # the oldest week falls out of the counters
    assert world.consumer("--until-idle").wait() == 0
    break_in_its_middle(history / "weeks" / f"{oldest}.parquet")
    newer = week_after(last)
    control, treatment = lists_of(world, newer)
    assert (control.model, control.fallback) == ("naive", "a file of the history cannot be read")
    assert (treatment.model, treatment.fallback) == ("naive", None)
    assert control.tracks == treatment.tracks
    (history / "weeks" / f"{oldest}.parquet").unlink()  # as the log says
    control, treatment = lists_of(world, newer)
    assert (control.model, control.fallback, control.revision) == ("linear", None, 2)
    assert treatment.revision == 1


def lists_of(world: World, week: str) -> list[Playlist]:
    """The lists that follow a week, by group, after one more trigger."""
    trigger(world, week)
    assert weekly_until_idle(world) == 0
    lists = published(world)
    return [
        Playlist.model_validate_json(lists[f"{week_after(week)}/{group}"][-1]) for group in ("control", "treatment")
    ]


def weekly_until_idle(world: World) -> int:
    return world.command("consume", "weekly", "--until-idle").wait()


def break_in_its_middle(path: Path) -> None:
    """The footer stays whole."""
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


# Models and catalogue

NETWORK = """
[[experiment]]
name = "faults"
salt = "faults"
[experiment.groups.control]
weight = 0.5
model = "linear"
[experiment.groups.treatment]
weight = 0.5
model = "neural"
"""


def rewritten(folder: Path, change: Callable[[Any], None]) -> None:
    """The network with other weights, a card that describes them and their version's name, in use."""
    from safetensors import torch as safetensors

    from models.artefact import CARD, WEIGHTS, version_of

    weights = safetensors.load_file(folder / WEIGHTS)
    change(weights["last.bias"])
    (folder / WEIGHTS).write_bytes(safetensors.save(weights))
    card = json.loads((folder / CARD).read_text())
    card["version"] = version_of(card["last_week"], (folder / WEIGHTS).read_bytes())
    (folder / CARD).write_text(json.dumps(card))
    folder.rename(folder.with_name(card["version"])).with_name("champion").write_text(card["version"])


def harms() -> dict[str, tuple[Callable[[Path], None], str | None]]:
    """What is done to a network's files, and the reason that its list then gives; None: it makes the list."""
    from models.artefact import CARD, WEIGHTS

    def older(folder: Path) -> None:
        card = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(card | {"features": FEATURES[1:]}))

    def halve(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[: (folder / WEIGHTS).stat().st_size // 2])

    return {
        "whole": (lambda folder: None, None),
        "missing": (lambda folder: (folder / WEIGHTS).unlink(), "weights.safetensors is missing"),
        "gone": (shutil.rmtree, "neural has no version"),
        "cut in half": (halve, "weights.safetensors is not a safetensors file"),
        "of other features": (older, "card.json is of other features"),
        "NaN": (
            lambda folder: rewritten(folder, lambda bias: bias.fill_(float("nan"))),
            "scores are not finite",
        ),
        "all the same": (lambda folder: rewritten(folder, lambda bias: bias.fill_(1e6)), None),
    }


@pytest.mark.full
def test_the_network_is_missing_cut_in_half_of_other_features_or_gives_nan_or_all_the_same(
    new_world: NewWorld, broker: Broker, redis: Redis, tmp_path: Path
) -> None:
    """naive's list with the reason, and the other group its own; the same score for all is a list, by track id."""
    from models.training import train

    file = tmp_path / "experiments.toml"
    file.write_text(NETWORK)
    world = ready(new_world(broker.address, redis, settings_={"EXPERIMENT_FILE": str(file)}))
    week = closed(world)[-1]
    trained = train(listening(tmp_path / "learned", 9, n_tracks=20), "2023-W09")
    registry = wiring.registry(world.settings)
    controls, reasons = set(), {}
    with world.stage(world.env) as stage:
        for harm, reason in harms().values():
            shutil.rmtree(world.folder / "data" / "models", ignore_errors=True)
            folder = registry.publish("neural", trained.model.version, trained.save)
            registry.promote("neural", trained.model.version)
            harm(folder)
            control, treatment = stage.weekly_run().run(stage.triggers.fire(Calendar().parse(week), "manual"))
            controls.add((control.id, control.model, control.revision, control.fallback))
            reasons[reason] = treatment.fallback
            check_list(json.loads(treatment.model_dump_json()))
            assert treatment.model == ("naive" if reason else "neural")
            if reason:
                assert all(p.score == p.plays[3] + sum(p.plays[1:]) for p in treatment.tracks)
    assert [(model, revision, fallback) for _, model, revision, fallback in controls] == [("linear", 1, None)]
    for expected, found in reasons.items():
        assert (expected is None) == (found is None)
        assert (expected or "") in (found or "")
    tracks = wiring.runs(world.settings).latest(week_after(week))
    assert tracks is not None
    played = tracks[[f"plays_week_{n}" for n in (1, 2, 3, 4)]].any(axis=1)
    assert tracks.loc[played, "prediction_neural"].nunique() == 1
    world.check(lists=False)


@pytest.mark.full
def test_the_catalogue_is_empty_then_small_then_taken_down(world: World) -> None:
    """A list holds what there is: nothing, seven tracks, nothing; the next revision says what changed."""
    world.fill(4000)
    assert world.consumer("--until-idle").wait() == 0
    week = closed(world)[-1]
    found = [lists_of(world, week)]
    for changes in (list(catalogue())[:7], [(key, None) for key, _ in list(catalogue())[:7]]):
        publish(world, [Message(world.settings.topics.tracks, key, value) for key, value in changes])
        assert world.command("consume", "tracks", "--until-idle").wait() == 0
        found.append(lists_of(world, week))
    for lists in found:
        assert all(place.score >= 0 for playlist in lists for place in playlist.tracks)
        assert lists[0].fallback is None
    assert [[len(playlist.tracks) for playlist in lists] for lists in found] == [[0, 0], [7, 7], [0, 0]]
    assert [playlist.revision for playlist in found[-1]] == [3, 3]
    assert found[1][0].changes is not None
    assert sorted(found[1][0].changes.entered) == TRACKS[:7]
    world.check(lists=False)


# What a run writes


def limit(process: Process, n_bytes: int) -> None:
    """No file of the process may grow beyond so many bytes: a write then fails as it does on a full disk."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))


@pytest.mark.parametrize(
    "edge", [pytest.param("bucket 1", marks=pytest.mark.full), "add 1"], ids=["history", "the run"]
)
def test_the_disk_is_full_when_history_or_the_run_is_written(world: World, edge: str) -> None:
    """It is said and tried again; nothing is published or half-written; when there is room the lists come."""
    ready(world)
    trigger(world, "--all")
    running = weekly(world, f"SIGSTOP before {edge}")
    await_said(running, f"SIGSTOP before {edge}")
    limit(running, 4_000)
    running.thaw()
    await_said(running, "the data folder cannot be used now: [Errno 27]")
    await_said(running, "trying again in about")
    assert not published(world)
    runs, weeks = (world.folder / "data" / name for name in ("runs", "history/weeks"))
    assert list(runs.glob("*/[0-9]*")) == []
    assert bool(list(weeks.glob("*.parquet"))) == (edge == "add 1")
    limit(running, resource.RLIM_INFINITY)
    await_lists(world)
    assert running.terminate() == 0
    assert not leftovers(world)
    verdict(world)


@pytest.mark.full
@pytest.mark.parametrize("name", ["history", "runs"])
def test_the_data_folder_cannot_be_written(world: World, name: str) -> None:
    """A file stands where a folder should be: the log names it, and the lists come once it is gone."""
    ready(world)
    trigger(world, "--all")
    (world.folder / "data").mkdir(exist_ok=True)
    (world.folder / "data" / name).write_text("no folder")
    running = weekly(world)
    await_said(running, f"data/{name}")
    assert running.said("trying again in about")
    assert not published(world)
    (world.folder / "data" / name).unlink()
    await_lists(world)
    assert running.terminate() == 0
    verdict(world)


@pytest.mark.parametrize("edge", [pytest.param("bucket 10", marks=pytest.mark.full), "add 1"])
def test_a_run_is_killed_while_it_writes(world: World, edge: str) -> None:
    """What it has left half-written is read by nobody, and removed by the next."""
    ready(world)
    trigger(world, "--all")
    assert weekly(world, f"SIGKILL after {edge}").wait() < 0
    assert leftovers(world)
    assert not published(world)
    running = weekly(world)
    await_lists(world)
    assert running.terminate() == 0
    assert not leftovers(world)
    verdict(world)


@pytest.mark.full
@pytest.mark.parametrize("edge", ["publish 1", "bucket 10", "add 1"])
def test_a_weekly_consumer_hangs_in_mid_run_and_wakes_up_when_another_has_taken_over(world: World, edge: str) -> None:
    """Both write to one data folder and publish; the record comes twice, with the same bytes."""
    ready(world)
    trigger(world, "--all")
    zombie = weekly(world, f"SIGSTOP before {edge}")
    await_said(zombie, f"SIGSTOP before {edge}")
    heir = weekly(world)
    wait_until(lambda: n_published(world) >= 2, "the heir's first lists")
    zombie.thaw()
    await_lists(world)
    wait_until(lambda: max(map(len, published(world).values())) > 1, "the zombie's lists")
    assert [process.terminate() for process in (zombie, heir)] == [0, 0]
    assert not leftovers(world)
    verdict(world)


@pytest.mark.full
def test_the_broker_is_restarted_between_scoring_and_publishing(world: World, broker: Broker) -> None:
    ready(world)
    trigger(world, "--all")
    running = weekly(world, "SIGSTOP before publish 1")
    await_said(running, "SIGSTOP before publish 1")
    broker.kill()
    try:
        running.thaw()
        await_said(running, "did not take all of 2 records")
        assert running.is_alive()
    finally:
        broker.start()
    await_lists(world)
    assert running.terminate() == 0
    verdict(world)
