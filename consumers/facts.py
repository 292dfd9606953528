"""What was played of the catalogue in the weeks of a list, by everyone and by each group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.counts import Part
from features.history import History
from features.weeks import ChartWeek
from models.metrics import K, evaluate
from models.ranking import best_first
from models.scoring import top_rows

Plays = NDArray[np.int64]
Rows = NDArray[np.int64]
"""A ranking: rows of the facts, best first; a track that they do not hold has a number of its own below 0."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The plays of every track of the catalogue: what no list may hold can be in no true list either."""

    track_ids: pa.StringArray
    """(n,), ascending, so that what is equal by rows is so by id"""
    of_all: Plays
    """(n, weeks), oldest first; the last is the closed week"""
    of_group: dict[str, Plays]
    """The same, of the listeners who were in the group in that week."""

    def rows(self, track_ids: Sequence[str] | pd.Series) -> Rows:
        """The row of each track."""
        found = pc.index_in(pa.array(track_ids, pa.string()), value_set=self.track_ids)
        rows: Rows = found.fill_null(-1).to_numpy().astype(np.int64)
        return np.where(rows < 0, -1 - np.arange(len(rows)), rows)

    def naive(self, span_weeks: int) -> Rows:
        """The ranking of last week again: the span's known weeks, and the last of them once more."""
        known = self.of_all[:, -span_weeks:-1].sum(axis=1)
        return best_first((known + self.of_all[:, -2]).astype(np.float64))

    def over(self, span_weeks: int) -> Plays:
        """Plays over the span, (n,)."""
        total: Plays = self.of_all[:, -span_weeks:].sum(axis=1)
        return total

    def own(self, group: str, span_weeks: int) -> Plays | None:
        """Plays of the group's own listeners over the span, (n,).

        None where they have none in a week in which others have: what was played before there was such a group would
        be held against its list.
        """
        own, of_all = self.of_group[group][:, -span_weeks:], self.of_all[:, -span_weeks:]
        if (own.any(axis=0) != of_all.any(axis=0)).any():
            return None
        total: Plays = own.sum(axis=1)
        return total

    def metrics(self, ranking: Rows, plays: Plays) -> dict[str, float]:
        """What a ranking was worth by these plays, (n,); only the tracks that decide are looked at one by one."""
        played = np.flatnonzero(plays)
        best = played[top_rows(played, plays[played].astype(np.float64), K)]
        ranked_high = ranking[:K]
        rows = {*best.tolist(), *ranked_high[ranked_high >= 0].tolist()}
        actual = {row: int(plays[row]) for row in rows if plays[row]}
        return {name: round(value, 6) for name, value in evaluate(ranking, actual).items()}


def read_facts(history: History, week: ChartWeek, span_weeks: int, groups: Collection[str]) -> Facts:
    """The weeks of the span that ends with the closed week, and two at least; each is read once.

    Raises:
        HistoryError: a file is broken.
    """
    weeks = [of_span.name for of_span in week.span(max(2, span_weeks))]
    parts = [_read_part(history, weeks, part, groups) for part in history.parts(weeks)]
    track_ids = pa.concat_arrays([part.track_ids for part in parts])
    by_id = pc.array_sort_indices(track_ids)
    return Facts(
        track_ids.take(by_id),
        np.concatenate([part.of_all for part in parts])[by_id],
        {group: np.concatenate([part.of_group[group] for part in parts])[by_id] for group in groups},
    )


def _read_part(history: History, weeks: Sequence[str], part: Part, groups: Collection[str]) -> Facts:
    track_ids = history.tracks(part)["id"].combine_chunks()
    of_all, of_group = _nought(track_ids, weeks), {group: _nought(track_ids, weeks) for group in groups}
    for column, counts in enumerate(history.rows(weeks, part, ("track_id", "group", "plays"))):
        rows = pc.index_in(counts["track_id"], value_set=track_ids).fill_null(-1).to_numpy()
        plays = counts["plays"].to_numpy()
        np.add.at(of_all[:, column], rows[rows >= 0], plays[rows >= 0])
        for group, total in of_group.items():
            which = (rows >= 0) & pc.equal(counts["group"], group).to_numpy()
            np.add.at(total[:, column], rows[which], plays[which])
    return Facts(track_ids, of_all, of_group)


def _nought(track_ids: pa.StringArray, weeks: Sequence[str]) -> Plays:
    return np.zeros((len(track_ids), len(weeks)), np.int64)
