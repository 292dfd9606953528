"""A track: what Redis, memory and disk know of it, and what is said where one of them knows nothing."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from httpx2 import Response
from redis import Redis

from consumers.runs import TRACKS
from features.connect import connect
from features.parts import Bucket, CatalogueEntry, Part
from features.reader import CounterReader
from features.store import CounterStore
from features.weeks import Calendar
from service.figures import Reach
from service.parts import Parts
from service.tracks import Catalogue, TrackLookup
from tests.builders import MONDAY
from tests.builders_history import track as a_track
from tests.builders_history import write_catalogue, write_week
from tests.serving import NOW, a_list, client, parts
from tests.stored import numbers
from tests.test_why import WEEK, keep

NOT_ASKED = "counters and catalogue: they cannot be asked now"
NO_RUN = "why: no run for week 2023-W25 is kept here: expected one that `hitparade consume weekly` made"


def get(made: Parts, address: str) -> Response:
    return client(made).get(address)


def lookup(store: CounterStore, tracks: CounterStore) -> TrackLookup:
    return TrackLookup(CounterReader(store, [0], Calendar(), 12), Catalogue(tracks, [0]))


@pytest.fixture
def in_redis(redis: Redis, prefix: str) -> TrackLookup:
    """`a` and `a/b` are counted and in the catalogue, `counted` and `listed` are one of both."""
    store, tracks = CounterStore(redis, prefix, slices=3), CounterStore(redis, f"{prefix}.tracks", slices=3)
    store.init(0, 0, "id", {"listeners": "True"})
    tracks.init(0, 0, "id", {})
    counts = {"a": [1, 2, 3, 4, 5, 6], "a/b": [1, 0, 0, 0, 0, 0], "counted": [0, 0, 0, 1, 0, 0]}
    bucket = Bucket("2023-W24", ("control", "treatment"), "f", numbers(counts), 1, {"a": {"u", "v", "w"}})
    store.apply(0, "id", Part(0, 1, MONDAY, buckets=[bucket]))
    entries = [CatalogueEntry(i, 1, 1, a_track(i, tempo=None).model_dump_json()) for i in ("a", "a/b", "listed")]
    tracks.apply(0, "id", Part(0, 1, None, entries=entries))
    return lookup(store, tracks)


def whole(folder: Path, found: TrackLookup) -> Parts:
    """Lists, a run, a history and Redis that all know the track a."""
    keep(folder, {"a": 5.0, "b": 7.0})
    lists = [a_list(week, group, ids=("b", "a")) for week in ("2023-W24", "2023-W25") for group in ("control", "x")]
    made = parts(folder, *lists, a_list("2023-W25", "y", ids=("b",)), tracks=found)
    write_catalogue(made.history, [a_track("a")])
    write_week(made.history, "2023-W24", {"a": (3, 2, 1)})
    return made


def test_a_track_is_what_counters_catalogue_lists_and_run_know_of_it(tmp_path: Path, in_redis: TrackLookup) -> None:
    found = get(whole(tmp_path, in_redis), "/tracks/a").json()
    assert (found["track_id"], found["name"], found["missing"]) == ("a", "Song a", [])
    assert found["counters"] == [
        {"week": "2023-W24", "group": "control", "plays": 1, "skips": 2, "likes": 3},
        {"week": "2023-W24", "group": "treatment", "plays": 4, "skips": 5, "likes": 6},
    ]
    assert found["listeners"] == {"2023-W24": 3}
    assert (found["catalogue"]["release_date"], found["catalogue"]["tempo"]) == ("2019-07-05", None)
    assert [(p["week"], p["group"], p["rank"], p["score"]) for p in found["places"]] == [
        *(("2023-W25", "control", 2, 98.0), ("2023-W25", "x", 2, 98.0)),
        *(("2023-W24", "control", 2, 98.0), ("2023-W24", "x", 2, 98.0)),
    ]
    why = found["why"]
    assert (why["week"], why["closed_week"], why["counts"][0]["plays"]) == ("2023-W25", "2023-W24", 3)
    assert [(m["model"], m["score"], m["rank"], m["of"]) for m in why["models"]] == [("naive", 5.0, 2, 2)]
    assert [(place["group"], place["rank"]) for place in why["lists"]] == [("control", 2), ("x", 2), ("y", None)]


def test_the_page_of_a_track_tells_of_its_listeners_where_they_are_looked_at(
    tmp_path: Path, in_redis: TrackLookup
) -> None:
    made = whole(tmp_path, in_redis)
    assert "Different listeners, about: 2023-W24 3." in get(made, "/track/a").text
    assert in_redis.counters
    in_redis.counters.store.client.hset(in_redis.counters.store.key(0, "fence"), "listeners", "False")
    assert "Different listeners" not in get(made, "/track/a").text
    assert get(made, "/tracks/a").json()["listeners"] is None


def test_why_is_of_the_latest_lists_or_of_the_week_asked_for(tmp_path: Path, in_redis: TrackLookup) -> None:
    made = whole(tmp_path, in_redis)
    found = get(made, "/tracks/a?week=2023-W24").json()
    assert (found["why"], found["missing"]) == (None, [NO_RUN.replace("W25", "W24")])
    assert get(made, "/tracks/a?week=2023-W25").json() == get(made, "/tracks/a?week=latest").json()
    assert get(made, "/tracks/a?week=2023-W23").status_code == 404
    assert get(made, "/tracks/a?week=2023-W60").status_code == 422


def test_a_track_whose_run_is_not_on_this_machine_is_told_of_without_why(tmp_path: Path, in_redis: TrackLookup) -> None:
    found = get(parts(tmp_path, a_list("2023-W25", ids=("a",)), tracks=in_redis), "/tracks/a").json()
    assert (found["why"], found["missing"]) == (None, [NO_RUN])
    assert (len(found["counters"]), len(found["places"]), found["catalogue"]["id"]) == (2, 1, "a")


@pytest.mark.parametrize(("track_id", "counters", "catalogue"), [("counted", 1, False), ("listed", 0, True)])
def test_one_who_knows_a_track_is_enough(
    track_id: str, counters: int, catalogue: bool, tmp_path: Path, in_redis: TrackLookup
) -> None:
    found = get(parts(tmp_path, tracks=in_redis), f"/tracks/{track_id}").json()
    assert (len(found["counters"]), found["catalogue"] is not None) == (counters, catalogue)
    assert found["missing"] == ["why: no list is known yet"]


def test_a_track_that_the_last_run_did_not_know_says_so(tmp_path: Path, in_redis: TrackLookup) -> None:
    found = get(whole(tmp_path, in_redis), "/tracks/counted").json()
    assert (found["why"], found["missing"]) == (None, ["why: the last run for week 2023-W25 did not know the track"])


def test_an_id_may_have_a_slash_or_the_suffix_of_a_form(tmp_path: Path, in_redis: TrackLookup) -> None:
    made = parts(tmp_path, a_list(ids=("x.csv", "ü \t")), tracks=in_redis)
    assert get(made, "/tracks/a%2Fb").json()["track_id"] == "a/b"
    assert get(made, "/tracks/x.csv").json()["track_id"] == "x.csv"
    assert get(made, "/tracks/%C3%BC%20%09").json()["track_id"] == "ü \t"
    assert get(made, "/tracks/").status_code == 422


@pytest.mark.parametrize("track_id", ["nobody", "%00", "%FF%FE", "%ED%A0%80", "..%2F..%2Fetc", "x" * 10_000, "*"])
def test_a_track_that_nobody_knows_is_404(track_id: str, tmp_path: Path, in_redis: TrackLookup) -> None:
    found = get(whole(tmp_path, in_redis), f"/tracks/{track_id}")
    assert found.status_code == 404
    assert found.json()["detail"].startswith("there is no such track: it is in no catalogue")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a Redis that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_while_redis_is_silent_memory_and_disk_answer_and_say_what_is_missing(tmp_path: Path, silent: str) -> None:
    with closing(connect(silent, 0.05)) as redis:
        made = whole(tmp_path, lookup(CounterStore(redis, "s", 3), CounterStore(redis, "t", 3)))
        found = get(made, "/tracks/a")
        nobody = get(made, "/tracks/nobody")
    assert found.json()["missing"] == [f"{NOT_ASKED} (Redis does not answer)"]
    assert (found.json()["counters"], found.json()["catalogue"], found.json()["name"]) == (None, None, "A")
    assert (len(found.json()["places"]), found.json()["why"]["models"][0]["rank"]) == (4, 2)
    assert (nobody.status_code, nobody.json()["detail"]) == (503, f"{NOT_ASKED} (Redis does not answer)")


def test_a_redis_that_is_known_to_be_away_is_not_asked(tmp_path: Path, in_redis: TrackLookup) -> None:
    made = whole(tmp_path, in_redis)
    away = Reach(ok=False, since=NOW, reason="Connection refused")
    made.memory.figures = made.memory.figures.model_copy(update={"redis": away})
    found = get(made, "/tracks/a")
    assert found.json()["missing"] == [f"{NOT_ASKED} (Connection refused)"]
    assert found.headers["hitparade-stale"] == "redis"


def test_before_kafka_has_answered_and_the_lists_are_read_a_track_says_so(tmp_path: Path) -> None:
    made = parts(tmp_path, a_list(ids=("a",)))
    reach = Reach(ok=False, since=NOW, reason="it is starting")
    made.memory.figures = made.memory.figures.model_copy(update={"lists": reach})
    assert get(made, "/tracks/a").json()["missing"] == [
        f"{NOT_ASKED} (Kafka has not said yet what partitions there are)",
        "places: the lists are not all known yet (it is starting)",
        "why: no list is known yet",
    ]
    assert get(made, "/tracks/a?week=2023-W60").status_code == 422


def test_a_broken_run_or_history_costs_the_why_and_shows_no_path(tmp_path: Path, in_redis: TrackLookup) -> None:
    made = whole(tmp_path, in_redis)
    (tmp_path / "history/weeks/2023-W24.parquet").write_bytes(b"")
    found = get(made, "/tracks/a")
    assert found.json()["missing"] == ["why: a file of the history cannot be read; the log of the service says which"]
    (tmp_path / "runs" / WEEK.name / "1" / TRACKS).write_bytes(b"")
    broken = get(made, "/tracks/a")
    assert broken.json()["missing"] == [
        "why: the last run for week 2023-W25 cannot be read: ArrowInvalid in tracks.parquet"
    ]
    assert str(tmp_path) not in found.text + broken.text
