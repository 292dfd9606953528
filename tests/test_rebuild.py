"""The log counted again beside the counters that serve, and the moment at which it takes their place."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from redis import Redis

from consumers.kafka import TopicWatch
from consumers.rebuild import Rebuild, RebuildRefused
from features.parts import Bucket, Part, SetAside
from features.reader import CountedOtherwise
from features.store import CounterStore, Fenced, TopicChanged
from hitparade import wiring
from hitparade.embedded import Embedded
from producers.kafka import CLIENT
from producers.publisher import NotAcknowledged
from producers.topics import ensure_topics, topic_specs
from tests.builders import play
from tests.builders_counting import PARTITIONS, Counted, letters_of, running
from tests.builders_weekly import chart_week, plays, staged
from tests.commands import Command
from tests.servers import wait_until
from tests.stored import packed
from tests.stored import stored as stored_of


@dataclass
class Sent:
    """A list instead of the letter topics."""

    letters: list[tuple[int, SetAside]] = field(default_factory=list)
    fails: bool = False

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        if self.fails:
            raise NotAcknowledged("no")
        self.letters += [(partition, event) for event in set_aside]

    def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def rebuilding(counted: Counted, **changes: Any) -> Iterator[Rebuild]:
    """A rebuild of the topic, with letters in a list."""
    settings = counted.settings
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        parts = {"letters": Sent(), "rules": wiring.rules(settings), "watch": watch}
        yield Rebuild(settings.kafka, counted.store, **{**parts, **changes})


def stored(counted: Counted) -> dict[tuple[int, str, str, str], list[int]]:
    """Every counter that the fences name."""
    return {
        (partition, *name): counts
        for partition in counted.store.fences(range(PARTITIONS))
        for name, counts in stored_of(counted.store, partition).items()
    }


def has_shadow(counted: Counted) -> bool:
    return any(name.startswith("new:") for name in counted.keys())


def test_spoiled_counters_are_exact_after_a_rebuild_and_consumers_count_on(log: Counted, command: Command) -> None:
    log.fill(500)
    log.consume()
    right = stored(log)
    week, _, track, _ = log.change(7)
    log.redis.hset(log.bucket(week, "invented"), "invented", packed(*[1] * 6))
    log.redis.hset(log.key("fence"), "bucket:2023-W53", "1")
    log.redis.hset(log.key("week:2023-W53:1"), track, packed(1, 0, 0))
    assert command(log, "audit").code == 1
    assert "switched over at offset" in command(log, "rebuild").out
    assert stored(log) == right
    assert command(log, "audit").code == 0, "and the fence is right, and no key is left that nobody reads"
    assert not has_shadow(log)
    log.fill(100, first=500)
    log.consume()
    assert command(log, "audit").code == 0


class Load:
    """Somebody who sends without a pause, and somebody who reads a week that nobody adds to."""

    def __init__(self, counted: Counted, week: str) -> None:
        self.counted, self.week = counted, counted.settings.calendar.parse(week)
        self.reader = wiring.counter_reader(counted.settings)
        self.seen: Counter[int] = Counter()
        self.stop = threading.Event()

    def read(self) -> None:
        """The plays of the week, whenever it could be read as of one instant."""
        while not self.stop.is_set():
            before = self.reader.standing()
            total = sum(sum(rows["plays"].to_pylist()) for rows in self.reader.slices(self.week, before))
            if self.reader.standing().stamp(self.week) == before.stamp(self.week):
                self.seen[total] += 1

    def produce(self) -> None:
        while not self.stop.is_set():
            self.counted.send(*[(n % PARTITIONS, None, play(1.9, f"t{n}", f"u{n}")) for n in range(50)])

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=work) for work in (self.read, self.produce)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()


@pytest.mark.timeout(150)
def test_a_rebuild_under_load_stops_neither_consumers_nor_readers(apache_log: Counted, command: Command) -> None:
    apache_log.fill(3000)
    apache_log.count()
    load = Load(apache_log, "2023-W24")
    with running(apache_log.consumer()) as consumer, load.running():
        wait_until(lambda: consumer.tallies["counted"] > 100, "the consumer to count")
        for times in (1, 2):
            aim = consumer.tallies["counted"] + 100
            assert command(apache_log, "rebuild").code == 0
            assert {f.rebuilt for f in apache_log.store.fences(range(PARTITIONS)).values()} == {times}
            wait_until(lambda aim=aim: consumer.tallies["counted"] > aim, "counts after it")  # type: ignore[misc]
    apache_log.consume()
    assert list(load.seen) == [sum(n[0] for (_, week, *_), n in stored(apache_log).items() if week == "2023-W24")]
    assert load.seen.total() > 5
    assert command(apache_log, "audit").code == 0
    assert not has_shadow(apache_log)


def test_an_idle_consumer_of_other_settings_adds_nothing_after_a_rebuild(counted: Counted) -> None:
    """It stands just where the new fence does, so that the offset alone would let it in."""
    settings = counted.settings
    with running(counted.consumer()) as old:
        wait_until(lambda: len(old.source._next) == PARTITIONS, "both partitions to be begun")
        anew = counted.other(SLICES="5")
        with rebuilding(anew) as rebuild:
            rebuild.begin()
            rebuild.run()
        counted.send(*[(p, None, play(0, "late comer")) for p in range(PARTITIONS)])
        wait_until(lambda: len(old.stopped) == PARTITIONS, "the old consumer to stop")
    assert "was counted with slices 5, this consumer has 2" in old.stopped[0]
    assert old.tallies == Counter()
    with pytest.raises(CountedOtherwise, match="with slices 5, these settings have 2"):
        wiring.counter_reader(settings).standing()
    new = anew.consume()
    assert (new.tallies, new.stopped) == (Counter(counted=2), {})


EXPERIMENT = """
[[experiment]]
name = "thirds"
salt = "another"

