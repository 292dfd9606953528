"""What may happen, other than what consumers do by themselves."""

from collections.abc import Callable
from dataclasses import replace

import consumers.kafka
from tests.simulation.memory import Counted
from tests.simulation.world import Member, World

MOST_MEMBERS = 3
MOST_TOPICS = 3
Event = Callable[[], None]


class Events:
    """Everything that can happen in a world, some of it only in some worlds."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.left = self.random.randint(20, 60)
        self.saved: list[dict[int, Counted]] = []
        common: dict[Event, float] = {
            self.turn: 12,
            self.append: 6,
            self.rebalance: 0.8,
            self.take_over: 0.8,
            self.pass_time: 0.3,
            self.create_topic: 0.3,
        }
        rare: dict[Event, float] = {
            self.stop: 0.4,
            self.kill: 0.4,
            self.join: 0.4,
            self.save: 0.8,
            self.roll_back: 0.5,
            self.empty: 0.3,
            self.rebuild: 0.15,
            self.retain: 0.6,
            self.add_partition: 0.2,
            self.delete_topic: 0.05,
            self.deafen: 0.2,
        }
        odds = common | {event: n for event, n in rare.items() if self.random.random() < 0.5}
        self.events, self.odds = list(odds), list(odds.values())

    def happen(self) -> None:
        """One thing, whichever; nothing once enough has happened."""
        if self.left > 0:
            self.left -= 1
            self.random.choices(self.events, self.odds)[0]()

    def turn(self) -> None:
        idle = self.world.idle
        if self.random.random() < 0.8:
            idle = [member for member in idle if self.has_work(member)]
        if idle:
            self.world.turn(self.random.choice(idle), self.random.choice((1, 2, 3)))

    def has_work(self, member: Member) -> bool:
        """Whether a turn of the member can change anything; others get fewer, to save time."""
        client, cluster = member.client, self.world.cluster
        if client is None or client.generation != cluster.generation:
            return True
        logs = cluster.topic.logs
        return any(state.is_paused or state.position != logs[at.partition].end for at, state in client.states.items())

    def append(self) -> None:
        for log in self.world.cluster.topic.logs:
            log.grow(self.random.randint(0, 1))
        self.world.tell("the logs end at", [log.end for log in self.world.cluster.topic.partitions.values()])

    def pass_time(self) -> None:
        self.world.tick(self.random.choice((1.1, 5.1, 31.0)))

    def rebalance(self) -> None:
        """A share-out of any shape: of a partition to nobody, to one, or to two at once."""
        if self.random.random() < 0.5:
            self.world.bury()
        cluster = self.world.cluster
        clients = list(cluster.shares)
        n_owners = {p: min(len(clients), self.random.choice((0, 1, 1, 1, 2))) for p in cluster.topic.partitions}
        cluster.assign({p: self.random.sample(clients, n) for p, n in n_owners.items()})
        self.world.tell("the group is shared out:", list(cluster.shares.values()))

    def take_over(self) -> None:
        """One who turns gets everything, and goes on with it for a while."""
        if idle := self.world.idle:
            member = self.random.choice(idle)
            self.world.turn(member)
            if member.client:
                self.world.tell(member.name, "takes over")
                self.world.cluster.assign({p: [member.client] for p in self.world.cluster.topic.partitions})
                self.world.turn(member, self.random.randint(2, 5))

    def stop(self) -> None:
        if idle := self.world.idle:
            self.world.stop(self.random.choice(idle))

    def kill(self) -> None:
        if idle := self.world.idle:
            member = self.random.choice(idle)
            self.world.tell(member.name, "is killed")
            self.world.lose(member)

    def join(self) -> None:
        if len(self.world.members) < MOST_MEMBERS:
            self.world.members.append(Member(f"member {len(self.world.members)}"))

    def save(self) -> None:
        self.saved.append(dict(self.world.store.partitions))

    def roll_back(self) -> None:
        """All of Redis stands where it stood when it was saved."""
        if self.saved:
            self.world.store.partitions = dict(self.random.choice(self.saved))
            fences = {p: counted.fence.next_offset for p, counted in self.world.store.partitions.items()}
            self.world.tell("Redis goes back to", fences)

    def empty(self) -> None:
        self.world.tell("Redis is emptied")
        self.world.store.partitions = {}

    def rebuild(self) -> None:
        """The counters are counted again, up to where they stand."""
        self.world.tell("the counters are rebuilt")
        self.world.store.partitions = {
            p: replace(counted, fence=replace(counted.fence, rebuilt=counted.fence.rebuilt + 1))
            for p, counted in self.world.store.partitions.items()
        }

    def retain(self) -> None:
        """Some logs lose their beginning, counted or not."""
        for log in self.world.cluster.topic.logs:
            if self.random.random() < 0.3:
                log.start = self.random.randint(log.start, log.end)
        self.world.tell("the logs begin at", [log.start for log in self.world.cluster.topic.partitions.values()])

    def add_partition(self) -> None:
        topic = self.world.cluster.topic
        topic.n_partitions = min(topic.n_partitions + 1, len(topic.logs))
        self.world.tell("there are", topic.n_partitions, "partitions")

    def delete_topic(self) -> None:
        if len(self.world.topics) < MOST_TOPICS and not self.world.cluster.topic.is_deleted:
            self.world.tell("the topic is deleted")
            self.world.cluster.topic.is_deleted = True
            self.world.cluster.committed.clear()

    def create_topic(self) -> None:
        """A topic that was deleted is there again, later than its id is taken on trust."""
        if self.world.cluster.topic.is_deleted:
            self.world.tick(consumers.kafka.TOPIC_CHECK_S + 0.1)
            self.world.cluster.topic = self.world.new_topic()
            self.world.tell("the topic is created anew")

    def deafen(self) -> None:
        """A client does not get any more what there is of a partition."""
        if states := [state for client in self.world.cluster.shares for state in client.states.values()]:
            self.world.tell("a client is deaf")
            self.random.choice(states).is_deaf = True
