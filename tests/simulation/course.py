"""The course of one seed: things happen, then no more, and then everything must come right."""

from collections.abc import Callable

from tests.simulation.events import Events
from tests.simulation.judge import Wrong, check_the_end, held, must_stop
from tests.simulation.world import World

MOST_ROUNDS = 100


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> World:
    """Live through a seed; the world as it is in the end.

    Raises:
        AssertionError: a promise does not hold; says which, and how to see what led to it.
    """
    world = World(seed, tell)
    events = Events(world)
    world.happen = events.happen
    with world.in_place_of_kafka():
        try:
            while events.left:
                world.happen()
            for event in world.random.sample(events.events, 3):  # rare ones too, with nothing to come after them
                event()
            settle(world, events)
        except Wrong as cause:
            problem = f"seed {seed}: {cause}\nto see what led to it: python -m tests.simulation {seed}"
            raise AssertionError(problem) from cause
    return world


def settle(world: World, events: Events) -> None:
    """Let everybody go on without faults until everything has been read, and a while longer."""
    world.tell("---- nothing happens any more ----")
    world.is_calm = True
    events.create_topic()
    for log in world.cluster.topic.logs:
        log.grow(len(log.log.records))
    world.bury()
    if _needs_a_rebalance(world) or world.random.random() < 0.2:
        world.cluster.share_out()
    n_more = 2
    for _ in range(MOST_ROUNDS):
        for member in world.members:
            world.turn(member)
        world.tick(world.random.choice((0.3, 1.2, 5.5)))
        n_more -= _has_come_right(world)
        if not n_more:
            break
    check_the_end(world)
    _leave(world)
    check_the_end(world)


def _needs_a_rebalance(world: World) -> bool:
    """A partition is nobody's, or two members', or stopped: what stops a partition may have been put right."""
    shares = [partition for share in world.cluster.shares.values() for partition in share]
    is_stopped = any(member.consumer and member.consumer.stopped for member in world.members)
    return is_stopped or sorted(shares) != sorted(world.cluster.topic.partitions)


def _has_come_right(world: World) -> bool:
    """Everything has been read, and what must stop has."""
    is_settled = all(client.generation == world.cluster.generation for client in world.cluster.shares)
    stopped = must_stop(world)
    fences = world.store.fences(list(world.cluster.topic.partitions))
    ends = {p: log.end for p, log in world.cluster.topic.partitions.items() if p not in stopped}
    found = {p for member in world.members if member.consumer for p in held(member) & member.consumer.stopped.keys()}
    are_read = all(p in fences and fences[p].next_offset == end for p, end in ends.items())
    return is_settled and are_read and found == stopped


def _leave(world: World) -> None:
    """Everybody ends by itself, as with --until-idle."""
    left = list(world.members)
    for _ in range(MOST_ROUNDS):
        for member in list(left):
            if world.turn(member, 3, until_idle=True):
                world.stop(member)
                left.remove(member)
        if not left:
            return
    raise Wrong(f"{[member.name for member in left]} do not end, though everything has been read that can be")
