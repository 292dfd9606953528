"""One seed's world: consumers of the product over a cluster and a store in memory.

A consumer stands still wherever it calls outside, while others take whole turns, the group is shared out anew, or Redis
goes back: so it becomes a zombie in the middle of a batch without a thread. Everything is drawn from the seed.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import pytest
from kafka import TopicPartition

import consumers.health
import consumers.kafka
import consumers.loop
import consumers.rests
import consumers.writer
from consumers.loop import Consumer
from consumers.sessions import session_consumer
from consumers.source import Source
from consumers.troubles import PASSING
from features.fence import Fence
from tests.builders import Record
from tests.simulation.edges import LettersEdge, StoreEdge
from tests.simulation.judge import Wrong
from tests.simulation.kafka import Admin, Client, Cluster, PartitionLog, Topic
from tests.simulation.logs import MOST_PARTITIONS, TOPIC, Letter, known_logs, rules_of
from tests.simulation.memory import MemoryStore

MOST_SIZE = 3  # of all parts that a consumer holds, in half of the worlds
T = TypeVar("T")
SEEDS_PER_LOG = 40
MOST_DEPTH = 3
MOST_EDGES = 20_000


class PowerCut(BaseException):
    """The process is gone: nothing catches this."""


class Turns(threading.Event):
    """A stop that is set after so many turns."""

    def __init__(self, world: "World", n_turns: int) -> None:
        super().__init__()
        self.world = world
        self.left = n_turns

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0

    def wait(self, timeout: float | None = None) -> bool:
        self.world.tick(0.3)
        return False


class OnItsWay(Future[None]):
    """Something that is done at once, or not before somebody waits for it; of a power cut both may be true."""

    def __init__(self, world: "World", line: "list[OnItsWay]", action: Callable[[], None]) -> None:
        super().__init__()
        self._line, self._action = line, action
        line.append(self)
        if world.haste.random() < 0.5:
            self._do()

    def _do(self) -> None:
        """Whatever was sent before it comes first."""
        while self in self._line:
            self._line.pop(0)._act()

    def _act(self) -> None:
        try:
            self.set_result(self._action())
        except Exception as cause:
            self.set_exception(cause)
        except PowerCut as cause:  # for whoever of the dead still asks
            self.set_exception(cause)
            raise

    def result(self, timeout: float | None = None) -> None:
        self._do()
        return super().result(0)


@dataclass(eq=False)
class Member:
    """A replica: a consumer, or none for as long as it is down."""

    name: str
    consumer: Consumer | None = None

    @property
    def client(self) -> Client | None:
        client: Any = self.consumer.source.client if self.consumer else None
        return client.consumer if client else None


def shown(value: object) -> str:
    """What a person wants to know of it."""
    match value:
        case Fence():
            return f"a fence at {value.next_offset} of {value.identity}"
        case TopicPartition():
            return str(value.partition)
        case Record():
            return f"record {value.offset}"
        case dict():
            return "{" + ", ".join(f"{shown(key)}: {shown(found)}" for key, found in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(shown, value)) + "]"
        case _:
            return str(value)


class World:
    """Everything that there is for one seed; happen is what happens when a consumer stands still."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(f"seed {seed}")
        self.haste = random.Random(f"haste {seed}")
        self._tell = tell
        self.now = 0.0
        self.is_calm = False
        self.n_edges = 0
        self.topics: dict[str, Topic] = {}
        self.cluster = Cluster(self.new_topic(), self.random.random() < 0.5)
        self.store = MemoryStore(TOPIC)
        self.letters: dict[int, set[Letter]] = {}
        self.forked: set[int] = set()
        """Partitions that were counted with something missing: their letters are not those of the whole log."""
        self.accepts_loss = self.random.random() < 0.5
        self.members = [Member(f"member {n}") for n in range(self.random.randint(1, 3))]
        self.running: list[Member] = []
        self.crash_rate = self.random.choice((0.0, 0.005, 0.02))
        self.failure_rate = self.random.choice((0.0, 0.01, 0.04))
        self.event_rate = self.random.choice((0.0, 0.03, 0.1))
        self.happen: Callable[[], None] = lambda: None

    def new_topic(self) -> Topic:
        number = self.seed // SEEDS_PER_LOG
        logs = [PartitionLog(log) for log in known_logs(number, len(self.topics))]
        topic = Topic(f"topic {len(self.topics)}", logs, self.random.randint(1, MOST_PARTITIONS - 1))
        for log in logs:
            log.grow(self.random.randint(0, 2))
        self.topics[topic.topic_id] = topic
        return topic

    @contextmanager
    def in_place_of_kafka(self) -> Iterator[None]:
        """Let the product find this world where it looks for clients, and for the time."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(consumers.kafka, "KafkaConsumer", partial(Client, self))
            patch.setattr(consumers.kafka, "KafkaAdminClient", partial(Admin, self))
            patch.setattr(consumers.kafka, "time", self)
            patch.setattr(consumers.loop, "time", self)
            patch.setattr(consumers.loop, "random", self.random)
            if self.seed % 2 == 0:  # the others hold what they like
                patch.setattr(consumers.writer, "MOST_SIZE", MOST_SIZE)
            patch.setattr(consumers.rests, "random", self.random)
            for module in (consumers.loop, consumers.writer, consumers.health):
                patch.setattr(module.log, "disabled", self._tell is None)
            yield

    def monotonic(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def tell(self, *words: object) -> None:
        if self._tell:
            who = self.running[-1].name if self.running else "the world"
            self._tell(f"{self.now:8.2f} {'    ' * len(self.running)}{who}: {' '.join(map(shown, words))}")

    def edge(self, name: str, call: Callable[[], T], failure: type[Exception] | None) -> T:
        """Do it; before and after, anything may happen."""
        self.n_edges += 1
        if self.n_edges > MOST_EDGES:
            raise Wrong("it does not come to an end")
        if self.is_calm:
            answer = call()
            self.tell(name, "->", answer)
            return answer
        self._disturb(f"before {name}", failure)
        answer = call()
        self.tell(name, "->", answer)
        self._disturb(f"after {name}", failure)
        return answer

    def _disturb(self, where: str, failure: type[Exception] | None) -> None:
        chance = self.random.random()
        if chance < self.crash_rate:
            self.tell("is killed", where)
            raise PowerCut
        chance -= self.crash_rate
        if failure and chance < self.failure_rate:
            self.tell(failure.__name__, where)
            raise failure(where)
        chance -= self.failure_rate
        if chance < self.event_rate and len(self.running) < MOST_DEPTH:
            self.tell("stands still", where)
            for _ in range(self.random.randint(1, 6)):
                self.happen()
            self.tell("goes on", where)

    @property
    def idle(self) -> list[Member]:
        """Those who do not stand still in the middle of a turn."""
        return [member for member in self.members if member not in self.running]

    def turn(self, member: Member, most_turns: int = 1, until_idle: bool = False) -> bool:
        """Let a member turn its loop, from its start if it is down; whether it ended before it was told to."""
        turns = Turns(self, most_turns)
        with self._as(member):
            if member.consumer is None:
                member.consumer = self._start()
            member.consumer.run(turns, until_idle)
        return turns.left >= 0

    def stop(self, member: Member) -> None:
        """Let a member leave as it does when it is told to."""
        with self._as(member):
            consumer, member.consumer = member.consumer, None
            if consumer:
                self.tell("stops")
                Source.close(consumer.source)

    @contextmanager
    def _as(self, member: Member) -> Iterator[None]:
        self.running.append(member)
        try:
            yield
        except PowerCut:
            self.lose(member)
        except PASSING as cause:
            if member.consumer is not None:
                raise Wrong(f"{member.name}: {cause!r} ends the loop") from cause
        except Exception as cause:
            raise Wrong(f"{member.name}: {cause!r}") from cause
        finally:
            self.running.pop()

    def _start(self) -> Consumer:
        self.tell("starts")
        source: Any = Source({"bootstrap_servers": "nowhere"}, TOPIC, "group", 10_000)
        source.close = lambda: None  # a turn is a run that is cut short
        store: Any = StoreEdge(self)
        letters: Any = LettersEdge(self)
        most_tracks = self.random.choice((1, 2, 5000))
        rules = rules_of(self.seed // SEEDS_PER_LOG)
        consumer = session_consumer(source, store, letters, rules, self.accepts_loss, most_tracks)
        consumer = replace(consumer, clock=self.monotonic)
        consumer.writer.submit = partial(OnItsWay, self, [])
        return consumer

    def lose(self, member: Member) -> None:
        """Let a member be gone; the group may notice at once, or much later."""
        member.consumer = None
        if self.random.random() < 0.7:
            self.bury()
            self.cluster.share_out()

    def bury(self) -> None:
        """Let the group know who is gone."""
        alive = [member.client for member in self.members]
        self.cluster.shares = {client: share for client, share in self.cluster.shares.items() if client in alive}
