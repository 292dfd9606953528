"""What must hold after every step, and in the end."""

from typing import TYPE_CHECKING

from features.fence import Fence
from features.parts import SetAside
from tests.simulation.logs import Letter, truth

if TYPE_CHECKING:
    from tests.simulation.world import Member, World


class Wrong(BaseException):
    """A promise does not hold; nothing of the product catches this."""


def identity(event: SetAside) -> Letter:
    """What tells a letter from others; of a replay, where it was first read."""
    place = (event.origin.offset, event.origin.index) if event.origin else (event.offset, event.index)
    return (event.topic, event.cause, *place, event.value)


def must_equal(found: object, expected: object, what: str) -> None:
    """Raise what differs."""
    if found != expected:
        raise Wrong(f"{what}: expected {expected}, found {found}")


def check(world: "World", partition: int, before: Fence | None) -> None:
    """The counters of a partition are the recount of its log up to the fence, and its letters were written."""
    counted = world.store.partitions[partition]
    fence, log = counted.fence, world.topics[counted.fence.topic_id].logs[partition]
    where = f"partition {partition} at offset {fence.next_offset}: "
    if counted.lost:
        world.forked.add(partition)
    expected = truth(log.log, fence.next_offset, counted.began, counted.lost)
    must_equal(counted.counts, expected.counts, f"{where}counts")
    must_equal(fence.tallies, expected.outcomes, f"{where}tallies")
    must_equal(counted.listeners, expected.listeners, f"{where}listeners")
    must_equal(fence.touched, expected.touched, f"{where}touched")
    must_equal(fence.stream_time, expected.stream_time, f"{where}stream time")
    must_equal(fence.experiments.keys(), fence.touched.keys(), f"{where}experiments")
    must_equal(fence.groups.keys(), fence.touched.keys(), f"{where}groups")
    if before and before.stream_time and (fence.stream_time or before.stream_time) < before.stream_time:
        raise Wrong(f"{where}stream time went back from {before.stream_time} to {fence.stream_time}")
    if any(end > log.start or not world.accepts_loss for _, end in counted.lost):
        raise Wrong(f"{where}{counted.lost} are lost; the log begins at {log.start}, {world.accepts_loss=}")
    if missing := expected.letters - world.letters.get(partition, set()):
        raise Wrong(f"{where}counted, but these letters were not written: {missing}")


def check_the_beginning(world: "World", partition: int, next_offset: int) -> None:
    """Nobody makes a first fence behind records of which he was told that the group has counted them."""
    if next_offset > 0:
        world.forked.add(partition)
    client = world.running[-1].client
    committed = client.told_committed.get(partition) if client else None
    if next_offset > 0 and committed is not None and not world.accepts_loss:
        raise Wrong(f"partition {partition} begins at {next_offset}, though it was counted up to {committed}")


def must_stop(world: "World") -> set[int]:
    """The partitions of which to count on would lose or double something that nobody has agreed to."""
    return {partition for partition in world.cluster.topic.partitions if _must_stop(world, partition)}


def _must_stop(world: "World", partition: int) -> bool:
    counted = world.store.partitions.get(partition)
    topic = world.cluster.topic
    log = topic.logs[partition]
    if counted is None:
        return log.start > 0 and partition in world.cluster.committed and not world.accepts_loss
    if counted.fence.topic_id != topic.topic_id:
        return True
    return counted.fence.next_offset < log.start and not world.accepts_loss


def held(member: "Member") -> set[int]:
    """The partitions that a member has been given, read or not."""
    return {at.partition for at in member.client.states} if member.client else set()


def check_the_end(world: "World") -> None:
    """Everything was read but the partitions that have to stop; no letter was written that is none."""
    stopped = must_stop(world)
    for partition, log in world.cluster.topic.partitions.items():
        counted = world.store.partitions.get(partition)
        if partition not in stopped:
            must_equal(counted and counted.fence.next_offset, log.end, f"partition {partition}: the fence")
        if counted:
            check(world, partition, None)
        has_forked = len(world.topics) > 1 or partition in world.forked
        known = truth(log.log, log.end).letters
        if not has_forked and (more := world.letters.get(partition, set()) - known):
            raise Wrong(f"partition {partition}: these letters are of no event that was set aside: {more}")
    for member in world.members:
        found = held(member) & member.consumer.stopped.keys() if member.consumer else set()
        must_equal(found, held(member) & stopped, f"{member.name}: the partitions stopped")
