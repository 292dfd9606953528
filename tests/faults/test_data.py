"""What comes in is not what should: poison, sizes, keys, clocks, zones, and experiments that change."""

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as seeded
from hypothesis import settings as how

from features.weeks import Calendar
from hitparade import wiring
from producers.publisher import Message, Publisher
from tests import test_events
from tests.builders import array, wire
from tests.builders_weekly import Stage
from tests.faults.conftest import NewWorld
from tests.faults.known import FIRST, known_log
from tests.faults.servers import Broker, Redis
from tests.faults.truth import group_of, truth_of
from tests.faults.weeks import Rule, name_of
from tests.faults.world import SALT, WEEKS_KEPT, WEIGHTS, World

LARGEST = 900_000
WEEK = timedelta(weeks=1)
INSTANT = timedelta(microseconds=1)
MONDAY = FIRST + 6 * WEEK  # the week before it and the five before that are kept, until an event reaches it
BERLIN = ZoneInfo("Europe/Berlin")


def event(instant: datetime | str, **changes: Any) -> bytes:
    text = instant if isinstance(instant, str) else instant.isoformat()
    return wire(**{"timestamp": text, "track_id": "track000", **changes})


def parameters_of(test: Any) -> list[Any]:
    """Every value that a test is parametrized with."""
    (first, *others) = [list(mark.args[1]) for mark in test.pytestmark if mark.name == "parametrize"]
    return list(itertools.product(first, *others)) if others else first


