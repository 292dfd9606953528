"""One track: what Redis counts and has in the catalogue, what the lists in memory and the runs on disk know."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from consumers.runs import RunError
from consumers.why import Counted, Explanations, ListPlace, ModelPlace, Why
from features.connect import StoreUnavailable
from features.history import HistoryError
from features.tracks import Track
from features.weeks import Calendar
from producers.playlists import Entry, Playlist
from service.answers import Answer, json_alone, send
from service.documented import LATEST, WeekQuery, documented
from service.formats import JSON
from service.lists import Lists
from service.lookup import named_week, parsed_week
from service.parts import Parts
from service.problems import not_now, unknown

log = logging.getLogger(__name__)
MOST_WEEKS = 52
NOT_COUNTED = "counters and catalogue: they cannot be asked now"
NOBODY = "there is no such track: it is in no catalogue, was not played in the weeks that are kept, and is in no list"
COUNTED = tuple(Counted.model_fields)
_TRACKS: Any = {
    "of the catalogue of the field": {"value": "4p8QcNkaq2FQj8uGJ7HEDK"},
    "with a slash, as a path has it": {"value": "a%2Fb"},
}
TrackPart = Annotated[str, Path(min_length=1, description="a track id, such as a list has", openapi_examples=_TRACKS)]


class Place(BaseModel):
    """Where a list has the track."""

    model_config = ConfigDict(frozen=True)

    week: str
    group: str
    revision: int
    rank: int
    score: float


class TrackAnswer(BaseModel):
    """A track; null is what is not known now, and `missing` says why."""

    model_config = ConfigDict(frozen=True)

    track_id: str
    name: str
    catalogue: Track | None
    """as its record in the catalogue has it"""
    counters: tuple[Counted, ...] | None
    """of the weeks that are kept, the open one included"""
    listeners: Mapping[str, int] | None
    """about how many have played it, by week of those that are kept; null where that is not looked at"""
    places: tuple[Place, ...]
    """in the lists of the last year, the newest first"""
    why: Why | None
    """of the last lists, or those of the week asked for"""
    missing: tuple[str, ...]


def about(parts: Parts, explanations: Explanations, track_id: str, week: str | None = None) -> TrackAnswer:
    """All that is known of a track; `why` is of the lists for a week, without one of the latest.

    Raises:
        Problem: 404, there is no such track, or no list for the week; 422, that is no week; 503, who may know the track
            does not answer.
    """
    lists = _lists(parts, week)
    catalogue, counters, listeners, not_counted = _in_redis(parts, track_id)
    why, not_explained = _why(explanations, parts.calendar, track_id, lists)
    reach = parts.memory.figures.lists
    not_listed = "" if reach.ok else f"places: the lists are not all known yet ({reach.reason})"
    entries = list(_listed(parts.memory.lists, track_id))
    if not (catalogue or counters or entries or why):
        raise not_now(not_counted) if not_counted else unknown(NOBODY)
    names = [catalogue.name if catalogue else "", why.name if why else "", *(entry.name for _, entry in entries)]
    return TrackAnswer(
        track_id=track_id,
        name=next(filter(None, names), ""),
        catalogue=catalogue,
        counters=counters,
        listeners=listeners,
        places=tuple(_place(playlist, entry) for playlist, entry in entries),
        why=why,
        missing=tuple(filter(None, (not_counted, not_listed, not_explained))),
    )


def _lists(parts: Parts, week: str | None) -> Sequence[Playlist]:
    """Those to be explained; empty where none is known yet."""
    lists, name = parts.memory.lists, week or LATEST
    if parts.memory.figures.lists.ok and lists.weeks():
        return lists.of_week(named_week(parts, lists, name))
    if name != LATEST:
        parsed_week(parts, name)
    return []


def _in_redis(
    parts: Parts, track_id: str
) -> tuple[Track | None, tuple[Counted, ...] | None, Mapping[str, int] | None, str]:
    """What the catalogue and the counters have of a track, its listeners, and why these are not known; then none is."""
    reach, lookup = parts.memory.figures.redis, parts.tracks
    if not reach.ok:  # who asked now would wait for as long as Redis may take
        return None, None, None, f"{NOT_COUNTED} ({reach.reason})"
    if lookup.counters is None or lookup.catalogue is None:
        return None, None, None, f"{NOT_COUNTED} (Kafka has not said yet what partitions there are)"
    try:
        found = lookup.catalogue.of([track_id]).get(track_id)
        listeners = lookup.counters.listeners_of(track_id)
        counters = [dict(zip(COUNTED, row, strict=True)) for row in lookup.counters.of_track(track_id)]
    except StoreUnavailable as cause:
        log.warning("a track could not be looked up: %s", cause)
        return None, None, None, f"{NOT_COUNTED} (Redis does not answer)"
    return Track.model_validate(found) if found else None, tuple(map(Counted.model_validate, counters)), listeners, ""


def _why(
    explanations: Explanations, calendar: Calendar, track_id: str, lists: Sequence[Playlist]
) -> tuple[Why | None, str]:
    """Why the track is where it is in these lists of one week, or what is missing to say it."""
    if not lists:
        return None, "why: no list is known yet"
    try:
        found = explanations.of(track_id, calendar.parse(lists[0].week), lists)
    except RunError as cause:
        return None, f"why: {cause}"
    except HistoryError as cause:
        log.error("a track cannot be explained: %s", cause)
        return None, "why: a file of the history cannot be read; the log of the service says which"
    return found, "" if found else f"why: the last run for week {lists[0].week} did not know the track"


def _listed(lists: Lists, track_id: str) -> Iterator[tuple[Playlist, Entry]]:
    """The lists of the last year that have the track, the newest first, and its entry."""
    for week in reversed(lists.weeks()[-MOST_WEEKS:]):
        for playlist in lists.of_week(week):
            for entry in playlist.tracks:
                if entry.track_id == track_id:
                    yield playlist, entry


def _place(playlist: Playlist, entry: Entry) -> Place:
    return Place(
        week=playlist.week, group=playlist.group, revision=playlist.revision, rank=entry.rank, score=entry.score
    )


EXAMPLE = TrackAnswer(
    track_id="4p8QcNkaq2FQj8uGJ7HEDK",
    name="Harbour",
    catalogue=Track(id="4p8QcNkaq2FQj8uGJ7HEDK", name="Harbour", release_date="2019-07-05", tempo=118.02),
    counters=(Counted(week="2025-W11", group="control", plays=110, skips=21, likes=9),),
    listeners={"2025-W11": 84},
    places=(Place(week="2025-W12", group="control", revision=1, rank=1, score=842.5),),
    why=Why(
        track_id="4p8QcNkaq2FQj8uGJ7HEDK",
        name="Harbour",
        closed_week="2025-W11",
        week="2025-W12",
        in_catalogue=True,
        counts=(Counted(week="2025-W11", group="control", plays=110, skips=21, likes=9),),
        features={"tempo": 118.02},
        context={"weeks_played": 1.609438},
        models=(ModelPlace(model="linear", prediction=238.5, score=842.5, rank=1, of=4071),),
        lists=(ListPlace(group="control", model="linear", rank=1, score_of_last_place=51.2),),
    ),
    missing=(),
).model_dump(mode="json")


def routes(parts: Parts) -> APIRouter:
    """GET /tracks/{track_id}."""
    router = APIRouter(tags=["tracks"])
    explanations = Explanations(parts.runs, parts.history)

    def track(request: Request, track_id: TrackPart, week: WeekQuery = None) -> Response:
        """Counters by week and group, its record in the catalogue, its places in lists, and why it is where it is."""
        found = about(parts, explanations, track_id, week).model_dump_json().encode()
        return send(request, Answer("track", json_alone(found)))

    about_it = documented(TrackAnswer, EXAMPLE, (JSON,), 404, 503)
    router.add_api_route("/tracks/{track_id:path}", track, **about_it, summary="A track, and why it is where it is")
    return router
