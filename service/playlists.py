"""The published lists: the latest of each group, of a week, of a group with its revisions, and a listener's own."""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from producers.playlists import Playlist
from service import players
from service.answers import (
    ASK_EACH_TIME,
    ASK_EACH_TIME_ALONE,
    Answer,
    add_with_suffixes,
    json_alone,
    next_page,
    send,
    suffix_of,
)
from service.documented import (
    AT_ONCE,
    EXAMPLE,
    LATEST,
    GroupPart,
    LimitQuery,
    OffsetQuery,
    RevisionQuery,
    UserPart,
    WeekPart,
    WeekQuery,
    documented,
)
from service.formats import CSV, JSON, JSPF, M3U, PLAYERS, TABLES, XSPF, Format, parted
from service.lookup import named_week, one, published
from service.parts import Parts

KEPT = "public, max-age=3600"  # a revision stays what it is, but topics are created anew when somebody tries things out


class Published(BaseModel):
    """Lists, by group; `total` is how many there are, shown here or not."""

    model_config = ConfigDict(frozen=True)

    total: int
    playlists: tuple[Playlist, ...]


class Revision(BaseModel):
    """A revision of a list, and what it changed."""

    model_config = ConfigDict(frozen=True)

    revision: int
    id: str
    model: str
    model_version: str
    fallback: str | None
    entered: tuple[str, ...]
    left: tuple[str, ...]


class Revised(BaseModel):
    """The revisions of a list that are remembered, as they were published; the last stands."""

    model_config = ConfigDict(frozen=True)

    week: str
    group: str
    revisions: tuple[Revision, ...]


REVISED = {
    "week": "2025-W12",
    "group": "control",
    "revisions": [
        {name: EXAMPLE[name] for name in ("revision", "id", "model", "model_version", "fallback")}
        | {"entered": [], "left": []}
    ],
}
ONE = documented(Playlist, EXAMPLE, PLAYERS, 404, 503)
SEVERAL = documented(Published, {"total": 1, "playlists": [EXAMPLE]}, TABLES, 404, 503)


def routes(parts: Parts) -> APIRouter:
    """GET /playlists and what lies under it, /users/{user_id}/playlist."""
    router = APIRouter(tags=["lists"])
    _add_latest(router, parts)
    _add_of_week(router, parts)
    _add_of_group(router, parts)
    _add_revisions(router, parts)
    _add_of_user(router, parts)
    return router


def _add_latest(router: APIRouter, parts: Parts) -> None:
    async def playlists(request: Request, limit: LimitQuery = AT_ONCE, offset: OffsetQuery = 0) -> Response:
        """Of groups that are no more, their last one. `/playlists.csv` is the same as CSV."""
        found = published(parts).latest_of_each_group()
        more = next_page(request, offset, limit, len(found))
        answer = _several(found[offset : offset + limit], len(found), "latest", more)
        return send(request, answer, suffix_of(request))

    add_with_suffixes(router, "/playlists", playlists, **SEVERAL, summary="The latest list of each group")


def _add_of_week(router: APIRouter, parts: Parts) -> None:
    async def of_week(request: Request, week: WeekPart) -> Response:
        """A suffix of the week (.json, .csv) says in which form."""
        name, suffix = parted(week)
        lists = published(parts)
        week = named_week(parts, lists, name)
        found = lists.of_week(week)
        return send(request, _several(found, len(found), week), suffix)

    router.add_api_route("/playlists/{week}", of_week, **SEVERAL, summary="A week's lists")


def _add_of_group(router: APIRouter, parts: Parts) -> None:
    async def of_group(request: Request, week: WeekPart, group: GroupPart, revision: RevisionQuery = None) -> Response:
        """The record as it was published; `/revisions` after its address tells of its revisions."""
        lists = published(parts)
        week = named_week(parts, lists, week)
        group, suffix = (group, "") if lists.revisions(week, group) else parted(group)
        found = one(lists, week, group, revision)
        return send(request, _alone(found, ASK_EACH_TIME if revision is None else KEPT), suffix)

    router.add_api_route("/playlists/{week}/{group}", of_group, **ONE, summary="A group's list")


def _add_revisions(router: APIRouter, parts: Parts) -> None:
    async def revisions(request: Request, week: WeekPart, group: GroupPart) -> Response:
        """`?revision=` at the list's own address shows one of them."""
        lists = published(parts)
        week = named_week(parts, lists, week)
        one(lists, week, group, None)
        known = tuple(map(_revision, lists.revisions(week, group)))
        found = Revised(week=week, group=group, revisions=known).model_dump_json().encode()
        return send(request, Answer(f"{week}-{group}", json_alone(found)))

    about = documented(Revised, REVISED, (JSON,), 404, 503)
    router.add_api_route("/playlists/{week}/{group}/revisions", revisions, **about, summary="The revisions of a list")


def _add_of_user(router: APIRouter, parts: Parts) -> None:
    async def users_playlist(request: Request, user_id: UserPart, week: WeekQuery = None) -> Response:
        """The list of the user's group, by the week's experiment; `playlist.xspf` and the like in that form."""
        lists = published(parts)
        name = named_week(parts, lists, week or LATEST)
        group = parts.experiments.in_force(parts.calendar.parse(name)).group_of(user_id)
        return send(request, _alone(one(lists, name, group, None), ASK_EACH_TIME_ALONE), suffix_of(request))

    path = "/users/{user_id:path}/playlist"
    add_with_suffixes(router, path, users_playlist, **ONE, summary="A user's list")


def _alone(playlist: Playlist, cache: str) -> Answer:
    place = f"/playlists/{quote(playlist.week, safe='')}/{quote(playlist.group, safe='')}"
    return Answer(
        f"{playlist.week}-{playlist.group}",
        _forms(playlist),
        _identity(playlist),
        cache,
        {"link": f'<{place}/revisions>; rel="version-history"'},
    )


def _forms(playlist: Playlist) -> Mapping[Format, Callable[[], bytes]]:
    return {
        JSON: lambda: playlist.model_dump_json().encode(),
        CSV: lambda: players.csv([playlist]),
        JSPF: lambda: players.jspf(playlist),
        XSPF: lambda: players.xspf(playlist),
        M3U: lambda: players.m3u(playlist),
    }


def _several(shown: Sequence[Playlist], total: int, name: str, headers: Mapping[str, str] | None = None) -> Answer:
    found = Published(total=total, playlists=tuple(shown))
    return Answer(
        f"playlists-{name}",
        {JSON: lambda: found.model_dump_json().encode(), CSV: lambda: players.csv(shown)},
        (total, *(part for playlist in shown for part in _identity(playlist))),
        headers=headers or {},
    )


def _identity(playlist: Playlist) -> tuple[object, ...]:
    """The id says what the list is, the revision which of them; a record without an id is known by its content."""
    return playlist.key, playlist.id or playlist.content_id(), playlist.revision


def _revision(playlist: Playlist) -> Revision:
    changes = playlist.changes
    return Revision(
        revision=playlist.revision,
        id=playlist.id,
        model=playlist.model,
        model_version=playlist.model_version,
        fallback=playlist.fallback,
        entered=changes.entered if changes else (),
        left=changes.left if changes else (),
    )
