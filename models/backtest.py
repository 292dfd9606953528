"""Rolling origin: what each model would have said of past weeks before they came, and what it was worth.

Candidates are the tracks played in the four weeks before the target, all that a model is given; the facts are the
plays of every track, so that what was new costs all models alike, and the bound: the best order of the candidates.
A track without counts in a week gains no plays there. Where the history is of charts, that is below the last rank and
not zero: what it would have gained is not known, and so not credited.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import KINDS
from features.history import History
from features.table import FeatureTable, tables
from features.weeks import Calendar
from models.examples import targets, weeks_before
from models.forecasters import Forecaster
from models.intervals import interval
from models.metrics import best, evaluate, ranks
from models.ranking import list_scores, ranked
from models.scoring import ModelError, Scores, checked

NAIVE, BOUND = "naive", "bound"
PLAYS = KINDS.index("plays")
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What each model said of one week, by the weeks before it alone."""

    week: str
    track_ids: NDArray[np.object_]
    """(n,) candidates"""
    scores: dict[str, Scores]
    """(n,) a model: what its list would have ranked by"""
    fallbacks: dict[str, str]
    """Why naive's scores stand where a model's should."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model's ranking of one week was worth."""

    week: str
    model: str
    metrics: dict[str, float]
    places_off: dict[str, int]
    """How far from its true place each candidate of the true list was ranked."""
    fallback: str | None = None
    """Why naive's ranking was judged in its place."""


