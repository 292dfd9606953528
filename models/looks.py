"""How much of the error may be spent at each look at an experiment that is looked at every week.

Who looks k times at a test of 5 % and stops when it is significant is wrong far more often than in 5 %: 14 % at five
looks. Group-sequential bounds spend the 5 % over the looks that were planned: little at first, most at the last.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import norm

GRID_STEP = 0.1
"""Of the integration, in standard errors of the first look: the bounds of published tables to four decimals."""
FARTHEST = 8.0
"""Standard errors beyond which nothing is looked for: of 10^15 experiments one gets there."""
STRICTEST, LAXEST = 5.5, 0.02
"""Bounds of a single look between which p values are turned; none comes out below that of the strictest, 4e-8."""


def spent(alpha: float, share: float) -> float:
    """What of a two-sided alpha may have been spent at this share of the looks: almost nothing early, all at 1.

    Source: Lan & DeMets 1983, the function that is like O'Brien & Fleming's bounds, a half of alpha on each side.
    """
    return float(4 * norm.sf(norm.isf(alpha / 4) / np.sqrt(share)))


@cache
def bounds(alpha: float, looks: int) -> tuple[float, ...]:
    """The bound of |z| at each of the looks: under no effect, any of them is crossed with probability alpha.

    The looks are taken to be equally far apart in information: z of look j and of look k correlate as sqrt(j/k). Weeks
    of the same listeners correlate more than that, which makes the bounds conservative.

    Source: Armitage, McPherson & Rowe 1969, the recursion over the looks; Jennison & Turnbull 1999, chapter 19.

    >>> [round(z, 2) for z in bounds(0.05, 5)]
    [4.88, 3.36, 2.68, 2.29, 2.03]
    """
    found: list[float] = []
    grid, density = np.zeros(1), np.ones(1)
    for look in range(1, looks + 1):
        share = spent(alpha, look / looks) - (spent(alpha, (look - 1) / looks) if look > 1 else 0.0)
        edge = _edge(grid, density, share)
        found.append(edge / np.sqrt(look))
        within = _grid(min(edge, FARTHEST * np.sqrt(look)))
        density = np.exp(-((within[:, None] - grid) ** 2) / 2) @ density / np.sqrt(2 * np.pi) * _weights(within)
        grid = within
    return tuple(float(z) for z in found)


def _edge(grid: NDArray[np.float64], density: NDArray[np.float64], share: float) -> float:
    """Where the sum of z's steps leaves that probability outside, of what has not been stopped before."""
    low, high = 0.0, float(grid[-1]) + 12.0
    for _ in range(60):
        middle = (low + high) / 2
        outside = np.sum(density * (ndtr(grid - middle) + ndtr(-middle - grid)))
        low, high = (middle, high) if outside > share else (low, middle)
    return high


def _grid(edge: float) -> NDArray[np.float64]:
    return np.linspace(-edge, edge, 2 * max(int(np.ceil(edge / GRID_STEP)), 8) + 1)


def _weights(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of Simpson's rule; of two points and more, an odd number."""
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    weights *= (grid[1] - grid[0]) / 3
    return weights


def level_at(look: int, looks: int | None, alpha: float) -> float:
    """The p value that counts as significant at this look; alpha itself where there is one look only, or no plan."""
    if looks is None or looks == 1:
        return alpha
    return float(2 * norm.sf(bounds(alpha, looks)[look - 1]))


def over_all_looks(p_value: float, look: int, looks: int | None) -> float:
    """The p value with all looks reckoned in: the least alpha of which this look's bound would have been crossed.

    Source: the repeated p value of Jennison & Turnbull 1999, chapter 9.
    """
    if looks is None or looks == 1:
        return p_value
    single, at_look = _lines(look, looks)
    z = float(norm.isf(p_value / 2))
    return float(max(p_value, 2 * norm.sf(np.interp(z, at_look, single))))


@cache
def _lines(look: int, looks: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of a single look, and what they are at this one of so many: nearly a line."""
    single = np.linspace(LAXEST, STRICTEST, 16)
    return single, np.array([bounds(float(2 * norm.sf(z)), looks)[look - 1] for z in single])
