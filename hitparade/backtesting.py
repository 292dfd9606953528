"""The command `backtest`: what the models would have been worth in past weeks."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from features.files import replacing
from features.history import History, HistoryError
from hitparade import histories, output, wiring
from hitparade.errors import NotInstalled, OutputError, UsageError
from hitparade.learning import NO_HISTORY
from hitparade.settings import Settings
from models import forecasters
from models.backtest import (
    BOUND,
    NAIVE,
    Judged,
    by_model,
    check_judged,
    roll,
    stretches,
    summary,
    weeks_to_judge,
)
from models.forecasters import Forecaster
from models.scoring import NotEnoughHistory
from producers.files import SourceError, read_lines

if TYPE_CHECKING:
    from types import ModuleType

ORACLE = "oracle"
COLUMNS = {
    "precision_at_50": "precision@50",
    "ndcg_at_50": "NDCG@50",
    "captured_plays": "captured",
    "rbo": "RBO",
    "criterion": "criterion",
    "exact_places": "exact places",
}
COMPARED = ("precision_at_50", "ndcg_at_50", "captured_plays")
FOOTNOTE = """\
bound is the best order of the tracks played in the four weeks before, oracle their order by true rates. Of the
criterion, less is better. A track absent from a week counts as without plays there; in a chart it is only below the
last rank."""
MOST_NAMES = 10
Rates = dict[str, dict[str, float]]


class TrueRates(BaseModel):
    """A line of the truth: the rate of every track in one week."""

    week: str
    rates: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


def backtest(settings: Settings, arguments: argparse.Namespace) -> int:
    """Judge the models over the last weeks; print a table, or JSON, and write the pictures."""
    _check(arguments)
    pictures = _pictures(arguments.out) if arguments.out else None
    with histories.chosen(
        settings,
        folder=arguments.history,
        weekly=arguments.weekly,
        sessions=arguments.sessions,
        tracks=arguments.tracks,
    ) as history:
        weeks, passed_over = _weeks(history, arguments)
        rolling = _rolling(history, arguments, weeks)
        n_forecasts = len(weeks) * len(rolling.forecasters())
        with output.progress("forecasts", total=n_forecasts) as advance:
            parts = wiring.runner(arguments)(rolling, stretches(weeks, arguments.refit_every), advance)
            judged = [result for part in parts for result in part]
        check_judged(judged)
        found = summary(judged)
        rows = [found[model] for model in (*arguments.models, *([ORACLE] if arguments.truth else []), BOUND)]
        if arguments.json:
            output.print_json(rows)
        else:
            _print_tables(rows, weeks, arguments.span)
        for note in _notes(judged, passed_over):
            print(note, file=sys.stderr if arguments.json else None)
        if pictures:
            _write(arguments.out, judged, history, pictures)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.weekly and not arguments.tracks:
        raise UsageError("expected --tracks with --weekly, found --weekly alone")
    if arguments.tracks and not (arguments.weekly or arguments.sessions):
        raise UsageError("expected --weekly or --sessions with --tracks, found neither")


def _pictures(folder: Path) -> "ModuleType":
    """What draws; that it cannot, or has nowhere to, is said before the long work and not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        from models import pictures  # matplotlib takes a second to import
    except OSError as cause:
        raise OutputError(f"{folder} cannot be written: {cause.strerror or cause}") from cause
    except ModuleNotFoundError as cause:
        raise _not_installed(cause) from cause
    return pictures


def _not_installed(cause: ModuleNotFoundError) -> NotInstalled:
    return NotInstalled(f"{cause.name} is not installed: pip install -e '.[neural]'")


