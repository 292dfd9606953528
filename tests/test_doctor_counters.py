"""What the doctor finds where Kafka, Redis and the settings do not go together, and what it says to do."""

from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from features.parts import Part
from hitparade import wiring
from hitparade.doctor import Patient, examine
from tests.builders_counting import PARTITIONS, Counted, counted_on
from tests.doctoring import OK, WARNING, WRONG, look, looks, named

ALL = ("counters", "catalogue", "lag", "rebuild", "room for all weeks")


def test_what_was_counted_to_its_end_is_well_but_for_a_catalogue(counted: Counted) -> None:
    found = {finding.check: (finding.level, finding.found) for finding in looks(counted.env, *ALL)}
    assert [level for level, _ in found.values()] == [OK, WARNING, OK, OK, OK]
    assert found["counters"][1].endswith(f", {PARTITIONS} partitions")
    assert found["catalogue"][1].startswith("no track is in the catalogue, and lists hold only tracks that are: ")
    assert found["lag"] == (OK, "no record waits")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"WEEK_START": "friday"}, "was counted with first_day monday, this consumer has friday. Set it back"),
        ({"TIME_ZONE": "Europe/Berlin"}, "was counted with zone UTC, this consumer has Europe/Berlin. Set it back"),
        ({"SLICES": "4"}, "was counted with slices 2, this consumer has 4. Set it back"),
    ],
)
def test_settings_that_are_not_those_of_the_stored_weeks(counted: Counted, settings: dict[str, str], said: str) -> None:
    level, found = look(counted.other(**settings).env, "counters")
    assert level == WRONG
    assert found.startswith(f"{counted.topic} partition 0 {said}")
    assert "hitparade rebuild" in found


def test_counters_of_an_older_layout(counted: Counted) -> None:
    counted.redis.hset(counted.key("fence", 1), "layout", "1")
    level, found = look(counted.env, "counters")
    assert level == WRONG
    assert "partition 1 was counted with layout 1, this consumer has 2" in found


def test_a_topic_that_was_created_anew(counted: Counted) -> None:
    counted.redis.hset(counted.key("fence"), "topic_id", "another")
    level, found = look(counted.env, "counters")
    assert (level, "Redis counts topic id another, Kafka has " in found) == (WRONG, True)


def test_an_experiment_that_was_changed_within_a_week(counted: Counted, tmp_path: Path) -> None:
    file = tmp_path / "experiments.toml"
    file.write_text('[[experiment]]\nname = "e"\nsalt = "s"\n[experiment.groups.a]\nweight = 1.0\nmodel = "naive"\n')
    level, found = look(counted.other(EXPERIMENT_FILE=str(file)).env, "counters")
    assert (level, "was counted under experiment " in found) == (WRONG, True)


def test_a_fence_beyond_the_logs_end(counted: Counted) -> None:
    fence = counted.store.fences([1])[1]
    beyond = fence.next_offset + 7
    part = Part(fence.next_offset, beyond, fence.stream_time, since=fence.stream_time)
    counted.store.apply(1, fence.identity, part)
    level, found = look(counted.env, "counters")
    assert level == WRONG
    assert found.startswith(
        f"{counted.topic} partition 1: the fence is at offset {beyond}, but the log ends at {fence.next_offset}: "
    )


@pytest.fixture
def elsewhere(counted: Counted, tmp_path: Path) -> Counted:
    """The topics of another prefix, on the same servers."""
    settings = counted.settings
    url = settings.redis_url.get_secret_value()
    return counted_on(settings.kafka_bootstrap_servers, counted.redis, url, f"{settings.topic_prefix}x", tmp_path)


def test_counters_of_another_prefix_and_none_of_ours(counted: Counted, elsewhere: Counted) -> None:
    level, found = look(elsewhere.env, "counters")
    assert level == WARNING
    assert found.startswith(f"nothing of {elsewhere.topic} is at redis://")
    assert "HITPARADE_TOPIC_PREFIX is another than it was then" in found


def test_another_database_than_that_with_the_counters(counted: Counted) -> None:
    url = counted.settings.redis_url.get_secret_value()
    level, found = look(counted.other(REDIS_URL=url.removesuffix("/0") + "/3").env, "counters")
    assert level == WARNING
    assert ", but keys in database 0: if it was counted before, HITPARADE_REDIS_URL (its host, or the data" in found


def test_a_new_installation_is_well_though_it_has_a_catalogue(redis: Redis, elsewhere: Counted) -> None:
    redis.flushdb()
    wiring.track_store(elsewhere.settings).init(0, 0, "id", {})
    said = "nothing has been counted yet: send events, and run `hitparade consume sessions`"
    assert look(elsewhere.env, "counters") == (OK, said)


def test_records_that_wait_and_do_not_become_fewer(counted: Counted) -> None:
    counted.fill(300, first=500)
    level, found = look(counted.env, "lag", pause=lambda s: counted.fill(50, first=800))
    assert level == WARNING
    assert " records of sessions wait (" in found
    assert "start `hitparade consume`, or more of it" in found


def test_records_that_are_being_counted_are_no_lag(counted: Counted) -> None:
    counted.fill(300, first=500)
    level, found = look(counted.env, "lag", pause=lambda s: counted.count())
    assert (level, found.startswith("0 records of sessions wait, ")) == (OK, True)


def test_counting_that_goes_on_meanwhile_is_no_fence_beyond_the_log(counted: Counted) -> None:
    with closing(Patient(counted.settings)) as patient:
        assert len(list(examine(patient, named("catalogue")))) == 1  # the log has been looked at
        counted.fill(300, first=500)
        counted.count()
        (found,) = examine(patient, named("counters"))
    assert found.level == OK


def test_a_rebuild_that_was_interrupted(counted: Counted) -> None:
    counted.store.shadow().init(0, 0, "id", {})
    level, found = look(counted.env, "rebuild")
    assert level == WARNING
    assert found.startswith("a rebuild is under way or was interrupted, 1 of 2 partitions are counted twice: ")


def test_a_redis_without_room_for_the_weeks_that_are_to_be_kept(counted: Counted) -> None:
    tracks = [b'{"event_type":"play","user_id":1,"timestamp":"2023-06-25","track_id":%d}' % n for n in range(5000)]
    counted.send((0, None, b"[" + b",".join(tracks) + b"]"))
    counted.count()
    counted.redis.config_set("maxmemory", "100mb")
    try:
        few, many = (look(counted.other(WEEKS_KEPT=n).env, "room for all weeks") for n in ("6", "520"))
    finally:
        counted.redis.config_set("maxmemory", 0)
    assert (few[0], many[0]) == (OK, WARNING)
    assert many[1].startswith("520 weeks of 5,")
    assert "of the 100 MiB that Redis may use: raise maxmemory, or lower HITPARADE_WEEKS_KEPT" in many[1]
