"""Why a track is where it is: its counts, its features, their context, each model's score and rank, its lists."""

import argparse
from collections.abc import Mapping, Sequence

from consumers.why import Explanations, Why
from features.reader import WeekError
from features.weeks import ChartWeek
from hitparade import output, wiring
from hitparade.looking import NO_LIST
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from producers.playlists import Playlist


def why(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show a track's counts, features, and each model's score and rank in the last run, or that of a week."""
    log = wiring.playlist_log(settings)
    log.refresh()
    if arguments.week:
        closed = parse_week(settings, arguments.week)
    else:
        if not log.weeks():
            raise WeekError(NO_LIST)
        closed = settings.calendar.parse(log.weeks()[-1]).before()
    found = _why(settings, arguments.track, closed, list(log.of_week(closed.after().name)))
    listeners = wiring.counter_reader(settings).listeners_of(arguments.track) if settings.listeners else None
    if arguments.json:
        output.print_json([{**found.model_dump(mode="json"), "listeners": listeners}])
    else:
        _print_why(found, listeners)
    return 0


def _why(settings: Settings, track_id: str, closed: ChartWeek, lists: Sequence[Playlist]) -> Why:
    runs, week = wiring.runs(settings), closed.after()
    if runs.latest_file(week.name) is None:
        raise WeekError(
            f"no run for closed week {closed} is kept in {settings.data_dir}: expected a week that `hitparade "
            "consume weekly` has run there"
        )
    found = Explanations(runs, wiring.history(settings)).of(track_id, week, lists)
    if found is None:
        raise WeekError(f"track {track_id} is unknown: not in the catalogue, and without plays before {week}")
    return found


def _decimal(value: float | None) -> str:
    return "none" if value is None else f"{value:,.3f}"


def _print_why(found: Why, listeners: Mapping[str, int] | None) -> None:
    print(f"{output.printable(found.name or found.track_id)} ({found.track_id}), for week {found.week}")
    if not found.in_catalogue:
        print("It is not in the catalogue, so it is scored, but in no list.")
    output.print_table(
        "Counts",
        ("week", "group", "#plays", "#skips", "#likes"),
        ([row.week, row.group, row.plays, row.skips, row.likes] for row in found.counts),
    )
    if listeners is not None:
        output.print_table("Listeners, about", ("week", "#different"), listeners.items())
    for title, numbers in (("Features", found.features), ("Context", found.context)):
        output.print_table(
            title,
            ("feature", "#value"),
            ((name, "missing" if value is None else f"{value:g}") for name, value in numbers.items()),
        )
    output.print_table(
        "Models",
        ("model", "#predicted plays", "#score", "#rank", "#of"),
        (
            [row.model, _decimal(row.prediction), _decimal(row.score), row.rank or "none", row.of]
            for row in found.models
        ),
    )
    for place in found.lists:
        absent = f"not in the list: its last place has {place.score_of_last_place}"
        print(f"{place.group} ({place.model}): {f'rank {place.rank}' if place.rank else absent}")
