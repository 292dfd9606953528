"""The counting loop on a real Redis, with a log in memory: whatever is cut, every event counts once."""

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from consumers.loop import Consumer
from consumers.rests import LONGEST_PAUSE_S
from consumers.sessions import session_consumer
from consumers.source import Batch
from consumers.writer import in_a_thread
from features.connect import StoreUnavailable
from features.parts import Part, SetAside
from features.records import LogRecord
from features.store import CounterStore
from features.tally import tally
from features.weeks import Calendar
from producers.publisher import NotAcknowledged
from tests.builders import Halves, Record, array, log_of, play, rules, wire
from tests.oracle import recount, split
from tests.stored import stored

TOPIC_ID = "id-1"
GOOD = array(play(0), play(1, "b", "vv"), play(3, "c", kind="like"))
LOGS = {
    0: [Record(n, value) for n, value in enumerate([GOOD, wire(event_type=None), GOOD, None, play(20), GOOD] * 3)],
    1: [Record(n, play(n % 5, f"t{n}")) for n in range(17)],
    2: [],
}


class PowerCut(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Cut:
    """Cuts the power before or after the nth call of one edge."""

    edge: str = ""
    when: str = "before"
    nth: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def around(self, edge: str, call: Callable[[], Any]) -> Any:
        self.calls[edge] += 1
        is_here = edge == self.edge and self.calls[edge] == self.nth
        if is_here and self.when == "before":
            raise PowerCut
        answer = call()
        if is_here:
            raise PowerCut
        return answer


@dataclass
class LogSource:
    """Partitions in memory, as consumers.kafka.Source gives them; each poll brings a few records of each."""

    logs: dict[int, list[Record]]
    cut: Cut
    identity: str = TOPIC_ID
    starts: dict[int, int] = field(default_factory=dict)
    committed_offsets: dict[int, int] = field(default_factory=dict)
    at_once: int = 4
    topic: str = "sessions"

    def __post_init__(self) -> None:
        self.waiting = list(self.logs)
        self.next: dict[int, int] = {}

    @property
    def positions(self) -> dict[int, int]:
        return self.next

    def holds(self, partition: int) -> bool:
        return partition in self.logs

    def withheld(self, partitions: Sequence[int]) -> dict[int, int]:
        return {p: len(self.logs[p]) for p in partitions if self.next[p] < len(self.logs[p])}

    def rebuild(self) -> None:
        self.next.clear()
        self.waiting = list(self.logs)

    def start(self, partition: int, offset: int) -> None:
        if partition in self.waiting:
            self.waiting.remove(partition)
        self.next[partition] = offset

    def stop(self, partition: int) -> None:
        self.next.pop(partition, None)
        if partition in self.waiting:
            self.waiting.remove(partition)

    def wait(self, partition: int) -> None:
        self.stop(partition)
        self.waiting.append(partition)

    def poll(self, timeout_s: float) -> list[Batch]:
        return self.cut.around("poll", self._poll)  # type: ignore[no-any-return]

    def _poll(self) -> list[Batch]:
        found = []
        for partition, start in self.next.items():
            records: Sequence[LogRecord] = self.logs[partition][start : start + self.at_once]
            if records:
                found.append(Batch(partition, start, start + len(records), records))
        return found

    def goes_on(self, partition: int, offset: int) -> None:
        self.next[partition] = offset

    def rewind(self) -> None:
        """Nothing was read ahead."""

    def log_start(self, partition: int) -> int:
        return self.starts.get(partition, 0)

    def end(self, partition: int) -> int:
        return len(self.logs[partition])

    def committed(self, partition: int) -> int | None:
        return self.committed_offsets.get(partition)

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        self.cut.around("commit", lambda: self.committed_offsets.update(next_offsets))

    def topic_id(self) -> str:
        return self.identity

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Letters:
    """A list instead of topics; it outlives the consumer, as topics do."""

    cut: Cut = field(default_factory=Cut)
    sent: list[tuple[int, SetAside]] = field(default_factory=list)

    def send(self, partition: int, set_aside: Sequence[SetAside]) -> None:
        self.cut.around("letters", lambda: self.sent.extend((partition, event) for event in set_aside))

    def close(self) -> None:
        """Nothing is open."""


class CutStore(CounterStore):
    """A store whose power is cut around apply."""

    cut = Cut()

    def apply(self, partition: int, topic_id: str, part: Part) -> None:
        self.cut.around("apply", lambda: super(CutStore, self).apply(partition, topic_id, part))


@dataclass
class World:
    """A log, a Redis, and letters: what is left when a consumer dies."""

    redis: Redis
    topic: str
    logs: dict[int, list[Record]] = field(default_factory=lambda: LOGS)
    letters: Letters = field(default_factory=Letters)
    committed: dict[int, int] = field(default_factory=dict)

    def consumer(self, cut: Cut | None = None, *, identity: str = TOPIC_ID, **changes: Any) -> Consumer:
        cut = cut or Cut()
        store = CutStore(self.redis, self.topic, changes.pop("slices", 2))
        store.cut = self.letters.cut = cut
        source: Any = LogSource(self.logs, cut, identity, committed_offsets=self.committed)
        letters: Any = self.letters
        most_tracks, of = changes.pop("most_tracks", 5000), rules(**changes)
        consumer = session_consumer(source, store, letters, of)
        consumer.decide = lambda batch, time, going_on=None, settle=None: tally(
            batch.records, batch.start, batch.end, time, of, most_tracks, going_on=going_on
        )
        return consumer

    def check(self) -> None:
        """Redis equals the recount of every partition."""
        store = CounterStore(self.redis, self.topic, 2)
        for partition, log in self.logs.items():
            truth = recount(log)
            assert stored(store, partition) == truth.counts
            fence = store.fence(partition)
            assert fence
            assert fence.next_offset == len(log)
            assert fence.stream_time == truth.stream_time
            assert fence.touched == truth.touched
            assert fence.tallies == truth.outcomes
            aside = {(e.topic, e.cause, e.offset, e.index, e.value) for p, e in self.letters.sent if p == partition}
            assert aside == set(truth.aside)


@pytest.fixture
def world(redis: Redis, prefix: str) -> World:
    return World(redis, f"{prefix}.sessions.v1")


def at_once(action: Callable[[], None]) -> Future[None]:
    """As if Redis answered before anything else is done."""
    done: Future[None] = Future()
    action()
    done.set_result(None)
    return done


def drain(consumer: Consumer) -> Consumer:
    """Step until a poll brings nothing and nobody waits to begin."""
    while consumer.step() or consumer.source.waiting:
        pass
    return consumer


def a_zombie_changes_nothing(world: World) -> None:
    """It decides, and its successor counts everything before it applies."""
    zombie = world.consumer()
    decide = zombie.decide

    def sleep(*given: Any) -> Iterable[Part]:
        parts = list(decide(*given))
        drain(world.consumer())
        return parts

    zombie.decide = sleep  # type: ignore[assignment]
    drain(zombie)
    assert zombie.tallies == Counter()
    world.check()


def test_a_log_is_counted_as_it_stands(world: World) -> None:
    consumer = drain(world.consumer())
    world.check()
    truth: Counter[str] = sum((recount(log).outcomes for log in world.logs.values()), Counter())
    assert consumer.tallies == truth
    values = [record.value for log in world.logs.values() for record in log]
    n_events = sum(1 if value is None else len(split(value)) for value in values)
    assert sum(truth[name] for name in ("counted", "late", "dead", "ignored")) == n_events


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("edge", ["poll", "letters", "apply", "commit"])
def test_a_power_cut_anywhere_counts_every_event_once(world: World, edge: str, when: str, nth: int) -> None:
    with pytest.raises(PowerCut):
        drain(world.consumer(Cut(edge, when, nth)))
    drain(world.consumer())
    world.check()


@pytest.mark.parametrize("nth", [1, 2, 3, 8])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("edge", ["letters", "apply"])
def test_a_power_cut_between_the_parts_of_a_batch_counts_every_event_once(
    world: World, edge: str, when: str, nth: int
) -> None:
    with pytest.raises(PowerCut):
        drain(world.consumer(Cut(edge, when, nth), most_tracks=1))
    drain(world.consumer(most_tracks=2))
    world.check()


def test_one_power_cut_after_another_counts_every_event_once(world: World) -> None:
    for nth in range(1, 6):
        with pytest.raises(PowerCut):
            drain(world.consumer(Cut("apply", "after" if nth % 2 else "before", 1 + nth % 3)))
    drain(world.consumer())
    world.check()


def test_an_apply_that_timed_out_after_it_ran_counts_once(world: World) -> None:
    consumer = world.consumer()
    failed = []

    def time_out(partition: int, topic_id: str, part: Part) -> None:
        CounterStore.apply(consumer.store, partition, topic_id, part)
        if part.start == 4 and partition not in failed:
            failed.append(partition)
            raise StoreUnavailable("time-out")

    consumer.store.apply = time_out  # type: ignore[method-assign]
    now = 0.0
    consumer.clock = lambda: now
    for _ in range(20):
        now += 1
        try:
            consumer.step()
        except StoreUnavailable:
            consumer.source.rewind()
    assert failed == [0, 1]
    world.check()


def test_a_partition_whose_redis_takes_no_writes_rests_longer_and_longer_and_holds_up_no_other(world: World) -> None:
    consumer, tried, sent = world.consumer(), [], Counter[int]()
    now = 0.0

    def refuse(partition: int, topic_id: str, part: Part) -> None:
        if partition == 0 and now < 60:
            tried.append(now)
            raise StoreUnavailable("its node takes no writes")
        CounterStore.apply(consumer.store, partition, topic_id, part)

    def send(partition: int, set_aside: Sequence[SetAside]) -> None:
        sent[partition] += len(set_aside)
        take(partition, set_aside)

    take = consumer.letters.send
    consumer.clock = lambda: now
    consumer.store.apply = refuse  # type: ignore[method-assign]
    consumer.letters.send = send  # type: ignore[method-assign]
    for _ in range(1200):
        now += 0.1
        with suppress(StoreUnavailable):
            consumer.step()
        if now < 60 <= now + 0.1:
            standing = consumer.store.fences([0, 1])
            assert (standing[0].next_offset, standing[1].next_offset) == (0, len(LOGS[1]))
            assert not consumer.health.state(now).ready
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert len(tried) < 40
    assert max(pauses) > LONGEST_PAUSE_S / 2
    n_letters = sum(len(part.set_aside) for part in consumer.decide(Batch(0, 0, len(LOGS[0]), LOGS[0]), None))
    n_in_hand = sum(len(part.set_aside) for part in consumer.decide(Batch(0, 0, 4, LOGS[0][:4]), None))
    assert sent[0] == n_letters + n_in_hand
    world.check()


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("most_tracks", [1, 5000])
def test_who_counts_alone_is_never_refused(
    world: World, caplog: pytest.LogCaptureFixture, partitions: int, most_tracks: int
) -> None:
    """What it decides while Redis is busy follows from what Redis is busy with."""
    world.logs = {partition: LOGS[partition] for partition in range(partitions)}
    with caplog.at_level("INFO"):
        drain(world.consumer(most_tracks=most_tracks))
    assert [record.message for record in caplog.records if "reading the fence again" in record.message] == []
    world.check()


def test_a_zombie_is_refused_and_goes_on_where_its_successor_is(world: World) -> None:
    zombie, successor = world.consumer(), world.consumer()
    zombie.step()
    drain(successor)
    drain(zombie)
    world.check()


def test_nothing_is_sent_after_a_part_that_is_refused(world: World) -> None:
    world.logs = {0: LOGS[0]}
    zombie, sent, submit = world.consumer(most_tracks=1), list[str](), in_a_thread()

    def noted(action: Callable[[], None]) -> Future[None]:
        sent.append("a part")
        return submit(action)

    zombie.writer.submit = noted
    zombie.begin(0)
    drain(world.consumer())
    zombie.drain(Batch(0, 0, len(LOGS[0]), LOGS[0]))
    assert len(sent) == 1
    world.check()


class Later(Future[None]):
    """Something that is not done before somebody waits for it."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action = action

    def result(self, timeout: float | None = None) -> None:
        if not self.done():
            self.set_result(self.action())


def test_two_parts_may_be_on_their_way_the_second_decided_by_what_the_first_leaves_behind(world: World) -> None:
    world.logs = {0: log_of([play(n / 9, f"t{n}") for n in range(12)])}
    consumer, sent, n_waiting = world.consumer(most_tracks=1), list[Later](), list[int]()

    def later(action: Callable[[], None]) -> Future[None]:
        sent.append(Later(action))
        n_waiting.append(sum(not one.done() for one in sent))
        return sent[-1]

    consumer.writer.submit = later
    drain(consumer)
    assert (max(n_waiting), consumer.n_fenced) == (2, 0)
    world.check()


def test_a_redis_that_lost_its_last_second_is_counted_again(world: World) -> None:
    consumer = world.consumer()
    consumer.writer.submit = at_once  # what is saved key by key must stand still
    consumer.step()
    keys = list(world.redis.scan_iter(match=f"{{hp:{world.topic}:*"))
    saved = {key: world.redis.dump(key) for key in keys}
    consumer.step()
    consumer.step()
    for key in world.redis.scan_iter(match=f"{{hp:{world.topic}:*"):
        world.redis.delete(key)
    for key, dump in saved.items():
        assert dump
        world.redis.restore(key, 0, dump)
    drain(consumer)
    world.check()


def test_letters_that_are_not_taken_keep_their_span_out_of_the_counters(world: World) -> None:
    consumer = world.consumer()

    def refuse(partition: int, set_aside: Sequence[SetAside]) -> None:
        raise NotAcknowledged("the topic is full")

    consumer.letters.send = refuse  # type: ignore[method-assign]
    with pytest.raises(NotAcknowledged):
        drain(consumer)
    fence = consumer.store.fence(0)
    assert fence
    assert fence.next_offset == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"calendar": Calendar(4)}, "first_day monday, this consumer has friday"),
        ({"slices": 3}, "slices 2, this consumer has 3"),
        ({"assignment_of": lambda week: Halves("bb")}, "counted under experiment 00000000000000aa, .* says bb"),
        ({"identity": "id-2"}, "Redis counts topic id id-1, Kafka has id-2"),
    ],
)
def test_a_partition_counted_under_other_rules_stops_with_both_sides(
    world: World, changes: dict[str, Any], says: str
) -> None:
    drain(world.consumer())
    consumer = drain(world.consumer(**changes))
    expected = {0, 1} if "assignment_of" in changes else {0, 1, 2}
    assert set(consumer.stopped) == expected
    for reason in consumer.stopped.values():
        assert re.search(says, reason)
    world.check()


def test_one_stopped_partition_leaves_the_others_running(world: World) -> None:
    drain(world.consumer())
    world.redis.hset(CounterStore(world.redis, world.topic, 2).key(1, "fence"), "zone", "Mars")
    world.logs = {**world.logs, 0: [*world.logs[0], Record(18, play(20))], 1: [*world.logs[1], Record(17, play(4))]}
    consumer, stop = world.consumer(), threading.Event()
    consumer.source.commit = lambda offsets: stop.set()  # type: ignore[method-assign]
    assert consumer.run(stop) == 1
    assert set(consumer.stopped) == {1}
    assert consumer.tallies == Counter(counted=1)


def test_a_partition_that_was_stopped_runs_on_once_it_is_put_right(world: World) -> None:
    drain(world.consumer())
    fence = CounterStore(world.redis, world.topic, 2).key(1, "fence")
    world.redis.hset(fence, "zone", "Mars")
    world.logs = {**world.logs, 1: [*world.logs[1], Record(17, play(4))]}
    consumer = drain(world.consumer())
    world.redis.hset(fence, "zone", "UTC")
    consumer.source.wait(1)  # as after a rebalance
    assert drain(consumer).stopped == {}
    world.check()


def test_a_zombie_with_a_batch_in_hand_changes_nothing(world: World) -> None:
    a_zombie_changes_nothing(world)


def test_a_log_that_lost_what_was_not_counted_is_refused_or_tallied(world: World) -> None:
    drain(world.consumer())
    consumer = world.consumer()
    consumer.source.starts = {1: 20}  # type: ignore[attr-defined]
    drain(consumer)
    assert "offset 17, but the log begins at 20: 3 offsets were deleted" in consumer.stopped[1]
    willing = world.consumer()
    willing.beginning.accept_loss = True
    willing.source.starts = {1: 20}  # type: ignore[attr-defined]
    drain(willing)
    fence = willing.store.fence(1)
    assert fence
    assert (fence.next_offset, fence.tallies["lost"]) == (20, 3)


def test_an_emptied_redis_is_not_taken_for_a_new_one(world: World) -> None:
    world.committed = {1: 17}
    consumer = world.consumer()
    consumer.source.starts = {1: 5}  # type: ignore[attr-defined]
    drain(consumer)
    assert "counted up to offset 17, and its log begins at 5: Redis was emptied" in consumer.stopped[1]


def test_a_late_event_is_late_after_a_restart_too(world: World) -> None:
    world.logs = {0: [Record(0, play(12)), Record(1, play(12))]}
    drain(world.consumer())
    world.logs = {0: [*world.logs[0], Record(2, play(0))]}
    assert drain(world.consumer()).tallies == Counter(late=1)
    world.check()


def test_a_stop_ends_the_loop_with_what_is_in_hand_applied(world: World) -> None:
    consumer, stop = world.consumer(), threading.Event()
    consumer.letters.send = lambda partition, set_aside: stop.set()  # type: ignore[method-assign]
    assert consumer.run(stop) == 0
    fence = consumer.store.fence(0)
    assert fence
    assert fence.next_offset == 4


def test_future_events_are_dead_by_the_clock_of_their_record(world: World) -> None:
    world.logs = {0: [Record(0, play(3), timestamp=0)]}
    consumer = drain(world.consumer(future_tolerance=timedelta(seconds=1)))
    assert consumer.tallies == Counter({"dead": 1, "dead:future": 1})
