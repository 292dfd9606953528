"""What an experiment's report says, as values: for the table, the picture, JSON, and whoever decides by it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from models.verdicts import Verdict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Effect(_Frozen):
    """One metric of one group beside control's; figures are None where `unknown` says why."""

    metric: str
    label: str
    role: Literal["primary", "guardrail", "other"]
    more_is_better: bool
    group: str
    control_value: float | None = None
    """adjusted by the weeks before, where cuped"""
    group_value: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None
    """effect ÷ control's value; None where that is not above 0"""
    relative_low: float | None = None
    relative_high: float | None = None
    p_value: float | None = None
    """as if there were this look and this metric only"""
    p_corrected: float | None = None
    """all planned looks, and the other metrics or groups, reckoned in"""
    is_significant: bool = False
    cuped: bool = False
    detectable: float | None = None
    """the least relative effect that a group of this size shows in the stated share of cases"""
    unknown: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether it goes the way that is wanted."""
        return self.effect is not None and (self.effect > 0) == self.more_is_better


class Ratio(_Frozen):
    """Whether the groups are as large as their weights say."""

    what: Literal["users", "exposed users"]
    users: dict[str, int]
    expected: dict[str, float]
    p_value: float | None
    is_broken: bool


class Touched(_Frozen):
    """Users with so many events that they were capped or left out."""

    how: Literal["nothing", "capped", "left out"]
    events: float | None
    """a user's events over the weeks, beyond which; one cap for all groups"""
    users: dict[str, int]


class Conclusion(_Frozen):
    """What follows for one group's list."""

    group: str
    verdict: Verdict
    sentence: str
    more_weeks: int | None
    is_least: bool


class Report(_Frozen):
    """All of it; the same figures and plan give the same."""

    name: str
    control: str
    weeks: list[str]
    weeks_before: int
    look: int
    looks: int | None
    alpha: float
    level: float
    """the p value that counts as significant for one metric at this look"""
    correction: str
    population: Literal["all assigned users", "exposed users"]
    users: dict[str, int]
    """that were compared"""
    ratios: list[Ratio]
    touched: Touched
    effects: list[Effect]
    warnings: list[str]
    conclusions: list[Conclusion]

    @property
    def sentence(self) -> str:
        """What to read if one reads nothing else."""
        return " ".join(dict.fromkeys(conclusion.sentence for conclusion in self.conclusions))

    @property
    def winner(self) -> str | None:
        """The group whose list is better than every other's that was compared, control's too; None where none is.

        Of several that are better than control the one with the greatest effect, though these were not compared.
        """
        better = [c.group for c in self.conclusions if c.verdict == "better"]
        if better:
            primary = {e.group: e.effect or 0.0 for e in self.effects if e.role == "primary"}
            return max(better, key=lambda group: abs(primary[group]))
        return self.control if all(c.verdict == "worse" for c in self.conclusions) else None


def in_words(effect: Effect) -> str:
    """The effect with its interval, as a clause: 'plays per active user is 3.1 % higher [1.0 %, 5.2 %]'.

    >>> known = {"metric": "skip_rate", "label": "skips per play", "role": "other", "group": "b"}
    >>> known |= {"relative": -0.05, "relative_low": -0.15, "relative_high": 0.051, "p_corrected": 0.2}
    >>> in_words(Effect(**known, more_is_better=False, effect=-0.01, low=-0.03, high=0.01))
    'skips per play is 5.0 % lower [-15.0 %, +5.1 %], p = 0.2'
    """
    if effect.effect is None:
        return f"{effect.label} cannot be told"
    way = "higher" if effect.effect > 0 else "lower" if effect.effect < 0 else "different"
    p = f"p {p_in_words(effect.p_corrected)}"
    if effect.relative is None or effect.relative_low is None or effect.relative_high is None:
        return f"{effect.label} is {abs(effect.effect):.3g} {way} [{effect.low:+.3g}, {effect.high:+.3g}], {p}"
    low, high = (f"{100 * value:+.1f} %" for value in (effect.relative_low, effect.relative_high))
    return f"{effect.label} is {100 * abs(effect.relative):.1f} % {way} [{low}, {high}], {p}"


def p_in_words(p_value: float | None) -> str:
    """'= 0.031', or '< 0.001'."""
    if p_value is None:
        return "unknown"
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"