[experiment.groups.one]
weight = 1
model = "naive"

[experiment.groups.two]
weight = 2
model = "linear"
"""


@pytest.mark.parametrize("change", ["slices", "experiment", "zone", "weeks"])
def test_a_rebuild_counts_under_the_settings_of_now(
    counted: Counted, command: Command, tmp_path: Path, change: str
) -> None:
    file = tmp_path / "experiments.toml"
    file.write_text(EXPERIMENT)
    changes = {"slices": {"SLICES": "5"}, "experiment": {"EXPERIMENT_FILE": str(file)}}
    changes |= {"zone": {"TIME_ZONE": "Asia/Tokyo", "WEEK_START": "friday"}, "weeks": {"WEEKS_KEPT": "12"}}
    anew = counted.other(**changes[change])
    assert command(anew, "audit").code == 1
    assert command(anew, "rebuild").code == 0
    assert command(anew, "audit").code == 0
    groups = {names for fence in anew.store.fences(range(PARTITIONS)).values() for names in fence.groups.values()}
    assert groups == {("one", "two") if change == "experiment" else ("control", "treatment")}
    slices = {name.rsplit(":", 1)[1] for name in anew.keys() if name.startswith("week:")}
    assert slices == set("01234" if change == "slices" else "01")


def kept_for_twelve_weeks(counted: Counted) -> Counted:
    """The same, counted as if older events were not late."""
    before = counted.other(WEEKS_KEPT="12")
    for partition in range(PARTITIONS):
        before.store.drop(partition)
    before.count()
    return before


def test_what_has_become_late_under_the_settings_of_now_has_its_letters(counted: Counted) -> None:
    with rebuilding(counted) as rebuild:
        rebuild.begin()
        rebuild.run()
        assert rebuild.letters.letters == [], "consumers have sent them"  # type: ignore[attr-defined]
    anew = kept_for_twelve_weeks(counted).other(WEEKS_KEPT="6")
    told: list[str] = []
    with rebuilding(anew, tell=told.append) as rebuild:
        rebuild.begin()
        rebuild.run()
        sent = Counter((p, event.topic) for p, event in rebuild.letters.letters)  # type: ignore[attr-defined]
    for partition, fence in anew.store.fences(range(PARTITIONS)).items():
        assert sent[partition, "late"] == fence.tallies["late"] > 0
        assert sent[partition, "dead"] == fence.tallies["dead"] > 0
    assert [text for text in told if "late or dead" in text] == [
        f"partition {p}: other events are late or dead than before; counting once more, with letters" for p in (0, 1)
    ]


def test_what_is_counted_ahead_of_the_consumers_has_its_letters_first(counted: Counted) -> None:
    """The counters move while the log is counted again, so that it must overtake them."""
    sent = Sent()
    with rebuilding(counted, letters=sent) as rebuild:

        def meanwhile(n: int) -> None:
            rebuild.advance = lambda n: None
            counted.send((0, b"a", play()), (0, b"b", b"junk"), (0, b"c", b"more junk"), (0, b"d", play()))
            counted.count(until=counted.store.fences([0])[0].next_offset + 1)

        rebuild.advance = meanwhile
        rebuild.begin()
        rebuild.run()
    assert [(p, event.key, event.value) for p, event in sent.letters] == [(0, b"b", b"junk"), (0, b"c", b"more junk")]
    ends = counted.store.fences([0])[0].next_offset
    counted.count()
    assert counted.store.fences([0])[0].next_offset == ends, "it had counted everything"


def test_nothing_is_switched_where_letters_are_not_taken(counted: Counted) -> None:
    before = kept_for_twelve_weeks(counted)
    right, fences = stored(before), before.store.fences(range(PARTITIONS))
    with rebuilding(counted, letters=Sent(fails=True)) as rebuild:
        rebuild.begin()
        with pytest.raises(NotAcknowledged):
            rebuild.run()
    assert (stored(counted), counted.store.fences(range(PARTITIONS))) == (right, fences)


class PowerCut(BaseException):
    """The process is gone: nothing catches this."""


def interrupt(counted: Counted) -> int:
    """Begin a rebuild that dies after the first span of the second partition; return how much it has counted."""
    done: list[int] = []

    def die(n: int) -> None:
        done.append(n)
        if len(done) == 2:
            raise PowerCut

    with rebuilding(counted, advance=die) as rebuild:
        rebuild.begin()
        with pytest.raises(PowerCut):
            rebuild.run()
    return sum(done)


def test_an_interrupted_rebuild_is_gone_on_with(counted: Counted, command: Command) -> None:
    right = stored(counted)
    counted.change(1)
    spoiled = stored(counted)
    n_counted = interrupt(counted)
    assert stored(counted) == spoiled, "the old counters still serve"
    assert has_shadow(counted)
    counted.fill(100, first=500)
    told: list[str] = []
    read: list[int] = []
    with rebuilding(counted, tell=told.append, advance=read.append) as rebuild:
        n_left = rebuild.begin()
        rebuild.run()
    assert "going on at offset" in told[0]
    n_all = sum(fence.next_offset for fence in counted.store.fences(range(PARTITIONS)).values())
    assert n_counted + sum(read) == n_all
    assert n_counted + n_left >= n_all
    assert {name: counts for name, counts in stored(counted).items() if name in right} == right
    assert command(counted, "audit").code == 0


@pytest.mark.parametrize(
    "setting",
    [
        "SLICES=3",
        "WEEKS_KEPT=5",
        "FUTURE_TOLERANCE_S=9",
        "EVENT_TIME_ZONE=Asia/Tokyo",
        "DUPLICATE_HOURS=1",
        "EXPOSURES=true",
    ],
)
def test_what_was_rebuilt_under_other_rules_is_begun_anew(counted: Counted, command: Command, setting: str) -> None:
    interrupt(counted)
    name, _, value = setting.partition("=")
    anew = counted.other(**{name: value})
    rebuilt = command(anew, "rebuild")
    assert (rebuilt.code, "going on" in rebuilt.out) == (0, False)
    assert command(anew, "audit").code == 0
    assert not has_shadow(anew)


def test_what_an_interrupted_rebuild_left_can_be_removed(counted: Counted, command: Command) -> None:
    right = stored(counted)
    interrupt(counted)
    assert "of 2 partitions" in command(counted, "rebuild", "--discard").out
    assert not has_shadow(counted)
    assert stored(counted) == right
    interrupt(counted)
    assert command(counted, "drop", counted.topic, "--yes").code == 0
    assert counted.keys() == set(), "nor does drop leave it"


def test_of_two_rebuilds_at_once_one_ends_and_nothing_is_lost(counted: Counted, command: Command) -> None:
    right = stored(counted)
    counted.change(1)

    def another(n: int) -> None:
        assert command(counted, "rebuild").code == 0

    with rebuilding(counted, advance=another) as rebuild:
        rebuild.begin()
        with pytest.raises(RebuildRefused, match="Another rebuild is at work"):
            rebuild.run()
    assert stored(counted) == right
    assert command(counted, "audit").code == 0


def delete_before(counted: Counted, offset: int) -> None:
    with KafkaAdminClient(**CLIENT, **counted.settings.kafka) as admin:
        admin.delete_records({TopicPartition(counted.topic, 0): offset})


def test_what_the_log_has_lost_is_given_up_only_when_told_so(apache_log: Counted, command: Command) -> None:
    apache_log.send(*[(n % 2, None, play(track=f"t{n}")) for n in range(20)])
    apache_log.count()
    right, keys = stored(apache_log), apache_log.keys()
    delete_before(apache_log, 4)
    refused = command(apache_log, "rebuild")
    assert refused.code == 1
    assert "partition 0: the log begins at offset 4, so that what was counted of the 4 offsets" in refused.err
    assert "partition 1" not in refused.err
    assert (stored(apache_log), apache_log.keys()) == (right, keys)
    assert command(apache_log, "rebuild", "--accept-loss").code == 0
    fence = apache_log.store.fences([0])[0]
    assert (fence.next_offset, fence.tallies) == (10, {"counted": 6, "lost": 4})
    assert set(right) - set(stored(apache_log)) == {(0, "2023-W24", g, t) for _, _, g, t in right if t in LOST}
    audit = command(apache_log, "audit")
    assert (audit.code, "exact: 16 events" in audit.out) == (0, True)


LOST = {"t0", "t2", "t4", "t6"}


def test_a_topic_created_anew_takes_the_place_of_the_old_only_when_told_so(
    apache_log: Counted, command: Command
) -> None:
    settings = apache_log.settings
    apache_log.send(*[(0, None, play(track=f"t{n}")) for n in range(10)])
    apache_log.count()
    with KafkaAdminClient(**CLIENT, **settings.kafka) as admin:
        admin.delete_topics([apache_log.topic])
    ensure_topics(settings.kafka, topic_specs(settings.topics, PARTITIONS, settings.weeks_kept))
    apache_log.send((0, None, play(1, "new")), (0, None, b"junk"), (1, None, play(1, "new")))
    refused = command(apache_log, "rebuild")
    assert refused.code == 1
    assert "the topic was created anew, and the 10 events counted of the old one cannot be" in refused.err
    with running(apache_log.consumer()) as stopped:
        wait_until(lambda: 0 in stopped.stopped, "the consumer to refuse the new topic")
    rebuilt = command(apache_log, "rebuild", "--accept-loss")
    assert rebuilt.code == 0
    assert {(week, track) for _, week, _, track in stored(apache_log)} == {("2023-W25", "new")}
    fence = apache_log.store.fences([0])[0]
    assert (fence.next_offset, fence.topic_id) == (2, apache_log.topic_id())
    assert [letter.value for letter in letters_of(apache_log, settings.topics.dead_sessions)] == [b"junk"]
    apache_log.send((0, None, play(1, "new")))
    assert apache_log.consume().tallies == Counter(counted=1)
    assert command(apache_log, "audit").code == 0


def test_a_fence_beyond_the_end_of_its_log_is_not_rebuilt(counted: Counted, command: Command) -> None:
    counted.redis.hset(counted.key("fence"), "next_offset", "9999")
    refused = command(counted, "rebuild", "--accept-loss")
    assert (refused.code, "the fence is at offset 9999, but the log ends at" in refused.err) == (1, True)
    assert not has_shadow(counted)


def test_only_the_session_topic_is_rebuilt(counted: Counted, command: Command) -> None:
    tracks = command(counted, "rebuild", counted.settings.topics.tracks)
    assert tracks.code == 2
    assert f"`hitparade drop {counted.settings.topics.tracks} --yes` and `hitparade consume tracks`" in tracks.err
    assert command(counted, "rebuild", "nothing").code == 2
    assert command(counted, "rebuild", counted.topic).code == 0


def test_a_week_that_was_rebuilt_has_another_stamp(counted: Counted, command: Command) -> None:
    reader = wiring.counter_reader(counted.settings)
    week = reader.standing().closed()[-1]
    before = reader.standing().stamp(week)
    assert command(counted, "rebuild").code == 0
    after = reader.standing().stamp(week)
    assert sorted(after.values()) == sorted(before.values())
    assert not after.keys() & before.keys(), "else history would keep what was wrong"


def lay_out_as_before(counted: Counted) -> None:
    """Counters as the first layout had them: a hash a week, group and slice."""
    for partition, fence in counted.store.fences(range(PARTITIONS)).items():
        for (week, group, track), counts in stored_of(counted.store, partition).items():
            key = counted.key(f"week:{week}:{group}:{counted.store.slice_of(track)}", partition)
            counted.redis.hset(key, track, packed(*counts))
            counted.redis.hset(counted.key("fence", partition), f"bucket:{week}:{group}", fence.touched[week])
        for week in fence.touched:
            counted.redis.hdel(counted.key("fence", partition), f"bucket:{week}", f"groups:{week}")
            counted.redis.unlink(*[counted.key(f"week:{week}:{slice_}", partition) for slice_ in range(2)])
        counted.redis.hset(counted.key("fence", partition), "layout", "1")


def test_counters_of_an_older_layout_are_refused_until_they_are_rebuilt(counted: Counted, command: Command) -> None:
    right, keys = stored(counted), counted.keys()
    lay_out_as_before(counted)
    refusing = counted.consumer()
    with running(refusing):
        wait_until(lambda: len(refusing.stopped) == PARTITIONS, "both partitions to stop")
    assert "was counted with layout 1, this consumer has 2" in refusing.stopped[0]
    with pytest.raises(CountedOtherwise, match="was counted with layout 1, these settings have 2"):
        wiring.counter_reader(counted.settings).standing()
    assert "counted with layout 1, the settings have 2" in command(counted, "audit").out
    assert command(counted, "rebuild").code == 0
    assert (stored(counted), counted.keys()) == (right, keys)
    assert command(counted, "audit").code == 0


def test_lists_of_counters_that_were_wrong_are_revised_after_a_rebuild(
    embedded_stack: Embedded, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    """No offset has moved: the fences' touches are those of the wrong list."""
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        stage.catalogue("a", "b")
        for week in (20, 21, 22, 23, 24, 25):
            stage.send(plays(week, {"a": 4, "b": 2}))
        stage.count()
        counted = Counted(stage.env, redis)
        store = counted.store
        redis.hset(store.key(0, f"week:2023-W24:{store.slice_of('b')}"), "b", packed(90, *[0] * 5))
        trigger = stage.triggers.fire(chart_week(24), "manual")
        wrong = stage.weekly_run().run(trigger)
        with rebuilding(counted) as rebuild:
            rebuild.begin()
            rebuild.run()
        right = stage.weekly_run().run(trigger)
        again = stage.weekly_run().run(trigger)
    assert {place.plays for p in wrong for place in p.tracks} == {(4, 4, 4, 4), (2, 2, 2, 90)}
    assert {place.plays for p in right for place in p.tracks} == {(4, 4, 4, 4), (2, 2, 2, 2)}
    assert {p.revision for p in wrong} == {1}
    assert {(p.revision, p.id) for p in right} == {(2, p.id) for p in again}
    assert again == right
    assert right[0].cut["rebuilt"] == {"0": 1, "1": 1}


