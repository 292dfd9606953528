import json
from dataclasses import replace

import pytest

from hitparade.capacity import GROUP_BYTES, Costs, Load, capacity, measured
from tests.commands import run

Capture = pytest.CaptureFixture[str]
COSTS: Costs = {
    "count-kafka-python-single": {
        "events_per_s": 100_000,
        "cpu_us_per_event": 9.0,
        "redis_us_per_event": 2.0,
        "rss_mib": 90,
    },
    "count-kafka-python-arrays": {
        "events_per_s": 400_000,
        "cpu_us_per_event": 3.0,
        "redis_us_per_event": 0.5,
        "rss_mib": 100,
    },
    "count-confluent-single": {
        "events_per_s": 400_000,
        "cpu_us_per_event": 3.0,
        "redis_us_per_event": 1.5,
        "rss_mib": 200,
    },
    "count-confluent-arrays": {
        "events_per_s": 500_000,
        "cpu_us_per_event": 2.0,
        "redis_us_per_event": 0.5,
        "rss_mib": 300,
    },
    "lines:tracks": {"redis_us_per_event": 1.0},
    "lines:redis-bytes": {"bytes_per_track_week": 60.0, "groups": 2},
    "lines:catalogue-bytes": {"bytes_per_track": 500},
    "lines:log-bytes": {"single": 150, "arrays": 140},
    "scoring": {"seconds": 20, "tracks": 1_000_000, "peak_mib": 80},
}
LOAD = Load(events_per_s=1_000_000, tracks=10_000_000)


def test_a_load_is_calculated_as_by_hand() -> None:
    found = capacity(LOAD, COSTS)
    assert found.consumers == 5  # at 200,000 events/s each, half of what they can
    assert found.partitions == 10
    assert found.consumers_mib == 500
    assert found.consumer_cores == pytest.approx(2.5)  # 3 µs, of which 0.5 µs was Redis' where that was measured
    assert found.redis_cores == pytest.approx(1.0)
    assert found.redis_bytes == 10_000_000 * (13 * 60 + 500)
    assert found.redis_nodes == 2  # by its core; 12 GiB would fit into one
    assert found.log_bytes_per_day == pytest.approx(140 * 1_000_000 * 86_400)
    assert found.log_bytes == pytest.approx(14 * 7 * 140 * 1_000_000 * 86_400)
    assert (found.scoring_s, found.scoring_mib) == (200, 80)
    assert found.recount_days == pytest.approx(14 * 7 * 1_000_000 / (5 * 400_000))


def test_events_that_come_alone_cost_what_single_ones_do() -> None:
    assert capacity(replace(LOAD, array=1), COSTS).consumers == 20


def test_larger_arrays_never_cost_more() -> None:
    found = [capacity(replace(LOAD, array=array), COSTS).strain["one consumer"] for array in (1, 2, 5, 25, 50, 1000)]
    assert found == sorted(found, reverse=True)


def test_the_client_decides_the_consumers() -> None:
    assert capacity(replace(LOAD, client="confluent-kafka"), COSTS).consumers == 4


def test_a_group_more_costs_its_packed_counts_in_every_week() -> None:
    two, three = (capacity(replace(LOAD, groups=groups), COSTS).redis_bytes for groups in (2, 3))
    assert three - two == LOAD.tracks * (LOAD.weeks_kept + 1) * GROUP_BYTES


@pytest.mark.parametrize(
    ("load", "first"),
    [
        (Load(100, 100_000_000, weeks_kept=12), "one Redis' memory"),
        (Load(1_000_000, 1000), "one broker's disk"),
        (Load(1_000_000, 1000, weeks_kept=1, array=1), "one broker's disk"),
    ],
)
def test_what_is_needed_most_of_breaks_first(load: Load, first: str) -> None:
    found = capacity(load, COSTS)
    assert found.breaks_first == first
    assert found.strain[first] == max(found.strain.values())


def test_twice_the_load_needs_twice_of_everything_but_memory_to_score() -> None:
    once, twice = capacity(LOAD, COSTS), capacity(replace(LOAD, events_per_s=2_000_000, tracks=20_000_000), COSTS)
    assert twice.consumers == 2 * once.consumers
    assert twice.redis_bytes == 2 * once.redis_bytes
    assert twice.log_bytes == pytest.approx(2 * once.log_bytes)
    assert twice.scoring_s == 2 * once.scoring_s
    assert twice.scoring_mib == once.scoring_mib


def test_partitions_are_never_fewer_than_redis_nodes() -> None:
    found = capacity(Load(10, 1_000_000_000), COSTS)
    assert found.partitions == found.redis_nodes > 6


def test_the_command_says_what_breaks_first(capsys: Capture) -> None:
    ended = run(capsys, "sizing", "--events-per-s", "1000000", "--tracks", "1000000")
    assert ended.code == 0
    assert "consumers" in ended.out
    assert "First to break with one of each: one broker's disk" in ended.out


def test_the_command_says_so_when_one_of_each_is_enough(capsys: Capture) -> None:
    assert "One of each is enough" in run(capsys, "sizing", "--events-per-s", "100", "--tracks", "1000").out


def test_json_is_one_object_with_the_load_and_what_it_needs(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITPARADE_WEEKS_KEPT", "8")
    monkeypatch.setenv("HITPARADE_KAFKA_CLIENT", "confluent-kafka")
    ended = run(capsys, "sizing", "--events-per-s", "5", "--tracks", "7", "--groups", "1", "--json")
    (row,) = ended.rows()
    assert [row[name] for name in ("events_per_s", "tracks", "weeks_kept", "groups", "client")] == [
        5,
        7,
        8,
        1,
        "confluent-kafka",
    ]
    found = capacity(Load(5, 7, weeks_kept=8, groups=1, client="confluent-kafka"), measured())
    assert {name: row[name] for name in ("consumers_mib", "redis_bytes", "strain")} == json.loads(
        json.dumps({"consumers_mib": found.consumers_mib, "redis_bytes": found.redis_bytes, "strain": found.strain})
    )


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "1e6", "x", "", "1" + "0" * 400])
def test_a_load_that_is_no_number_is_wrong_usage(number: str, capsys: Capture) -> None:
    ended = run(capsys, "sizing", "--events-per-s", number, "--tracks", "1")
    assert ended.code == 2
    assert "expected a whole number from 1 to 999999999999999" in ended.err


def test_the_largest_load_that_can_be_asked_for_has_an_answer(capsys: Capture) -> None:
    most = "9" * 15
    for option in ("--events-per-s 1 --tracks 1 --weeks-kept", "--array 1 --events-per-s 1 --tracks 1 --groups"):
        assert run(capsys, "sizing", *option.split(), most).code == 0
    assert run(capsys, "sizing", "--events-per-s", most, "--tracks", most, "--array", most).code == 0
