"""The pure parts of the benchmarks: what they count with, and what they say."""

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.kept import LATEST, keep
from benchmarks.peers import log
from benchmarks.peers.roster import ROSTER
from benchmarks.peers.rows import failed_row, finished, row_of
from benchmarks.peers.table import WHAT, page, table
from benchmarks.peers.truth import of_rows, truth
from benchmarks.peers.watch import Failed, Going, Measured, measure
from producers.arrays import partition_of
from tests.servers import ROOT

FIELDS = ["name", "events", "events_per_s", "cpu_us_per_event", "rss_mib", "exact", "ratio"]


def event(timestamp: str, track: str = "t", kind: str = "play") -> str:
    return json.dumps({"session_id": 1, "timestamp": timestamp, "user_id": 2, "track_id": track, "event_type": kind})


def run(events_per_s: float, cpu: float = 1.0, mib: float = 10.0, exact: bool | None = True) -> Measured:
    return Measured(events_per_s, cpu, mib, None, None, exact)


def row(name: str, events_per_s: float, cpu: float = 1.0, exact: bool | None = True) -> dict[str, object]:
    return row_of(name, 100, [run(events_per_s, cpu, exact=exact)])


def by_name(*rows: dict[str, object]) -> dict[object, dict[str, object]]:
    return {row["name"]: row for row in finished(rows)}


def test_the_truth_is_counted_by_iso_week_track_and_kind() -> None:
    lines = [
        event("2023-06-18T23:59:59.999999"),
        event("2023-06-19T00:00:00.000000"),
        event("2023-06-19T00:00:00.000000"),
        event("2023-01-01T12:00:00.000000", "u", "skip"),
    ]
    assert truth(lines) == {
        ("2023-W24", "t", "play"): 1,
        ("2023-W25", "t", "play"): 2,
        ("2022-W52", "u", "skip"): 1,
    }


def test_rows_of_one_track_and_week_are_added_and_noughts_are_nothing() -> None:
    rows = [("2023-W24", "t", 1, 0, 2), ("2023-W24", "t", 3, 0, 0), ("2023-W25", "t", 0, 0, 0)]
    assert of_rows(rows) == {("2023-W24", "t", "play"): 4, ("2023-W24", "t", "like"): 2}


def test_the_same_log_comes_every_time() -> None:
    once = list(log.events(500, n_tracks=20))
    assert list(log.events(500, n_tracks=20)) == once
    assert list(log.events(500, n_tracks=20, seed=2)) != once


def test_the_log_is_as_the_page_says() -> None:
    found = [json.loads(event.line) for event in log.events(20_000)]
    times = [event["timestamp"] for event in found]
    weeks = Counter(week for week, _, _ in truth(event.line for event in log.events(20_000)))
    assert 130 < sum(len(event.line) for event in log.events(1000)) / 1000 < 138
    assert {len(event["track_id"]) for event in found} == {22}
    assert {type(event["user_id"]) for event in found} == {int}
    assert {len(time) for time in times} == {len("2023-06-17T10:09:50.547000")}
    assert min(weeks) >= "2023-W22"
    assert max(weeks) == "2023-W27"
    assert sum(late < sooner for sooner, late in pairwise(times)) < 0.05 * len(times)
    assert Counter(event["event_type"] for event in found).keys() == {"play", "skip", "like"}


def test_arrays_hold_the_events_of_one_partition_each_and_all_of_them_in_order() -> None:
    singles = list(log.events(1000, n_tracks=50))
    arrays = list(log.arrays(singles, size=7))
    events = [json.loads(array.line) for array in arrays]
    for array, inside in zip(arrays, events, strict=True):
        assert array.track_id == inside[0]["track_id"]
        assert len({partition_of(event["track_id"].encode(), log.N_PARTITIONS) for event in inside}) == 1
    assert Counter(map(len, events))[7] >= 1000 // 7 - log.N_PARTITIONS
    of_partition = [json.loads(s.line) for s in singles if partition_of(s.track_id.encode(), log.N_PARTITIONS) == 2]
    inside = [e for some in events for e in some if partition_of(e["track_id"].encode(), log.N_PARTITIONS) == 2]
    assert inside == of_partition
    assert len(list(chain.from_iterable(events))) == 1000