def _weeks(history: History, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    if not (names := history.weeks()):
        raise NotEnoughHistory(
            f"there is no week in {arguments.history}: expected files such as weeks/2023-W24.parquet"
            if arguments.history
            else NO_HISTORY
        )
    try:
        weeks, passed_over = weeks_to_judge(names, arguments.last)
    except ValueError as cause:
        raise HistoryError(f"the history holds a week that cannot be: {cause}") from cause
    if not weeks:
        raise NotEnoughHistory(
            f"none of the last {len(passed_over):,} weeks is there with the four before it; the history has "
            f"{len(names):,}, {names[0]} to {names[-1]}"
        )
    return weeks, passed_over


@dataclass(frozen=True, slots=True)
class Rolling:
    """How a stretch of weeks is forecast and judged, in whatever process, by models of its own."""

    history: History
    models: tuple[str, ...]
    span: int
    seed: int
    refit_every: int
    left_out: tuple[str, ...]
    rates: Rates | None

    def __call__(self, weeks: Sequence[str], advance: output.Advance) -> list[Judged]:
        """Judge every model and the bound.

        Raises:
            HistoryError: the history does not hold the weeks: a worker on another machine has another.
        """
        if missing := set(weeks) - set(self.history.weeks()):
            raise HistoryError(f"a worker finds no week {min(missing)}: the history must be where all workers can read")
        return roll(self.history, weeks, self.forecasters(), self.span, advance)

    def forecasters(self) -> dict[str, Forecaster]:
        """Those asked for, in the order of the table; naive is the yardstick of all."""
        makers: dict[str, Callable[[], Forecaster]] = {
            NAIVE: lambda: forecasters.open_naive,
            "linear": lambda: forecasters.open_linear,
            "neural": lambda: forecasters.neural(self.seed, self.refit_every, self.left_out),
        }
        try:
            opened = {model: makers[model]() for model in dict.fromkeys((NAIVE, *self.models))}
        except ModuleNotFoundError as cause:
            raise _not_installed(cause) from cause
        return opened if self.rates is None else {**opened, ORACLE: forecasters.oracle(self.rates)}


def _rolling(history: History, arguments: argparse.Namespace, weeks: Sequence[str]) -> Rolling:
    left_out = () if arguments.with_popularity else ("popularity",)
    rates = read_truth(arguments.truth, weeks) if arguments.truth else None
    return Rolling(history, arguments.models, arguments.span, arguments.seed, arguments.refit_every, left_out, rates)


def read_truth(path: Path, weeks: Sequence[str]) -> Rates:
    """The rates by week and track, of these weeks.

    Raises:
        SourceError: the file cannot be read, a line is something else, or a week is missing.
    """
    rates: Rates = {}
    for number, line in read_lines(path):
        try:
            of_week = TrueRates.model_validate_json(line)
        except ValidationError as cause:
            fault = cause.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the whole"
            raise SourceError(f"{path}, line {number:,} holds no true rates: {where}: {fault['msg']}") from cause
        if of_week.week in weeks:
            rates[of_week.week] = of_week.rates
    if missing := sorted(set(weeks) - rates.keys()):
        raise SourceError(f"{path}: expected the weeks {weeks[0]} to {weeks[-1]}, found no {', '.join(missing)}")
    return rates


def _write(folder: Path, judged: Sequence[Judged], history: History, pictures: "ModuleType") -> None:
    rows = [{"week": j.week, "model": j.model, **j.metrics, "fallback": j.fallback} for j in judged]
    writers: dict[str, Callable[[Path], object]] = {
        "weekly.json": lambda path: path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8"),
        "difference.png": lambda path: pictures.draw_differences(judged, path),
        "age.png": lambda path: pictures.draw_ages(judged, history, path),
    }
    for name, write in writers.items():
        try:
            with replacing(folder / name) as temporary:
                write(temporary)
        except OSError as cause:
            raise OutputError(f"{folder / name} cannot be written: {cause.strerror or cause}") from cause
        print(folder / name, file=sys.stderr)


def _print_tables(rows: Sequence[Mapping[str, Any]], weeks: Sequence[str], span: int) -> None:
    by = "plays" if span == 1 else f"plays of {span} weeks, {span - 1} known"
    output.print_table(
        f"Weeks forecast: {len(weeks)}, {weeks[0]} to {weeks[-1]}, by {by}",
        ("model", *(f"#{label}" for label in COLUMNS.values())),
        ([row["model"], *(f"{row[name]:,.{0 if row[name] >= 100 else 3}f}" for name in COLUMNS)] for row in rows),
    )
    output.print_table(
        "Less naive's: mean and 95 % interval over the weeks",
        ("model", *(f"#{COLUMNS[name]}" for name in COMPARED)),
        ([row["model"], *(_difference(*row["vs_naive"][name]) for name in COMPARED)] for row in rows),
    )
    print(FOOTNOTE)


def _notes(judged: Sequence[Judged], passed_over: Sequence[str]) -> Iterator[str]:
    """What was left out, and which model was not itself."""
    if passed_over:
        names = ", ".join(passed_over[:MOST_NAMES]) + (", …" if len(passed_over) > MOST_NAMES else "")
        yield f"weeks passed over, missing or without the four before them: {len(passed_over):,}, {names}"
    for model, own in by_model(judged).items():
        if reasons := [result.fallback for result in own if result.fallback is not None]:
            yield f"{model} fell back to naive in {len(reasons)} of {len(own)} weeks; the last time: {reasons[-1]}"


def _difference(low: float, mean: float, high: float) -> str:
    low, mean, high = (round(value, 3) + 0.0 for value in (low, mean, high))  # no -0.000
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
