"""What models learn from: the weeks of the history, each with the four before it.

A week without a file is missing, not zero, so a target counts only where the four weeks before it are there too. Its
rows are the tracks played in one of the four: those first played in the target week are not known when it is forecast,
and to let them in teaches that a track without plays is about to be played.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.columns import KINDS
from features.context import levels, past_weeks
from features.counts import Counts, summed
from features.history import History
from features.table import N_WEEKS, FeatureTable, build
from features.weeks import Calendar
from models.scoring import NotEnoughHistory

PLAYS = KINDS.index("plays")
WEEK_COLUMNS = ("play_count_week_1", "play_count_week_2", "play_count_week_3", "play_count_week_4")
"""The oldest week is 1, the week before the target 4."""


@dataclass(frozen=True, slots=True)
class PlayMatrix:
    """The plays of every track that was ever played, ids ascending: shape (n_tracks, n_weeks), weeks oldest first."""

    weeks: list[str]
    track_ids: NDArray[np.object_]
    plays: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LinearExamples:
    """Rows of five weeks of plays, the last of them the target, by target week; read anew whenever it is gone over."""

    history: History
    weeks: list[str]
    targets: list[int]
    """places in weeks"""

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """The target's week and rows of shape (n, 5), a part of the tracks after the other, each with all targets.

        Raises:
            HistoryError: a file is broken.
        """
        for slices in self.history.parts(self.weeks):
            plays = self.history.counts(self.weeks, slices, ("plays",)).sums[:, :, 0]
            for target in self.targets:
                window = plays[:, target - N_WEEKS : target + 1]
                yield self.weeks[target], window[window[:, :-1].any(axis=1)]


@dataclass(frozen=True, slots=True)
class NeuralExamples:
    """n rows, sorted by target week and track id."""

    target_weeks: NDArray[np.object_]
    track_ids: NDArray[np.object_]
    features: NDArray[np.float32]
    context: NDArray[np.float32]
    """both as in a FeatureTable"""
    last_plays: NDArray[np.int64]
    """in the week before the target: what naive predicts"""
    plays: NDArray[np.int64]
    """in the target week"""
    levels: NDArray[np.float32]
    """in the target week, as features.context tells them"""

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "NeuralExamples":
        """Those rows, by mask or by place."""
        return NeuralExamples(*(column[chosen] for column in self.columns()))

    def columns(self) -> tuple[NDArray[Any], ...]:
        """All of them, in their order."""
        return tuple(getattr(self, column.name) for column in fields(self))


def weeks_before(week: str, n_weeks: int = N_WEEKS) -> list[str]:
    """The names of the n weeks before a week, oldest first, whatever day weeks begin on."""
    return [before.name for before in Calendar().parse(week).before().span(n_weeks)]


def targets(weeks: Sequence[str]) -> list[int]:
    """The places of the weeks that have the four before them in a row.

    >>> targets(["2023-W01", "2023-W02", "2023-W03", "2023-W04", "2023-W05", "2023-W07"])
    [4]
    """
    return [n for n in range(N_WEEKS, len(weeks)) if list(weeks[n - N_WEEKS : n]) == weeks_before(weeks[n])]


def require_targets(weeks: Sequence[str], n_targets: int) -> list[int]:
    """The targets of these weeks, at least so many.

    Raises:
        NotEnoughHistory: saying how many closed weeks in a row there are, and how many are needed.
    """
    found = targets(weeks)
    if len(found) < n_targets:
        raise NotEnoughHistory(f"needs {N_WEEKS + n_targets} closed weeks in a row, has {_longest_run(weeks)}")
    return found


def _longest_run(weeks: Sequence[str]) -> int:
    longest = run = 0
    for n, week in enumerate(weeks):
        run = run + 1 if n and weeks[n - 1] == weeks_before(week, 1)[0] else 1
        longest = max(longest, run)
    return longest


def weeks_until(history: History, until: str) -> list[str]:
    """The weeks there are, up to and with `until`."""
    return [week for week in history.weeks() if week <= until]


def play_matrix(history: History, weeks: list[str]) -> PlayMatrix:
    """The plays of these weeks, of all groups together.

    Raises:
        HistoryError: a file is broken.
    """
    counts = history.counts(weeks, kinds=("plays",))
    plays = counts.sums[:, :, 0]
    played = plays.any(axis=1)
    return PlayMatrix(weeks, counts.track_ids.to_numpy(zero_copy_only=False)[played], plays[played])


def linear_examples(history: History, until: str) -> LinearExamples:
    """What the regression learns from.

    Args:
        history: what was counted.
        until: the last week that may be learned from.

    Raises:
        NotEnoughHistory: no week has the four before it.
    """
    weeks = weeks_until(history, until)
    return LinearExamples(history, weeks, require_targets(weeks, 1))


def neural_weeks(history: History, until: str, last: int | None = None) -> Iterator[NeuralExamples]:
    """The examples of one target week after the other, oldest first, as they would have been scored at the time.

    Args:
        history: what was counted.
        until: the last week that may be learned from.
        last: only so many target weeks, the last ones.

    Raises:
        NotEnoughHistory: no week has the four before it.
        HistoryError: a file is broken.
    """
    weeks = weeks_until(history, until)
    catalogue = history.tracks()
    rows: dict[str, pa.Table] = {}
    for target in require_targets(weeks, 1)[-last if last else None :]:
        week, past = weeks[target], past_weeks(weeks[target - 1])
        rows = {name: rows[name] if name in rows else next(history.rows([name])) for name in (*past, week)}
        table = build(summed(past, [rows[name] for name in past]), catalogue)
        yield _examples(table, week, summed([week], [rows[week]]))


def _examples(table: FeatureTable, week: str, counts: Counts) -> NeuralExamples:
    """The tracks of the table that were played, and what became of them in the week."""
    played = np.flatnonzero(table.counts[:, :, PLAYS].any(axis=1))
    track_ids, of_all = table.track_ids[played], counts.sums[:, 0, PLAYS]
    rows = pc.fill_null(pc.index_in(pa.array(track_ids, pa.string()), counts.track_ids), -1).to_numpy()
    plays = np.append(of_all, 0)[rows]
    return NeuralExamples(
        np.full(len(track_ids), week, object),
        track_ids,
        table.features[played],
        table.context[played],
        table.counts[played, -1, PLAYS],
        plays,
        levels(plays.astype(np.float64), of_all.astype(np.float64)).astype(np.float32),
    )


def neural_examples(history: History, until: str) -> NeuralExamples:
    """All of neural_weeks at once; 380 bytes a row.

    Raises:
        NotEnoughHistory: no week has the four before it.
        HistoryError: a file is broken.
    """
    return joined(list(neural_weeks(history, until)))


def joined(weeks: Sequence[NeuralExamples]) -> NeuralExamples:
    """The rows of one after the other."""
    return NeuralExamples(*map(np.concatenate, zip(*(week.columns() for week in weeks), strict=True)))
