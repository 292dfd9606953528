"""Why a track is where it is: its counts, its features, their context, each model's score and rank, its lists.

Of a run and of history only what tells of the track is read: the ids and scores once a run, a row, a slice.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from consumers.runs import RunError, Runs
from features.columns import KINDS
from features.context import CONTEXT
from features.history import History
from features.packing import slice_of
from features.table import N_WEEKS, STATIC_FEATURES
from features.weeks import ChartWeek
from producers.playlists import Playlist

SCORE, PREDICTION = "score_", "prediction_"
RANKED_BY = ("track_id", "listed", SCORE)
DECIMALS = 6
Stamp = tuple[int, int, int]
"""What changes when a file is written anew."""


class Counted(BaseModel):
    """What a track was played, skipped and liked in a week by the listeners of a group."""

    model_config = ConfigDict(frozen=True)

    week: str
    group: str
    plays: int
    skips: int
    likes: int


class ModelPlace(BaseModel):
    """What a model says of a track; rank is its place among the tracks of the catalogue that can be listed."""

    model_config = ConfigDict(frozen=True)

    model: str
    prediction: float | None
    score: float | None
    rank: int | None
    of: int


class ListPlace(BaseModel):
    """Where a track stands in a group's list; rank is None where it does not."""

    model_config = ConfigDict(frozen=True)

    group: str
    model: str
    rank: int | None
    score_of_last_place: float | None


class Why(BaseModel):
    """Why a track is where it is in the lists for a week, made after the closed week; None is what is not known."""

    model_config = ConfigDict(frozen=True)

    track_id: str
    name: str
    closed_week: str
    week: str
    in_catalogue: bool
    counts: tuple[Counted, ...]
    features: Mapping[str, float | None]
    context: Mapping[str, float | None]
    models: tuple[ModelPlace, ...]
    lists: tuple[ListPlace, ...]


class Explanations:
    """What runs and history on this machine explain; the scores of the run asked for last are remembered."""

    def __init__(self, runs: Runs, history: History) -> None:
        self._runs = runs
        self._history = history
        self._scores: tuple[Path, Stamp, pa.Table] | None = None
        self._one_at_a_time = threading.Lock()

    def of(self, track_id: str, week: ChartWeek, lists: Sequence[Playlist]) -> Why | None:
        """Why the track is where it is in the lists for the week; None where its last run has no such track.

        Raises:
            RunError: no run of the week is kept here, or it is broken.
            HistoryError: a file of the history is broken.
        """
        path = self._runs.latest_file(week.name)
        if path is None:
            raise RunError(f"no run for week {week} is kept here: expected one that `hitparade consume weekly` made")
        try:
            with path.open("rb") as file:  # one file throughout, even where the run is made anew meanwhile
                scores = self._scores_in(path, file)
                row = pc.index(scores["track_id"], track_id).as_py()
                known = {} if row < 0 else _row(pq.ParquetFile(file), row)
        except (OSError, KeyError, pa.ArrowException) as cause:
            raise RunError(
                f"the last run for week {week} cannot be read: {type(cause).__name__} in {path.name}"
            ) from cause
        return self._explained(known, scores, week, lists) if known else None

    def _scores_in(self, path: Path, file: BinaryIO) -> pa.Table:
        """The columns that tracks are ranked by."""
        stat = os.fstat(file.fileno())
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        with self._one_at_a_time:  # they are large, and once is enough
            if self._scores is None or self._scores[:2] != (path, stamp):
                names = [name for name in pq.read_schema(file).names if name.startswith(RANKED_BY)]
                self._scores = path, stamp, pq.read_table(file, columns=names, use_threads=False)
            return self._scores[2]

    def _explained(self, known: Mapping[str, Any], scores: pa.Table, week: ChartWeek, lists: Sequence[Playlist]) -> Why:
        track_id, closed = known["track_id"], week.before()
        listed = scores.filter(scores["listed"])
        models = [name.removeprefix(SCORE) for name in scores.column_names if name.startswith(SCORE)]
        return Why(
            track_id=track_id,
            name=known["name"],
            closed_week=closed.name,
            week=week.name,
            in_catalogue=known["listed"],
            counts=self._counts(track_id, closed),
            features=_numbers(known, STATIC_FEATURES),
            context=_numbers(known, CONTEXT),
            models=tuple(_model_place(known, model, listed) for model in models),
            lists=tuple(place_in(playlist, track_id) for playlist in lists),
        )

    def _counts(self, track_id: str, closed: ChartWeek) -> tuple[Counted, ...]:
        slice_ = slice_of(track_id, self._history.n_slices())
        names = [week.name for week in closed.span(N_WEEKS)]
        rows = self._history.rows(names, [slice_], ("week", "track_id", "group", *KINDS))
        found = [table.filter(pc.field("track_id") == track_id).sort_by("group") for table in rows]
        return tuple(Counted.model_validate(row) for table in found for row in table.to_pylist())


def place_in(playlist: Playlist, track_id: str) -> ListPlace:
    """Where the track stands in a list."""
    rank = next((entry.rank for entry in playlist.tracks if entry.track_id == track_id), None)
    last = playlist.tracks[-1].score if playlist.tracks else None
    return ListPlace(group=playlist.group, model=playlist.model, rank=rank, score_of_last_place=last)


def _row(file: pq.ParquetFile, row: int) -> dict[str, Any]:
    """A row, of which only the row group that holds it is read."""
    for n in range(file.num_row_groups):
        n_rows = file.metadata.row_group(n).num_rows
        if row < n_rows:
            found: dict[str, Any] = file.read_row_group(n, use_threads=False).slice(row, 1).to_pylist()[0]
            return found
        row -= n_rows
    raise KeyError(row)


def _model_place(known: Mapping[str, Any], model: str, listed: pa.Table) -> ModelPlace:
    """A track's rank is one more than how many of the listed ones come before it; a model that failed ranks none."""
    score = _number(known[SCORE + model])
    rank = 1 + _n_before(known[SCORE + model], known["track_id"], listed, SCORE + model) if score is not None else None
    return ModelPlace(
        model=model,
        prediction=_number(known.get(PREDICTION + model)),
        score=score,
        rank=rank if known["listed"] else None,
        of=len(listed),
    )


def _n_before(score: float, track_id: str, listed: pa.Table, column: str) -> int:
    """Those with a higher score, and those with the same and a smaller id."""
    is_equal = pc.and_(pc.equal(listed[column], score), pc.less(listed["track_id"], track_id))
    return pc.sum(pc.or_(pc.greater(listed[column], score), is_equal)).as_py() or 0


def _numbers(known: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    return {name: _number(known[name]) for name in names if name in known}


def _number(value: float | None) -> float | None:
    return None if value is None or isnan(value) else round(float(value), DECIMALS)
