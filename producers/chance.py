"""Chance that is the same on every run: all of it comes from random(), the one method whose stream Python promises.

Source: docs.python.org/3/library/random.html, "Notes on Reproducibility".
"""

import math
from bisect import bisect
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def stream(seed: int, *names: object) -> Random:
    """A stream of its own for each name, whatever PYTHONHASHSEED: text seeds go through SHA-512."""
    return Random("/".join(map(str, (seed, *names))))


def between(rng: Random, low: float, high: float) -> float:
    """Evenly from [low, high)."""
    return low + (high - low) * rng.random()


def normal(rng: Random, mean: float = 0.0, deviation: float = 1.0) -> float:
    """One draw of a normal distribution, by Box and Muller."""
    radius = math.sqrt(-2.0 * math.log(1.0 - rng.random()))
    return mean + deviation * radius * math.cos(math.tau * rng.random())


def share(rng: Random, mean: float, deviation: float) -> float:
    """A normal draw held within 0 to 1."""
    return min(1.0, max(0.0, normal(rng, mean, deviation)))


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of the items, each as likely."""
    return items[int(rng.random() * len(items))]


def weighted(rng: Random, cumulative: Sequence[float]) -> int:
    """A place, as likely as its step in the cumulative weights."""
    return min(bisect(cumulative, rng.random() * cumulative[-1]), len(cumulative) - 1)


def poisson(rng: Random, mean: float) -> int:
    """A Poisson count, by Knuth; for means up to some hundreds."""
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def permutation(rng: Random, n: int) -> list[int]:
    """The numbers from 0 to n - 1 in a random order."""
    return sorted(range(n), key=[rng.random() for _ in range(n)].__getitem__)
