"""A session topic with dirt in it, counted into Redis; and the ways to spoil what was counted."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from consumers.kafka import TopicWatch, end_offsets
from consumers.log import PartitionLog
from consumers.loop import Consumer
from consumers.sessions import deciding, fence_settings
from features.store import CounterStore
from hitparade import wiring
from hitparade.settings import Settings
from producers.publisher import Message, Publisher
from producers.topics import ensure_topics, topic_specs
from tests.faults.known import known_log
from tests.stored import packed, stored

PARTITIONS = 2


@dataclass(frozen=True)
class Counted:
    """The topic and the counters of one prefix."""

    env: Mapping[str, str]
    redis: Redis

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.env)

    @property
    def topic(self) -> str:
        return self.settings.topics.sessions

    @property
    def store(self) -> CounterStore:
        return wiring.session_store(self.settings)

    def other(self, **env: str) -> "Counted":
        """The same under other settings."""
        return Counted({**self.env, **{f"HITPARADE_{name}": value for name, value in env.items()}}, self.redis)

    def fill(self, n_events: int, first: int = 0) -> None:
        """The known log, dirt included."""
        log = known_log(1, n_events, PARTITIONS, first)
        self.send(*((sending.partition, sending.key, sending.value) for sending in log))

    def send(self, *records: tuple[int, bytes | None, bytes | None]) -> None:
        with contextlib.closing(Publisher(self.settings.kafka)) as publisher:
            publisher.publish([Message(self.topic, key, value, partition=p) for p, key, value in records])

    def topic_id(self) -> str:
        with contextlib.closing(TopicWatch(self.settings.kafka)) as watch:
            return watch.facts(self.topic).topic_id

    def count(self, until: int | None = None) -> None:
        """Count what there is, or every partition up to an offset, as the consumer does, but in no group."""
        ends = end_offsets(self.settings.kafka, {self.topic: range(PARTITIONS)})[self.topic]
        store, rules = self.store, wiring.rules(self.settings)
        settings, decide = fence_settings(rules, store.slices), deciding(store, rules)
        for partition, end in ends.items():
            fence = store.init(partition, 0, self.topic_id(), settings)
            with PartitionLog(self.settings.kafka, self.topic, partition, fence.next_offset) as log:
                for batch in log.read_to(end if until is None else min(until, end)):
                    for part in decide(batch, store.fences([partition])[partition].stream_time):
                        store.apply(partition, fence.identity, part)

    def consumer(self) -> Consumer:
        return wiring.session_consumer(self.settings, False)

    def consume(self) -> Consumer:
        """Count what there is with a real consumer."""
        consumer = self.consumer()
        consumer.run(threading.Event(), until_idle=True)
        return consumer

    def key(self, name: str, partition: int = 0) -> str:
        return f"{{hp:{self.topic}:{partition}}}:{name}"

    def keys(self) -> set[str]:
        """The names of all keys of the topic, without the partition."""
        return {key.decode().split("}:")[1] for key in self.redis.scan_iter(f"{{hp:{self.topic}:*}}:*", count=1000)}

    def biggest(self) -> tuple[str, str, str]:
        """Week, group and track of the biggest counter of partition 0, the earlier one where two are equal."""
        found = sorted((-plays, *name) for name, (plays, _, _) in stored(self.store, 0).items())
        return found[0][1:]

    def bucket(self, week: str, track: str) -> str:
        """The key that holds a track of partition 0."""
        return self.key(f"week:{week}:{self.store.slice_of(track)}")

    def change(self, by: int) -> tuple[str, str, str, int]:
        """Change the plays of the biggest counter; return what it is of, and its plays before."""
        week, group, track = self.biggest()
        counts = list(self.store.bucket(0, week, self.store.slice_of(track))[track])
        place = 3 * self.store.fences([0])[0].groups[week].index(group)
        plays, counts[place] = counts[place], counts[place] + by
        self.redis.hset(self.bucket(week, track), track, packed(*counts))
        return week, group, track, plays


def counted_on(kafka: str, redis: Redis, redis_url: str, prefix: str, folder: Path, **env: str) -> Counted:
    """A topic without a record, and nothing counted."""
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "REDIS_URL": redis_url,
        "TOPIC_PREFIX": prefix,
        "PARTITIONS": str(PARTITIONS),
        "SESSION_TIMEOUT_MS": "6000",
        "DATA_DIR": str(folder),
        "WEEKS_KEPT": "6",
        "SLICES": "2",
        **env,
    }
    counted = Counted({f"HITPARADE_{name}": value for name, value in settings.items()}, redis)
    made = counted.settings
    ensure_topics(made.kafka, topic_specs(made.topics, PARTITIONS, made.weeks_kept))
    return counted


@contextlib.contextmanager
def running(consumer: Consumer) -> Iterator[Consumer]:
    """The consumer at work in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=consumer.run, args=(stop,))
    thread.start()
    try:
        yield consumer
    finally:
        stop.set()
        thread.join()


def letters_of(counted: Counted, topic: str) -> list[Any]:
    """The records of a letter topic."""
    from consumers.kafka import read_to_end

    return read_to_end(counted.settings.kafka, topic, range(PARTITIONS), {})
