"""Tell what happens with a seed, step by step, or look for a seed that goes wrong.

python -m tests.simulation 1234
python -m tests.simulation --seeds 100000 --first 5000
"""

import argparse
import sys
import time
from contextlib import nullcontext

from tests.simulation.course import simulate
from tests.simulation.mutants import MUTANTS, mutated


def main() -> int:
    """Run the seeds; 1 when one goes wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="the seed to tell of, step by step")
    parser.add_argument("--seeds", type=int, help="go through so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--mutant", choices=MUTANTS, help="break the product so")
    given = parser.parse_args()
    if given.seed is None and given.seeds is None:
        parser.error("name a seed, or how many")
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    began, n_wrong = time.monotonic(), 0
    with mutated(given.mutant) if given.mutant else nullcontext():
        for n, seed in enumerate(seeds):
            if n % 10_000 == 0 and n > 0:
                print(f"{n:,} seeds, {n_wrong} went wrong", file=sys.stderr, flush=True)
            try:
                simulate(seed, print if given.seed is not None else None)
            except AssertionError as cause:
                n_wrong += 1
                print(cause, flush=True)
    print(f"{n_wrong} of {len(seeds):,} seeds went wrong, in {time.monotonic() - began:.1f} s")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
