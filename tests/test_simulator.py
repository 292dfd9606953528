"""The simulated listening service: reproducible, in the wire format, and true to its hidden rates."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from features.events import Kind, RawEvent, decode, parse
from features.tracks import Track
from features.weeks import Calendar, ChartWeek
from producers.simulator import Simulation, live, track_lines, write

START = ChartWeek(date(2023, 3, 27))
WORLD = Simulation(weeks=3, users=120, tracks=300, seed=7, start=START)
LINES = list(WORLD.events())
EVENTS: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def times(events: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(event["timestamp"]).replace(tzinfo=UTC) for event in events]


def small(**changes: Any) -> Simulation:
    return replace(Simulation(weeks=2, users=20, tracks=40, seed=1, start=START), **changes)


def folder_of(simulation: Simulation, folder: Path) -> dict[str, bytes]:
    write(simulation, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("hash_seed", ["0", "42"])
def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path: Path, hash_seed: str) -> None:
    code = (
        "import sys; from datetime import date; from pathlib import Path; from features.weeks import ChartWeek;"
        "from producers.simulator import Simulation, write;"
        "write(Simulation(2, 20, 40, 1, ChartWeek(date(2023, 3, 27))), Path(sys.argv[1]))"
    )
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "theirs")], env=environment, check=True, timeout=60)
    ours = folder_of(small(), tmp_path / "ours")
    assert set(ours) == {"sessions.jsonl", "tracks.jsonl", "truth.jsonl"}
    assert ours == {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    ours, theirs = folder_of(small(), tmp_path / "1"), folder_of(small(seed=2), tmp_path / "2")
    assert all(ours[name] != theirs[name] for name in ours)


def test_every_line_is_an_event_of_the_wire_contract() -> None:
    kinds = Counter[Kind | None]()
    for line in LINES:
        (raw,) = decode(line)
        assert isinstance(raw, RawEvent)
        event = parse(raw)
        kinds[None if event is None else event.kind] += 1
        assert list(json.loads(line)) == ["session_id", "timestamp", "user_id", "track_id", "event_type"]
    assert set(kinds) == {*Kind, None}
    assert {e["event_type"] for e in EVENTS if e["track_id"] is None} == {"advertisment"}
    assert 0.15 < kinds[Kind.SKIP] / kinds[Kind.PLAY] < 0.45
    assert 0.1 < kinds[Kind.LIKE] / kinds[Kind.PLAY] < 0.35
    without_fraction = sum("." not in event["timestamp"] for event in EVENTS) / len(EVENTS)
    assert 0.02 < without_fraction < 0.1


def test_a_skip_or_a_like_follows_a_play_of_its_track_in_its_session() -> None:
    played = set[tuple[int, int, str]]()
    for event in EVENTS:
        key = (event["session_id"], event["user_id"], event["track_id"])
        if event["event_type"] == "play":
            played.add(key)
        elif event["track_id"] is not None:
            assert key in played


def test_a_session_has_one_user_and_no_play_is_both_skipped_and_liked_more_often_than_played() -> None:
    assert len({(e["session_id"], e["user_id"]) for e in EVENTS}) == len({e["session_id"] for e in EVENTS})
    counts = Counter((e["session_id"], e["track_id"], e["event_type"]) for e in EVENTS if e["track_id"])
    for session, track, _ in counts:
        assert counts[session, track, "skip"] + counts[session, track, "like"] <= counts[session, track, "play"]


@pytest.mark.parametrize(
    "calendar", [Calendar(), Calendar(4, ZoneInfo("Europe/Berlin")), Calendar(6, ZoneInfo("America/New_York"))]
)
def test_events_are_in_order_and_within_the_simulated_weeks(calendar: Calendar) -> None:
    start = calendar.week_of(datetime(2023, 3, 20, 12, tzinfo=UTC))  # the clocks of both zones change near by
    world = small(start=start, calendar=calendar, weeks=3, users=60)
    timed = list(world.timed_events())
    assert [line for _, line in timed] == list(world.events())
    assert all(before <= after for (before, _), (after, _) in pairwise(timed))
    assert times([json.loads(line) for _, line in timed]) == [event_time for event_time, _ in timed]
    assert {calendar.week_of(event_time) for event_time, _ in timed} == set(world.chart_weeks())


def test_a_session_over_a_weeks_border_goes_on_in_the_next_week() -> None:
    calendar = Calendar()
    weeks_of = dict[int, set[ChartWeek]]()
    for event, event_time in zip(EVENTS, times(EVENTS), strict=True):
        weeks_of.setdefault(event["session_id"], set()).add(calendar.week_of(event_time))
    assert any(len(weeks) == 2 for weeks in weeks_of.values())


def test_plays_follow_the_hidden_rates_of_their_week() -> None:
    calendar = Calendar()
    plays = Counter(
        (calendar.week_of(event_time), event["track_id"])
        for event, event_time in zip(EVENTS, times(EVENTS), strict=True)
        if event["event_type"] == "play"
    )
    for week in WORLD.chart_weeks():
        rates = WORLD.rates(week)
        counted = [plays[week, track_id] for track_id in rates]
        assert 120 * 5 < sum(counted) < 120 * 40
        assert np.corrcoef(counted, list(rates.values()))[0, 1] > 0.9
        assert sum(count for count, rate in zip(counted, rates.values(), strict=True) if rate == 0) == 0


def test_a_release_has_no_rate_before_its_week_then_rises_and_decays() -> None:
    world = Simulation(weeks=16, users=1, tracks=400, seed=5, start=START)
    releases = {
        track["id"]: date.fromisoformat(track["release_date"])
        for track in world.catalogue()
        if len(track["release_date"]) == 10 and date.fromisoformat(track["release_date"]) >= START.first_day
    }
    assert len(releases) > 20
    shape = np.zeros(10)
    for track_id, day in releases.items():
        rates = [world.rates(week)[track_id] for week in world.chart_weeks()]
        born = world.chart_weeks().index(ChartWeek(day))
        assert not any(rates[:born])
        assert all(rate > 0 for rate in rates[born:])
        if born <= 6:
            shape += np.array(rates[born : born + 10]) / max(rates)
    assert shape[:3].max() > 1.1 * shape[0]
    assert shape[9] < 0.7 * shape.max()


def test_the_catalogue_is_of_the_wire_contract_and_within_the_ranges_of_the_field() -> None:
    records = [json.loads(line) for line in track_lines(WORLD)]
    assert records == WORLD.catalogue()
    tracks = [Track.model_validate(record) for record in records]
    assert len({track.id for track in tracks}) == 300
    assert all(re.fullmatch(r"[0-9A-Za-z]{22}", track.id) for track in tracks)
    assert 10 < len({track.id_artist for track in tracks}) <= 50
    assert {len(record["release_date"]) for record in records} == {4, 7, 10}
    ranges = {"popularity": (0, 100), "key": (0, 11), "loudness": (-60, 5), "tempo": (40, 220), "explicit": (0, 1)}
    ranges |= {name: (0, 1) for name in ("danceability", "energy", "speechiness", "acousticness", "liveness")}
    for name, (low, high) in ranges.items():
        values = [record[name] for record in records if record[name] is not None]
        assert low <= min(values) < max(values) <= high
    assert any(None in record.values() for record in records)


def test_popularity_goes_along_with_the_hidden_rate() -> None:
    rates = np.mean([list(WORLD.rates(week).values()) for week in WORLD.chart_weeks()], axis=0)
    popularity = [record["popularity"] for record in WORLD.catalogue()]
    assert np.corrcoef(popularity, np.log(rates + 1e-6))[0, 1] > 0.4


def test_written_files_hold_the_events_the_tracks_and_the_truth(tmp_path: Path) -> None:
    told: list[int] = []
    n_events = write(small(), tmp_path / "new" / "folder", told.append)
    files = {path.name: path.read_bytes().splitlines() for path in (tmp_path / "new" / "folder").iterdir()}
    assert files["sessions.jsonl"] == list(small().events())
    assert n_events == sum(told) == len(files["sessions.jsonl"])
    assert len(files["tracks.jsonl"]) == 40
    truth = [json.loads(line) for line in files["truth.jsonl"]]
    assert [(week["week"], week["rates"]) for week in truth] == [
        (w.name, small().rates(w)) for w in small().chart_weeks()
    ]


def test_what_is_interrupted_leaves_the_files_of_a_folder_as_they_were(tmp_path: Path) -> None:
    write(small(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(n_events: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(replace(small(), seed=2), tmp_path, interrupt)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_live_events_come_when_they_are_due_from_now_on() -> None:
    clock = [datetime(2024, 5, 15, 12, tzinfo=UTC)]
    begun = clock[0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += timedelta(seconds=seconds)

    lines = []
    for line in live(small(users=200), lambda: clock[0], sleep, lambda: clock[0] > begun + timedelta(hours=2)):
        (event_time,) = times([json.loads(line)])
        assert begun <= event_time <= clock[0] <= event_time + timedelta(milliseconds=1)
        lines.append(line)
    assert len(lines) > 10
    assert 0 < max(slept) <= 1.0
    assert clock[0] - begun <= timedelta(hours=2, seconds=1)


@pytest.mark.parametrize("name", ["weeks", "users", "tracks"])
def test_a_world_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; expected 1 or more"):
        small(**{name: 0})


def test_a_week_that_is_not_simulated_has_no_rates() -> None:
    with pytest.raises(ValueError, match="week 2023-W12 is not simulated; expected 2023-W13 to 2023-W14"):
        small().rates(START.before())


def test_where_no_track_is_out_yet_nobody_listens() -> None:
    worlds = [small(users=3, tracks=1, seed=seed) for seed in range(60)]
    silent = [world for world in worlds if not any(world.rates(START).values())]
    assert 0 < len(silent) < 60
    for world in silent:
        assert not any(event_time < Calendar().end(START) for event_time, _ in world.timed_events())
