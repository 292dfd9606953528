"""Asking the doctor for one check, or for one after the other."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from hitparade.checking import CHECKS
from hitparade.doctor import Check, Finding, Level, Patient, examine
from hitparade.settings import Settings

OK, WARNING, WRONG = Level.OK, Level.WARNING, Level.WRONG
Found = tuple[Level, str]


def named(*names: str) -> list[Check]:
    (*found,) = (check for check in CHECKS if check.name in names)
    assert len(found) == len(names)
    return found


def look(env: Mapping[str, str] | Settings, check: str, **patient: Any) -> Found:
    """What one check finds; patient is what replaces its clock and its pauses."""
    (found,) = looks(env, check, **patient)
    return found.level, found.found


def looks(env: Mapping[str, str] | Settings, *checks: str, longest_s: float = 60, **patient: Any) -> list[Finding]:
    """What these checks find, in the doctor's order."""
    settings = env if isinstance(env, Settings) else Settings.from_env(env)
    with closing(Patient(settings, **patient)) as it:
        return list(examine(it, named(*checks), longest_s))
