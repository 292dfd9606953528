"""The commands that look: lists, counters, why a track is where it is, evaluations, experiments."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from consumers.kafka import TopicWatch, follow, read_to_end
from features.reader import WeekError
from features.table import KINDS, N_WEEKS, STATIC_FEATURES
from hitparade import output, wiring
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from models.ranking import ranked
from producers.playlists import Evaluation, Playlist

NO_LIST = "none has been published yet: run `hitparade trigger` and `hitparade consume weekly`"


def playlists(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the latest list of each group, or every list as it comes."""
    if arguments.week:
        parse_week(settings, arguments.week)
    if arguments.follow:
        return _follow(settings, arguments)
    log = wiring.playlist_log(settings)
    log.refresh()
    latest = {playlist.group: playlist for week in log.weeks() for playlist in log.of_week(week)}
    found = log.of_week(arguments.week) if arguments.week else latest.values()
    lists = sorted(
        (playlist for playlist in found if arguments.group in (None, playlist.group)), key=lambda p: (p.week, p.group)
    )
    if not lists:
        known = f"there are lists of {', '.join(sorted(latest))} for {', '.join(log.weeks())}" if latest else NO_LIST
        raise WeekError(f"no list for week {arguments.week or '(any)'}, group {arguments.group or '(any)'}: {known}")
    if arguments.json:
        output.print_json(playlist.model_dump(mode="json") for playlist in lists)
    else:
        for _, of_week in groupby(lists, key=lambda playlist: playlist.week):
            print_lists(list(of_week))
    return 0


def _follow(settings: Settings, arguments: argparse.Namespace) -> int:
    partitions = wiring.partitions_of(settings, settings.topics.playlists)
    with contextlib.closing(follow(settings.kafka, settings.topics.playlists, partitions, {})) as records:
        for record in records:
            if record is None or record.value is None:
                continue
            playlist = Playlist.model_validate_json(record.value)
            if arguments.group not in (None, playlist.group) or arguments.week not in (None, playlist.week):
                continue
            if arguments.json:
                output.print_json([playlist.model_dump(mode="json")])
            else:
                print_lists([playlist])
    return 0


def print_lists(lists: Sequence[Playlist]) -> None:
    """Lists of one week side by side; a track that only one list has is marked with *."""
    common = set.intersection(*({entry.track_id for entry in playlist.tracks} for playlist in lists))
    columns = ["#"]
    for playlist in lists:
        columns += [f"{playlist.group}: {playlist.model}", "plays of 4 weeks", "#score"]
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
    groups = {group for fence in standing.fences.values() for name, group in fence.touched if name == week.name}
    if arguments.group and arguments.group not in groups:
        raise WeekError(
            f"nothing was counted of group {arguments.group} in week {week}: "
            f"expected one of {', '.join(sorted(groups)) or 'none'}"
        )
    rows = (
        (group, track_id, plays, skips, likes)
        for rows in reader.slices(week, standing)
        for track_id, group, plays, skips, likes in rows
        if arguments.group in (None, group)
    )
    columns = ("group", "track_id", "plays", "skips", "likes")
    if arguments.json:
        output.print_json({"week": week.name, **dict(zip(columns, row, strict=True))} for row in rows)
    else:
        ordered = sorted(rows, key=lambda row: (row[0], -row[2], row[1]))
        output.print_table(f"Week {week}", ("group", "track", "#plays", "#skips", "#likes"), ordered)
    return 0


