"""The command `experiments report`: which list is better, or that it is too early, or that the experiment is broken."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumers.kafka import KafkaUnavailable
from features.connect import StoreUnavailable
from features.files import replacing
from features.reader import WeekError
from features.weeks import ChartWeek
from hitparade import data_folder, output, wiring
from hitparade.errors import NotInstalled, OutputError, UsageError
from hitparade.pipeline import parse_week
from hitparade.report_text import print_report, rows
from hitparade.settings import Settings
from models.analysis import analyse_slices
from models.experiments import Experiment
from models.plans import Plan, weights_of
from models.reports import Report
from models.usage_files import UsageFiles, weeks_in

log = logging.getLogger(__name__)
INSTALL = "pip install -e '.[experiments]'"
FORMATS = ("png", "svg")
Bounds = tuple[ChartWeek | None, ChartWeek | None]
"""The first and the last week that are planned; None where the experiment's file has none."""
Before = tuple[ChartWeek | None, int]
"""The week that the experiment began, and how many before it are wanted."""


def report(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the effects, and the conclusion last: as a table, as JSON, as pictures."""
    experiment = named(wiring.experiments(settings).experiments, arguments.name)
    found, plan = analysed(*planned(settings, experiment, arguments))
    if arguments.weeks is None:
        _keep(settings, found)
    pictures = draw(found, arguments.out) if arguments.out else []
    if arguments.json:
        output.print_json(rows(found))
        return 0
    print_report(found, plan)
    print(*pictures, sep="\n", end="\n" if pictures else "")
    return 0


def analysed(files: UsageFiles, plan: Plan) -> tuple[Report, Plan]:
    """The report, and the plan that it is by.

    Raises:
        NotInstalled: the library of statistics is missing.
        HistoryError: a file is broken.
    """
    try:
        return analyse_slices(files, plan), plan
    except ModuleNotFoundError as cause:
        package = (cause.name or "").split(".")[0].replace("_", "-")
        raise NotInstalled(f"{package} is not installed: {INSTALL}") from cause


def _keep(settings: Settings, found: Report) -> None:
    """For the service's page and metrics; of weeks that somebody picked it would be none of the experiment's."""
    try:
        wiring.reports(settings).keep(found)
        data_folder.send(settings)
    except OSError as cause:
        log.warning("the report is not kept for `hitparade serve`: %s", cause)


def named(experiments: Sequence[Experiment], name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        UsageError: there is none; names those there are.
    """
    found = next((experiment for experiment in experiments if experiment.name == name), None)
    if found is None:
        known = ", ".join(experiment.name for experiment in experiments) or "none"
        raise UsageError(f"experiment {name!r}: expected one of the file ({known})")
    return found


def planned(settings: Settings, experiment: Experiment, arguments: argparse.Namespace) -> tuple[UsageFiles, Plan]:
    """The weeks that are read, and the plan that they are compared by.

    Raises:
        UsageError: the weeks asked for are not the experiment's.
        WeekError: there is no file of any of its weeks.
        ExperimentError: it has one group only, or no such control.
    """
    bounds = _bounds(settings, experiment, arguments.weeks)
    data_folder.ready(settings)  # with what other machines have sent
    folder = data_folder.usage(settings)
    kept = weeks_in(folder, settings.calendar)
    began = wiring.experiments(settings).began(experiment)
    there = kept if arguments.kept else _extracted(settings, experiment, bounds, (began, arguments.before), kept)
    weeks = [week for week in there if _is_within(week, experiment, bounds)]
    if not weeks:
        known = f"there are files of {there[0]} to {there[-1]}" if there else "there is none yet"
        raise WeekError(f"no closed week of {experiment.name} is in {folder}: {known}")
    # Only what was before the experiment itself: an earlier week of it would have felt the lists already.
    before = [week for week in there if began and week < began]
    files = UsageFiles(folder, weeks, before[-arguments.before :] if arguments.before else [])
    return files, _plan(experiment, weeks, bounds, arguments)


def _plan(experiment: Experiment, weeks: Sequence[ChartWeek], bounds: Bounds, arguments: argparse.Namespace) -> Plan:
    first, last = bounds[0] or weeks[0], bounds[1]
    weights = weights_of(experiment)
    chosen: dict[str, Any] = {name: getattr(arguments, name) for name in FROM_ARGUMENTS}
    return Plan(
        name=experiment.name,
        weights=weights,
        control=arguments.control or next(iter(weights)),
        weeks=tuple(week.name for week in weeks),
        missing=tuple(week.name for week in weeks[-1].span(_between(first, weeks[-1])) if week not in weeks),
        look=_between(first, weeks[-1]),
        planned=_between(first, last) if last else None,
        weeks_chosen=arguments.weeks is not None,
        **chosen,
    )


def _extracted(
    settings: Settings, experiment: Experiment, bounds: Bounds, before: Before, kept: Sequence[ChartWeek]
) -> Sequence[ChartWeek]:
    """The closed weeks that there are files of, once those that can be made of the log have been.

    Where Kafka or Redis does not answer, those that are kept.
    """
    try:
        usage = wiring.usage(settings)
        standing = wiring.counter_reader(settings).standing()
        wanted = _wanted(standing.closed(), experiment, bounds, before)
        with output.progress("offsets") as advance:
            found = usage.extract(wanted, advance)
    except (KafkaUnavailable, StoreUnavailable) as cause:
        if not kept:
            raise
        log.warning("%s; this is what is kept", cause)
        return kept
    for note in found.notes.values():
        log.warning("%s", note)
    return sorted(settings.calendar.parse(name) for name in found.files)


def _wanted(closed: Sequence[ChartWeek], experiment: Experiment, bounds: Bounds, before: Before) -> Sequence[ChartWeek]:
    """The experiment's weeks that have closed and those before it; without a first one, of those that are kept."""
    began, n_before = before
    if not began or not closed:
        return [week for week in closed if _is_within(week, experiment, bounds)]
    last = min(bounds[1] or closed[-1], closed[-1])
    return last.span(max(0, _between(began, last)) + n_before)


def _is_within(week: ChartWeek, experiment: Experiment, bounds: Bounds) -> bool:
    return experiment.holds_in(week) and (bounds[0] or week) <= week <= (bounds[1] or week)


FROM_ARGUMENTS = (
    *("primary", "guardrail", "correction", "alpha", "effect", "winsorise", "cap", "leave_out"),
    *("newcomers", "exposed", "one_look"),
)


def _between(first: ChartWeek, last: ChartWeek) -> int:
    """How many weeks, both included."""
    return (last.first_day - first.first_day).days // 7 + 1


def _bounds(settings: Settings, experiment: Experiment, text: str | None) -> Bounds:
    """The first and last week that are planned."""
    if text is None:
        return experiment.first_week, experiment.last_week
    first, dots, last = text.partition("..")
    if not dots:
        raise UsageError(f"--weeks: expected FIRST..LAST such as 2023-W24..2023-W27, found {text!r}")
    bounds = parse_week(settings, first), parse_week(settings, last)
    if bounds[1] < bounds[0] or not all(experiment.holds_in(week) for week in bounds):
        raise UsageError(f"--weeks: expected weeks of {experiment.name}, the first before the last, found {text!r}")
    return bounds


def draw(found: Report, folder: Path) -> list[Path]:
    """The pictures' paths: PNG and SVG.

    Raises:
        NotInstalled: matplotlib is missing.
        OutputError: they cannot be written.
    """
    try:
        from models.effects import draw_effects
    except ModuleNotFoundError as cause:
        raise NotInstalled(f"{cause.name} is not installed: {INSTALL}") from cause
    paths = [folder / f"{found.name}.{picture_format}" for picture_format in FORMATS]
    for path, picture_format in zip(paths, FORMATS, strict=True):
        try:
            with replacing(path) as temporary:
                draw_effects(found, temporary, picture_format)
        except OSError as cause:
            raise OutputError(f"{path} cannot be written: {cause.strerror or cause}") from cause
    return paths
