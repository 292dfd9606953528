"""The kinds of catalogue there are: how popularity is spread, how fast it moves, and what fans give their artists."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Climate:
    """What makes one simulated market unlike another.

    A track's lasting rate is its rank to the power of -`steepness`, times its artist's appeal. A release begins above
    its lasting rate and comes down to it again. All but the last three are on the scale of logarithms.
    """

    steepness: float
    appeal: float  # how far artists differ
    spread: float  # how far the tracks' drift has gone before the first week
    shock: float  # how much new drift a week brings
    peak: tuple[float, float]  # how far above its lasting rate a release begins: mean and deviation
    decay: tuple[float, float]  # weeks in which it loses most of that: from, to
    new: float  # the share of the tracks that come out in or shortly before the simulated weeks
    loyalty: float  # the share of his plays that a listener gives the artists whose fan he is


MIXED = Climate(
    steepness=0.9, appeal=0.4, spread=0.3, shock=0.08, peak=(0.9, 0.6), decay=(2.0, 8.0), new=0.18, loyalty=0.0
)
CLIMATES = {
    "mixed": MIXED,
    "flat": replace(MIXED, steepness=0.1, appeal=0.1, spread=0.1, shock=0.02, peak=(0.3, 0.3), loyalty=0.15),
    "steep": replace(MIXED, steepness=1.4, loyalty=0.15),
    "fast": replace(
        MIXED, steepness=0.7, spread=0.5, shock=0.2, peak=(3.0, 0.6), decay=(1.0, 4.0), new=0.8, loyalty=0.15
    ),
}
