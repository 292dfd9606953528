"""The counting loop in a world that is drawn from a seed: whatever happens, every event counts once."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from features.fence import Fence
from features.parts import Bucket, Part
from features.store import CounterStore, Fenced, TopicChanged
from tests.builders import MONDAY
from tests.simulation.course import simulate
from tests.simulation.memory import MemoryStore
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.world import SEEDS_PER_LOG
from tests.stored import numbers, stored
from tests.test_caps import plays_of
from tests.test_store import SETTINGS

N_SEEDS = 2000
CHUNK = 250


def hunt(seeds: Iterable[int]) -> None:
    for seed in seeds:
        simulate(seed)


@pytest.mark.parametrize("first", range(0, N_SEEDS, CHUNK))
def test_whatever_happens_every_event_counts_once(first: int) -> None:
    hunt(range(first, first + CHUNK))


ANOTHER_HISTORY = 201_373
"""Redis is emptied and counted anew to the very offset at which a zombie holds what follows the old history."""


def test_a_part_of_another_history_is_refused_at_the_same_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(ANOTHER_HISTORY)
    monkeypatch.setattr(MemoryStore, "is_of", lambda *_: True)
    with pytest.raises(AssertionError, match=str(ANOTHER_HISTORY)):
        simulate(ANOTHER_HISTORY)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_product_goes_wrong_with_one_of_the_seeds(mutant: str) -> None:
    with mutated(mutant), pytest.raises(AssertionError, match=r"python -m tests\.simulation [0-9]+"):
        hunt(range(N_SEEDS))


def test_a_seed_gives_the_same_steps_in_every_process() -> None:
    told: list[str] = []
    simulate(SEEDS_PER_LOG, told.append)
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-m", "tests.simulation", str(SEEDS_PER_LOG)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        *steps, end = run.stdout.splitlines()
        assert steps == told
        assert end.startswith("0 of 1 seeds went wrong")


def test_a_seed_that_goes_wrong_says_so_to_the_shell() -> None:
    command = [sys.executable, "-m", "tests.simulation", "0", "--mutant", "letters are sent after the counters"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "counted, but these letters were not written" in run.stdout


# The store in memory and the one in Redis

WEEKS = ("2023-W24", "2023-W25", "2023-W26", "2023-W27")
GROUPS = {WEEKS[0]: ("even", "odd"), WEEKS[1]: ("odd",), WEEKS[2]: ("even", "odd"), WEEKS[3]: ("a", "b", "c")}
FAMILY = "24h"


def outcome(store: Any, method: str, *arguments: Any) -> Any:
    """What a call answers, or how it refuses."""
    try:
        return getattr(store, method)(*arguments)
    except (Fenced, TopicChanged) as cause:
        return type(cause)


def random_call(chance: random.Random, fence: Fence | None, partition: int, newest: int) -> tuple[Any, ...]:
    """A method with its arguments; most of them fit the fence."""
    at = fence.next_offset if fence else 0
    start = chance.choice((at, at, at, at, at + 1, max(0, at - 1)))
    identity = chance.choice((fence.identity if fence else "id-1",) * 4 + ("id-1", "id-2", "id-1#1"))
    match chance.choice(("init", "known", "played", *["apply"] * 6)):
        case "init":
            return "init", partition, at, identity.partition("#")[0], SETTINGS
        case "known":
            return "known_ids", partition, start, {name: set(some_ids(chance)) for name in (FAMILY, "replayed")}
        case "played":
            return "played", partition, start, {week: set(some_ids(chance)) for week in WEEKS[:2]}
        case _:
            part = random_part(chance, start, newest)
            part.since = chance.choice((fence.stream_time if fence else None,) * 9 + (MONDAY,))
            return "apply", partition, identity, part


def random_part(chance: random.Random, start: int, newest: int) -> Part:
    """A part as tally makes them: with nothing in it that the same part takes out of the window of two weeks."""
    end = start + chance.randint(0, 3)
    part = Part(start, end, chance.choice((None, MONDAY + newest * timedelta(weeks=1))))
    oldest = max(0, newest - 1)
    part.horizon = chance.choice(("", WEEKS[oldest]))
    generations = (f"{FAMILY}:{newest}", f"{FAMILY}:{newest - 1}")
    for week in chance.sample(WEEKS[oldest : newest + 1], chance.randint(0, newest + 1 - oldest)):
        groups = GROUPS[week]
        counts = {track: [chance.randint(0, 2) for _ in range(3 * len(groups))] for track in chance.sample("abc", 2)}
        heard = {track: {*chance.choices("uvw", k=chance.randint(1, 3))} for track in counts if chance.random() < 0.5}
        part.buckets.append(Bucket(week, groups, chance.choice(("f1", "f2")), numbers(counts), end, heard))
        part.plays = {**part.plays, week: {pair: chance.randint(1, 9) for pair in some_ids(chance)}}
        part.ids[f"replayed:{week}"] = some_ids(chance)
    part.ids |= {name: some_ids(chance) for name in chance.sample(generations, chance.randint(0, 2))}
    part.ids = {name: ids for name, ids in part.ids.items() if ids}
    part.kept = generations if part.horizon or chance.random() < 0.3 else ()
    part.tallies = Counter(chance.choices(("counted", "late", "dead", "dead:json", "duplicate", "lost"), k=3))
    return part


def some_ids(chance: random.Random) -> list[bytes]:
    return [bytes([n]) * 16 for n in chance.sample(range(6), chance.randint(0, 3))]


def contents(store: CounterStore, partition: int) -> Any:
    """Everything that Redis has of a partition."""
    fence = store.fence(partition)
    if fence is None:
        return None
    counts = {name: tuple(found) for name, found in stored(store, partition).items()}
    begins = store.key(partition, "ids:")
    names = [key if isinstance(key, str) else key.decode() for key in store.client.scan_iter(f"{begins}*")]
    ids = {name.removeprefix(begins): store.client.smembers(name) for name in names}
    heard = {(week, track): n for track in "abc" for week, n in store.listeners_of(partition, WEEKS, track).items()}
    return fence, counts, ids, plays_of(store, partition), heard


def contents_in_memory(store: MemoryStore, partition: int) -> Any:
    counted = store.partitions.get(partition)
    if counted is None:
        return None
    plays = {(week, pair): n for week, pairs in counted.plays.items() for pair, n in pairs.items()}
    return (
        counted.fence,
        counted.counts,
        counted.ids,
        plays,
        {name: len(some) for name, some in counted.listeners.items()},
    )


def rebuild(store: CounterStore, memory: MemoryStore, partition: int) -> None:
    """Have both say that the counters were counted again, where there are any."""
    if counted := memory.partitions.get(partition):
        fence = replace(counted.fence, rebuilt=counted.fence.rebuilt + 1)
        memory.partitions[partition] = replace(counted, fence=fence)
        store.client.hset(store.key(partition, "fence"), "topic_id", fence.identity)


def test_the_store_in_memory_answers_and_holds_what_redis_does(redis: Redis, prefix: str) -> None:
    met: Counter[Any] = Counter()
    for seed in range(12):
        chance = random.Random(seed)
        store, memory = CounterStore(redis, f"{prefix}.{seed}", 2), MemoryStore(prefix, 2)
        for n in range(40):
            partition = chance.randint(0, 1)
            fence = memory.fence(partition)
            call = random_call(chance, fence, partition, min(n // 10, len(WEEKS) - 1))
            answer = outcome(store, *call)
            assert outcome(memory, *call) == answer, (seed, n, call)
            assert contents_in_memory(memory, partition) == contents(store, partition), (seed, n, call)
            met[call[0], answer if isinstance(answer, type) else "done"] += 1
            if chance.random() < 0.05:
                rebuild(store, memory, partition)
    refused = {("apply", Fenced), ("apply", TopicChanged), ("known_ids", Fenced), ("played", Fenced)}
    assert met.keys() == refused | {(method, "done") for method in ("init", "apply", "known_ids", "played")}
    assert min(met.values()) > 5
