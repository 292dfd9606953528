"""What models learn from: the weeks of the history, each with the four before it.

A week without a file is missing, not zero, so a target counts only where the four weeks before it are there too. Its
rows are the tracks played in any week before it: those first played in the target week are not known when it is
forecast, and to let them in teaches that a track without plays is about to be played.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.history import History
from features.table import KINDS, N_WEEKS, FeatureTable, build
from features.weeks import Calendar
from models.scoring import NotEnoughHistory

WEEK_COLUMNS = ("play_count_week_1", "play_count_week_2", "play_count_week_3", "play_count_week_4")
"""The oldest week is 1, the week before the target 4."""


@dataclass(frozen=True, slots=True)
class PlayMatrix:
    """The plays of every track that was ever played, ids ascending: shape (n_tracks, n_weeks), weeks oldest first."""

    weeks: list[str]
    track_ids: NDArray[np.object_]
    plays: NDArray[np.int64]

    def played_before(self, week: int) -> NDArray[np.bool_]:
        """Whether each track had been played before the week of that place."""
        return np.asarray(self.plays[:, :week].any(axis=1))


@dataclass(frozen=True, slots=True)
class NeuralExamples:
    """n rows, sorted by target week and track id."""

    target_weeks: NDArray[np.object_]
    track_ids: NDArray[np.object_]
    features: NDArray[np.float32]
    """(n, 4, 18) as in a FeatureTable"""
    last_plays: NDArray[np.int64]
    """in the week before the target: what naive predicts"""
    plays: NDArray[np.int64]
    """in the target week"""

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "NeuralExamples":
        """Those rows, by mask or by place."""
        return NeuralExamples(
            self.target_weeks[chosen],
            self.track_ids[chosen],
            self.features[chosen],
            self.last_plays[chosen],
            self.plays[chosen],
        )


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


def neural_weeks(history: History, until: str, n_targets: int = 1) -> Iterator[NeuralExamples]:
    """The examples of one target week after the other, oldest first, as they would have been scored at the time.

    Args:
        history: what was counted.
        until: the last week that may be learned from.
        n_targets: how many target weeks there must be.

    Raises:
        NotEnoughHistory: there are fewer.
        HistoryError: a file is broken.
    """
    weeks = weeks_until(history, until)
    wanted = require_targets(weeks, n_targets)
    matrix = play_matrix(history, weeks)
    catalogue = history.catalogue()
    for target in wanted:
        before = weeks[target - N_WEEKS : target]
        played = matrix.played_before(target)
        table = table_of(matrix.track_ids[played], history.read(before), catalogue, before)
        yield NeuralExamples(
            np.full(len(table.track_ids), weeks[target], object),
            table.track_ids,
            table.features,
            table.counts[:, -1, KINDS.index("plays")],
            matrix.plays[played, target],
        )


def neural_examples(history: History, until: str) -> NeuralExamples:
    """All of neural_weeks at once; 288 bytes a row.

    Raises:
        NotEnoughHistory: no week has the four before it.
        HistoryError: a file is broken.
    """
    return joined(list(neural_weeks(history, until)))


def joined(weeks: Sequence[NeuralExamples]) -> NeuralExamples:
    """The rows of one after the other."""
    columns = zip(*((w.target_weeks, w.track_ids, w.features, w.last_plays, w.plays) for w in weeks), strict=True)
    return NeuralExamples(*(np.concatenate(arrays) for arrays in columns))


def table_of(
    track_ids: NDArray[np.object_], counts: pd.DataFrame, catalogue: pd.DataFrame, weeks: Sequence[str]
) -> FeatureTable:
    """The feature table of these tracks and no others, whether the catalogue knows them or not."""
    known = catalogue.set_index("id").reindex(pd.Index(track_ids, dtype=object)).rename_axis("id").reset_index()
    return build(counts[counts["track_id"].isin(track_ids)], known, weeks)
