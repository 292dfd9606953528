"""The commands that look: lists, counters, experiments."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from consumers.kafka import KafkaUnavailable, follow, place_of, read_to_end
from features.connect import StoreUnavailable
from features.reader import WeekError
from features.weeks import ChartWeek
from hitparade import output, wiring
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from hitparade.signals import stop_on_signals
from models.decisions import Decisions
from models.experiments import EVERYONE, Experiment, Experiments
from producers.playlists import Playlist

log = logging.getLogger(__name__)
NO_LIST = "none has been published yet: run `hitparade trigger` and `hitparade consume weekly`"


def playlists(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the latest list of each group, or every list as it comes."""
    if arguments.week:
        parse_week(settings, arguments.week)
    if arguments.follow:
        return _follow(settings, arguments)
    published = wiring.playlist_log(settings)
    published.refresh()
    latest = {playlist.group: playlist for week in published.weeks() for playlist in published.of_week(week)}
    found = list(published.of_week(arguments.week) if arguments.week else latest.values())
    lists = [playlist for playlist in found if arguments.group in (None, playlist.group)]
    if not lists:
        known = (
            f"there are lists of {', '.join(sorted(latest))} for {', '.join(published.weeks())}" if latest else NO_LIST
        )
        raise WeekError(f"no list for week {arguments.week or '(any)'}, group {arguments.group or '(any)'}: {known}")
    _show(lists, arguments.json)
    return 0


def _show(lists: Iterable[Playlist], as_json: bool) -> None:
    ordered = sorted(lists, key=lambda playlist: (playlist.week, playlist.group))
    if as_json:
        output.print_json(playlist.model_dump(mode="json") for playlist in ordered)
        return
    for _, of_week in groupby(ordered, key=lambda playlist: playlist.week):
        print_lists(list(of_week))
    sys.stdout.flush()


def _follow(settings: Settings, arguments: argparse.Namespace) -> int:
    """The latest list of each group, then every list as it is published; until SIGTERM or Ctrl-C."""
    stop = stop_on_signals()
    topic = settings.topics.playlists
    partitions = wiring.partitions_of(settings, topic)
    known = read_to_end(settings.kafka, topic, partitions, {})
    lists = {f"{playlist.week}/{playlist.group}": playlist for playlist in _wanted(known, arguments)}
    _show({lists[key].group: lists[key] for key in sorted(lists)}.values(), arguments.json)
    starts = {record.partition: record.offset + 1 for record in known}
    with contextlib.closing(follow(settings.kafka, topic, partitions, starts)) as records:
        for record in records:
            if stop.is_set():
                break
            _show(_wanted([record], arguments), arguments.json)
    return 0


def _wanted(records: Iterable[Any], arguments: argparse.Namespace) -> Iterator[Playlist]:
    """The lists among records of the topic that were asked for."""
    for record in records:
        if record is None or record.value is None:
            continue
        try:
            playlist = Playlist.model_validate_json(record.value)
        except ValidationError as cause:
            told = record.offset, record.topic, cause
            log.error("the record at offset %d of %s is no playlist: %s", *told, extra=place_of(record))
            continue
        if arguments.group in (None, playlist.group) and arguments.week in (None, playlist.week):
            yield playlist


def print_lists(lists: Sequence[Playlist]) -> None:
    """Lists of one week side by side; a track that only one list has is marked with *."""
    common = set.intersection(*({entry.track_id for entry in playlist.tracks} for playlist in lists))
    columns = ["#"]
    for playlist in lists:
        columns += [f"…{playlist.group}: {playlist.model}", "plays of 4 weeks", "#score"]
    rows = []
    for place in range(max(len(playlist.tracks) for playlist in lists)):
        row: list[object] = [place + 1]
        for playlist in lists:
            row += _cells(playlist, place, common)
        rows.append(row)
    first = lists[0]
    output.print_table(f"Top {len(first.tracks)} for week {first.week} ({first.experiment})", columns, rows)
    for playlist in lists:
        if playlist.fallback:
            print(f"{playlist.group} is naive's list: {playlist.fallback}")
    n_different = len(first.tracks) - len(common)
    if len(lists) > 1:
        print(f"{n_different} of {len(first.tracks)} tracks differ (marked *)." if n_different else "The same tracks.")