def poisons(seed: int, n_drawn: int) -> Iterator[bytes | None]:
    """The corpus of the parser's tests, and as many values as they draw."""
    yield from parameters_of(test_events.test_what_is_not_an_object_of_json_is_one_dead_event)
    yield from parameters_of(test_events.test_a_bad_element_is_set_aside_alone)
    by_text: dict[str, Any] = {
        "event_type": test_events.test_other_event_types_are_dead,
        "timestamp": test_events.test_a_time_that_is_no_instant_is_dead,
    }
    for name, texts in by_text.items():
        yield from (test_events.with_text(name, text) for text in parameters_of(texts))
    for test in (
        test_events.test_half_a_surrogate_pair_in_an_id_is_dead_alone,
        test_events.test_an_id_is_text_or_an_integer,
    ):
        yield from (test_events.with_text(field, text) for text, field in parameters_of(test))
    drawn: list[bytes] = []

    @seeded(seed)
    @how(
        max_examples=n_drawn,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(test_events.VALUES)
    def draw(value: bytes) -> None:
        drawn.append(value)

    draw()
    yield from drawn


def counted(world: World) -> None:
    """Everything, by a consumer of its own."""
    assert world.consumer("--until-idle").wait() == 0


def publish(world: World, messages: Sequence[Message], compression: str | None = None) -> None:
    with contextlib.closing(Publisher(world.settings.kafka, compression)) as publisher:
        publisher.publish(messages)


def test_every_poison_comes_alone_and_in_an_array(world: World, seed: int) -> None:
    found = list(poisons(seed, 400))
    fits = [poison for poison in found if len(poison or b"") < LARGEST]
    values = [*fits, *(array(event(FIRST), poison or b"null", event(FIRST, track_id="track001")) for poison in fits)]
    random.Random(seed).shuffle(values)
    messages = [Message(world.topic, b"key", value, partition=n % 4) for n, value in enumerate(values)]
    publish(world, messages)
    # Megabytes of brackets are a record that a broker takes only as it takes them: compressed.
    publish(world, [Message(world.topic, b"key", poison) for poison in found if poison not in fits], "gzip")
    counted(world)
    verdict = world.check(lists=False)
    causes = {name for name, n in verdict.outcomes.items() if n > 10}
    assert causes >= {"dead:json", "dead:event_type", "dead:track_id", "dead:user_id", "dead:timestamp", "counted"}
    assert len(found) > len(fits) > 450


@pytest.mark.full
def test_who_has_seen_a_list_is_told_among_all_that_comes_from_the_field(
    new_world: NewWorld, broker: Broker, redis: Redis, seed: int
) -> None:
    """A consumer is killed in mid-log; the counters are those of the same log without an exposure."""
    world = new_world(broker.address, redis, settings_={"EXPOSURES": "true"})
    draw = random.Random(seed)
    for first in range(0, 8000, 2000):
        world.fill(2000)
        weeks = [first / 1000 + draw.choice((0, 0.1, -8)) for _ in range(200)]
        named: dict[str, Any] = {"event_type": "exposure", "track_id": None, "week": "2023-W20"}
        groups = ("control", "treatment", "")
        seen = [event(FIRST + n * WEEK, **named, user_id=draw.randrange(60), group=draw.choice(groups)) for n in weeks]
        for partition in range(4):
            world.send(*seen[partition:100:4], array(*seen[100 + partition :: 4]), partition=partition)
    killed = world.consumer()
    world.await_decided(1000)
    killed.kill()
    counted(world)
    verdict = world.check(lists=False)
    assert min(verdict.outcomes[name] for name in ("exposure", "dead:exposure", "late")) > 30
    without = [truth_of(records, WEEKS_KEPT, SALT, WEIGHTS) for records in world.read_back().values()]
    assert [totals.counts for totals in without] == [world.truth(log).counts for log in world.read_back().values()]


@pytest.mark.full
def test_an_array_of_900_kB_has_a_few_bad_events(world: World, seed: int) -> None:
    draw = random.Random(seed)
    events: list[bytes] = []
    while sum(map(len, events)) + len(events) < LARGEST:
        instant = FIRST + draw.random() * 5 * WEEK
        events.append(event(instant, track_id=f"track{draw.randrange(100):03}", user_id=draw.randrange(1000)))
    for place in (0, 17, len(events) // 2, len(events) - 1):
        events[place] = draw.choice([b"null", b'{"event_type": "play"}', b"{]", b'{"a": "' + bytes([0xFF]) + b'"}'])
    world.send(array(*events), array(*events[:50]), partition=1)
    counted(world)
    verdict = world.check()
    assert verdict.outcomes["dead"] > 4
    assert verdict.outcomes["counted"] > 5000


def junk(draw: random.Random) -> list[bytes]:
    """Nothing of it is an event, and each is one."""
    letters = bytes(draw.randrange(32, 127) for _ in range(1000))
    return [
        draw.randbytes(LARGEST),
        b"[" + draw.randbytes(LARGEST),
        b"[" * LARGEST,
        b'[{"a": "' + letters * (LARGEST // 1000),
        array(event(FIRST), b'"' + b"x" * LARGEST),
    ]


@pytest.mark.full
def test_900_kB_of_junk_come_between_good_records(world: World, seed: int) -> None:
    values = junk(random.Random(seed))
    world.fill(2000)
    for partition, value in enumerate(values):
        world.send(value, event(FIRST + WEEKS_KEPT * WEEK), partition=partition % 4)
    counted(world)
    assert world.check(lists=False).outcomes["dead:json"] >= len(values)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_an_array_of_900_kB_holds_300_000_bad_events(world: World) -> None:
    """Each has a letter of its own; the batch takes longer than a session, and costs no membership."""
    consumer = world.consumer()
    world.send(array(*[b"{}"] * (LARGEST // 3)), event(FIRST), partition=2)
    world.await_drained(150)
    assert consumer.terminate() == 0
    verdict = world.check(lists=False)
    assert (verdict.outcomes["dead:event_type"], verdict.outcomes["counted"]) == (LARGEST // 3, 1)


@pytest.mark.full
def test_keys_headers_and_compression_are_of_every_kind(world: World, seed: int) -> None:
    """By user, by track, without one, null values (the known log has those too), headers, gzip; partitioned by key."""
    draw = random.Random(seed)
    kinds: dict[str | None, list[Message]] = {None: [], "gzip": []}
    for sending in known_log(seed, 6000, world.n_partitions):
        keys = [b"user7", b"track000", "é🎵".encode(), b"\x00", sending.key]
        key = draw.choice(keys) if sending.value is not None else b"null"
        headers = (("content-type", b"application/json"), ("hitparade-cause", b"\xff"), ("", b""))[: draw.randrange(4)]
        kinds[draw.choice([None, "gzip"])].append(Message(world.topic, key, sending.value, headers))
    for compression, messages in kinds.items():
        publish(world, messages, compression)
    counted(world)
    world.check()


@pytest.mark.full
def test_two_producers_key_the_same_plays_by_user_and_by_track(world: World, seed: int) -> None:
    """One track is then in several partitions, and its plays are their sum."""
    draw, n_plays = random.Random(seed), Counter[str]()
    messages = []
    for n in range(3000):
        user, track = f"user{draw.randrange(30)}", f"track{draw.randrange(20):03}"
        n_plays[track] += 1
        key = user if n % 2 else track
        messages.append(Message(world.topic, key.encode(), event(FIRST, user_id=user, track_id=track)))
    messages.append(Message(world.topic, b"key", event(FIRST + WEEK)))
    publish(world, messages)
    counted(world)
    world.check()
    counters = wiring.counter_reader(world.settings)
    standing = counters.standing()
    found = Counter[str]()
    for rows in counters.slices(standing.closed()[0], standing):
        for track, plays in zip(rows["track_id"].to_pylist(), rows["plays"].to_pylist(), strict=True):
            found[track] += plays
    assert found == n_plays
    holders = {
        track: {p for p, at in world.standings().items() if any(t == track for _, _, t in at.counts)}
        for track in n_plays
    }
    assert min(map(len, holders.values())) > 1


def test_events_a_week_late_and_at_the_edges_of_the_horizon_come_in_mid_array(world: World) -> None:
    """To the microsecond: what is kept is decided event by event, as stream time moves within one array."""
    last, oldest = MONDAY - WEEK, MONDAY - WEEKS_KEPT * WEEK
    inside, outside = event(oldest), event(oldest - INSTANT)
    values = [
        array(event(last), inside, outside, event(last - WEEK), inside, event(MONDAY - INSTANT), inside, outside),
        array(inside, event(MONDAY), inside, event(oldest + WEEK), event(oldest + WEEK - INSTANT)),
        array(event(MONDAY + WEEK), event(oldest + WEEK), event(oldest + 2 * WEEK), event(MONDAY)),
    ]
    for partition in (0, 1):  # all in one array, and each in a record of its own
        world.send(*(values if partition else [array(*(v[1:-1] for v in values))]), partition=partition)
    counted(world)
    verdict = world.check()
    late = {0: 2 + 2 + 1, 1: 2 + 2 + 1}
    assert {p: standing.tally("late") for p, standing in world.standings().items() if p in late} == late
    assert verdict.outcomes["counted"] == 2 * (6 + 3 + 3)


def test_phones_have_clocks_of_tomorrow_next_month_2105_and_1970(world: World) -> None:
    """Those ahead are dead, the one behind is late; stream time stands, and nobody else is late."""
    now = datetime.now(UTC)
    ahead = [now + timedelta(days=1), now + timedelta(days=30), now.replace(year=now.year + 80, day=1)]
    world.fill(3000)
    late_before = sum(record.outcomes["late"] for record in map(world.truth, world.read_back().values()))
    newest = FIRST + 8 * WEEK - timedelta(hours=1)
    for partition in range(4):
        good = event(newest, user_id=partition)
        world.send(array(good, event(ahead[0]), good, event(ahead[1])), event(ahead[2]), partition=partition)
        world.send(good, event("1970-01-01T00:00:00Z"), event(newest - WEEK), partition=partition)
    counted(world)
    outcomes = world.check().outcomes
    assert outcomes["late"] == late_before + 4
    assert {standing.fence["stream_time"][:7] for standing in world.standings().values()} == {"2023-06"}


def local_times(rule: Rule, seed: int) -> Iterator[str]:
    """From the spring of 2020 to that of 2021: plays on every day, both changes of clocks, and the borders of weeks."""
    draw, calendar = random.Random(seed), Calendar(rule.first_weekday, rule.zone)
    day, end = datetime.fromisoformat("2020-03-16"), datetime.fromisoformat("2021-04-05")
    while day < end:
        yield from ((day + timedelta(seconds=draw.randrange(86_400))).isoformat() for _ in range(4))
        if day.month in (3, 10) and day.weekday() == 6:  # clocks change on the last Sunday
            yield from (f"{day.date()}T0{hour}:{minute:02}:00" for hour in (1, 2, 3) for minute in (0, 30, 59))
        if day.weekday() in (rule.first_weekday, 0):
            border = calendar.start(calendar.week_of(day.replace(hour=12, tzinfo=rule.zone)))
            midnight = day.replace(tzinfo=UTC)
            yield from (t.isoformat() for at in (border, midnight) for t in (at - INSTANT, at, at + INSTANT))
            yield from (t.isoformat() for t in (day - INSTANT, day, day + INSTANT))
        day += timedelta(days=1)


@pytest.mark.parametrize("first_day", ["monday", pytest.param("friday", marks=pytest.mark.full)])
def test_a_year_has_53_weeks_and_two_changes_of_clocks(
    new_world: NewWorld, broker: Broker, redis: Redis, seed: int, first_day: str
) -> None:
    """In weeks of Berlin, with times of Berlin that name no zone: hours that come twice, and hours that do not come."""
    settings = {
        "TIME_ZONE": "Europe/Berlin",
        "EVENT_TIME_ZONE": "Europe/Berlin",
        "WEEK_START": first_day,
        "WEEKS_KEPT": "60",
    }
    rule = Rule(
        lambda week, user: group_of(SALT, WEIGHTS, user), 60, {"monday": 0, "friday": 4}[first_day], BERLIN, BERLIN
    )
    world = new_world(broker.address, redis, settings_=settings, recount=rule.recount)
    draw = random.Random(seed)
    for partition in range(4):
        events = [
            event(time, user_id=draw.randrange(50), track_id=f"track{draw.randrange(60):03}")
            for time in local_times(rule, seed + partition)
        ]
        size = draw.choice((3, 7))
        arrays = [array(*events[first : first + size]) for first in range(0, len(events), size)]
        world.send(*arrays, partition=partition)
    counted(world)
    world.check(lists=False)
    weeks = {week for standing in world.standings().values() for week, _, _ in standing.counts}
    assert name_of(date(2020, 12, 28) if first_day == "monday" else date(2021, 1, 1)) == "2020-W53"
    assert {"2020-W13", "2020-W43", "2020-W52", "2020-W53", "2021-W01", "2021-W12"} <= weeks
    assert "2021-W53" not in weeks
    assert len(weeks) >= 54
    world.catalogue()
    with world.stage(world.env) as stage:
        assert lists_of(stage, "2020-W52") == {"2020-W53"}
        assert lists_of(stage, "2020-W53") == {"2021-W01"}


def lists_of(stage: Stage, week: str) -> set[str]:
    """The weeks that the lists after a week are for; each has 50 tracks that were played."""
    lists = stage.weekly_run().run(stage.triggers.fire(stage.settings.calendar.parse(week), "manual"))
    assert all(len(playlist.tracks) == 50 and playlist.tracks[0].plays[3] > 0 for playlist in lists)
    return {playlist.week for playlist in lists}


FIRST_EXPERIMENT = """
[[experiment]]
name = "first"
salt = "one"
last_week = "2023-W21"
[experiment.groups.left]
weight = 0.3
model = "linear"
[experiment.groups.right]
weight = 0.7
model = "naive"
"""
SECOND_EXPERIMENT = """
[[experiment]]
name = "second"
salt = "two"
first_week = "2023-W22"
[experiment.groups.up]
weight = 0.5
model = "naive"
[experiment.groups.down]
weight = 0.25
model = "linear"
[experiment.groups.strange]
weight = 0.25
model = "naive"
"""


def experiment_group(week: str, user: str, second_salt: str = "two") -> str:
    if week <= "2023-W21":
        return group_of("one", {"left": 0.3, "right": 0.7}, user)
    return group_of(second_salt, {"up": 0.5, "down": 0.25, "strange": 0.25}, user)


@pytest.mark.full
def test_an_experiment_changes_at_a_weeks_border_and_may_not_change_within_one(
    new_world: NewWorld, broker: Broker, redis: Redis, tmp_path: Path
) -> None:
    """A change within a counted week stops every partition and names both sides; set back, or dropped, it goes on."""
    file = tmp_path / "experiments.toml"
    file.write_text(FIRST_EXPERIMENT + SECOND_EXPERIMENT)
    rule = Rule(experiment_group, WEEKS_KEPT)
    world = new_world(broker.address, redis, settings_={"EXPERIMENT_FILE": str(file)}, recount=rule.recount)
    world.fill(8000)
    world.send(event(FIRST + 3 * WEEK - INSTANT), event(FIRST + 4 * WEEK), event(FIRST + 4 * WEEK - INSTANT))
    counted(world)
    n_decided = world.n_decided()
    groups = {(week, group) for standing in world.standings().values() for week, group, _ in standing.counts}
    assert {group for week, group in groups if week == "2023-W21"} == {"left", "right"}
    assert {group for week, group in groups if week == "2023-W22"} == {"up", "down", "strange"}
    world.check()

    file.write_text(FIRST_EXPERIMENT + SECOND_EXPERIMENT.replace('"two"', '"other"'))
    world.fill(1000)
    refused = world.consumer("--until-idle")
    assert refused.wait() == 1
    fingerprints = {wiring.experiments(world.settings).in_force(Calendar().parse("2023-W22")).fingerprint}
    fingerprints.add(next(iter(world.standings().values())).fence["experiment:2023-W22"])
    assert len(fingerprints) == 2
    assert all(refused.said(fingerprint) for fingerprint in fingerprints)
    assert refused.said("set the file back for this week")
    assert world.n_decided() == n_decided

    file.write_text(FIRST_EXPERIMENT + SECOND_EXPERIMENT)
    counted(world)
    world.check(lists=False)

    file.write_text(FIRST_EXPERIMENT + SECOND_EXPERIMENT.replace('"two"', '"other"'))
    assert world.command("drop", world.topic, "--yes").wait() == 0
    counted(world)
    world.recount = Rule(lambda week, user: experiment_group(week, user, "other"), WEEKS_KEPT).recount
    world.check(lists=False)


REAL = {"counted": 19_417, "late": 0, "ignored": 3_540, "dead": 3_390}
CAUSES = {"dead:event_type": 1_333, "dead:track_id": 1_060, "dead:user_id": 997}


@pytest.mark.full
def test_dirty_sessions_of_the_field_are_counted_across_a_kill(
    new_world: NewWorld, broker: Broker, redis: Redis, listening_data: Path
) -> None:
    world = new_world(broker.address, redis, settings_={"WEEKS_KEPT": "12"})
    victim = world.consumer()
    sender = world.command(
        "produce", "sessions", str(listening_data / "sessions" / "sessions_dirty.jsonl"), "--rate", "6000"
    )
    world.await_decided(4000)
    victim.kill()
    n_decided = world.n_decided()
    assert sender.wait() == 0
    assert 4000 <= n_decided < sum(REAL.values()) / 2
    counted(world)
    verdict = world.check(lists=False)
    assert {name: verdict.outcomes.get(name, 0) for name in REAL | CAUSES} == REAL | CAUSES
