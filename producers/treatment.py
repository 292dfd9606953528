"""What a better list does to those who get it: the truth of a simulated experiment."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from features.weeks import ChartWeek
from models.experiments import Experiment
from producers.chance import stream

Lists = Callable[[ChartWeek, str], Collection[str]]
"""The ids of the tracks in the list of a week and a group; none where there is no list."""


class ListsError(ValueError):
    """Lists that cannot be read."""


class Response(NamedTuple):
    """How a listener takes the tracks of a list, places in the catalogue: what their plays, skips and likes become.

    Each is a factor: on how often such a track is played, and on the chances that such a play is skipped or liked.
    """

    listed: frozenset[int]
    plays: float
    skips: float
    likes: float


INDIFFERENT = Response(frozenset(), 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Treatment:
    """The relative changes of what users do with the tracks of one group's list, and who gets that list.

    With a half_life in weeks, the changes halve in that time from the experiment's first simulated week on. The share
    that is `contaminated` gets the other list: of the group those without effect, of everyone else those with.
    """

    group: str = "treatment"
    plays: float = 0.0
    skips: float = 0.0
    likes: float = 0.0
    half_life: float | None = None
    contaminated: float = 0.0
    lists: Lists | None = None
    """None: the tracks that are expected to be played most in the week before, the same for every group."""

    def __post_init__(self) -> None:
        for name, change in (("plays", self.plays), ("skips", self.skips), ("likes", self.likes)):
            if not -1 <= change <= 1:
                raise ValueError(f"the change of {name} is {change:g}; expected -1 to 1, such as 0.05 for 5 % more")
        if not 0 <= self.contaminated <= 1:
            raise ValueError(f"the contaminated share is {self.contaminated:g}; expected 0 to 1")
        if self.half_life is not None and not self.half_life > 0:
            raise ValueError(f"the half-life is {self.half_life:g} weeks; expected more than 0")

    @property
    def is_felt(self) -> bool:
        """Whether it changes anything."""
        return bool(self.plays or self.skips or self.likes)

    def response(self, listed: frozenset[int], age: int) -> Response:
        """Of those who get the list, so many weeks after the experiment's first."""
        left = 1.0 if self.half_life is None else 0.5 ** (age / self.half_life)
        return Response(listed, 1 + left * self.plays, 1 + left * self.skips, 1 + left * self.likes)

    def reaches(self, seed: int, user_id: int, experiment: Experiment) -> bool:
        """Whether the user gets the list whose effect this is."""
        if self.group not in experiment.group_names:
            return False
        is_astray = self.contaminated > 0 and stream(seed, "contaminated", user_id).random() < self.contaminated
        return (experiment.group_of(str(user_id)) == self.group) != is_astray


def times(rng: Random, factor: float) -> int:
    """How often something happens that would have happened once: `factor` in the mean, as even as whole numbers are."""
    whole = int(factor)
    return whole if factor == whole else whole + (rng.random() < factor - whole)


def lists_of(records: Sequence[dict[str, Any]]) -> Lists:
    """The last record of each week and group, playlists as they are published.

    Raises:
        ListsError: a record is no playlist.
    """
    try:
        found = {(r["week"], r["group"]): frozenset(str(entry["track_id"]) for entry in r["tracks"]) for r in records}
    except (KeyError, TypeError) as cause:
        raise ListsError(
            f"expected playlists, each with week, group and tracks, found another record: {cause}"
        ) from cause
    return lambda week, group: found.get((week.name, group), frozenset())


def read_lists(file: Path) -> Lists:
    """The lists of a file, one playlist a line, as `hitparade playlists --json` has them.

    Raises:
        ListsError: it cannot be read, or is of something else.
    """
    try:
        return lists_of([json.loads(line) for line in file.read_text().splitlines() if line.strip()])
    except OSError as cause:
        raise ListsError(f"{file} cannot be read: {cause.strerror}") from cause
    except ListsError as cause:
        raise ListsError(f"{file}: {cause}") from cause
    except (ValueError, RecursionError) as cause:
        raise ListsError(f"{file} is not JSON, a playlist a line: {cause}") from cause
