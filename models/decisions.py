"""What experiments have decided: whose model makes everyone's list outside experiments, from which week on, and why.

    <folder>/<experiment>/decision.json     the decision: written once, and never changed
    <folder>/<experiment>/undone.json       that it was taken back, from which week on

Each says the week from which it holds, and that week is later than all that had begun when it was written: the lists of
weeks before stay what they were, however often they are made again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from features.files import alone, replacing
from models.reports import Report

DECISION, UNDONE = "decision.json", "undone.json"
Form = TypeVar("Form", bound=BaseModel)


class DecisionError(OSError):
    """A decision on disk cannot be read, or one is there already."""


class Decision(BaseModel):
    """Who won, what that changes from when on, and all that it rests on."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    winner: str
    model: str
    """the winner's, as the experiment's file names it"""
    from_week: str
    """the first week that everyone's list, outside experiments, is the model's"""
    decided_at: AwareDatetime
    replaces: str
    """the model that made everyone's list before"""
    replaces_version: str | None
    """where the model is a pinned network: the version in use before"""
    sentence: str
    definition: dict[str, Any]
    """the experiment, as its file had it"""
    plan: dict[str, Any]
    """what was compared, and how"""
    made_by: dict[str, str | None]
    """model and version of each of the winner's lists, by week; None where none was published"""
    report: Report

    @property
    def everyones(self) -> str:
        """The model of everyone's list: a pinned network is the one in use by then, until a better one is."""
        return self.model.partition("@")[0]

    @property
    def pinned(self) -> str | None:
        """The version that won, where the experiment has named one."""
        return self.model.partition("@")[2] or None


class Undone(BaseModel):
    """That a decision no longer holds."""

    model_config = ConfigDict(frozen=True)

    from_week: str
    undone_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and since which week it does not hold any more."""

    decision: Decision
    undone: Undone | None

    def holds_in(self, week: str) -> bool:
        """Whether it is this decision that holds, unless a later one does."""
        return self.decision.from_week <= week and (self.undone is None or week < self.undone.from_week)


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions under one folder; read anew each time, since other processes decide."""

    folder: Path

    def all(self) -> list[Decided]:
        """Those there are, in the order in which they were taken.

        Raises:
            DecisionError: one cannot be read.
        """
        return sorted(self._read(), key=lambda one: (one.decision.decided_at, one.decision.experiment))

    def _read(self) -> Iterator[Decided]:
        for path in self.folder.glob(f"*/{DECISION}"):
            decision = _read(path, Decision)
            assert decision  # it was there a moment ago, and nobody removes one
            yield Decided(decision, _read(path.with_name(UNDONE), Undone))

    def of(self, experiment: str) -> Decided | None:
        """That of an experiment, taken back or not."""
        return next((one for one in self.all() if one.decision.experiment == experiment), None)

    def in_force(self, week: str) -> Decision | None:
        """The last one that holds in a week."""
        return next((one.decision for one in reversed(self.all()) if one.holds_in(week)), None)

    def keep(self, decision: Decision) -> Path:
        """Write a decision; return its path.

        Raises:
            DecisionError: the experiment has one.
        """
        return self._keep(self.folder / decision.experiment / DECISION, decision)

    def undo(self, experiment: str, undone: Undone) -> Path:
        """Write that a decision was taken back; return the path.

        Raises:
            DecisionError: it was, before.
        """
        return self._keep(self.folder / experiment / UNDONE, undone)

    def _keep(self, path: Path, content: BaseModel) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.parent):
            if path.exists():
                raise DecisionError(f"{path} is there already, and is never changed")
            with replacing(path) as temporary:
                temporary.write_text(content.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return path


def _read(path: Path, form: type[Form]) -> Form | None:
    try:
        return form.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as cause:
        raise DecisionError(f"{path} cannot be read: {cause}") from cause


def refusal(found: Report, planned: int | None) -> str | None:
    """Why nothing can be decided by a report of so many planned weeks; None where something can."""
    if planned is None or found.look < planned:
        return (
            f"it has not finished: the report ends with {found.weeks[-1]}, look {found.look} of {planned or 'no end'}"
        )
    return None if found.winner else found.sentence
