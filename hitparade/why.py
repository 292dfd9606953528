"""Why a track is where it is: its counts, its features, their context, each model's score and rank, its lists."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.columns import KINDS
from features.context import CONTEXT
from features.reader import WeekError
from features.table import N_WEEKS, STATIC_FEATURES
from hitparade import output, wiring
from hitparade.looking import NO_LIST
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from models.ranking import ranked
from producers.playlists import Playlist


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
            f"no run for closed week {closed_week} is kept in {settings.data_dir}: expected a week that `hitparade "
            "consume weekly` has run there"
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
        "context": {name: _number(known[name]) for name in CONTEXT if name in known},
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


def _decimal(value: float | None) -> str:
    return "none" if value is None else f"{value:,.3f}"


def _print_why(answer: dict[str, Any]) -> None:
    print(f"{output.printable(answer['name'] or answer['track_id'])} ({answer['track_id']}), for week {answer['week']}")
    if not answer["in_catalogue"]:
        print("It is not in the catalogue, so it is scored, but in no list.")
    output.print_table(
        "Counts", ("week", "group", "#plays", "#skips", "#likes"), ([*row.values()] for row in answer["counts"])
    )
    for title in ("features", "context"):
        output.print_table(
            title.capitalize(),
            ("feature", "#value"),
            ((k, "missing" if v is None else f"{v:g}") for k, v in answer[title].items()),
        )
    output.print_table(
        "Models",
        ("model", "#predicted plays", "#score", "#rank", "#of"),
        (
            [row["model"], _decimal(row["prediction"]), _decimal(row["score"]), row["rank"] or "none", row["of"]]
            for row in answer["models"]
        ),
    )
    for row in answer["lists"]:
        place = (
            f"rank {row['rank']}"
            if row["rank"]
            else f"not in the list: its last place has {row['score_of_last_place']}"
        )
        print(f"{row['group']} ({row['model']}): {place}")
