"""What models were worth over the weeks: means of the evaluations, and how sure their difference to naive is."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from producers.playlists import Evaluation, Worth

METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays", "rbo", "criterion", "exact_places")
VIEW = ("group", "model", "judged", "span_weeks", "listeners")
DECIMALS = 6
NAIVE = "naive"


def means(found: Iterable[Evaluation], metrics: Sequence[str] = METRICS) -> list[dict[str, Any]]:
    """By group, model and what was judged: the means over the weeks, and how sure the difference to naive's is."""
    from models.intervals import interval  # scipy takes half a second to import

    judged: dict[tuple[str, str, str, int, str], list[Worth]] = {}
    for evaluation in found:
        for (what, span_weeks, listeners), worth in views(evaluation):
            view = (evaluation.group, evaluation.model, what, span_weeks, listeners)
            judged.setdefault(view, []).append(worth)
    rows = []
    for view, worths in sorted(judged.items(), key=lambda row: row[0][:2]):
        naive = {name: fmean(worth.naive[name] for worth in worths) for name in metrics}
        vs_naive = {name: interval([worth.metrics[name] - worth.naive[name] for worth in worths]) for name in metrics}
        rows.append(
            {**dict(zip(VIEW, view, strict=True)), "weeks": len(worths)}
            | {name: _rounded(fmean(worth.metrics[name] for worth in worths)) for name in metrics}
            | {"naive": {name: _rounded(value) for name, value in naive.items()}}
            | {"vs_naive": {name: [_rounded(value) for value in values] for name, values in vs_naive.items()}}
        )
    return rows


def views(evaluation: Evaluation) -> Iterator[tuple[tuple[str, int, str], Worth]]:
    """What was judged, over how many weeks, by whose plays."""
    whole = Worth(metrics=evaluation.metrics, naive=evaluation.naive)
    for what, span_weeks, listeners, worth in (
        ("list", evaluation.span_weeks, "all", whole),
        ("list", evaluation.span_weeks, "own", evaluation.own),
        ("forecast", 1, "all", evaluation.forecast),
        ("forecast", 1, "own", evaluation.own_forecast),
    ):
        if worth:
            yield (what, span_weeks, listeners), worth


def lacking(evaluation: Evaluation, metrics: Iterable[str] = METRICS) -> list[str]:
    """The metrics that are not in all of its views; an evaluation that lacks one can be in no mean of it."""
    there = set.intersection(*(worth.metrics.keys() & worth.naive for _, worth in views(evaluation)))
    return sorted(set(metrics) - there)


def _rounded(value: float) -> float:
    return round(value, DECIMALS) + 0.0  # no -0.0
