"""A kept run's ranking against what happened, or against that of another run.

A ranking is over a span of weeks: the predicted week, and the plays of the known weeks before it. At the span of lists
its top is the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from consumers.runs import RunError, RunName, Runs
from features.columns import KINDS
from features.history import History
from features.table import N_WEEKS, FeatureTable
from features.weeks import ChartWeek
from models.metrics import K, evaluate, ranks
from models.ranking import list_scores, ranked
from models.scoring import ScoringError, checked
from producers.playlists import Playlist

NAIVE = "naive"
STUDY_SPAN_WEEKS = {"neural": 4, "linear": 5}
"""The original study ranked by its network's prediction and the last three weeks, and by its linear model's prediction
and all four. What it held them against were the same weeks, and the plays of the predicted one."""

PLAYS = tuple(f"plays_week_{n}" for n in range(1, N_WEEKS + 1))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The tracks that a run could list, best first, by a model's prediction and the known weeks of the span."""

    run: RunName
    model: str
    span_weeks: int
    track_ids: list[str]
    names: dict[str, str]
    """of the first K"""


@dataclass(frozen=True, slots=True)
class Move:
    """A track's place in two rankings; None where it was not ranked."""

    track_id: str
    name: str
    place: int | None
    place_against: int | None

    @property
    def distance(self) -> int:
        """How many places lie between the two; 0 where one is not known."""
        return abs(self.place - self.place_against) if self.place and self.place_against else 0


@dataclass(frozen=True, slots=True)
class Differences:
    """How the first K of a ranking differ from those of another."""

    entered: list[Move]
    left: list[Move]
    moved: list[Move]
    """in both; the furthest first"""


def study_span(run: RunName, model: str) -> int:
    """The span of the study's own ranking.

    Raises:
        RunError: the study had none like it.
    """
    if model not in STUDY_SPAN_WEEKS:
        raise RunError(f"run {run} is of model {model!r}: expected one of {', '.join(STUDY_SPAN_WEEKS)} with --study")
    return STUDY_SPAN_WEEKS[model]


def read_ranking(runs: Runs, run: RunName, model: str, span_weeks: int) -> Ranking:
    """What a run would have listed with this model (one that it opened) over this span.

    Raises:
        RunError: the run's file is gone or broken, or the model has failed in it.
    """
    prediction = f"prediction_{model}"
    schema = pa.schema(
        [("track_id", pa.string()), ("name", pa.string()), ("listed", pa.bool_())]
        + [(name, pa.int64()) for name in PLAYS]
        + [(prediction, pa.float64())]
    )
    tracks = runs.columns(run, schema)
    tracks = tracks[tracks["listed"]]
    try:
        scores = checked(list_scores(_table(tracks), tracks[prediction].to_numpy(np.float64), span_weeks), len(tracks))
    except ScoringError as cause:
        raise RunError(f"run {run} cannot be used: of {prediction}, {cause}") from cause
    ranking = ranked(tracks["track_id"].to_numpy(object), scores)
    names = tracks.set_index("track_id")["name"].reindex(ranking[:K])
    return Ranking(run, model, span_weeks, ranking, {str(track_id): str(name) for track_id, name in names.items()})


def _table(tracks: pd.DataFrame) -> FeatureTable:
    """As much of the table as the rule of lists looks at: plays."""
    counts = np.zeros((len(tracks), N_WEEKS, len(KINDS)), np.int64)
    counts[:, :, KINDS.index("plays")] = tracks[list(PLAYS)]
    ids, names = tracks["track_id"].to_numpy(object), tracks["name"].to_numpy(object)
    listed, nothing = tracks["listed"].to_numpy(np.bool_), np.empty((len(ids), 0), np.float32)
    return FeatureTable(ids, names, listed, nothing[:, :, None], counts, nothing)


def check_is_the_list(ranking: Ranking, playlist: Playlist) -> None:
    """Refuse a ranking whose top is not the list that was made.

    Raises:
        RunError: the list was made over another span, or the files of the run do not belong together.
    """
    listed = [entry.track_id for entry in playlist.tracks]
    if ranking.track_ids[: len(listed)] != listed:
        raise RunError(
            f"run {ranking.run} did not list what its tracks give over {ranking.span_weeks} weeks: if "
            "HITPARADE_LIST_SPAN_WEEKS was another then, say it with --span"
        )


def missing_weeks(history: History, week: ChartWeek, span_weeks: int, playlist: Playlist) -> list[str]:
    """Weeks of the span that history lacks: the one that the list is for, and those before it in which it had plays."""
    needed = {week} | {
        week.before(N_WEEKS - n) for entry in playlist.tracks for n, plays in enumerate(entry.plays) if plays
    }
    known = history.weeks()
    return [of_span.name for of_span in week.span(span_weeks) if of_span in needed and of_span.name not in known]


def against(
    ranking: Sequence[str], truth: Sequence[str], worth: tuple[Mapping[str, float], Mapping[str, float]] | None
) -> dict[str, float | None]:
    """Every metric of one ranking, with the first K of another as the true list.

    NDCG and captured plays are those of what happened, as a share of the other's: above 1 this ranking was the better
    one. They are None where that is not known, or where the other has none.

    Args:
        ranking: the one that is judged.
        truth: the other.
        worth: the metrics of both by what happened, where that is known.
    """
    places = {track_id: K - n for n, track_id in enumerate(truth[:K])}
    metrics: dict[str, float | None] = {**evaluate(ranking, places)}
    for name in (f"ndcg_at_{K}", "captured_plays"):
        own, others = (of_one[name] for of_one in worth) if worth else (0.0, 0.0)
        metrics[name] = own / others if others else None
    return metrics


def differences(ranking: Ranking, truth: Ranking) -> Differences:
    """What is in the first K of one ranking and not of the other, by place; and what stands elsewhere in both."""
    names = {**truth.names, **ranking.names}
    places, others = (_places(tracks, list(names)) for tracks in (ranking.track_ids, truth.track_ids))
    moves = {i: Move(i, names[i], *both) for i, *both in zip(names, places, others, strict=True)}
    moved = [moves[i] for i in ranking.names if i in truth.names and moves[i].distance]
    return Differences(
        entered=[moves[i] for i in ranking.names if i not in truth.names],
        left=[moves[i] for i in truth.names if i not in ranking.names],
        moved=sorted(moved, key=lambda move: -move.distance),
    )


def _places(ranking: Sequence[str], track_ids: Sequence[str]) -> list[int | None]:
    """From 1; None where a track is not ranked."""
    return [int(place) if place <= len(ranking) else None for place in ranks(ranking, track_ids)]
