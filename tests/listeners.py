"""Builders of weekly use, as the log of an experiment would give it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.plans import Plan
from models.usage import USAGE

TWO = {"control": 1.0, "treatment": 1.0}


def week(users: Sequence[object], groups: Sequence[str] | str, **counts: Any) -> pa.Table:
    """One week's use; what is not given is 0, and a count may be one number for all."""
    n = len(users)
    columns: dict[str, Any] = {name: np.broadcast_to(counts.get(name, 0), n) for name in USAGE.names}
    columns["user_id"] = [str(user) for user in users]
    columns["group"] = [groups] * n if isinstance(groups, str) else list(groups)
    columns["exposed"] = np.broadcast_to(np.asarray(counts.get("exposed", False), np.bool_), n)
    return pa.table(columns, schema=USAGE)


def plan(n_weeks: int = 1, weights: Mapping[str, float] = TWO, **fields: Any) -> Plan:
    """As many weeks as are planned have passed, and nobody is capped, unless said otherwise."""
    known: dict[str, Any] = {
        "control": next(iter(weights)),
        "look": n_weeks,
        "planned": n_weeks,
        "winsorise": 1.0,
        "one_look": True,
    }
    weeks = tuple(f"2025-W{n:02}" for n in range(1, n_weeks + 1))
    return Plan(name="e", weights=dict(weights), weeks=weeks, **(known | fields))


def drawn(seed: int, n_users: int = 400, lift: float = 0.0, weeks: int = 1) -> list[pa.Table]:
    """Skewed listeners, half in each group; who is in treatment plays more by the lift."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(1.0, 20.0, n_users)
    groups = np.where(np.arange(n_users) % 2 == 0, "control", "treatment")
    tables = []
    for _ in range(weeks):
        plays = rng.poisson(taste * np.where(groups == "treatment", 1 + lift, 1.0)) + 1
        listed = rng.binomial(plays, rng.beta(2, 8, n_users))
        counts = {"plays": plays, "skips": rng.binomial(plays, 0.2), "likes": rng.binomial(plays, 0.05)}
        counts |= {"listed_plays": listed, "listed_skips": rng.binomial(listed, 0.2)}
        counts |= {"listed_likes": rng.binomial(listed, 0.05), "active_days": rng.integers(1, 8, n_users)}
        tables.append(week(range(n_users), list(groups), **counts))
    return tables
