"""What else is known of lists: their weeks, the open week so far, what they were worth once it had closed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from consumers.worth import views
from producers.playlists import Evaluation, Playlist
from service.answers import add_with_suffixes, next_page, send, suffix_of, told
from service.documented import AT_ONCE, LimitQuery, OffsetQuery, documented
from service.documented import EXAMPLE as LIST
from service.figures import ChartEntry, LiveChart
from service.formats import TABLES
from service.lookup import parsed_week, read_lists
from service.parts import Parts
from service.problems import not_now, unknown

PLACES = 50
NOT_COUNTED = "nothing has been counted yet: send events, and run `hitparade consume sessions`"
BRIEF = "max-age=5"  # the open week is read every ten seconds at most
WEEK_COLUMNS = ("week", "closed_week", "group", "model", "model_version", "revision", "id")
JUDGED_COLUMNS = (
    *("week", "group", "experiment", "model", "model_version", "revision"),
    *("judged", "span_weeks", "listeners", "metric", "value", "naive"),
)


class ListOf(BaseModel):
    """A group's list of a week, by name."""

    model_config = ConfigDict(frozen=True)

    group: str
    model: str
    model_version: str
    revision: int
    id: str


class WeekOf(BaseModel):
    """A week that has lists, and the closed one that they were made after."""

    model_config = ConfigDict(frozen=True)

    week: str
    closed_week: str
    lists: tuple[ListOf, ...]


class Weeks(BaseModel):
    """The weeks that have lists, the newest first; `total` is how many there are, shown here or not."""

    model_config = ConfigDict(frozen=True)

    total: int
    weeks: tuple[WeekOf, ...]


class Evaluations(BaseModel):
    """What lists were worth once their weeks had closed, the newest week first."""

    model_config = ConfigDict(frozen=True)

    total: int
    evaluations: tuple[Evaluation, ...]


LIVE = LiveChart(
    week="2025-W12",
    at=datetime(2025, 3, 20, 12, tzinfo=UTC),
    stream_time=datetime(2025, 3, 20, 11, 59, 58, tzinfo=UTC),
    n_tracks=4071,
    tracks=(ChartEntry(rank=1, track_id="4p8QcNkaq2FQj8uGJ7HEDK", name="Harbour", plays=97, skips=20, likes=8),),
).model_dump(mode="json")
JUDGED = Evaluation(
    **{name: LIST[name] for name in ("week", "group", "experiment", "model", "model_version", "revision")},
    playlist_id=LIST["id"],
    span_weeks=4,
    n_ranked=4071,
    metrics={"precision_at_50": 0.86, "ndcg_at_50": 0.91},
    naive={"precision_at_50": 0.84, "ndcg_at_50": 0.9},
).model_dump(mode="json")


def routes(parts: Parts) -> APIRouter:
    """GET /weeks, /charts/live, /evaluations."""
    router = APIRouter(tags=["facts"])
    for add_one in (_add_weeks, _add_live, _add_evaluations):
        add_one(router, parts)
    return router


def _add_weeks(router: APIRouter, parts: Parts) -> None:
    async def weeks(request: Request, limit: LimitQuery = AT_ONCE, offset: OffsetQuery = 0) -> Response:
        """Empty before the first list is published."""
        lists = read_lists(parts)
        names = lists.weeks()[::-1]
        shown = [lists.of_week(name) for name in names[offset : offset + limit]]
        found = Weeks(total=len(names), weeks=tuple(map(_week, shown)))
        rows = (_columns_of(playlist) for of_week in shown for playlist in of_week)
        more = next_page(request, offset, limit, len(names))
        return send(request, told("weeks", found, WEEK_COLUMNS, rows, more), suffix_of(request))

    example = {"total": 1, "weeks": [_week([Playlist.model_validate(LIST)]).model_dump()]}
    about = documented(Weeks, example, TABLES, 503)
    add_with_suffixes(router, "/weeks", weeks, **about, summary="The weeks that have lists")


def _columns_of(playlist: Playlist) -> list[object]:
    return [getattr(playlist, name) for name in WEEK_COLUMNS]


def _week(lists: Sequence[Playlist]) -> WeekOf:
    first = lists[0]
    fields = ListOf.model_fields
    named = tuple(ListOf(**{name: getattr(playlist, name) for name in fields}) for playlist in lists)
    return WeekOf(week=first.week, closed_week=first.closed_week, lists=named)


def _add_live(router: APIRouter, parts: Parts) -> None:
    async def live(
        request: Request, limit: Annotated[int, Query(ge=1, le=PLACES, description="how many places")] = PLACES
    ) -> Response:
        """By the plays of all listeners; provisional, as it says: the week is still being counted."""
        chart, redis = parts.memory.live, parts.memory.figures.redis
        if chart is None:
            raise unknown(NOT_COUNTED) if redis.ok else not_now(f"the open week is not known yet ({redis.reason})")
        shown = chart.model_copy(update={"tracks": chart.tracks[:limit]})
        rows = ([shown.week, *dict(entry).values()] for entry in shown.tracks)
        answer = told(f"live-{chart.week}", shown, ("week", *ChartEntry.model_fields), rows, cache=BRIEF)
        return send(request, answer, suffix_of(request))

    about = documented(LiveChart, LIVE, TABLES, 404, 503)
    add_with_suffixes(router, "/charts/live", live, **about, summary="The open week so far")


def _add_evaluations(router: APIRouter, parts: Parts) -> None:
    async def evaluations(
        request: Request,
        week: Annotated[str | None, Query(max_length=16, description="of this week alone")] = None,
        group: Annotated[str | None, Query(max_length=64, description="of this group alone")] = None,
        limit: LimitQuery = AT_ONCE,
        offset: OffsetQuery = 0,
    ) -> Response:
        """Of a list, and of the forecast behind it, beside naive's for the same week. Empty before the first."""
        name = parsed_week(parts, week).name if week is not None else None
        read_lists(parts)
        wanted = [e for e in parts.memory.judged.all() if name in (None, e.week) and group in (None, e.group)]
        wanted.sort(key=lambda evaluation: evaluation.week, reverse=True)
        found = Evaluations(total=len(wanted), evaluations=tuple(wanted[offset : offset + limit]))
        rows = (row for evaluation in found.evaluations for row in _judged(evaluation))
        more = next_page(request, offset, limit, len(wanted))
        return send(request, told("evaluations", found, JUDGED_COLUMNS, rows, more), suffix_of(request))

    about = documented(Evaluations, {"total": 1, "evaluations": [JUDGED]}, TABLES, 503)
    add_with_suffixes(router, "/evaluations", evaluations, **about, summary="What lists were worth")


def _judged(evaluation: Evaluation) -> Iterator[list[object]]:
    """A row a metric."""
    about = [getattr(evaluation, name) for name in JUDGED_COLUMNS[:6]]
    for view, worth in views(evaluation):
        for metric in sorted(worth.metrics.keys() | worth.naive):
            yield [*about, *view, metric, worth.metrics.get(metric), worth.naive.get(metric)]
