"""What dies is a process of ours."""

import random

from tests.faults.world import World


def test_nothing_happens(world: World) -> None:
    world.fill()
    assert world.consumer("--until-idle").wait() == 0
    world.check()


def test_four_consumers_are_killed_again_and_again(world: World, seed: int) -> None:
    draw = random.Random(seed)
    consumers = [world.consumer() for _ in range(4)]
    with world.filling(over_s=10):
        for _ in range(5):
            world.await_decided(world.n_decided() + draw.randrange(1, 1000), 30)
            n = draw.randrange(4)
            consumers[n].kill()
            consumers[n] = world.consumer()
    world.await_drained()
    world.check()
