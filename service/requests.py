"""What the predictions are asked with: the formats of the bodies, and what is wrong with one, by its place."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from service.problems import Place, Problem, pointer

MOST_COUNT = 2**53 - 1  # more is not the same number in every language, and three weeks of it must fit into 64 bits
LONGEST_NAME = 64
FAULT = re.compile(r"(.*?)(?: - at `\$((?:\[[0-9]+\]|\.[a-z0-9_]+)+)`)?", re.DOTALL)
"""What is wrong, as the decoder says it, and where."""
STEP = re.compile(r"\[([0-9]+)\]|\.([a-z0-9_]+)")
UNKNOWN_FIELD = "Object contains unknown field `"

TrackId = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0, le=MOST_COUNT)]
Feature = float | None
Body = TypeVar("Body")


class Plays(Struct, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """Four weeks of plays, week 4 the latest. `track_id` is given back; `play_count`, the truth, is not looked at."""

    track_id: TrackId | None = None
    play_count: Count | None = None
    play_count_week_1: Count
    play_count_week_2: Count
    play_count_week_3: Count
    play_count_week_4: Count


class TrackPlays(Struct, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """Four weeks of a track's plays, week 4 the latest; `play_count`, the truth, is not looked at."""

    track_id: TrackId
    play_count: Count | None = None
    play_count_week_1: Count
    play_count_week_2: Count
    play_count_week_3: Count
    play_count_week_4: Count


class TrackWeek(Struct, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """One week of a track. What is known of the track itself may be null, and is taken from the last week."""

    track_id: TrackId
    popularity: Feature
    duration_ms: Feature
    explicit: bool | float | None
    danceability: Feature
    energy: Feature
    key: Feature
    loudness: Feature
    speechiness: Feature
    acousticness: Feature
    instrumentalness: Feature
    liveness: Feature
    valence: Feature
    tempo: Feature
    release_date_year: Annotated[int, Meta(ge=0, le=9999)] | None
    release_date_week: Annotated[int, Meta(ge=1, le=53)] | None
    play_count: Count
    likes: Count
    number_of_skips: Count


Weeks = Sequence[Sequence[TrackWeek]]

PLAYS = msgspec.json.Decoder(Plays)
TRACKS = msgspec.json.Decoder(list[TrackPlays])
WEEKS = msgspec.json.Decoder(tuple[list[TrackWeek], list[TrackWeek], list[TrackWeek], list[TrackWeek]])
"""Not a list, of which the decoder would read millions before anybody could count them."""


def decoded(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    """What a body holds.

    Raises:
        Problem: it is no JSON, or not of the format; says where.
    """
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as cause:
        raise _problem(str(cause)) from cause
    except (ValueError, RecursionError) as cause:  # of bytes that are no UTF-8, and of brackets without end
        raise at([], f"the body is no JSON: {type(cause).__name__}") from cause


def at(place: Sequence[str | int], detail: str) -> Problem:
    """A part of the body is wrong."""
    return Problem(422, detail, [Place(detail, pointer(place))])


def _problem(message: str) -> Problem:
    fault = FAULT.fullmatch(message)
    what, path = fault.groups("") if fault else (message, "")
    place = [int(number) if number else name for number, name in STEP.findall(path)]
    if what.startswith(UNKNOWN_FIELD):  # whose name may be anything, and of any length
        name = what.removeprefix(UNKNOWN_FIELD)[:-1]
        is_short = len(name) <= LONGEST_NAME and name.isprintable()
        return at([*place, name] if is_short else place, "a field is not known here")
    return at(place, what.replace("`", ""))


def check_tracks(tracks: Sequence[TrackPlays], most: int) -> None:
    """Make sure that a list has at most so many tracks, each once.

    Raises:
        Problem: it has not.
    """
    _check_list([], tracks, most)


def same_tracks(weeks: Weeks, most: int) -> Weeks:
    """The weeks, of at most so many tracks, all in the order of the first.

    Raises:
        Problem: they are not of the same tracks, each once.
    """
    for n, week in enumerate(weeks):
        _check_list([n], week, most)
    first, *others = weeks
    return [first, *(_in_order(n, week, first) for n, week in enumerate(others, 1))]


def _check_list(place: Sequence[int], tracks: Sequence[TrackPlays | TrackWeek], most: int) -> None:
    if len(tracks) > most:
        raise at(place, f"expected at most {most:,} tracks, found {len(tracks):,}: HITPARADE_HTTP_MAX_TRACKS")
    if len({track.track_id for track in tracks}) == len(tracks):
        return
    seen: dict[str, int] = {}
    for n, track in enumerate(tracks):
        if seen.setdefault(track.track_id, n) != n:
            raise at(
                [*place, n, "track_id"], f"this track is there already, at {pointer([*place, seen[track.track_id]])}"
            )


def _in_order(n_week: int, week: Sequence[TrackWeek], first: Sequence[TrackWeek]) -> Sequence[TrackWeek]:
    """The tracks of a week in the order of the first week's."""
    ids = [track.track_id for track in first]
    if [track.track_id for track in week] == ids:
        return week
    places = {track_id: n for n, track_id in enumerate(ids)}
    for n, track in enumerate(week):
        if track.track_id not in places:
            raise at([n_week, n, "track_id"], "this track is not one of the first week's: expected the same in all")
    by_id = {track.track_id: track for track in week}
    for n, track_id in enumerate(ids):
        if track_id not in by_id:
            raise at([n_week], f"the track at {pointer([0, n])} is missing here: expected the same in all weeks")
    return [by_id[track_id] for track_id in ids]


def schema(kind: type[Struct], *lengths: dict[str, int]) -> dict[str, Any]:
    """The JSON schema of a format; of lists of it, one inside the other, where limits of their lengths are given."""
    found: dict[str, Any] = msgspec.json.schema(kind)["$defs"][kind.__name__]
    for limits in reversed(lengths):
        found = {"type": "array", "items": found, **limits}
    return found
