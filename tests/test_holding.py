"""Parts that go on with the next batch while much is waiting: fewer steps of Redis, and the same counters."""

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

import consumers.writer
from consumers.kafka import KafkaUnavailable
from consumers.loop import LOOK_EVERY_S, Consumer
from consumers.sessions import deciding
from features.parts import Bucket, CatalogueEntry, Part, SetAside
from features.tally import tally
from producers.publisher import NotAcknowledged
from tests.builders import MONDAY, Record, log_of, millis, play, rules, wire
from tests.test_loop import Cut, PowerCut, World, drain, world

__all__ = ["world"]
PLAYS = log_of([play(n / 40, f"t{n % 7}") for n in range(40)])
"""Ten batches; the first is never held, because the oldest week kept is known with it."""


@pytest.fixture
def waiting(world: World) -> World:
    """A partition of which much is waiting."""
    world.logs = {0: PLAYS}
    return world


def spans_of(consumer: Consumer) -> list[tuple[int, int]]:
    """What Redis will be sent at once."""
    spans, apply = list[tuple[int, int]](), consumer.store.apply

    def spy(partition: int, topic_id: str, part: Part) -> None:
        spans.append((part.start, part.end))
        apply(partition, topic_id, part)

    consumer.store.apply = spy  # type: ignore[method-assign]
    return spans


def test_a_part_goes_on_for_as_long_as_no_less_is_waiting_than_it_holds(waiting: World) -> None:
    consumer = waiting.consumer()
    spans = spans_of(consumer)
    drain(consumer)
    assert (spans, consumer.n_fenced) == ([(0, 4), (4, 24), (24, 36), (36, 40)], 0)
    waiting.check()


def test_a_part_holds_not_much_more_than_may_be_read_again(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers.writer, "MOST_HELD", 10)
    spans = spans_of(consumer := waiting.consumer())
    drain(consumer)
    assert spans == [(0, 4), (4, 16), (16, 28), (28, 36), (36, 40)]


def test_all_parts_together_hold_no_more_than_they_may_and_the_longest_goes_first(
    waiting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers.writer, "MOST_SIZE", 15)
    waiting.logs = {0: PLAYS, 1: PLAYS, 2: PLAYS}  # of seven tracks each
    consumer = waiting.consumer()
    sent, apply = list[tuple[int, list[int]]](), consumer.store.apply

    def spy(partition: int, topic_id: str, part: Part) -> None:
        sent.append((part.end - part.start, [held.end - held.start for held in consumer.writer._held.values()]))
        apply(partition, topic_id, part)

    consumer.store.apply = spy  # type: ignore[method-assign]
    sizes = []
    while consumer.step():
        sizes.append(sum(part.size for part in consumer.writer._held.values()))
    assert 0 < max(sizes) <= 15
    assert all(length >= max(held) for length, held in sent[3:11])  # what comes then is the logs' end
    assert {length for length, _ in sent[3:11]} == {8, 12}
    waiting.check()


def test_what_is_remembered_are_tracks_by_week_and_their_listeners() -> None:
    weeks = [
        Bucket(week, (), "", {"a": 1, "b": 1}, listeners={"a": {"u1", "u2"}, "b": {"u1"}})
        for week in ("2023-W24", "2023-W25")
    ]
    assert Part(0, 1, MONDAY, buckets=weeks).size == 2 * (2 + 3)


@pytest.mark.parametrize("odd", [b"x", play(-20)], ids=["dead", "late"])
def test_what_is_set_aside_does_not_wait(waiting: World, odd: bytes) -> None:
    waiting.logs = {0: log_of([odd if n % 4 == 3 else play(0) for n in range(20)])}
    spans = spans_of(consumer := waiting.consumer())
    drain(consumer)
    assert spans == [(n, n + 4) for n in range(0, 20, 4)]
    waiting.check()


ALSO: dict[str, Any] = {
    "horizon": "2023-W24",
    "entries": [CatalogueEntry("a", 0, 0, "{}")],
    "set_aside": [SetAside("late", "late", 0, 0, None, None)],
    "ids": {"1h:0": [b"0123456789abcdef"]},
    "kept": ("1h:0", "1h:-1"),
    "plays": {"2023-W24": {b"0123456789abcdef": 1}},
}


@pytest.mark.parametrize("name", ALSO)
def test_a_part_that_does_anything_but_count_does_not_wait(name: str) -> None:
    assert Part(0, 1, MONDAY).has_only_counts
    assert not Part(0, 1, MONDAY, **{name: ALSO[name]}).has_only_counts


def test_stream_time_does_not_go_back_with_a_batch_of_earlier_events(waiting: World) -> None:
    waiting.logs = {0: log_of([play(weeks) for weeks in (0, 0.5, 0.1) for _ in range(4)] + [play(0.1)] * 28)}
    drain(waiting.consumer())
    waiting.check()


def test_what_is_held_is_in_redis_before_its_fence_is_looked_at(waiting: World) -> None:
    consumer, ticks = waiting.consumer(), itertools.count(0, 2 * int(LOOK_EVERY_S))
    consumer.clock = lambda: float(next(ticks))
    drain(consumer)
    assert consumer.n_fenced == 0
    waiting.check()


