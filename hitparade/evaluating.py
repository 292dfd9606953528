"""The command `evaluations`: what the published lists were worth, week by week, and their means beside naive."""

import argparse
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from consumers.kafka import KafkaUnavailable, TopicWatch, place_of, read_to_end
from consumers.worth import NAIVE, lacking, means
from features.files import replacing
from hitparade import output, wiring
from hitparade.errors import NotInstalled, OutputError, UsageError
from hitparade.settings import Settings
from producers.playlists import Evaluation

log = logging.getLogger(__name__)
NONE_YET = "none yet: a list is evaluated when its week has closed and been run"
COLUMNS = {
    "precision_at_50": "#precision",
    "ndcg_at_50": "#NDCG",
    "captured_plays": "#captured",
    "rbo": "#RBO",
    "criterion": "#criterion",
    "exact_places": "#exact",
}
COMPARED = ("precision_at_50", "ndcg_at_50", "captured_plays")


def evaluations(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the series and its means, as tables, as JSON, and as a picture."""
    found = known(settings)
    if arguments.out:
        _picture(found, arguments.out)
    if arguments.json:
        output.print_json(means(found) if arguments.means else (e.model_dump(mode="json") for e in found))
        return 0
    if not found:
        print(NONE_YET)
        return 0
    if not arguments.means:
        _print_series(found)
    if arguments.means or len({evaluation.week for evaluation in found}) > 1:
        _print_means(means(found))
    if arguments.out:
        print(arguments.out)
    return 0


def known(settings: Settings) -> list[Evaluation]:
    """The last evaluation of each list, by week and group: the topic's, and from disk what the topic does not have.

    Raises:
        KafkaUnavailable: nobody answers, and nothing is on disk.
    """
    kept = wiring.evaluations(settings)
    latest = {evaluation.key: evaluation for evaluation in kept.read()}
    try:
        latest |= {evaluation.key: evaluation for evaluation in read_evaluations(settings)}
    except KafkaUnavailable as cause:
        if not latest:
            raise
        log.warning("%s; this is what is kept in %s", cause, kept.folder)
    return [latest[key] for key in sorted(latest) if _is_whole(latest[key])]


def _is_whole(evaluation: Evaluation) -> bool:
    """Whether every metric that is shown is in it."""
    missing = lacking(evaluation)
    if missing:
        log.error("the evaluation of %s is left out: it lacks %s", evaluation.key, ", ".join(missing))
    return not missing


def read_evaluations(settings: Settings) -> Iterator[Evaluation]:
    """Every evaluation record of the topic, in the order of publication; one that is none is logged and left out."""
    topic = settings.topics.evaluations
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        partitions = watch.facts(topic).partitions
    for record in read_to_end(settings.kafka, topic, partitions, {}):
        if record.value is not None:
            try:
                yield Evaluation.model_validate_json(record.value)
            except ValidationError as cause:
                told = record.offset, topic, cause
                log.error("the record at offset %d of %s is no evaluation: %s", *told, extra=place_of(record))


def _print_series(found: Sequence[Evaluation]) -> None:
    rows: list[Sequence[object]] = []
    for week, of_week in groupby(found, key=lambda evaluation: evaluation.week):
        lists = list(of_week)
        rows += [(week, e.group, e.model, *_figures(e.metrics)) for e in lists]
        rows.append((week, "", "naive", *_figures(lists[0].naive)))
    columns = ("week", "group", "model", *COLUMNS.values())
    output.print_table("Lists against the facts, and the week before again (naive)", columns, rows)


def _figures(metrics: Mapping[str, float]) -> list[str]:
    return [
        *(f"{metrics[name]:.3f}" for name in (*COMPARED, "rbo")),
        f"{metrics['criterion']:.1f}",
        f"{metrics['exact_places']:.0f}",
    ]


def _print_means(rows: Sequence[Mapping[str, Any]]) -> None:
    shown = [row for row in rows if row["model"] != NAIVE]
    if not shown:
        print("All of them are naive's own lists, so there is nothing to compare.")
        return
    output.print_table(
        "Less naive's: mean and 95 % interval over the weeks",
        ("group", "model", "~judged", "#lists", *(COLUMNS[name].replace("#", "~") for name in COMPARED)),
        (
            (
                *(row["group"], row["model"], _judged(row), row["weeks"]),
                *(_difference(*row["vs_naive"][name]) for name in COMPARED),
            )
            for row in shown
        ),
    )
    print("A forecast is judged by the plays of its week alone; own are those of the group's own listeners.")


def _judged(row: Mapping[str, Any]) -> str:
    weeks = f"{row['span_weeks']} week{'s' if row['span_weeks'] > 1 else ''}"
    return f"{row['judged']}, {weeks}, {row['listeners']}"


def _difference(low: float, mean: float, high: float) -> str:
    low, mean, high = (round(value, 3) + 0.0 for value in (low, mean, high))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _picture(found: Sequence[Evaluation], path: Path) -> None:
    if path.suffix != ".png":
        raise UsageError(f"expected a file that ends in .png after --out, found {path}")
    if not found:
        raise OutputError(f"{path} is not written: {NONE_YET}")
    try:
        from hitparade.series import draw  # matplotlib takes a second to import
    except ModuleNotFoundError as cause:
        raise NotInstalled(f"{cause.name} is not installed: pip install -e '.[neural]'") from cause
    try:
        with replacing(path) as temporary:
            draw(found, temporary)
    except OSError as cause:
        raise OutputError(f"{path} cannot be written: {cause.strerror or cause}") from cause
