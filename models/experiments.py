"""Experiments: which of them a week is counted under, a user's group in it, and the file that names them."""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic import field_validator as check
from pydantic_core import ErrorDetails

from features.weeks import Calendar, ChartWeek

if TYPE_CHECKING:  # who counts starts without
    from models.decisions import Decisions

DEFAULT_FILE = Path(__file__).with_name("experiments.toml")
PAST, IN_FORCE, TO_COME = "past", "in force", "to come"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODEL = re.compile(r"naive|linear|neural(@[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")


class ExperimentError(ValueError):
    """Experiments that cannot be read or do not fit together, or a group that is in none."""


@dataclass(frozen=True, slots=True)
class Group:
    """An arm: its share of the users is weight ÷ the sum of weights."""

    name: str
    weight: float
    model: str
    """naive, linear, neural (the version in use), or neural@VERSION"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A named, salted assignment of users to groups; both weeks are included, None is without bound.

    Two of the same groups and models may share a salt: the later one goes on with the users of the earlier by other
    weights.
    """

    name: str
    salt: str
    first_week: ChartWeek | None
    last_week: ChartWeek | None
    groups: tuple[Group, ...]
    _arms: tuple[tuple[bytes, float, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        arms = [(f"v1:{self.salt}:{g.name}:".encode(), g.weight, g.name) for g in self.groups if g.weight > 0]
        if not arms:
            raise ExperimentError(f"experiment {self.name!r}: expected a group with a weight above 0, found none")
        object.__setattr__(self, "_arms", tuple(arms))

    def group_of(self, user_id: str) -> str:
        """The user's group: the same in every process and language; a changed weight moves as few users as can be.

        Source: weighted rendezvous hashing, Schindelhauer & Schomaker 2005: the least -ln(u)/weight wins.
        """
        if len(self._arms) == 1:
            return self._arms[0][2]
        user = user_id.encode()
        return min([(-math.log(_draw(arm + user)) / weight, name) for arm, weight, name in self._arms])[1]

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups that somebody can be in, sorted."""
        return tuple(sorted(name for _, _, name in self._arms))

    @property
    def fingerprint(self) -> str:
        """Of what decides assignment within a week: not models or weeks, so that those may change while counting."""
        weights = sorted((group.name, float(group.weight)) for group in self.groups)
        return hashlib.sha256(json.dumps([self.name, self.salt, weights]).encode()).hexdigest()[:16]

    def holds_in(self, week: ChartWeek) -> bool:
        """Whether the week is one of its own."""
        return self.state(week) == IN_FORCE

    def state(self, week: ChartWeek) -> str:
        """How it stands in a week: past, in force, or to come."""
        if self.first_week and week < self.first_week:
            return TO_COME
        return PAST if self.last_week and self.last_week < week else IN_FORCE


def _draw(key: bytes) -> float:
    """A number in (0, 1] that the key decides."""
    return (int.from_bytes(hashlib.sha256(key).digest()[:8], "big") + 0.5) / 2**64


def everyone(model: str) -> Experiment:
    """What holds outside any experiment: all are one group, whose lists are the model's."""
    return Experiment(EVERYONE_NAME, "", None, None, (Group("all", 1.0, model),))


EVERYONE_NAME = "none"
EVERYONE = everyone("linear")


@dataclass(frozen=True, slots=True)
class Experiments:
    """Experiments of which no two hold in the same week."""

    experiments: tuple[Experiment, ...] = ()
    decisions: "Decisions | None" = None
    """where it is kept what earlier ones have decided; without, nothing was"""

    def began(self, experiment: Experiment) -> ChartWeek | None:
        """The first week of an experiment, or of the one that it goes on with by other weights; None without bound."""
        firsts = [one.first_week for one in self.experiments if one.salt == experiment.salt]
        known = [first for first in firsts if first is not None]
        return min(known) if len(known) == len(firsts) > 0 else None

    def in_force(self, week: ChartWeek) -> Experiment:
        """The experiment that the week is counted under; outside any, everyone is one group.

        Raises:
            DecisionError: what was decided cannot be read.
        """
        found = next((experiment for experiment in self.experiments if experiment.holds_in(week)), None)
        return found or self._everyone(week)

    def _everyone(self, week: ChartWeek) -> Experiment:
        decision = self.decisions.in_force(week.name) if self.decisions else None
        return everyone(decision.everyones) if decision else EVERYONE


def load(path: Path | None, calendar: Calendar) -> Experiments:
    """Read an experiment file, the packaged one where path is None; a file without experiments is fine.

    Raises:
        ExperimentError: it cannot be read, is not TOML, or (all at once, one a line) what is wrong in it.
    """
    path = path or DEFAULT_FILE
    content = _read(path)
    tables = content.pop("experiment", [])
    faults = [f"{key}: expected nothing but [[experiment]] here, found {value!r:.80}" for key, value in content.items()]
    if not isinstance(tables, list):
        faults, tables = [*faults, f"experiment: expected [[experiment]], found {tables!r:.80}"], []
    experiments = []
    for n, table in enumerate(tables, 1):
        try:
            experiments.append(_Entry.model_validate(table, context=calendar).experiment())
        except ValidationError as cause:
            faults += [f"{_called(table, n)}, {_sentence(error)}" for error in cause.errors()]
    faults += _clashes(tables, calendar)
    if faults:
        raise ExperimentError("\n  ".join([f"experiment file {path}, {len(faults)} to mend:", *faults]))
    return Experiments(tuple(experiments))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as cause:
        raise ExperimentError(f"experiment file {path} cannot be read: {cause.strerror}") from cause
    except (ValueError, RecursionError) as cause:
        raise ExperimentError(f"experiment file {path} is not TOML: {cause}") from cause


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("expected 1 to 64 letters, digits, '-', '_' or '.', the first a letter or digit")
    if text in ("all", EVERYONE_NAME):
        raise ValueError("expected a name that does not mean everyone")
    return text


def _model(text: str) -> str:
    if not MODEL.fullmatch(text):
        raise ValueError("expected 'naive', 'linear', 'neural' or 'neural@VERSION'")
    return text.removesuffix("@champion")


def _week(text: object, calendar: Calendar) -> ChartWeek:
    if not isinstance(text, str):
        raise ValueError('expected a week such as "2023-W24"')
    return calendar.parse(text)


Name = Annotated[str, AfterValidator(_name)]
Model = Annotated[str, AfterValidator(_model)]
Week = Annotated[ChartWeek, BeforeValidator(lambda text, info: _week(text, info.context))]
STRICT = ConfigDict(strict=True, extra="forbid")


class _Arm(BaseModel):
    model_config = STRICT

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    model: Model


class _Entry(BaseModel):
    model_config = STRICT

    name: Name
    salt: Annotated[str, Field(min_length=1)]
    first_week: Week | None = None
    last_week: Week | None = None
    groups: dict[Name, _Arm]

    @check("last_week")
    @classmethod
    def _not_reversed(cls, last: ChartWeek | None, info: ValidationInfo) -> ChartWeek | None:
        first = info.data.get("first_week")
        if first and last and last < first:
            raise ValueError(f"expected none before first_week, {first}")
        return last

    @check("groups")
    @classmethod
    def _someone_wins(cls, groups: dict[str, _Arm]) -> dict[str, _Arm]:
        if not any(arm.weight for arm in groups.values()):
            raise ValueError("expected a group with a weight above 0")
        return groups

    def experiment(self) -> Experiment:
        groups = tuple(Group(name, arm.weight, arm.model) for name, arm in self.groups.items())
        return Experiment(self.name, self.salt, self.first_week, self.last_week, groups)


def _called(table: Any, n: int) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f"experiment {n} {name!r}" if isinstance(name, str) else f"experiment {n}"


def _sentence(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the whole"
    if error["type"] == "missing":
        return f"{where}: expected a value, found nothing"
    if error["type"] == "extra_forbidden":
        return f"{where}: expected no field of this name, found {error['input']!r:.80}"
    message = re.sub(r"^(Input|String) should", "expected to", error["msg"].removeprefix("Value error, "))
    return f"{where}: {message}, found {error['input']!r:.80}"


def _clashes(tables: list[Any], calendar: Calendar) -> Iterator[str]:
    """What two experiments may not share; from the raw tables, so that no other fault hides it."""
    entries = [(_called(table, n), table) for n, table in enumerate(tables, 1) if isinstance(table, dict)]
    for (this, one), (that, other) in combinations(entries, 2):
        if "name" in one and one["name"] == other.get("name"):
            yield f"{that}, name: expected one of its own, found {one['name']!r}, also of {this}"
        if "salt" in one and one["salt"] == other.get("salt") and _arms(one) != _arms(other):
            yield (
                f"{that}, salt: expected one of its own, since its groups and models are others, found "
                f"{one['salt']!r}, also of {this}"
            )
        if _overlap(one, other, calendar=calendar):
            yield f"{that}, first_week: expected weeks of its own, found some shared with {this}"


def _arms(table: dict[str, Any]) -> dict[str, Any] | None:
    """What the groups are, but for their weights; None where that is told of already."""
    groups = table.get("groups")
    if not isinstance(groups, dict) or not all(isinstance(arm, dict) for arm in groups.values()):
        return None
    return {name: arm.get("model") for name, arm in groups.items()}


def _overlap(*tables: dict[str, Any], calendar: Calendar) -> bool:
    try:
        firsts = [_week(table["first_week"], calendar) for table in tables if "first_week" in table]
        lasts = [_week(table["last_week"], calendar) for table in tables if "last_week" in table]
    except ValueError:  # told of already
        return False
    return not firsts or not lasts or max(firsts) <= min(lasts)
