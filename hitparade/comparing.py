"""The command that compares: a kept run with what happened, or with another, as the original study did."""

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consumers.comparison import (
    Move,
    Ranking,
    against,
    check_is_the_list,
    differences,
    missing_weeks,
    read_ranking,
    study_span,
)
from consumers.facts import read_facts
from consumers.runs import RunError, RunName, Runs
from features.history import History
from features.reader import WeekError
from features.weeks import ChartWeek
from hitparade import output, wiring
from hitparade.errors import UsageError
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from producers.playlists import Playlist

log = logging.getLogger(__name__)
NAIVE = "naive"
MOST_MOVED = 10  # the others are in --json
SHARES = "NDCG and captured plays are of what happened, as a share of the truth's: above 1 it was the worse of the two."
Worth = tuple[dict[str, float], dict[str, float]]
COLUMNS = ("ranking", "#precision", "#NDCG", "#captured", "#RBO", "#criterion", "#exact")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A run that was asked for, and its ranking."""

    week: ChartWeek
    playlist: Playlist
    ranking: Ranking

    def __str__(self) -> str:
        """Who ranked, and by what."""
        known = self.ranking.span_weeks - 1
        weeks = f"prediction + {known} known week{'s' * (known > 1)}" if known else "prediction alone"
        instead = f" ({self.playlist.fallback})" if self.playlist.fallback else ""
        text = f"{self.ranking.run}: {self.playlist.model} {self.playlist.model_version}{instead}, by {weeks}"
        return output.printable(text)

    def as_row(self) -> dict[str, Any]:
        """What JSON tells of it."""
        return {
            **_identity(self.ranking.run, self.playlist),
            "span_weeks": self.ranking.span_weeks,
            "n_ranked": len(self.ranking.track_ids),
        }


def compare(settings: Settings, arguments: argparse.Namespace) -> int:
    """List the runs that are kept, judge one by what happened, or judge one by another."""
    runs = [_parse(settings, text) for text in arguments.runs]
    if len(runs) > 2:
        raise UsageError(f"expected one run or two, found {len(runs)}: {', '.join(map(str, runs))}")
    if not runs and (arguments.study or arguments.span):
        raise UsageError("expected a run with --study or --span, found none: `hitparade compare` lists those there are")
    chosen = [_choose(settings, run, arguments) for run in runs]
    if not chosen:
        _list(settings, arguments.json)
    elif len(chosen) == 1:
        _judge(settings, chosen[0], arguments)
    else:
        _judge_by(settings, chosen[0], chosen[1], arguments)
    return 0


def _parse(settings: Settings, text: str) -> RunName:
    try:
        run = RunName.parse(text)
    except ValueError as cause:
        raise UsageError(str(cause)) from cause
    parse_week(settings, run.week)
    return run


def _choose(settings: Settings, run: RunName, arguments: argparse.Namespace) -> Chosen:
    """The run's ranking over the span that was asked for; of lists, unless one was.

    Raises:
        RunError: it is not kept here, or cannot be used for this.
    """
    runs = wiring.runs(settings)
    if run not in (kept := runs.kept()):
        of_week = [name for name in kept if name.week == run.week]
        weeks = f"runs for {kept[0].week} to {kept[-1].week}" if kept else "none"
        there = ", ".join(map(str, of_week)) or weeks
        raise RunError(f"run {run} is not kept in {settings.data_dir}: found {there}")
    playlist = runs.record(run)
    span_weeks = study_span(run, playlist.model) if arguments.study else arguments.span
    ranking = read_ranking(runs, run, runs.model(run, playlist), span_weeks or settings.list_span_weeks)
    if span_weeks is None:
        check_is_the_list(ranking, playlist)
    return Chosen(settings.calendar.parse(run.week), playlist, ranking)


def _list(settings: Settings, as_json: bool) -> None:
    runs, known = wiring.runs(settings), set(wiring.history(settings).weeks())
    rows = [_identity(run, _record(runs, run)) | {"known": run.week in known} for run in runs.kept()]
    if as_json:
        output.print_json(rows)
    elif rows:
        columns = ("run", "model", "version", "~fallback", "what happened")
        shown = (
            (row["run"], row["model"] or "cannot be read", row["model_version"] or "", row["fallback"] or "", known)
            for row in rows
            for known in ("known" if row["known"] else "not known yet",)
        )
        output.print_table("Runs that are kept", columns, shown)
    else:
        print(f"none is kept in {settings.data_dir} yet: run `hitparade trigger` and `hitparade consume weekly`")


def _record(runs: Runs, run: RunName) -> Playlist | None:
    try:
        return runs.record(run)
    except RunError as cause:
        log.warning("%s", cause)
        return None


def _identity(run: RunName, playlist: Playlist | None) -> dict[str, Any]:
    fields = ("model", "model_version", "fallback")
    return {
        "run": str(run),
        **asdict(run),
        **{name: getattr(playlist, name) if playlist else None for name in fields},
    }


def _judge(settings: Settings, chosen: Chosen, arguments: argparse.Namespace) -> None:
    """Show what the ranking was worth, and last week again over the same span.

    Raises:
        WeekError: what happened is not known.
    """
    history, ranking, week = wiring.history(settings), chosen.ranking, chosen.week
    if missing := missing_weeks(history, week, max(2, ranking.span_weeks), chosen.playlist):  # naive's is the second
        raise WeekError(
            f"what happened in {', '.join(missing)} is not known: the history in {settings.data_dir} has "
            f"{_first_to_last(history)}. Once a week has closed, `hitparade trigger WEEK` and `hitparade consume "
            "weekly` bring it; a run can be compared with another before"
        )
    facts = read_facts(history, week, ranking.span_weeks, ())
    plays = facts.over(ranking.span_weeks)
    metrics, naives = (
        facts.metrics(i, plays) for i in (facts.rows(ranking.track_ids), facts.naive(ranking.span_weeks))
    )
    if arguments.json:
        row = chosen.as_row() | {"against": None, "study": arguments.study, "known": True}
        output.print_json([row | {"metrics": metrics, "naive": naives}])
        return
    worth = {NAIVE: naives, chosen.playlist.model: metrics}
    rows = [(model, *_figures(figures)) for model, figures in reversed(worth.items())]
    output.print_table(f"{ranking.run} against what happened", COLUMNS, rows)
    print(chosen)


def _judge_by(settings: Settings, chosen: Chosen, truth: Chosen, arguments: argparse.Namespace) -> None:
    """Show how one ranking stands to another that is taken for the truth, and which tracks stand elsewhere."""
    worth, why_not = _worth(wiring.history(settings), chosen, truth)
    metrics = against(chosen.ranking.track_ids, truth.ranking.track_ids, worth)
    changes = differences(chosen.ranking, truth.ranking)
    if arguments.json:
        rounded = {name: None if value is None else round(value, 6) for name, value in metrics.items()}
        more = {"metrics": rounded, "naive": None, **asdict(changes)}
        row = chosen.as_row() | {"against": truth.as_row(), "study": arguments.study, "known": worth is not None}
        output.print_json([row | more])
        return
    run, other = chosen.ranking.run, truth.ranking.run
    output.print_table(f"{run}, with {other} as the truth", COLUMNS, [(chosen.playlist.model, *_figures(metrics))])
    print(chosen, truth, why_not or SHARES, sep="\n")
    kinds = (("entered", changes.entered), ("left", changes.left), ("moved", changes.moved[:MOST_MOVED]))
    columns = ("", "…track", f"#place in {run}", f"#in {other}")
    if rows := [row for kind, moves in kinds for row in _move_rows(kind, moves)]:
        output.print_table("What differs", columns, rows)
    print(f"Entered: {len(changes.entered)}, left: {len(changes.left)}, moved: {len(changes.moved)}.")


def _worth(history: History, chosen: Chosen, truth: Chosen) -> tuple[Worth | None, str]:
    """The metrics of both by what happened over the truth's span; else a sentence that says why they are left out."""
    if chosen.week != truth.week:
        return None, "NDCG and captured plays are left out: the runs are for different weeks."
    span_weeks = truth.ranking.span_weeks
    if missing := missing_weeks(history, truth.week, span_weeks, truth.playlist):
        return None, f"NDCG and captured plays are left out: what happened in {', '.join(missing)} is not known."
    facts = read_facts(history, truth.week, span_weeks, ())
    plays = facts.over(span_weeks)
    ours, others = (facts.metrics(facts.rows(one.ranking.track_ids), plays) for one in (chosen, truth))
    return (ours, others), ""


def _first_to_last(history: History) -> str:
    weeks = history.weeks()
    return f"{weeks[0]} to {weeks[-1]}" if weeks else "no week"


def _figures(metrics: Mapping[str, float | None]) -> list[str]:
    """A figure a column."""
    decimals = {"criterion": ",.1f", "exact_places": ".0f"}
    return ["none" if value is None else format(value, decimals.get(name, ".3f")) for name, value in metrics.items()]


def _move_rows(kind: str, moves: Iterable[Move]) -> Iterable[Sequence[object]]:
    return [(kind, m.name or m.track_id, m.place or "none", m.place_against or "none") for m in moves]
