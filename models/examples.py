"""What models learn from: the weeks of the history, each with the four before it.

A week without a file is missing, not zero, so a target counts only where the four weeks before it are there too. Its
rows are the tracks played in one of the four: those first played in the target week are not known when it is forecast,
and to let them in teaches that a track without plays is about to be played.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.context import levels, past_weeks
from features.history import History
from features.table import KINDS, N_WEEKS, FeatureTable, build
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

    def played_before(self, week: int) -> NDArray[np.bool_]:
        """Whether each track had been played in the four weeks before the week of that place."""
        return np.asarray(self.plays[:, week - N_WEEKS : week].any(axis=1))


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
    counts = history.read(weeks, kinds=("plays",))
    counts = counts[counts["plays"] > 0]
    rows, track_ids = pd.factorize(counts["track_id"].to_numpy(dtype=object), sort=True)
    columns = pd.Index(weeks, dtype=object).get_indexer(pd.Index(counts["week"], dtype=object))
    plays = np.zeros((len(track_ids), len(weeks)), np.int64)
    np.add.at(plays, (rows, columns), counts["plays"].to_numpy(np.int64))
    return PlayMatrix(weeks, track_ids, plays)


def linear_examples(history: History, until: str) -> pd.DataFrame:
    """Rows of target_week, track_id, play_count_week_1 to _4 and play_count, sorted by target week and track id.

    Args:
        history: what was counted.
        until: the last week that may be learned from.

    Raises:
        NotEnoughHistory: no week has the four before it.
        HistoryError: a file is broken.
    """
    weeks = weeks_until(history, until)
    wanted = require_targets(weeks, 1)
    matrix = play_matrix(history, weeks)
    tracks = [np.flatnonzero(matrix.played_before(target)) for target in wanted]
    windows = [matrix.plays[rows, target - N_WEEKS : target + 1] for target, rows in zip(wanted, tracks, strict=True)]
    frame = pd.DataFrame(np.concatenate(windows), columns=[*WEEK_COLUMNS, "play_count"])
    # As categories: a million rows of text would take longer to make than the fit takes.
    week_codes = np.repeat(np.arange(len(wanted)), [len(rows) for rows in tracks])
    names = pd.Index([weeks[target] for target in wanted])
    frame.insert(0, "target_week", pd.Series(pd.Categorical.from_codes(week_codes, names)))
    track_ids = pd.Categorical.from_codes(np.concatenate(tracks), pd.Index(matrix.track_ids))
    frame.insert(1, "track_id", pd.Series(track_ids))
    return frame


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
    catalogue = history.catalogue()
    counts: dict[str, pd.DataFrame] = {}
    for target in require_targets(weeks, 1)[-last if last else None :]:
        past = past_weeks(weeks[target - 1])
        counts = {week: counts[week] if week in counts else history.read([week]) for week in (*past, weeks[target])}
        table = build(pd.concat([counts[week] for week in past]), catalogue, weeks[target - N_WEEKS : target])
        yield _examples(table, weeks[target], counts[weeks[target]])


def _examples(table: FeatureTable, week: str, counts: pd.DataFrame) -> NeuralExamples:
    """The tracks of the table that were played, and what became of them in the week."""
    plays = counts.groupby("track_id")["plays"].sum()
    played = np.flatnonzero(table.counts[:, :, PLAYS].any(axis=1))
    track_ids = table.track_ids[played]
    found = plays.reindex(track_ids, fill_value=0).to_numpy(np.int64)
    return NeuralExamples(
        np.full(len(track_ids), week, object),
        track_ids,
        table.features[played],
        table.context[played],
        table.counts[played, -1, PLAYS],
        found,
        levels(found.astype(np.float64), plays.to_numpy(np.float64)).astype(np.float32),
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
