"""What an experiment's report compares, and how: settled before anybody looks."""

from collections.abc import Iterable
from dataclasses import dataclass

from models.experiments import Experiment, ExperimentError
from models.measures import GUARDRAIL, NAMES, PRIMARY

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini & Hochberg"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared and how; decided before anybody looks."""

    name: str
    weights: dict[str, float]
    """of the groups that somebody can be in; control is one of them"""
    control: str
    weeks: tuple[str, ...]
    """names of the weeks that there are figures of, oldest first"""
    look: int = 1
    """how many of the planned weeks have passed"""
    planned: int | None = None
    """how many weeks it is to run; None where it has no end"""
    one_look: bool = False
    """whether nobody has looked before, and nobody will again; else there is a look each planned week"""
    missing: tuple[str, ...] = ()
    """weeks between the first and the last that there are no figures of"""
    weeks_chosen: bool = False
    """whether somebody picked the weeks, rather than the experiment's file"""
    primary: str = PRIMARY
    guardrail: str = GUARDRAIL
    correction: str = "holm"
    alpha: float = 0.05
    power: float = 0.8
    effect: float = 0.02
    """relative to control: what the experiment is to see"""
    winsorise: float = 0.999
    """users with more events than this share of all are capped; 1: none is"""
    cap: int | None = None
    """of events a week, instead of winsorise"""
    leave_out: bool = False
    """those beyond are left out, not capped"""
    newcomers: bool = True
    exposed: bool | None = None
    """whose use is looked at: of those who saw a list, or of all; None: the former where exposures are kept"""

    def __post_init__(self) -> None:
        if self.control not in self.weights:
            raise ExperimentError(f"control: expected one of {_listed(self.weights)}, found {self.control!r}")
        if len(self.weights) < 2:
            raise ExperimentError(f"experiment {self.name!r} has one group, {self.control}: nothing to compare it with")
        if self.planned is not None and not 1 <= self.look <= self.planned:
            raise ExperimentError(f"look: expected one of the {self.planned} that are planned, found {self.look}")
        if self.alpha > 0.5:
            raise ExperimentError(f"alpha: expected at most 0.5, found {self.alpha}")
        for name in (self.primary, self.guardrail):
            if name not in NAMES:
                raise ExperimentError(f"metric: expected one of {_listed(NAMES)}, found {name!r}")

    @property
    def groups(self) -> tuple[str, ...]:
        """Control first, then the others as the file has them."""
        return (self.control, *(name for name in self.weights if name != self.control))

    @property
    def looks(self) -> int | None:
        """Over how many looks the error is spent; None where it is not spent."""
        return None if self.one_look else self.planned

    @property
    def alpha_each(self) -> float:
        """What each group's primary metric is tested at: their share of alpha (Bonferroni)."""
        return self.alpha / (len(self.weights) - 1)


def weights_of(experiment: Experiment) -> dict[str, float]:
    """The weights of the groups that somebody can be in, in the order of the file."""
    return {group.name: group.weight for group in experiment.groups if group.weight > 0}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
