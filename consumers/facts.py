"""What was played of the catalogue in the weeks of a list, by everyone and by each group."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.history import History
from features.weeks import ChartWeek
from models.metrics import K, evaluate
from models.ranking import ranked
from models.scoring import top_rows

Plays = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Facts:
    """The plays of every track of the catalogue: what no list may hold can be in no true list either."""

    track_ids: pd.Index
    """(n,)"""
    of_all: Plays
    """(n, weeks), oldest first; the last is the closed week"""
    of_group: dict[str, Plays]
    """The same, of the listeners who were in the group in that week."""

    def naive(self, span_weeks: int) -> list[str]:
        """The ranking of last week again: the span's known weeks, and the last of them once more."""
        known = self.of_all[:, -span_weeks:-1].sum(axis=1)
        return ranked(self.track_ids.to_numpy(object), (known + self.of_all[:, -2]).astype(np.float64))

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

    def metrics(self, ranking: Sequence[str], plays: Plays) -> dict[str, float]:
        """What a ranking was worth by these plays, (n,); only the tracks that decide are looked at one by one."""
        played = np.flatnonzero(plays)
        best = played[top_rows(self.track_ids[played].to_numpy(object), plays[played].astype(np.float64), K)]
        ranked_high = self.track_ids.get_indexer(pd.Index(ranking[:K], dtype=object))
        rows = {*best.tolist(), *ranked_high[ranked_high >= 0].tolist()}
        actual = {str(self.track_ids[row]): int(plays[row]) for row in rows if plays[row]}
        return {name: round(value, 6) for name, value in evaluate(ranking, actual).items()}


def read_facts(history: History, week: ChartWeek, span_weeks: int, groups: Collection[str]) -> Facts:
    """The weeks of the span that ends with the closed week, and two at least; each is read once.

    Raises:
        HistoryError: a file is broken.
    """
    weeks = [of_span.name for of_span in week.span(max(2, span_weeks))]
    parts = list(_parts(history, weeks, groups))
    return Facts(
        pd.Index(np.concatenate([part.track_ids for part in parts]), dtype=object),
        np.concatenate([part.of_all for part in parts]),
        {group: np.concatenate([part.of_group[group] for part in parts]) for group in groups},
    )


def _parts(history: History, weeks: Sequence[str], groups: Collection[str]) -> Iterator[Facts]:
    for part in history.parts(weeks):
        track_ids = pd.Index(history.catalogue(part)["id"], dtype=object)
        yield _facts(track_ids, history.read(weeks, part, kinds=("plays",)), weeks, groups)


def _facts(track_ids: pd.Index, counts: pd.DataFrame, weeks: Sequence[str], groups: Collection[str]) -> Facts:
    rows = track_ids.get_indexer(pd.Index(counts["track_id"], dtype=object))
    counts, rows = counts[rows >= 0], rows[rows >= 0]
    columns, plays = np.searchsorted(weeks, counts["week"].to_numpy(object)), counts["plays"].to_numpy(np.int64)

    def summed(which: NDArray[np.bool_]) -> Plays:
        total = np.zeros((len(track_ids), len(weeks)), np.int64)
        np.add.at(total, (rows[which], columns[which]), plays[which])
        return total

    of_group = {group: summed((counts["group"] == group).to_numpy()) for group in groups}
    return Facts(track_ids, summed(np.ones(len(rows), np.bool_)), of_group)
