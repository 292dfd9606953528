"""The formats of the original study: what its two models were fed."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.history import History
from features.tracks import AUDIO_FEATURES, release_year_and_week
from models.examples import WEEK_COLUMNS, play_matrix, weeks_before, weeks_until
from models.scoring import NotEnoughHistory

COUNTS = {"plays": "play_count", "likes": "likes", "skips": "number_of_skips"}
WHOLE = {"popularity", "duration_ms", "explicit", "key", "release_date_year", "release_date_week", *COUNTS.values()}


def linear_format(history: History, target: str) -> list[dict[str, Any]]:
    """One {"track_id", "play_count", "play_count_week_1" … "play_count_week_4"} a track ever played, by track id.

    Args:
        history: what was counted.
        target: the week of play_count; week 4 is the one before it.

    Raises:
        NotEnoughHistory: the target or a week of the four before it is missing.
        HistoryError: a file is broken.
    """
    weeks = [*weeks_before(target), target]
    _require(history, weeks)
    matrix = play_matrix(history, weeks_until(history, target))
    plays = pd.DataFrame(matrix.plays, index=matrix.track_ids, columns=matrix.weeks)
    columns = {"track_id": list(matrix.track_ids), "play_count": plays[target].to_list()}
    columns |= {name: plays[week].to_list() for name, week in zip(WEEK_COLUMNS, weeks, strict=False)}
    return _records(columns)


def neural_format(history: History, target: str) -> list[list[dict[str, Any]]]:
    """Four weeks, oldest first, each with the same tracks (those ever played) by track id, with their 19 fields.

    A feature that is not known is None.

    Args:
        history: what was counted.
        target: the week after the four; it may itself be to come.

    Raises:
        NotEnoughHistory: one of the four weeks is missing.
        HistoryError: a file is broken.
    """
    weeks = weeks_before(target)
    _require(history, weeks)
    played = play_matrix(history, weeks_until(history, target)).track_ids
    known = history.catalogue().set_index("id").reindex(played)
    released = [release_year_and_week(None if pd.isna(text) else text) for text in known["release_date"]]
    columns = {"track_id": list(played)} | {name: _plain(name, known[name]) for name in AUDIO_FEATURES}
    columns |= {
        "release_date_year": [year for year, _ in released],
        "release_date_week": [week for _, week in released],
    }
    counts = history.read(weeks)
    return [_records(columns | _counted(counts[counts["week"] == week], played)) for week in weeks]


def _counted(counts: pd.DataFrame, track_ids: NDArray[np.object_]) -> dict[str, list[Any]]:
    sums = counts.groupby("track_id")[list(COUNTS)].sum().reindex(track_ids, fill_value=0)
    return {name: sums[kind].to_list() for kind, name in COUNTS.items()}


def _require(history: History, weeks: Sequence[str]) -> None:
    missing = sorted(set(weeks) - set(history.weeks()))
    if missing:
        raise NotEnoughHistory(f"needs the weeks {weeks[0]} to {weeks[-1]}, has no {', '.join(missing)}")


def _plain(name: str, column: Iterable[float]) -> list[float | int | None]:
    """As JSON has them: no NaN, and no fraction in what is counted in whole numbers."""
    whole = name in WHOLE
    return [None if math.isnan(x) else int(x) if whole and x.is_integer() else x for x in map(float, column)]


def _records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
