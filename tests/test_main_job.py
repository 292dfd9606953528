"""The main job on real files, real brokers and a real Redis: counters against a recount, lists against lists."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from hitparade import steps, wiring
from hitparade.embedded import Embedded
from hitparade.settings import Settings
from producers.files import read_lines
from producers.sessions import in_event_time
from tests.builders import play

KINDS = {"play": "plays", "skip": "skips", "like": "likes"}
PIPELINE_TIMEOUT_S = 170


@dataclass(frozen=True)
class Variation:
    """One way to run the same file, which must not matter."""

    broker: str
    batch: int
    n_consumers: int
    partitions: int
    sessions: str = "sessions.jsonl"


PLAIN = Variation("tansu", 50, 1, 3)
APACHE = Variation("apache", 1, 3, 4)
DIRTY = Variation("apache", 25, 1, 3, "sessions_dirty.jsonl")


@dataclass(frozen=True)
class Finished:
    """A run that has ended, and where its Redis and data folder are."""

    outcome: steps.Outcome
    settings: Settings


Run = Callable[[Variation], Finished]


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest,
    embedded_stack: Embedded,
    listening_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Run a variation, once: several tests look at the same one."""
    finished: dict[Variation, Finished] = {}

    def once(variation: Variation) -> Finished:
        if variation not in finished:
            broker = embedded_stack.kafka if variation.broker == "tansu" else request.getfixturevalue("apache")
            finished[variation] = _run(variation, broker, embedded_stack.redis_url, listening_data, tmp_path_factory)
        return finished[variation]

    return once