def weeks_to_judge(weeks: Sequence[str], n_last: int | None = None) -> tuple[list[str], list[str]]:
    """Of the last n calendar weeks, those that can be forecast and judged, and those passed over.

    Args:
        weeks: the names of all weeks there are, oldest first; a week that is not there is missing, not zero.
        n_last: 30 % of the calendar weeks from the first to the last, rounded up, unless given.

    >>> weeks_to_judge(["2023-W01", "2023-W02", "2023-W03", "2023-W04", "2023-W05", "2023-W07"])
    (['2023-W05'], ['2023-W06', '2023-W07'])
    """
    if not weeks:
        return [], []
    first, last = Calendar().parse(weeks[0]), Calendar().parse(weeks[-1])
    n_weeks = (last.first_day - first.first_day).days // 7 + 1
    wanted = [week.name for week in last.span(min(n_last or -(-n_weeks * 3 // 10), n_weeks))]
    possible = {weeks[place] for place in targets(weeks)}
    return [week for week in wanted if week in possible], [week for week in wanted if week not in possible]


def backtest(
    history: History,
    weeks: Sequence[str],
    forecasters: Mapping[str, Forecaster],
    span_weeks: int = 1,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Judged]:
    """Every model and the bound, week after week, oldest first.

    Args:
        history: what was counted.
        weeks: to be forecast and judged, each with the four before it in the history.
        forecasters: by name; naive, which must be among them, stands in for a model that fails.
        span_weeks: 1 judges the order by the plays of the week itself; n by those of the n weeks that end with it,
            of which all but the last are known, as a list of that span does.
        advance: told of each forecast.

    Raises:
        ModelError: a model has failed in every week.
        HistoryError: a file is broken.
    """
    judged = roll(history, weeks, forecasters, span_weeks, advance)
    check_judged(judged)
    return judged


def roll(
    history: History,
    weeks: Sequence[str],
    forecasters: Mapping[str, Forecaster],
    span_weeks: int = 1,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Judged]:
    """As backtest, but of a part of the weeks: a model may fail in all of them."""
    judged = []
    for week in weeks:
        judged += judge(history, forecast(history, week, forecasters, span_weeks, advance), span_weeks)
    return judged


def check_judged(judged: Collection[Judged]) -> None:
    """Refuse results of which a model has none of its own.

    Raises:
        ModelError: it has failed in every week.
    """
    for model, own in by_model(judged).items():
        if all(result.fallback is not None for result in own):
            raise ModelError(f"{model} could forecast none of {len(own)} weeks; the last one: {own[-1].fallback}")


def stretches(weeks: Sequence[str], n_weeks: int) -> list[list[str]]:
    """The weeks in parts of so many calendar weeks at most: what was fitted for a part's first week is used in it all.

    >>> stretches(["2023-W05", "2023-W06", "2023-W08", "2023-W09", "2023-W14"], 4)
    [['2023-W05', '2023-W06', '2023-W08'], ['2023-W09'], ['2023-W14']]
    """
    parts: list[list[str]] = []
    first = 0
    for week in weeks:
        day = Calendar().parse(week).first_day.toordinal()
        if not parts or day - first >= 7 * n_weeks:
            parts.append([])
            first = day
        parts[-1].append(week)
    return parts


def forecast(
    history: History,
    week: str,
    forecasters: Mapping[str, Forecaster],
    span_weeks: int = 1,
    advance: Callable[[int], None] = lambda n: None,
) -> Forecasts:
    """What each model would have said; see backtest for the arguments."""
    before = weeks_before(week)
    parts = [(table, np.flatnonzero(table.counts[:, :, PLAYS].any(axis=1))) for table in tables(history, before)]
    track_ids = np.concatenate([table.track_ids[rows] for table, rows in parts])
    scores: dict[str, Scores] = {}
    fallbacks: dict[str, str] = {}
    for model in sorted(forecasters, key=lambda model: model != NAIVE):
        try:
            scores[model] = _scores(forecasters[model](history, before[-1]), parts, span_weeks)
        except ModelError as cause:
            if model == NAIVE:
                raise
            scores[model], fallbacks[model] = scores[NAIVE], str(cause)
        advance(1)
    return Forecasts(week, track_ids, scores, fallbacks)


def _scores(
    score: Callable[[FeatureTable], Scores], parts: Sequence[tuple[FeatureTable, NDArray[np.intp]]], span_weeks: int
) -> Scores:
    """What the list would rank the candidates by; the whole table is scored, as production does."""
    return np.concatenate(
        [list_scores(table, checked(score(table), len(table.track_ids)), span_weeks)[rows] for table, rows in parts]
    )


def judge(history: History, forecasts: Forecasts, span_weeks: int = 1) -> list[Judged]:
    """Hold each model's order, and the best that these candidates allow, against what was played."""
    facts = _facts(history, forecasts.week, span_weeks)
    true_plays = np.array([facts.get(track_id, 0) for track_id in forecasts.track_ids], np.float64)
    return [
        Judged(
            forecasts.week,
            model,
            evaluate(ranking := ranked(forecasts.track_ids, scores), facts),
            _places_off(ranking, best(facts)),
            forecasts.fallbacks.get(model),
        )
        for model, scores in {**forecasts.scores, BOUND: true_plays}.items()
    ]


def _facts(history: History, week: str, span_weeks: int) -> dict[str, int]:
    """The plays over the span of every track that had any."""
    counts = history.read([*weeks_before(week, span_weeks - 1), week], kinds=("plays",))
    plays = counts.groupby("track_id")["plays"].sum()
    return {str(track_id): int(n) for track_id, n in plays.items() if n > 0}


def _places_off(ranking: Sequence[str], truth: Sequence[str]) -> dict[str, int]:
    places = zip(truth, ranks(ranking, truth).tolist(), strict=True)
    return {
        track_id: abs(place - true_place)
        for true_place, (track_id, place) in enumerate(places, 1)
        if place <= len(ranking)
    }


def by_model(judged: Collection[Judged]) -> dict[str, list[Judged]]:
    """The results of each model, in their order."""
    models: dict[str, list[Judged]] = {}
    for result in judged:
        models.setdefault(result.model, []).append(result)
    return models


def summary(judged: Collection[Judged]) -> dict[str, dict[str, Any]]:
    """By model: the number of weeks, the mean of every metric, and its paired difference to naive with interval."""
    models = by_model(judged)
    return {model: _summary(model, own, models[NAIVE]) for model, own in models.items()}


def _summary(model: str, own: Sequence[Judged], naive: Sequence[Judged]) -> dict[str, Any]:
    metrics = list(own[0].metrics)
    pairs = list(zip(own, naive, strict=True))
    differences = {metric: interval([a.metrics[metric] - b.metrics[metric] for a, b in pairs]) for metric in metrics}
    n_fallbacks = sum(result.fallback is not None for result in own)
    return {
        "model": model,
        "weeks": len(own),
        **{metric: round(fmean(result.metrics[metric] for result in own), DECIMALS) for metric in metrics},
        "vs_naive": {
            metric: [round(value, DECIMALS) + 0.0 for value in found] for metric, found in differences.items()
        },
        **({"fallbacks": n_fallbacks} if n_fallbacks else {}),
    }
