"""What the lists for a week were worth, once it has closed: against the facts, and beside naive."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from consumers.runs import Runs
from features.history import History
from features.weeks import ChartWeek
from models.metrics import evaluate
from models.ranking import ranked
from producers.playlists import Evaluation, Playlist


def evaluate_lists(
    week: ChartWeek, history: History, runs: Runs, playlists: Sequence[Playlist], span_weeks: int
) -> list[Evaluation]:
    """Judge each list for the closed week by the plays over its span: the known weeks and the one to come."""
    if not playlists:
        return []
    listed = _listed(history)
    known, last = _plays(history, week.before(), span_weeks - 1), _plays(history, week.before(), 1)
    naive = _ranked(known.add(last, fill_value=0).reindex(listed, fill_value=0))
    facts = _plays(history, week, span_weeks).reindex(listed, fill_value=0)
    actual = {str(track_id): int(plays) for track_id, plays in facts.items() if plays}
    naive_metrics = evaluate(naive, actual)
    return [_evaluation(playlist, runs, actual, naive_metrics, span_weeks) for playlist in playlists]


def _evaluation(
    playlist: Playlist, runs: Runs, actual: dict[str, int], naive_metrics: dict[str, float], span_weeks: int
) -> Evaluation:
    ranking = full_ranking(playlist, runs)
    return Evaluation(
        week=playlist.week,
        group=playlist.group,
        experiment=playlist.experiment,
        model=playlist.model,
        model_version=playlist.model_version,
        playlist_id=playlist.id,
        revision=playlist.revision,
        span_weeks=span_weeks,
        n_ranked=len(ranking),
        metrics=_rounded(evaluate(ranking, actual)),
        naive=_rounded(naive_metrics),
    )


def full_ranking(playlist: Playlist, runs: Runs) -> list[str]:
    """The whole ranking that the list is the top of; the list alone, where its run is not kept here."""
    listed = [entry.track_id for entry in playlist.tracks]
    tracks = runs.latest(playlist.week)
    column = f"score_{playlist.model}"
    if tracks is None or column not in tracks:
        return listed
    tracks = tracks[tracks["listed"]]
    ranking = ranked(tracks["track_id"].to_numpy(object), tracks[column].to_numpy(np.float64))
    return ranking if ranking[: len(listed)] == listed else listed


def _plays(history: History, last: ChartWeek, n_weeks: int) -> pd.Series:
    """Plays by track over the n weeks that end with `last`; none for n_weeks 0."""
    names = [week.name for week in last.span(n_weeks)] if n_weeks else []
    frame = history.read(names, kinds=("plays",))
    return frame.groupby("track_id")["plays"].sum()


def _listed(history: History) -> list[str]:
    """The catalogue's track ids: what no list may hold can be in no true list either."""
    slices = [history.catalogue([slice_])["id"] for slice_ in range(history.n_slices())]
    return [str(track_id) for ids in slices for track_id in ids]


def _ranked(plays: pd.Series) -> list[str]:
    ids: NDArray[np.object_] = plays.index.to_numpy(object)
    return ranked(ids, plays.to_numpy(np.float64))


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}