def why(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show a track's counts, features, and each model's score and rank in the last run, or that of a week."""
    log = wiring.playlist_log(settings)
    log.refresh()
    if arguments.week:
        week = parse_week(settings, arguments.week)
    else:
        if not log.weeks():
            raise WeekError(NO_LIST)
        week = settings.calendar.parse(log.weeks()[-1]).before()
    answer = _why(settings, arguments.track, week.name, week.after().name, list(log.of_week(week.after().name)))
    if arguments.json:
        output.print_json([answer])
    else:
        _print_why(answer)
    return 0


def _why(
    settings: Settings, track_id: str, closed_week: str, list_week: str, lists: Sequence[Playlist]
) -> dict[str, Any]:
    tracks = wiring.runs(settings).latest(list_week)
    if tracks is None:
        raise WeekError(
            f"no run for week {closed_week} is kept in {settings.data_dir}: expected one of `consume weekly`"
        )
    row = tracks[tracks["track_id"] == track_id]
    if row.empty:
        raise WeekError(f"track {track_id} is unknown: not in the catalogue, and without plays before {list_week}")
    known = row.iloc[0].to_dict()
    names = [week.name for week in settings.calendar.parse(closed_week).span(N_WEEKS)]
    counts = wiring.history(settings).read(names)
    counts = counts[counts["track_id"] == track_id]
    models = [name.removeprefix("score_") for name in map(str, tracks) if name.startswith("score_")]
    listed = tracks[tracks["listed"]]
    return {
        "track_id": track_id,
        "name": known["name"],
        "closed_week": closed_week,
        "week": list_week,
        "in_catalogue": bool(known["listed"]),
        "counts": counts[["week", "group", *KINDS]].to_dict("records"),
        "features": {name: _number(known[name]) for name in STATIC_FEATURES},
        "models": [
            {
                "model": model,
                "prediction": _number(known[f"prediction_{model}"]),
                "score": _number(known[f"score_{model}"]),
                "rank": _rank(listed, model, track_id),
                "of": len(listed),
            }
            for model in models
        ],
        "lists": [_place_in(playlist, track_id) for playlist in lists],
    }


def _place_in(playlist: Playlist, track_id: str) -> dict[str, Any]:
    rank = next((entry.rank for entry in playlist.tracks if entry.track_id == track_id), None)
    last = playlist.tracks[-1].score if playlist.tracks else None
    return {"group": playlist.group, "model": playlist.model, "rank": rank, "score_of_last_place": last}


def _rank(listed: Any, model: str, track_id: str) -> int | None:
    ranking = ranked(listed["track_id"].to_numpy(object), listed[f"score_{model}"].to_numpy(np.float64))
    return ranking.index(track_id) + 1 if track_id in ranking else None


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _print_why(answer: dict[str, Any]) -> None:
    print(f"{answer['name'] or answer['track_id']} ({answer['track_id']}), for week {answer['week']}")
    if not answer["in_catalogue"]:
        print("It is not in the catalogue, so it is scored, but in no list.")
    output.print_table(
        "Counts", ("week", "group", "#plays", "#skips", "#likes"), ([*row.values()] for row in answer["counts"])
    )
    output.print_table(
        "Features",
        ("feature", "#value"),
        ((k, "missing" if v is None else f"{v:g}") for k, v in answer["features"].items()),
    )
    output.print_table(
        "Models", ("model", "#predicted plays", "#score", "#rank", "#of"), ([*row.values()] for row in answer["models"])
    )
    for row in answer["lists"]:
        place = (
            f"rank {row['rank']}"
            if row["rank"]
            else f"not in the list: its last place has {row['score_of_last_place']}"
        )
        print(f"{row['group']} ({row['model']}): {place}")


def evaluations(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show what each list was worth, beside naive for the same week."""
    latest = {evaluation.key: evaluation for evaluation in read_evaluations(settings)}
    found = [latest[key] for key in sorted(latest)]
    if arguments.json:
        output.print_json(evaluation.model_dump(mode="json") for evaluation in found)
        return 0
    if not found:
        print("none yet: a list is evaluated when its week has closed and been run")
        return 0
    metrics = ("precision_at_50", "ndcg_at_50", "captured_plays", "rbo", "criterion", "exact_places")
    rows = ([e.week, e.group, e.model, *(f"{e.metrics[m]:.3f} ({e.naive[m]:.3f})" for m in metrics)] for e in found)
    output.print_table("Lists against the facts (naive's in brackets)", ("week", "group", "model", *metrics), rows)
    return 0


def read_evaluations(settings: Settings) -> Iterator[Evaluation]:
    """Every evaluation record, in the order of publication."""
    topic = settings.topics.evaluations
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        partitions = watch.facts(topic).partitions
    for record in read_to_end(settings.kafka, topic, partitions, {}):
        if record.value is not None:
            yield Evaluation.model_validate_json(record.value)


def experiments(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show the experiments of the file, or the one in force in a week."""
    known = wiring.experiments(settings)
    found = list(known.experiments)
    if arguments.week:
        found = [known.in_force(parse_week(settings, arguments.week))]
    rows = [
        {
            "experiment": experiment.name,
            "first_week": experiment.first_week.name if experiment.first_week else None,
            "last_week": experiment.last_week.name if experiment.last_week else None,
            "group": group.name,
            "weight": group.weight,
            "model": group.model,
        }
        for experiment in found
        for group in experiment.groups
    ]
    if arguments.json:
        output.print_json(rows)
    else:
        columns = ("experiment", "first week", "last week", "group", "#weight", "model")
        output.print_table("Experiments", columns, ([value or "" for value in row.values()] for row in rows))
    return 0


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