def _run(
    variation: Variation, broker: str, redis_url: str, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    folder = tmp_path_factory.mktemp("data")
    env = {
        **os.environ,
        "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": broker,
        "HITPARADE_REDIS_URL": redis_url,
        "HITPARADE_TOPIC_PREFIX": f"main-{folder.name}",
        "HITPARADE_PARTITIONS": str(variation.partitions),
        "HITPARADE_SESSION_TIMEOUT_MS": "6000",
        "HITPARADE_DATA_DIR": str(folder),
    }
    tracks = ((str(n), line) for n, line in read_lines(data / "sessions" / "tracks.jsonl"))
    events = in_event_time(line for _, line in read_lines(data / "sessions" / variation.sessions))
    listening = steps.Listening(tracks, events)
    outcome = steps.steps(env, listening, batch=variation.batch, n_session_consumers=variation.n_consumers)
    return Finished(outcome, Settings.from_env(env))


def recount(path: Path) -> pd.DataFrame:
    """Plays, skips and likes by ISO week and track, from the file alone."""
    events = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    events = events.dropna(subset=["event_type", "track_id", "user_id"])
    events = events[events["event_type"].isin(list(KINDS))]
    iso = pd.to_datetime(events["timestamp"], format="ISO8601", utc=True).dt.isocalendar()
    events["week"] = [f"{year}-W{week:02}" for year, week in zip(iso["year"], iso["week"], strict=True)]
    events["kind"] = events["event_type"].map(KINDS)
    counts = events.groupby(["week", "track_id", "kind"]).size().unstack(fill_value=0)
    return counts[["plays", "skips", "likes"]].astype("int64")


def counted(finished: Finished) -> pd.DataFrame:
    """What Redis holds for every kept week, groups summed."""
    reader = wiring.counter_reader(finished.settings)
    standing = reader.standing()
    rows = [
        (week.name, track_id, plays, skips, likes)
        for week in standing.kept()
        for rows in reader.slices(week, standing)
        for track_id, _, plays, skips, likes in zip(*(column.to_pylist() for column in rows.columns), strict=True)
    ]
    return (
        pd.DataFrame(rows, columns=["week", "track_id", "plays", "skips", "likes"]).groupby(["week", "track_id"]).sum()
    )


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
@pytest.mark.parametrize("variation", [PLAIN, APACHE, DIRTY], ids=["tansu", "apache", "dirty"])
def test_counters_equal_a_recount_of_the_file(run: Run, variation: Variation, listening_data: Path) -> None:
    finished = run(variation)
    truth = recount(listening_data / "sessions" / variation.sessions)
    kept = sorted(truth.index.unique("week"))[-12:]
    assert len(kept) == 12
    pd.testing.assert_frame_equal(
        counted(finished).sort_index(), truth.loc[kept].rename_axis(columns=None).sort_index()
    )


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
@pytest.mark.parametrize("variation", [PLAIN, DIRTY], ids=["tansu", "dirty"])
def test_history_equals_a_recount_of_every_closed_week(run: Run, variation: Variation, listening_data: Path) -> None:
    finished = run(variation)
    truth = recount(listening_data / "sessions" / variation.sessions)
    history = wiring.history(finished.settings)
    weeks = sorted(truth.index.unique("week"))[:-1]
    assert history.weeks() == finished.outcome.closed
    assert set(weeks) <= set(history.weeks())
    rows = history.read(history.weeks()).groupby(["week", "track_id"])[["plays", "skips", "likes"]].sum()
    expected = truth.loc[weeks].rename_axis(columns=None).sort_index()
    assert rows.sort_index().to_dict("index") == expected.to_dict("index")


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
@pytest.mark.parametrize(
    ("variation", "tallies"),
    [
        (PLAIN, {"read": 26_347, "counted": 22_611, "late": 0, "dead": 0, "ignored": 3_736}),
        (APACHE, {"read": 26_347, "counted": 22_611, "late": 0, "dead": 0, "ignored": 3_736}),
        (DIRTY, {"read": 26_347, "counted": 19_417, "late": 0, "dead": 3_390, "ignored": 3_540}),
    ],
    ids=["tansu", "apache", "dirty"],
)
def test_every_event_of_the_file_ends_in_exactly_one_tally(
    run: Run, variation: Variation, tallies: dict[str, int]
) -> None:
    assert run(variation).outcome.tallies == tallies


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
def test_dirty_events_are_dead_by_the_first_cause_that_holds(run: Run) -> None:
    fences = wiring.counter_reader(run(DIRTY).settings).standing().fences.values()
    dead = {cause: sum(fence.tallies.get(f"dead:{cause}", 0) for fence in fences) for cause in CAUSES}
    assert dead == {"json": 0, "event_type": 1_333, "track_id": 1_060, "user_id": 997, "timestamp": 0, "future": 0}


CAUSES = ("json", "event_type", "track_id", "user_id", "timestamp", "future")


@pytest.mark.timeout(2 * PIPELINE_TIMEOUT_S)
def test_the_same_events_give_the_same_lists_however_they_travel(run: Run) -> None:
    """In arrays or alone, on another broker, in more partitions, through three consumers at once."""
    first = {playlist.key: playlist.id for playlist in run(PLAIN).outcome.playlists}
    second = {playlist.key: playlist.id for playlist in run(APACHE).outcome.playlists}
    assert len(first) == 2 * 52
    assert first == second


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
def test_no_list_is_broken(run: Run, listening_data: Path) -> None:
    catalogue = {json.loads(line)["id"] for _, line in read_lines(listening_data / "sessions" / "tracks.jsonl")}
    for playlist in run(PLAIN).outcome.playlists:
        ids = [entry.track_id for entry in playlist.tracks]
        assert len(ids) == len(set(ids)) == 50
        assert set(ids) <= catalogue
        assert all(math.isfinite(entry.score) for entry in playlist.tracks)
        assert [entry.rank for entry in playlist.tracks] == list(range(1, 51))
        order = [(-entry.score, entry.track_id) for entry in playlist.tracks]
        assert order == sorted(order)
        assert playlist.id == playlist.content_id()


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
def test_the_network_makes_the_lists_once_it_is_trained_and_naive_says_why_before(run: Run) -> None:
    outcome = run(PLAIN).outcome
    treatment = [playlist for playlist in outcome.playlists if playlist.group == "treatment"]
    before, after = treatment[: steps.TRAIN_AFTER_WEEKS], treatment[steps.TRAIN_AFTER_WEEKS :]
    assert {playlist.model for playlist in before} == {"naive"}
    assert all(playlist.fallback and "hitparade train" in playlist.fallback for playlist in before)
    assert {playlist.model for playlist in after} == {"neural"}
    assert {playlist.fallback for playlist in after} == {None}


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
def test_every_list_whose_week_has_closed_is_evaluated_beside_naive(run: Run) -> None:
    from hitparade.evaluating import read_evaluations

    finished = run(PLAIN)
    evaluations = {evaluation.key: evaluation for evaluation in read_evaluations(finished.settings)}
    closed = [p.key for p in finished.outcome.playlists if p.week in finished.outcome.closed]
    assert sorted(evaluations) == sorted(closed)
    last = evaluations[max(closed)]
    assert last.n_ranked == 22_412
    assert set(last.metrics) == set(last.naive) >= {"precision_at_50", "ndcg_at_50", "captured_plays", "criterion"}


@pytest.mark.timeout(PIPELINE_TIMEOUT_S)
def test_a_silence_longer_than_the_weeks_kept_is_passed_over(
    embedded_stack: Embedded, prefix: str, tmp_path: Path
) -> None:
    env = {**embedded_stack.environment, "HITPARADE_TOPIC_PREFIX": prefix, "HITPARADE_DATA_DIR": str(tmp_path)}
    events = [play(weeks) for weeks in (0, 1, 40, 41, 43)]
    outcome = steps.steps({**os.environ, **env}, steps.Listening([("a", b'{"id": "a"}')], events))
    assert outcome.closed == ["2023-W24", "2024-W12", "2024-W13", "2024-W14"]
    assert {playlist.closed_week for playlist in outcome.playlists} == set(outcome.closed)
    assert outcome.tallies["counted"] == 5