def test_what_is_held_is_read_again_where_it_cannot_be_sent(waiting: World) -> None:
    consumer = waiting.consumer()
    consumer.source.end = lambda partition: 1000  # type: ignore[method-assign]
    while consumer.step():  # all of it is held, or in Redis: the next poll brings nothing
        if consumer.writer._held.get(0) and consumer.writer._held[0].end == len(PLAYS):
            break
    answers = [KafkaUnavailable("away")]
    topic_id = consumer.source.topic_id

    def away_once() -> str:
        if answers:
            raise answers.pop()
        return topic_id()

    consumer.source.topic_id = away_once  # type: ignore[method-assign]
    with pytest.raises(KafkaUnavailable):
        consumer.step()
    drain(consumer)
    assert consumer.n_fenced == 0
    waiting.check()


def test_what_makes_old_weeks_go_does_not_wait() -> None:
    log = log_of([play(0), play(13)])
    (first,) = tally(log[:1], 0, 1, None, rules())
    (other,) = tally(log[1:], 1, 2, first.stream_time, rules())
    assert (other.horizon, other.has_only_counts) == ("2023-W26", False)


def test_partitions_go_on_each_by_itself(waiting: World) -> None:
    waiting.logs = {0: PLAYS, 1: PLAYS[:9], 2: PLAYS[:30], 3: []}
    drain(waiting.consumer())
    waiting.check()


def test_what_is_held_is_counted_where_no_more_comes_though_the_log_goes_on(waiting: World) -> None:
    """An open transaction keeps the rest back."""
    consumer = waiting.consumer()
    consumer.source.end = lambda partition: 1000  # type: ignore[method-assign]
    spans = spans_of(consumer)
    drain(consumer)
    assert spans == [(0, 4), (4, 40)]
    waiting.check()


def test_what_is_held_is_counted_when_told_to_stop(waiting: World) -> None:
    consumer, stop = waiting.consumer(), threading.Event()
    for _ in range(3):
        consumer.step()
    assert consumer.tallies == Counter(counted=4)
    stop.set()
    assert consumer.run(stop) == 0
    assert consumer.tallies == Counter(counted=12)
    drain(waiting.consumer())
    waiting.check()


def test_what_is_held_of_a_partition_that_is_read_no_more_is_not_sent(waiting: World) -> None:
    consumer, stop = waiting.consumer(), threading.Event()
    for _ in range(3):
        consumer.step()
    assert consumer.writer._held
    spans = spans_of(consumer)
    consumer.source.stop(0)
    stop.set()
    consumer.run(stop)
    assert spans == []
    drain(waiting.consumer())
    waiting.check()


def test_what_is_held_is_lost_with_its_consumer_and_read_again(waiting: World) -> None:
    consumer = waiting.consumer(Cut("poll", "before", 5))
    with pytest.raises(PowerCut):
        drain(consumer)
    assert consumer.tallies == Counter(counted=4)
    drain(waiting.consumer())
    waiting.check()


def test_what_is_held_is_read_again_where_letters_of_the_next_batch_cannot_be_sent(waiting: World) -> None:
    waiting.logs = {0: log_of([*(play(0) for _ in range(10)), b"x", *(play(1) for _ in range(20))])}
    consumer, send, failures = waiting.consumer(), waiting.letters.send, [NotAcknowledged("the topic is full")]

    def fail_once(partition: int, set_aside: Sequence[SetAside]) -> None:
        if set_aside and failures:
            raise failures.pop()
        send(partition, set_aside)

    consumer.letters.send = fail_once  # type: ignore[method-assign]
    with pytest.raises(NotAcknowledged):
        drain(consumer)
    consumer.source.rewind()  # as run() does
    drain(consumer)
    assert consumer.n_fenced == 0
    waiting.check()


def test_what_is_held_is_dropped_where_its_partition_begins_anew(waiting: World) -> None:
    consumer = waiting.consumer()
    for _ in range(3):
        consumer.step()
    consumer.source.wait(0)  # the group took it away, and gave it back
    drain(consumer)
    assert consumer.n_fenced == 0
    waiting.check()


@pytest.mark.parametrize("changes", [{"plays_cap": 3}, {"duplicate_hours": 1}], ids=["cap", "ids"])
def test_what_redis_remembers_is_asked_for_where_the_part_begins(waiting: World, changes: dict[str, int]) -> None:
    """Skips change no cap, and an event without an id is not remembered: both may be held, and then come others."""
    skips = [play(0, f"t{n % 3}", kind="skip") for n in range(16)]
    others = [wire(event_id=f"e{n % 5}") for n in range(12)]
    log = [Record(n, value, millis(MONDAY + timedelta(weeks=2))) for n, value in enumerate(skips + others + skips)]
    waiting.logs = {0: log}
    consumer = waiting.consumer()
    consumer.decide = deciding(consumer.store, rules(**changes))
    spans = spans_of(consumer)
    drain(consumer)
    assert consumer.n_fenced == 0
    assert spans[1] == (4, 20)  # three batches of skips, and the first with what is remembered
    assert consumer.tallies == Counter({"counted": 32 + (3 if "plays_cap" in changes else 5)}) + Counter(
        capped=9 if "plays_cap" in changes else 0, duplicate=7 if "duplicate_hours" in changes else 0
    )
