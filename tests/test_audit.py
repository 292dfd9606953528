"""The log counted again and held against Redis: what is right, what is wrong, and what cannot be known."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from redis import Redis

from consumers.kafka import MAX_POLL_RECORDS
from consumers.log import LogCut, PartitionLog
from consumers.recount import Recount
from consumers.sessions import deciding
from consumers.source import Batch
from features.duplicates import Origin
from features.store import CounterStore
from hitparade import wiring
from producers.kafka import CLIENT
from tests.builders import MONDAY, WEEK, Record, millis, play, rules, wire
from tests.builders_counting import PARTITIONS, Counted, running
from tests.commands import Command, Ended
from tests.faults.known import known_log
from tests.servers import wait_until
from tests.stored import packed


@pytest.fixture
def audit(command: Command) -> Command:
    return partial(_audit, command)


def _audit(command: Command, counted: Counted, *arguments: str) -> Ended:
    return command(counted, "audit", *arguments)


def test_what_consumers_counted_is_exact(log: Counted, audit: Command) -> None:
    log.fill(600)
    log.consume()
    fences = log.store.fences(range(PARTITIONS))
    read = {p: sum(n for name, n in fence.tallies.items() if ":" not in name) for p, fence in fences.items()}
    rows = audit(log, "--json").rows()
    assert {row["partition"]: row["events"] for row in rows} == read
    for row in rows:
        assert row["exact"]
        assert row["log_start"] == 0
        assert row["log_end"] == row["fence"] == fences[row["partition"]].next_offset
        assert (row["tallies"], row["wrong"], row["by"], row["unproved"]) == ("equal", 0, 0, 0)
        assert row["problems"] == row["differences"] == []
    ended = audit(log)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == f"exact: {sum(read.values()):,} events in {PARTITIONS} partitions"


@pytest.mark.parametrize("by", [1, -1])
def test_a_counter_that_was_changed_is_named_with_both_sides(counted: Counted, audit: Command, by: int) -> None:
    week, group, track, plays = counted.change(by)
    ended = audit(counted, "--json")
    wrong, right = ended.rows()
    expected = {"week": week, "group": group, "track_id": track, "kind": "plays", "log": plays, "redis": plays + by}
    assert (ended.code, wrong["exact"], right["exact"]) == (1, False, True)
    assert (wrong["wrong"], wrong["by"], wrong["differences"]) == (1, 1, [expected])
    table = audit(counted)
    assert table.code == 1
    assert "not exact: partition 0 of 2" in table.out
    (row,) = [line for line in table.out.splitlines() if track in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("0", week, group, track, "plays"),
        *(str(plays), str(plays + by)),
    ]


def missing(counted: Counted) -> str:
    week, _, track = counted.biggest()
    counted.redis.hdel(counted.bucket(week, track), track)
    return track


def too_many(counted: Counted) -> str:
    week, *_ = counted.biggest()
    counted.redis.hset(counted.bucket(week, "invented"), "invented", packed(0, 0, 0, 0, 2, 0))
    return "invented"


def in_a_wrong_slice(counted: Counted) -> str:
    week, _, track = counted.biggest()
    right = counted.bucket(week, track)
    counts = counted.redis.hget(right, track)
    counted.redis.hdel(right, track)
    counted.redis.hset(right[:-1] + str(1 - int(right[-1])), track, counts)
    return track


def in_the_other_group(counted: Counted) -> str:
    week, _, track = counted.biggest()
    counts = counted.store.bucket(0, week, counted.store.slice_of(track))[track]
    counted.redis.hset(counted.bucket(week, track), track, packed(*counts[3:], *counts[:3]))
    return track


def too_few(counted: Counted) -> str:
    week, _, track = counted.biggest()
    counted.redis.hset(counted.bucket(week, track), track, packed(1, 1, 1))
    return f"Redis holds 3 counts of track {track} in week {week}, expected 6"


def no_count(counted: Counted) -> str:
    week, *_ = counted.biggest()
    counted.redis.hset(counted.bucket(week, "empty"), "empty", packed(*[0] * 6))
    return "Redis holds track empty in week"


def a_tally(counted: Counted) -> str:
    before = counted.store.fences([0])[0].tallies["late"]
    counted.redis.hincrby(counted.key("fence"), "late", 1)
    return f"tally late: the log says {before}, Redis says {before + 1}"


def stream_time(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "stream_time", "2023-06-24T23:00:00+00:00")
    return "stream time is 2023-06-24 23:00:00+00:00, the log says"


def a_touch(counted: Counted) -> str:
    week, *_ = counted.biggest()
    counted.redis.hset(counted.key("fence"), f"bucket:{week}", "1")
    return f"week {week}: last touched before offset 1, the log says"


def other_groups(counted: Counted) -> str:
    week, *_ = counted.biggest()
    counted.redis.hset(counted.key("fence"), f"groups:{week}", "treatment,control")
    return f"week {week}: its groups are treatment, control, the log says control, treatment"


def no_groups(counted: Counted) -> str:
    week, *_ = counted.biggest()
    counted.redis.hdel(counted.key("fence"), f"groups:{week}")
    return f"week {week}: its groups are unknown, the log says control, treatment"


def a_week_of_nothing(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "bucket:2023-W53", "1")
    counted.redis.hset(counted.key("week:2023-W53:0"), "t", packed(1, 0, 0))
    return "Redis holds 3 counts of track t in week 2023-W53, expected 0"


def fallen_out(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "bucket:2023-W01", "1")
    counted.redis.hset(counted.key("fence"), "experiment:2023-W01", fingerprint(counted))
    return "week 2023-W01 should have fallen out: 6 weeks are kept"


def stray(counted: Counted) -> str:
    counted.redis.hset(counted.key("week:2023-W24:2"), "t", packed(*[1] * 6))
    return "week:2023-W24:2 is named by no fence"


def of_an_old_layout(counted: Counted) -> str:
    counted.redis.hset(counted.key("week:2023-W24:control:1"), "t", packed(1, 0, 0))
    return "week:2023-W24:control:1 is named by no fence"


def no_fence(counted: Counted) -> str:
    counted.redis.delete(counted.key("fence"))
    return "no fence in Redis: nothing of this log is counted"


def beyond_its_end(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "next_offset", "9999")
    return "the fence is at offset 9999, but the log ends at"


def another_topic(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "topic_id", "another")
    return f"Redis counts topic id another, Kafka has {counted.topic_id()}"


def other_slices(counted: Counted) -> str:
    counted.redis.hset(counted.key("fence"), "slices", "3")
    return "counted with slices 3, the settings have 2"


def another_experiment(counted: Counted) -> str:
    week = counted.biggest()[0]
    counted.redis.hset(counted.key("fence"), f"experiment:{week}", "f" * 16)
    return f"week {week} was counted under experiment {'f' * 16}"


def fingerprint(counted: Counted) -> str:
    week = counted.settings.calendar.parse("2023-W01")
    return wiring.rules(counted.settings).assignment_of(week).fingerprint


SPOILED = [missing, too_many, in_a_wrong_slice, no_count, a_tally, stream_time, a_touch, fallen_out, stray, no_fence]
SPOILED += [beyond_its_end, another_topic, other_slices, another_experiment, in_the_other_group, too_few, other_groups]
SPOILED += [no_groups, a_week_of_nothing, of_an_old_layout]


@pytest.mark.parametrize("spoil", SPOILED)
def test_whatever_is_spoiled_in_redis_is_found_and_named(
    counted: Counted, audit: Command, spoil: Callable[[Counted], str]
) -> None:
    named = spoil(counted)
    ended = audit(counted)
    assert ended.code == 1
    assert named in ended.out
    assert "not exact: partition 0 of 2" in ended.out
    assert [row["exact"] for row in audit(counted, "--json").rows()] == [False, True]


def test_only_the_weeks_asked_for_are_compared(counted: Counted, audit: Command) -> None:
    week = counted.change(1)[0]
    others = counted.store.fences([0])[0].touched.keys() - {week}
    assert audit(counted, *sorted(others)).code == 0
    ended = audit(counted, week)
    assert (ended.code, f"The log against Redis: {week}" in ended.out) == (1, True)


def test_a_week_that_is_not_kept_or_none_is_refused(counted: Counted, audit: Command) -> None:
    assert "week 2020-W01 is not counted: expected one of 2023-W20" in audit(counted, "2020-W01").err
    assert audit(counted, "2020-W54").code == 2


def test_no_more_than_twenty_counters_are_shown(counted: Counted, audit: Command) -> None:
    for key in counted.redis.scan_iter(counted.key("week:*")):
        counted.redis.delete(key)
    rows = audit(counted, "--json").rows()
    assert rows[0]["wrong"] > len(rows[0]["differences"]) == 20
    assert rows[0]["by"] == counted.store.fences([0])[0].tallies["counted"] - counted_of_weeks_gone(counted)
    assert f"Counters that are wrong, 20 of {rows[0]['wrong']}" in audit(counted).out


def counted_of_weeks_gone(counted: Counted) -> int:
    """How many events were counted in weeks that have fallen out of partition 0 since."""
    recount = Recount(wiring.rules(counted.settings), 0, counted.store.slice_of)
    fence = counted.store.fences([0])[0]
    with PartitionLog(counted.settings.kafka, counted.topic, 0, 0) as log:
        for batch in log.read_to(fence.next_offset):
            recount.add(batch)
    kept = sum(sum(c) for week in recount.touched for s in range(2) for c in recount.bucket(week, s).values())
    return fence.tallies["counted"] - kept


def delete_before(counted: Counted, offset: int) -> None:
    with KafkaAdminClient(**CLIENT, **counted.settings.kafka) as admin:
        admin.delete_records({TopicPartition(counted.topic, 0): offset})


def test_what_the_log_has_lost_is_said_and_the_rest_still_proved(apache_log: Counted, audit: Command) -> None:
    apache_log.send(*[(0, None, play(track=f"t{n % 2}")) for n in range(10)], (0, None, b"junk"), (1, None, play()))
    apache_log.count()
    delete_before(apache_log, 4)
    ended = audit(apache_log)
    assert ended.code == 0
    assert "the log has lost its first 4 offsets" in ended.out
    assert "larger than what is left of it makes them (2)" in ended.out
    assert "exact as far as the log reaches: 8 events read" in ended.out
    row, _ = audit(apache_log, "--json").rows()
    assert (row["log_start"], row["tallies"], row["unproved"], row["wrong"]) == (4, "unproved", 2, 0)
    apache_log.change(-3)  # below the three plays that the log still holds
    row, _ = audit(apache_log, "--json").rows()
    assert (row["exact"], row["unproved"], row["wrong"], row["by"]) == (False, 1, 1, 1)


def test_a_log_that_lost_nothing_that_was_counted_proves_all(apache_log: Counted, audit: Command) -> None:
    apache_log.send(*[(0, None, play(track=f"t{n % 2}")) for n in range(10)])
    delete_before(apache_log, 4)
    apache_log.consume()
    assert "exact: 6 events in 2 partitions" in audit(apache_log).out
    apache_log.change(1)
    assert audit(apache_log).code == 1, "more than the log says is wrong where nothing counted is lost"


def test_records_lost_before_they_were_counted_are_said(apache_log: Counted, audit: Command) -> None:
    apache_log.send((0, None, play()))
    apache_log.count()
    apache_log.send((0, None, play()), (0, None, play()))
    delete_before(apache_log, 2)
    ended = audit(apache_log)
    assert ended.code == 1
    assert "1 offsets from the fence on were deleted before they were counted" in ended.out


@pytest.mark.timeout(120)
def test_an_audit_is_exact_while_consumers_count(apache_log: Counted, audit: Command) -> None:
    apache_log.fill(3000)
    apache_log.count(until=50)

    def stands() -> list[int]:
        return [fence.next_offset for fence in apache_log.store.fences(range(PARTITIONS)).values()]

    moved = 0
    with running(apache_log.consumer()):
        wait_until(lambda: stands() != [50, 50], "the consumer to begin")
        for n in range(4):
            before = stands()
            apache_log.fill(400, first=3000 + 400 * n)
            rows = audit(apache_log, "--json").rows()
            assert [row["exact"] for row in rows] == [True, True], rows
            moved += stands() != before
    assert moved, "nothing was counted during the audits"


def test_a_recount_is_what_the_script_does_in_redis(redis: Redis, prefix: str) -> None:
    """Replays, producers' ids, weeks that fall out: whatever the borders of batches are."""
    draw, store, of = (
        random.Random(5),
        CounterStore(redis, prefix, 3),
        rules(topic="t", weeks_kept=6, duplicate_hours=24),
    )
    log = [sending.value for sending in known_log(2, 700, 1)]
    log += [
        wire(event_id=str(n % 9), timestamp=f"2023-06-{24 + n % 3:02}T10:00:00", track_id=f"t{n}") for n in range(40)
    ]
    headers = [tuple(Origin(0, draw.randrange(5), 0).headers("t")) if draw.random() < 0.5 else () for _ in log]
    now = millis(MONDAY + 2 * WEEK)
    records = [Record(n, value, now, headers=headers[n]) for n, value in enumerate(log)]
    store.init(0, 0, "id", {})
    recount, decide = Recount(of, 0, store.slice_of), deciding(store, of)
    while recount.next_offset < len(records):
        start = recount.next_offset
        end = min(len(records), start + draw.randrange(1, 60))
        batch = Batch(0, start, end, records[start:end])
        recount.add(batch)
        for part in decide(batch, store.fences([0])[0].stream_time):
            store.apply(0, "id", part)
    fence = store.fences([0])[0]
    assert recount.tallies == fence.tallies
    assert recount.tallies["duplicate"]
    assert recount.tallies["late"]
    sets = {key.decode().split("}:ids:")[1] for key in redis.scan_iter(f"{{hp:{prefix}:0}}:ids:*")}
    assert recount._ids.keys() == sets, "what is remembered does not grow with the log"
    assert (recount.touched, recount.stream_time) == (fence.touched, fence.stream_time)
    assert recount.groups == fence.groups
    for week in fence.touched:
        for slice_ in range(3):
            recounted = {track_id: tuple(counts) for track_id, counts in recount.bucket(week, slice_).items()}
            assert recounted == store.bucket(0, week, slice_)