def test_a_week_read_while_it_is_rebuilt_is_the_old_one_or_the_new(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = wiring.counter_reader(counted.settings)
    week = reader.standing().closed()[-1]
    right = reader.at_one_instant(week)
    counted.redis.hset(counted.key(f"week:{week}:0"), "read first", packed(99, *[0] * 5))
    read, n_read = CounterStore.packed, 0

    def in_the_middle(store: CounterStore, *arguments: Any) -> Any:
        nonlocal n_read
        n_read += 1
        if n_read == 2:
            with rebuilding(counted) as rebuild:
                rebuild.begin()
                rebuild.run()
        return read(store, *arguments)

    monkeypatch.setattr(CounterStore, "packed", in_the_middle)
    assert reader.at_one_instant(week) == right
    assert n_read > 2
    assert not [name for name in counted.keys() if name.startswith("copy:")]


def part(start: int, end: int, week: str = "2023-W24", **changes: Any) -> Part:
    return Part(start, end, None, buckets=[Bucket(week, ("all",), "f" * 16, {"t": 1}, end)], **changes)


@pytest.fixture
def store(redis: Redis, prefix: str) -> CounterStore:
    """Counters up to offset 5, and their shadow from 0 on."""
    store = CounterStore(redis, prefix, 2)
    store.init(0, 0, "id", {"slices": "2"})
    store.apply(0, "id", part(0, 5, "2023-W23", ids={"24h:1": [b"o" * 16]}))
    store.shadow().init(0, 0, "id", {"slices": "2", "rules": "r"})
    return store


def everything(store: CounterStore) -> dict[str, Any]:
    found = {}
    for raw in store.client.scan_iter(f"{{hp:{store.topic}:*"):
        kind = store.client.type(raw)
        found[raw.decode()] = store.client.hgetall(raw) if kind == b"hash" else store.client.smembers(raw)
    return found


def test_new_counters_that_are_behind_or_of_another_topic_or_not_there_change_nothing(store: CounterStore) -> None:
    store.shadow().apply(0, "id", part(0, 4))
    before = everything(store)
    assert not store.switch(0, "id")
    with pytest.raises(TopicChanged, match="the rebuild counts topic id id, Kafka has other"):
        store.switch(0, "other")
    assert everything(store) == before
    assert store.shadow().discard(0)
    with pytest.raises(Fenced, match="nothing is being rebuilt"):
        store.switch(0, "id")
    assert everything(store) == {
        name: value for name, value in before.items() if ":new:" not in name and "}:new" not in name
    }
    assert not store.shadow().discard(0)


def test_a_switch_leaves_the_new_keys_alone_and_names_them_as_rebuilt(store: CounterStore) -> None:
    pair = b"p" * 16
    counted = part(0, 6, "2023-W25", ids={"24h:2": [b"n" * 16]}, plays={"2023-W25": {pair: 3}})
    counted.buckets[0].listeners = {"t": {"u", "v"}}
    store.shadow().apply(0, "id", counted)
    assert store.switch(0, "id")
    names = [f"{what}:2023-W25:{store.slice_of('t')}" for what in ("week", "listeners")]
    names += ["fence", "ids:24h:2", "plays:2023-W25"]
    assert everything(store).keys() == {store.key(0, name) for name in names}
    assert store.played(0, 6, {"2023-W25": {pair}}) == {"2023-W25": {pair: 3}}
    assert store.listeners_of(0, ["2023-W25"], "t") == {"2023-W25": 2}
    fence = store.fences([0])[0]
    assert (fence.next_offset, fence.rebuilt, fence.settings["slices"]) == (6, 1, "2")
    with pytest.raises(Fenced, match="it was rebuilt, and is counted as id#1, not id"):
        store.apply(0, "id", part(6, 7))
    store.apply(0, fence.identity, part(6, 7))
    with pytest.raises(TopicChanged):
        store.apply(0, "other", part(7, 8))


def test_counters_of_an_old_topic_make_way_however_far_they_were_counted(store: CounterStore) -> None:
    store.shadow().discard(0)
    store.shadow().init(0, 0, "anew", {"slices": "2"})
    assert store.switch(0, "anew")
    assert everything(store).keys() == {store.key(0, "fence")}