def test_a_log_on_disk_holds_both_forms_of_it(tmp_path: Path) -> None:
    files = log.write_files(tmp_path, 300)
    singles = list(log.values(files.single))
    assert singles == [event.line for event in log.events(300)]
    inside = chain.from_iterable(json.loads(value) for value in log.values(files.arrays))
    assert truth(json.dumps(event) for event in inside) == truth(singles)


def looks(*counted: int) -> Going:
    """A peer that needs no time, and has counted so many at each look."""
    found = iter(counted)
    return Going([], [], lambda: next(found), lambda: of_rows([("2023-W24", "t", 1, 0, 0)]))


def test_a_rate_is_of_what_was_counted_between_a_tenth_and_eight_tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 14.0, 15.0])
    monkeypatch.setattr("benchmarks.peers.watch.LOOK_EVERY_S", 0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = measure(looks(0, 9, 20, 60, 79, 84, 99, 100), 100, truth([event("2023-06-12T00:00:00")]))
    assert found.events_per_s == 16.0
    assert found.exact is True


def test_counters_that_differ_in_one_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.watch.LOOK_EVERY_S", 0)
    assert measure(looks(10, 90, 100), 100, truth([event("2023-06-19T00:00:00")])).exact is False


@pytest.mark.parametrize("counted", [(10, 90, 101), (100, 100, 100)])
def test_who_counts_more_than_there_is_or_at_once_has_no_rate(counted: tuple[int, ...]) -> None:
    with pytest.raises(Failed, match="events counted at the first look"):
        measure(looks(*counted), 100, Counter())


def test_who_hangs_or_ends_too_soon_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.peers.watch.PATIENCE_S", 0)
    with pytest.raises(Failed, match="hung at 5 of 10 events"):
        measure(looks(5, 5), 100, Counter())
    log_file = tmp_path / "log"
    log_file.write_text("no brokers\n")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
        with pytest.raises(Failed, match="exit code 3 at 5 events:\nno brokers"):
            measure(Going([process], [log_file], lambda: 5, lambda: None), 100, Counter())


def test_a_row_has_the_medians_and_the_highest_memory_of_its_runs() -> None:
    found = row_of("quix", 100, [run(10, 3, 50), run(30, 1, 70), run(20, 2, 60)])
    assert found == {
        **{"name": "quix", "events": 100, "events_per_s": 20, "cpu_us_per_event": 2, "rss_mib": 70, "exact": True}
    }


def test_a_row_is_exact_only_if_every_run_was() -> None:
    assert row_of("quix", 1, [run(1), run(1, exact=False), run(1)])["exact"] is False
    assert row_of("raw", 1, [run(1, exact=None)])["exact"] is None


def test_every_row_has_the_fields_that_others_read() -> None:
    rows = finished([row("quix", 10), row("count-kafka-python-single", 40), failed_row("faust", 5, "it hung")])
    for found in rows:
        assert set(FIELDS) <= set(found)
    assert [found["ratio"] for found in rows] == [0.25, 1.0, None]


def test_an_aim_is_missed_if_any_part_of_it_is() -> None:
    name = "count-kafka-python-single"
    others = [row("raw-kafka-python", 100), row("quix", 10), row("streams-exactly-once", 50, cpu=7)]
    assert by_name(row(name, 60, cpu=6), *others)[name]["holds"] is True
    assert by_name(row(name, 54, cpu=6), *others)[name]["holds"] is False
    assert by_name(row(name, 60, cpu=7), *others)[name]["holds"] is False
    assert by_name(row(name, 60, cpu=6), *others, row("bytewax-stateful", 61))[name]["holds"] is False


def test_an_aim_without_its_peer_cannot_be_told_and_wrong_counters_never_hold() -> None:
    name = "count-kafka-python-arrays"
    assert by_name(row(name, 60))[name]["holds"] is None
    assert by_name(row(name, 60, exact=False), row("streams-exactly-once", 1))[name]["holds"] is False
    assert by_name(failed_row(name, 60, "it hung"), row("streams-exactly-once", 1))[name]["holds"] is False


def test_an_aim_is_held_against_flink_where_it_is_to_be_had() -> None:
    name, streams = "count-confluent-single", row("streams-exactly-once", 10)
    assert by_name(row(name, 24), streams)[name]["holds"] is True
    assert by_name(row(name, 23), streams)[name]["holds"] is False
    assert by_name(row(name, 23), streams, row("flink-heap", 16))[name]["holds"] is True
    assert by_name(row(name, 27), streams, row("flink-heap", 20))[name]["holds"] is False
    assert by_name(row(name, 23), streams, failed_row("flink-heap", 5, "it hung"))[name]["holds"] is False


def test_the_table_has_a_line_a_peer_and_shows_what_is_wrong() -> None:
    ours = row_of("count-kafka-python-single", 3_000_000, [Measured(123456.4, 6.789, 120.4, 1.234, 55.5, True)])
    rows = finished(
        [ours, row("quix", 1000, exact=False), failed_row("faust", 5, "it hung"), row("raw-confluent", 9, exact=None)]
    )
    assert (ours["cpu_us_per_event"], ours["redis_us_per_event"], ours["redis_mib"]) == (6.79, 1.23, 56)
    assert table(rows).splitlines()[2:] == [
        "| **hitparade**, kafka-python, single events | 123,456 | 1.00 | 6.79 | 120 + 56 | all | 3,000,000 |",
        "| Quix Streams, RocksDB with changelog | 1,000 | 0.01 | 1.00 | 10 | **not all** | 100 |",
        "| Faust, table with changelog | failed | | | | | 5 |",
        "| raw poll, confluent-kafka | 9 | 0.00 | 1.00 | 10 | counts none | 100 |",
    ]


def test_the_page_says_what_failed_and_what_was_left_out() -> None:
    rows = finished([row("count-kafka-python-arrays", 10), failed_row("faust", 5, "it hung\nlast line")])
    found = page(rows, {"quix": "no network"}, {"quixstreams": "3.28.1"}, 3)
    assert "- faust failed: it hung\n" in found
    assert "- quix was skipped: no network\n" in found
    assert "1.45 times Flink SQL on the heap: cannot be told\n" in found
    assert "Versions: quixstreams 3.28.1." in found


def test_every_peer_has_its_words_in_the_table() -> None:
    assert [peer.name for peer in ROSTER] == list(WHAT)


def test_rows_take_the_place_of_those_of_their_own_benchmark_only(tmp_path: Path) -> None:
    keep("peers", [{"name": "quix", "n": 1}, {"name": "faust", "n": 1}], tmp_path)
    keep("latency", [{"name": "latency:10000", "n": 1}], tmp_path)
    keep("peers", [{"name": "quix", "n": 2}], tmp_path)
    keep("latency", [{"name": "latency:1000", "n": 2}], tmp_path)
    kept = [json.loads(line) for line in (tmp_path / LATEST).read_text().splitlines()]
    assert kept == [{"name": "quix", "n": 2}, {"name": "latency:1000", "n": 2}]


def test_every_benchmark_is_there_and_named_by_the_help_and_the_makefile() -> None:
    answer = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    target = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("bench:"))
    for name in BENCHMARKS:
        assert find_spec(f"benchmarks.{name}"), name
        assert name in answer.stdout
        assert name in target


def test_a_benchmark_that_is_not_there_is_refused_with_those_that_are() -> None:
    command = [sys.executable, "-m", "benchmarks", "speed"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "no benchmark is called speed: expected peers, " in answer.stderr