def _cells(playlist: Playlist, place: int, common: set[str]) -> tuple[str, str, str]:
    if place >= len(playlist.tracks):
        return "", "", ""
    entry = playlist.tracks[place]
    mark = "" if entry.track_id in common else "* "
    return mark + (entry.name or entry.track_id), " ".join(map(str, entry.plays)), f"{entry.score:.1f}"


def counters(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show one row a group and track."""
    week = parse_week(settings, arguments.week)
    reader = wiring.counter_reader(settings)
    standing = reader.standing()
    standing.check_kept(week)
    groups = {group for groups in standing.groups(week).values() for group in groups}
    if arguments.group and arguments.group not in groups:
        raise WeekError(
            f"nothing was counted of group {arguments.group} in week {week}: "
            f"expected one of {', '.join(sorted(groups)) or 'none'}"
        )
    rows = (
        (group, track_id, plays, skips, likes)
        for track_id, group, plays, skips, likes in reader.at_one_instant(week)
        if arguments.group in (None, group)
    )
    columns = ("group", "track_id", "plays", "skips", "likes")
    if arguments.json:
        output.print_json({"week": week.name, **dict(zip(columns, row, strict=True))} for row in rows)
    else:
        ordered = sorted(rows, key=lambda row: (row[0], -row[2], row[1]))
        output.print_table(f"Week {week}", ("group", "track", "#plays", "#skips", "#likes"), ordered)
    return 0


def experiments(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the experiments of the file, how each stands in a week, and what those that are decided have changed."""
    decisions = wiring.decisions(settings)
    known = wiring.experiments(settings)
    week = parse_week(settings, arguments.week) if arguments.week else _open_week(settings)
    decided = _decided(decisions)
    rows = [
        {
            "experiment": experiment.name,
            "state": experiment.state(week) if week else None,
            "first_week": experiment.first_week.name if experiment.first_week else None,
            "last_week": experiment.last_week.name if experiment.last_week else None,
            "group": group.name,
            "weight": group.weight,
            "model": group.model,
            "everyones": decided.get((experiment.name, group.name)),
        }
        for experiment in _shown(known, week)
        for group in experiment.groups
    ]
    if arguments.json:
        output.print_json(rows)
    else:
        columns = ("experiment", "state", "first week", "last week", "group", "#weight", "model", "everyone's")
        title = f"Experiments in week {week}" if week else "Experiments"
        output.print_table(title, columns, (["" if cell is None else cell for cell in row.values()] for row in rows))
    return 0


def _shown(known: Experiments, week: ChartWeek | None) -> list[Experiment]:
    """Those of the file, and, where none of them holds, what does."""
    in_force = known.in_force(week) if week else EVERYONE
    if in_force in known.experiments or (week is None and known.experiments):
        return list(known.experiments)
    return [*known.experiments, in_force]


def _decided(decisions: Decisions) -> dict[tuple[str, str], str]:
    """Since when, and until when, the model of an experiment's group makes everyone's list."""
    found = {}
    for one in decisions.all():
        until = f" until before {one.undone.from_week}" if one.undone else ""
        found[one.decision.experiment, one.decision.winner] = f"from {one.decision.from_week}{until}"
    return found


def _open_week(settings: Settings) -> ChartWeek | None:
    """The week of stream time; None, and a warning, where nobody can tell it: the file can be read without."""
    try:
        return wiring.counter_reader(settings).standing().newest()
    except (WeekError, KafkaUnavailable, StoreUnavailable) as cause:
        log.warning("which experiment is in force is not known without a --week: %s", cause)
        return None


def assign(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the group of a user."""
    week = (
        parse_week(settings, arguments.week) if arguments.week else wiring.counter_reader(settings).standing().newest()
    )
    experiment = wiring.experiments(settings).in_force(week)
    group = experiment.group_of(arguments.user)
    answer = {"user_id": arguments.user, "week": week.name, "experiment": experiment.name, "group": group}
    if arguments.json:
        output.print_json([answer])
    else:
        print(f"user {arguments.user} is in group {group} of {experiment.name} in week {week}")
    return 0
