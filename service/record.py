"""Each model's record against naive: the weeks as lines, and the means with intervals, computed once a change."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.worth import NAIVE, lacking, means
from models.reports import Report
from producers.playlists import Evaluation
from service.drawing import Points

METRICS = {"captured_plays": "captured plays", "ndcg_at_50": "NDCG@50", "precision_at_50": "precision@50"}
Rows = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Means:
    """The means of the evaluations given last; whoever asks while they are computed waits for them."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _of: list[Evaluation] = field(default_factory=list)
    _rows: Rows = ()

    def of(self, found: list[Evaluation]) -> Rows:
        """By group, model and what was judged, with the interval of the difference to naive; not naive's own."""
        if found != self._of:
            with self._lock:
                if found != self._of:
                    self._rows = [row for row in means(found, tuple(METRICS)) if row["model"] != NAIVE]
                    self._of = found
        return self._rows


def whole(found: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that have all of the metrics that are shown."""
    return [evaluation for evaluation in found if not lacking(evaluation, METRICS)]


def series(found: Sequence[Evaluation], metric: str) -> dict[str, Points]:
    """By group, the difference of its lists to naive's in each week."""
    groups = sorted({evaluation.group for evaluation in found})
    return {
        group: [(e.week, e.metrics[metric] - e.naive[metric]) for e in found if e.group == group] for group in groups
    }


def effects_reach(report: Report) -> float:
    """The farthest end of any interval of a relative effect from zero."""
    ends = [end for effect in report.effects for end in (effect.relative_low, effect.relative_high)]
    return max((abs(end) for end in ends if end is not None), default=0.0)


def reach(rows: Rows) -> float:
    """The farthest end of any interval of captured plays from zero."""
    return max((abs(value) for row in rows for value in row["vs_naive"]["captured_plays"]), default=0.0)
