"""From a row a user and week to sums a group: what an experiment's analysis needs, and no more is ever held.

A pass holds one slice of the users at a time; what stays of it are counts, sums and products, and one number a user.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COUNTS = ("plays", "skips", "likes", "listed_plays", "listed_skips", "listed_likes", "active_days")
SUMMED = (*COUNTS, "active")
"""A user's own counts over the weeks; active is 1 where any of them is above 0."""
COLUMNS = (*SUMMED, *(f"{name}_before" for name in SUMMED))
EVENTS = slice(0, 3)
ACTIVE_DAYS = COUNTS.index("active_days")


class Slice(NamedTuple):
    """Some of the users, whole: their rows of every week of the experiment, and of the weeks before it."""

    weeks: Sequence[pa.Table]
    before: Sequence[pa.Table] = ()


@dataclass(frozen=True, slots=True)
class Population:
    """Whose use is looked at, and from when on."""

    groups: tuple[str, ...]
    newcomers: bool = True
    """whether those who were first seen after the first week are in it"""
    exposed: bool = False
    """only who has seen a list, from the week of the first exposure on"""


@dataclass(frozen=True, slots=True)
class Listeners:
    """A slice's users of the experiment's groups."""

    group: NDArray[np.int64]
    """index of each user's group"""
    moved: NDArray[np.bool_]
    """who was seen in more than one of the groups"""
    first: NDArray[np.int64]
    """index of the first week that a user is looked at"""
    counts: Floats
    """shape (n_weeks, n_users, COUNTS)"""
    before: Floats
    """shape (n_users, COUNTS)"""

    def events(self) -> Floats:
        """Plays, skips and likes of each user together."""
        found: Floats = self.counts[:, :, EVENTS].sum(axis=(0, 2))
        return found

    def events_before(self) -> Floats:
        """The same of the weeks before."""
        found: Floats = self.before[:, EVENTS].sum(axis=1)
        return found

    def chosen(self, chosen: NDArray[np.bool_]) -> "Listeners":
        """Some of them."""
        return Listeners(
            self.group[chosen], self.moved[chosen], self.first[chosen], self.counts[:, chosen], self.before[chosen]
        )


def listeners(part: Slice, population: Population) -> Listeners:
    """The users of a slice, those without a week to look at left out."""
    names = ["user_id", "group", *COUNTS, "exposed"]
    frames = [table.select(names).to_pandas() for table in part.weeks]
    rows = pd.concat([frame.assign(week=n) for n, frame in enumerate(frames)], ignore_index=True)
    rows["group"] = pd.Index(population.groups).get_indexer(rows["group"])
    rows = rows[rows["group"] >= 0]
    user, ids = pd.factorize(rows["user_id"])
    n_weeks, n_users = len(part.weeks), len(ids)
    week, group = rows["week"].to_numpy(np.int64), rows["group"].to_numpy(np.int64)
    first = _least(user, week, n_users, n_weeks)
    kept = np.ones(n_users, np.bool_) if population.newcomers else first == 0
    if population.exposed:
        exposed = rows["exposed"].to_numpy(np.bool_)
        first = _least(user[exposed], week[exposed], n_users, n_weeks)
    counts = np.zeros((n_weeks, n_users, len(COUNTS)))
    np.add.at(counts, (week, user), rows[list(COUNTS)].to_numpy(np.float64))
    counts[np.arange(n_weeks)[:, None] < first] = 0.0
    least, most = _least(user, group, n_users, len(population.groups)), -_least(user, -group, n_users, 1)
    found = Listeners(least, least != most, first, counts, _before(part.before, pd.Index(ids)))
    return found.chosen(kept & (first < n_weeks))


def _least(user: NDArray[np.intp], values: NDArray[np.int64], n_users: int, none: int) -> NDArray[np.int64]:
    """The least value of each user, `none` of one who has none."""
    found = np.full(n_users, none, np.int64)
    np.minimum.at(found, user, values)
    return found


def _before(tables: Sequence[pa.Table], ids: pd.Index) -> Floats:
    totals = np.zeros((len(ids), len(COUNTS)))
    for table in tables:
        rows = table.select(["user_id", *COUNTS]).to_pandas()
        at = ids.get_indexer(rows["user_id"])
        np.add.at(totals, at[at >= 0], rows.loc[at >= 0, list(COUNTS)].to_numpy(np.float64))
    return totals


@dataclass(frozen=True, slots=True)
class Caps:
    """Events of one user beyond which they are too many; infinite where nothing is."""

    events: float = np.inf
    before: float = np.inf

    def of(self, found: Listeners) -> tuple[Floats, Floats]:
        """What each user's counts are multiplied by: 1, or what brings the events down to the cap; then those before.

        All counts of a user shrink alike, so that no ratio of them changes, only its weight.
        """
        return _shrunk(found.events(), self.events), _shrunk(found.events_before(), self.before)


def _shrunk(events: Floats, cap: float) -> Floats:
    return np.minimum(1.0, cap / np.maximum(events, 1.0)) if np.isfinite(cap) else np.ones(len(events))


@dataclass(slots=True)
class Sums:
    """Of one group: how many users, the sums of COLUMNS, and the sums of their products in pairs."""

    n: int = 0
    sums: Floats = field(default_factory=lambda: np.zeros(len(COLUMNS)))
    products: Floats = field(default_factory=lambda: np.zeros((len(COLUMNS), len(COLUMNS))))

    def add(self, rows: Floats) -> None:
        """Add users, a row each."""
        self.n += len(rows)
        self.sums += rows.sum(axis=0)
        self.products += rows.T @ rows

    def mean(self) -> Floats:
        """Means of COLUMNS; zeros where there are no users."""
        return self.sums / max(self.n, 1)

    def covariance(self) -> Floats:
        """Sample covariances of COLUMNS; zeros of fewer than two users, and where rounding is all that there is."""
        if self.n < 2:
            return np.zeros_like(self.products)
        squares = np.outer(self.sums, self.sums) / self.n
        centred = self.products - squares
        scale = np.sqrt(np.outer(np.diag(self.products), np.diag(self.products)))
        centred[np.abs(centred) <= 1e-12 * scale] = 0.0
        return np.asarray(centred / (self.n - 1), np.float64)


def add_up(found: Listeners, caps: Caps, sums: Sequence[Sequence[Sums]]) -> None:
    """Add the users to the sums of each number of weeks from the first on, and each group."""
    factor, factor_before = caps.of(found)
    before = _columns(found.before, factor_before)
    totals = np.zeros_like(found.before)
    for n, of_groups in enumerate(sums):
        totals = totals + found.counts[n]
        rows = np.hstack([_columns(totals, factor), before])
        for code, of_group in enumerate(of_groups):
            of_group.add(rows[(found.group == code) & (found.first <= n)])


def _columns(totals: Floats, factor: Floats) -> Floats:
    """Capped, and active beside them; a day of use is one, however many events it has."""
    capped = totals * factor[:, None]
    capped[:, ACTIVE_DAYS] = totals[:, ACTIVE_DAYS]
    is_active = np.any(totals > 0, axis=1, keepdims=True)
    return np.hstack([capped, np.asarray(is_active, np.float64)])