def test_a_recount_keeps_only_the_counts_of_the_weeks_wanted() -> None:
    recount = Recount(rules(), 0, lambda track_id: 0, {"2023-W25"})
    recount.add(Batch(0, 0, 3, [Record(0, play(0)), Record(1, play(1)), Record(2, play(2))]))
    assert recount.bucket("2023-W25", 0) == {"a": (0, 0, 0, 1, 0, 0)}
    assert recount.bucket("2023-W24", 0) == {}
    assert len(recount.touched) == 3


def test_a_log_is_read_a_poll_at_a_time_and_exactly_to_the_offset_wanted(log: Counted) -> None:
    n_records, topic = 2 * MAX_POLL_RECORDS + 100, log.topic
    log.send(*[(1, None, b"%d" % n) for n in range(n_records)])
    with PartitionLog(log.settings.kafka, topic, 1, 0) as reading:
        assert_reads(reading, 0, 50)
        assert_reads(reading, 50, 51)
        assert_reads(reading, 51, n_records)
        assert list(reading.read_to(n_records)) == []
        with pytest.raises(LogCut, match=f"partition 1 ends at offset {n_records}, before {n_records + 1}"):
            next(reading.read_to(n_records + 1))


def assert_reads(reading: PartitionLog, start: int, end: int) -> None:
    """The spans join, hold every record once, and none of them is longer than a poll."""
    seen: list[Any] = []
    for batch in reading.read_to(end):
        assert (batch.partition, batch.start) == (1, start + len(seen))
        seen += [int(record.value or b"") for record in batch.records]
        assert (batch.end, len(batch.records) <= MAX_POLL_RECORDS) == (start + len(seen), True)
        assert reading.next_offset == batch.end, "nothing is read ahead of what is asked for"
    assert seen == list(range(start, end))


def test_a_log_whose_beginning_is_deleted_while_it_is_read_is_said(apache_log: Counted) -> None:
    apache_log.send(*[(0, None, b"{}") for _ in range(9)])
    with PartitionLog(apache_log.settings.kafka, apache_log.topic, 0, 0) as reading:
        delete_before(apache_log, 5)
        with pytest.raises(LogCut, match="does not hold offset 0 any more"):
            list(reading.read_to(9))
