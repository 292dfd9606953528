"""What the lists for a week were worth, once it has closed: against the facts, and beside naive; and the series kept.

A list is judged by the plays over its span, its forecast by those of the closed week alone, where the known past cannot
hide it; both by the plays of all listeners and by those of its own group.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from consumers.facts import Plays, Rows, read_facts
from consumers.runs import Runs, model_in
from features.files import remove_abandoned, replacing
from features.history import History
from features.weeks import NAME, ChartWeek
from models.ranking import DECIMALS, Order, best_first
from producers.playlists import Evaluation, Playlist, Worth, canonical

log = logging.getLogger(__name__)


def evaluate_lists(
    week: ChartWeek, history: History, runs: Runs, playlists: Sequence[Playlist], span_weeks: int
) -> list[Evaluation]:
    """Judge each list for the closed week.

    Raises:
        HistoryError: a file is broken.
    """
    if not playlists:
        return []
    facts = read_facts(history, week, span_weeks, {playlist.group for playlist in playlists})
    naive, naive_forecast = facts.naive(span_weeks), facts.naive(1)
    tracks = _listed(runs.latest(week.name, ("track_id", "listed", "score_", "prediction_")))
    rows = None if tracks is None else facts.rows(tracks["track_id"])

    def worth(ranking: Rows | None, beside: Rows, plays: Plays | None) -> Worth | None:
        if plays is None or ranking is None or not len(ranking):
            return None
        return Worth(metrics=facts.metrics(ranking, plays), naive=facts.metrics(beside, plays))

    evaluations = []
    for playlist in playlists:
        orders = _orders(playlist, tracks)
        listed = facts.rows([entry.track_id for entry in playlist.tracks])
        ranking, forecast = (listed, None) if orders is None or rows is None else (rows[order] for order in orders)
        evaluations.append(
            Evaluation(
                week=playlist.week,
                group=playlist.group,
                experiment=playlist.experiment,
                model=playlist.model,
                model_version=playlist.model_version,
                playlist_id=playlist.id,
                revision=playlist.revision,
                span_weeks=span_weeks,
                n_ranked=len(ranking),
                metrics=facts.metrics(ranking, facts.over(span_weeks)),
                naive=facts.metrics(naive, facts.over(span_weeks)),
                own=worth(ranking, naive, facts.own(playlist.group, span_weeks)),
                forecast=worth(forecast, naive_forecast, facts.over(1)),
                own_forecast=worth(forecast, naive_forecast, facts.own(playlist.group, 1)),
            )
        )
    return evaluations


def _listed(tracks: pd.DataFrame | None) -> pd.DataFrame | None:
    """The tracks of a run that a list may hold, by id."""
    if tracks is None:
        return None
    listed: pd.DataFrame = tracks[tracks["listed"]]
    by_id: pd.DataFrame = listed.iloc[pc.array_sort_indices(pa.array(listed["track_id"], pa.string())).to_numpy()]
    return by_id


def _orders(playlist: Playlist, tracks: pd.DataFrame | None) -> tuple[Order, Order] | None:
    """The run's tracks in the order that the list is the top of, and in that of its forecast alone.

    None where the list's run is not kept here.
    """
    if tracks is None:
        return None
    model = model_in(set(tracks), playlist)
    score, prediction = f"score_{model}", f"prediction_{model}"
    if not {score, prediction} <= set(tracks):
        return None
    order = best_first(tracks[score].to_numpy(np.float64))
    listed = [entry.track_id for entry in playlist.tracks]
    if tracks["track_id"].iloc[order[: len(listed)]].tolist() != listed:
        return None
    return order, best_first(np.round(tracks[prediction].to_numpy(np.float64), DECIMALS))


class Evaluations:
    """The series as kept on disk, which outlives the topic: <folder>/<week>.jsonl, a line a group and revision."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, evaluations: Iterable[Evaluation]) -> None:
        """Add evaluations; one of the same week, group and revision makes way."""
        remove_abandoned(self.folder)
        for week, of_week in groupby(sorted(evaluations, key=_place), key=lambda evaluation: evaluation.week):
            path = self._path(week)
            kept = {_place(evaluation): evaluation for evaluation in (*_read(path), *of_week)}
            lines = [canonical(kept[place].model_dump(mode="json")) + b"\n" for place in sorted(kept)]
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(lines))

    def read(self) -> list[Evaluation]:
        """All of them, by week, group and revision; a line that is none is logged and left out."""
        weeks = sorted(path.stem for path in self.folder.glob("*.jsonl") if NAME.fullmatch(path.stem))
        return [evaluation for week in weeks for evaluation in sorted(_read(self._path(week)), key=_place)]

    def _path(self, week: str) -> Path:
        return self.folder / f"{week}.jsonl"


def _place(evaluation: Evaluation) -> tuple[str, str, int]:
    return evaluation.week, evaluation.group, evaluation.revision


def _read(path: Path) -> Iterator[Evaluation]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    for n, line in enumerate(lines, 1):
        try:
            yield Evaluation.model_validate_json(line)
        except ValidationError as cause:
            log.error("line %d of %s is no evaluation: %s", n, path, cause)
