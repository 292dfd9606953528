"""Whether an experiment's report can be trusted: hundreds of simulated experiments whose truth is known.

A row's target is about a share of its experiments: that the 95 % interval of the share holds what is stated, or that it
is not worse. Seeds are fixed, so that the same code and libraries find the same. Novelty and contamination have no
target: they bias what is reported, and the rows say how far.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean, median, stdev
from typing import TypeVar

from benchmarks.cases import (
    CONTROL,
    FELT,
    PRIMARY,
    Found,
    Size,
    bots_case,
    felt_case,
    is_ratio_alarm,
    null_case,
    one_week,
    seen_case,
    simulated,
    whole_way,
)
from benchmarks.kept import Row
from models.ratios import RATIO_ALPHA
from producers.damage import Damage
from producers.treatment import Treatment
from producers.truth import against

T = TypeVar("T")
ALPHA = 0.05
TIMES, FEW, FEWEST = 200, 100, 5  # experiments of a share, of a mean, and of events written and read again
RATIO_USERS, SMALL_RATIO_USERS = 90_000, 2_000
DAMAGED, UNDAMAGED = 100, 1000
LEAST_CAUGHT = 0.99
WINSORISE = 0.99
LOST = Damage(lost=0.05)
NOVEL = Treatment(plays=0.2, half_life=1.0)
MIXED_UP = Treatment(plays=0.2, contaminated=0.1)


def run() -> Iterator[Row]:
    """One row a question."""
    begun = time.perf_counter()
    size = Size()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers are as many as the cores
    with ProcessPoolExecutor() as pool:
        yield from null_rows(spread(pool, partial(null_case, size=size), range(TIMES)), size)
        yield from felt_rows(spread(pool, partial(felt_case, size=size), range(1000, 1000 + TIMES)), size)
        yield from bots_rows(pool, size)
        yield from ratio_rows(pool)
        yield from biased_rows(pool, size)
        yield from whole_way_rows(pool, size)
    yield {"name": "experiments:all", "target": None, "holds": None, "seconds": round(time.perf_counter() - begun)}


def spread(pool: ProcessPoolExecutor, case: Callable[[int], T], seeds: Sequence[int]) -> list[T]:
    """One case a seed, shared out among the processes."""
    return list(pool.map(case, seeds, chunksize=5))


def null_rows(found: Sequence[Found], size: Size) -> Iterator[Row]:
    """Without an effect: how often the report alarms, looked at once, and at every week."""
    by_metric = {name: fmean(case.alarms[name] for case in found) for name in found[0].alarms}
    yield _share(
        "null",
        [case.alarm for case in found],
        ALPHA,
        "no effect, one look at the end: an alarm on the primary metric",
        users=size.users,
        weeks=size.weeks,
        by_metric={name: round(share, 3) for name, share in by_metric.items()},
        any_other_corrected=round(fmean(case.any_corrected for case in found), 3),
    )
    yield _share(
        "sequential",
        [case.looks for case in found],
        ALPHA,
        "no effect, a look every week: an alarm at any",
        at_most=True,
        unplanned_looks=round(fmean(case.peeks for case in found), 3),
    )


def felt_rows(found: Sequence[Found], size: Size) -> Iterator[Row]:
    """With a known effect: how often the interval holds it, at the end, and at all looks."""
    by_metric = {name: fmean(case.covered[name] for case in found) for name in found[0].covered}
    effect = {"plays": FELT.plays, "skips": FELT.skips, "likes": FELT.likes}
    yield _share(
        "coverage",
        [case.covered[PRIMARY] for case in found],
        1 - ALPHA,
        "a known effect: it is in the interval of the primary metric",
        effect=effect,
        by_metric={name: round(share, 3) for name, share in by_metric.items()},
        found_it=round(fmean(case.alarm for case in found), 3),
    )
    yield _share(
        "coverage-sequential",
        [case.looks_cover for case in found],
        1 - ALPHA,
        "a known effect, a look every week: it is in the intervals of all",
        at_least=True,
    )


def bots_rows(pool: ProcessPoolExecutor, size: Size) -> Iterator[Row]:
    """Without an effect, with three bots: that the error stays, and what winsorising spares."""
    found = spread(pool, partial(bots_case, size=size, winsorise=WINSORISE), range(2000, 2000 + TIMES))
    capped, whole = zip(*found, strict=True)
    yield _share(
        "bots",
        [case.alarm for case in capped],
        ALPHA,
        f"no effect, three bots, users beyond {WINSORISE:.0%} winsorised: an alarm on the primary metric",
        not_winsorised=round(fmean(case.alarm for case in whole), 3),
        width=round(median(case.width for case in capped), 3),
        width_not_winsorised=round(median(case.width for case in whole), 3),
    )


def ratio_rows(pool: ProcessPoolExecutor) -> Iterator[Row]:
    """A broken ratio is caught, and a whole one is not called broken more often than is stated."""
    many, few = one_week(RATIO_USERS), one_week(SMALL_RATIO_USERS)
    caught = spread(pool, partial(is_ratio_alarm, many, damage=LOST), range(DAMAGED))
    share = fmean(caught)
    yield {
        "name": "experiments:ratio-damaged",
        "target": f"5 % of one group's users lost: caught at p < {RATIO_ALPHA} in at least {LEAST_CAUGHT:.0%}",
        "holds": share >= LEAST_CAUGHT,
        "experiments": DAMAGED,
        "share": share,
        "stated": LEAST_CAUGHT,
        "users": many.num_rows,
        "power": round(ratio_power(many.num_rows, LOST.lost), 4),
    }
    quiet = spread(pool, partial(is_ratio_alarm, few, damage=Damage()), range(UNDAMAGED))
    yield _share("ratio", quiet, RATIO_ALPHA, "nobody lost: called broken all the same", users=few.num_rows)


def ratio_power(users: int, lost: float) -> float:
    """How often a loss of this share of one of two equal groups is caught, by the normal approximation."""
    from scipy.stats import norm

    seen = users * (1 - lost / 2)
    shift = (1 / (2 - lost) - 0.5) * 2 * seen**0.5
    return float(norm.sf(norm.isf(RATIO_ALPHA / 2) - shift))


def biased_rows(pool: ProcessPoolExecutor, size: Size) -> Iterator[Row]:
    """How far novelty and contamination lead the report astray: means of relative effects on the primary metric."""
    for name, treatment in (("novelty", NOVEL), ("contamination", MIXED_UP)):
        seeds = range(3000, 3000 + FEW)
        found = spread(pool, partial(seen_case, size=size, treatment=treatment), seeds)
        truths = spread(pool, partial(true_case, size=size, treatment=treatment), seeds)
        yield {
            "name": f"experiments:{name}",
            "target": None,
            "holds": None,
            "experiments": FEW,
            "effect": treatment.plays,
            "half_life": treatment.half_life,
            "contaminated": treatment.contaminated,
            "reported": round(fmean(whole for whole, _ in found), 4),
            "error": round(stdev(whole for whole, _ in found) / FEW**0.5, 4),
            "reported_by_week": [round(fmean(week), 4) for week in zip(*(weeks for _, weeks in found), strict=True)],
            **{
                key: round(fmean(truth[key] for truth in truths), 4) for key in ("true", "seen", "at_once", "last_week")
            },
        }


def whole_way_rows(pool: ProcessPoolExecutor, size: Size) -> Iterator[Row]:
    """The use that is read from the events is the use that was drawn, and so is the report."""
    found = spread(pool, partial(whole_way, size=size), range(4000, 4000 + FEWEST))
    yield {
        "name": "experiments:events",
        "target": "from events in arrays, some twice and some late: the same use of every user, and the same report",
        "holds": all(is_same for is_same, _ in found),
        "experiments": FEWEST,
        "share": fmean(is_same for is_same, _ in found),
        "stated": 1.0,
        "events": sum(n_events for _, n_events in found),
    }


def true_case(seed: int, size: Size, treatment: Treatment) -> dict[str, float]:
    """The relative effect on the primary metric: of everyone's list over all weeks, as the groups differ, as it was."""
    simulation = simulated(seed, size, treatment)
    weeks = simulation.chart_weeks()[size.before :]
    whole, first, last = (against(simulation, some, CONTROL)[PRIMARY] for some in (weeks, weeks[:1], weeks[-1:]))
    return {
        "true": whole["relative"],
        "seen": whole["seen_relative"],
        "at_once": first["relative"],
        "last_week": last["relative"],
    }


def _share(
    name: str,
    happened: Sequence[bool],
    stated: float,
    what: str,
    at_most: bool = False,
    at_least: bool = False,
    **figures: object,
) -> Row:
    low, high = share_interval(sum(happened), len(happened))
    side = "at most " if at_most else "at least " if at_least else ""
    return {
        "name": f"experiments:{name}",
        "target": f"{what}, in {side}{stated:.1%} of them",
        "holds": (low <= stated or at_least) and (stated <= high or at_most),
        "experiments": len(happened),
        "share": fmean(happened),
        "interval": [round(low, 4), round(high, 4)],
        "stated": stated,
        **figures,
    }


def share_interval(n: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Clopper & Pearson 1934."""
    from scipy.stats import binomtest

    found = binomtest(n, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)
