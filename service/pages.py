"""The page for people: rendered here from one pass over memory, with an address for each week, list and track."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from consumers.why import Explanations
from features.connect import StoreUnavailable
from features.weeks import ChartWeek
from models.experiments import EVERYONE_NAME
from models.reports import p_in_words
from service import record
from service.lookup import read_lists
from service.parts import Parts
from service.problems import Problem, unknown, wrong
from service.rendering import html, static_file, wants_html
from service.standings import differences, standings
from service.trackpage import track_page

log = logging.getLogger(__name__)
MOST_DIFFERENCES = 12


class PageRoute(APIRoute):
    """A route whose errors are pages too, where a browser asks."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what it raises shown."""
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except (Problem, HTTPException, RequestValidationError, StoreUnavailable) as cause:
                if not wants_html(request):
                    raise
                return _error(cause)
            except Exception as cause:
                if not wants_html(request):
                    raise
                log.error("%s %s failed", request.method, request.url.path, exc_info=cause)
                return _error(cause)

        return answered


def _error(cause: Exception) -> Response:
    match cause:
        case Problem() | HTTPException():
            status = cause.status if isinstance(cause, Problem) else cause.status_code
            return html("error.html", status, dict(cause.headers or {}), status_code=status, detail=cause.detail)
        case RequestValidationError():
            return html("error.html", 422, status_code=422, detail="this address makes no sense")
        case StoreUnavailable():
            return html("error.html", 503, status_code=503, detail="Redis does not answer now; lists are there still")
        case _:
            return html("error.html", 500, status_code=500, detail="the service has failed; its log says why")


async def not_found(request: Request, cause: Exception) -> Response:
    """What an address that nothing is at is answered with: a page for a browser, a problem document for others."""
    if wants_html(request):
        return _error(Problem(404, "nothing is at this address"))
    return Problem(404, getattr(cause, "detail", "")).response()


def routes(parts: Parts) -> APIRouter:
    """GET /, /week/…, /track/…, /pipeline, /static/…."""
    router = APIRouter(include_in_schema=False, route_class=PageRoute)
    over_all, of_experiment = record.Means(), record.Means()
    explanations = Explanations(parts.runs, parts.history)

    @router.get("/", response_model=None)
    def home() -> Response:
        return _home(parts, over_all, of_experiment)

    @router.get("/week", response_model=None)
    async def chosen(week: str = "") -> Response:
        return RedirectResponse(f"/week/{_week(parts, week)}" if week else "/", 303)

    @router.get("/week/{week}", response_model=None)
    async def of_week(week: str) -> Response:
        return _of_week(parts, _week(parts, week))

    @router.get("/week/{week}/{group}", response_model=None)
    async def of_group(week: str, group: str) -> Response:
        return _of_group(parts, _week(parts, week), group)

    @router.get("/track/{track_id:path}", response_model=None)
    def of_track(track_id: str) -> Response:
        return track_page(parts, explanations, track_id)

    @router.get("/pipeline", response_model=None)
    async def pipeline() -> Response:
        return html("pipeline.html", **_shared(parts))

    router.add_api_route("/static/{name}", static_file, response_model=None)
    return router


def _week(parts: Parts, name: str) -> ChartWeek:
    try:
        week = parts.calendar.parse(name)
        week.before(), week.after()
    except (ValueError, OverflowError):
        raise wrong("week", "expected a week that exists, such as 2025-W12") from None
    return week


def _shared(parts: Parts) -> dict[str, Any]:
    """What every page may show: the figures, and what made the latest lists."""
    memory = parts.memory
    weeks = memory.lists.weeks()
    return {
        "figures": memory.figures,
        "weeks": weeks[::-1],
        "latest": memory.lists.latest(),
        "fallbacks": [one for week in weeks[::-1] for one in memory.lists.of_week(week) if one.fallback],
    }


def _home(parts: Parts, over_all: record.Means, of_experiment: record.Means) -> Response:
    shared, memory = _shared(parts), parts.memory
    latest = shared["latest"]
    week = parts.calendar.parse(latest[0].week) if latest else None
    now = week or parts.calendar.week_of(memory.figures.at)
    experiment = parts.experiments.in_force(now)
    judged = record.whole(memory.judged.all())
    own = [evaluation for evaluation in judged if evaluation.experiment == experiment.name]
    found = differences(latest) if len(latest) > 1 else []
    return html(
        "home.html",
        **shared,
        week=week,
        standings=standings(memory.lists, week, latest) if week else [],
        differences=found[:MOST_DIFFERENCES],
        n_differences=len(found),
        n_unshared=sum(not one.is_shared for one in found),
        n_places=max((len(one.tracks) for one in latest), default=0),
        live=memory.live,
        judged=judged,
        judged_weeks=sorted({evaluation.week for evaluation in judged}),
        metrics=record.METRICS,
        series={metric: record.series(judged, metric) for metric in record.METRICS},
        means=over_all.of(judged),
        experiment=None if experiment.name == EVERYONE_NAME else experiment,
        experiment_means=[row for row in of_experiment.of(own) if row["judged"] == "forecast" or row["span_weeks"] > 1],
        reach=record.reach,
        report=parts.reports.of(experiment),
        effects_reach=record.effects_reach,
        p_in_words=p_in_words,
    )


def _of_week(parts: Parts, week: ChartWeek) -> Response:
    lists = read_lists(parts)
    shown = lists.of_week(week.name)
    if not shown:
        raise unknown(f"there are no lists for week {week}{_nearest(parts)}")
    return html(
        "week.html",
        **_shared(parts),
        week=week,
        standings=standings(lists, week, shown),
        judged=record.whole([one for one in parts.memory.judged.all() if one.week == week.name]),
        metrics=record.METRICS,
        **_beside(parts, week.name),
    )


def _of_group(parts: Parts, week: ChartWeek, group: str) -> Response:
    lists = read_lists(parts)
    revisions = lists.revisions(week.name, group)
    if not revisions:
        raise unknown(f"there is no such list for week {week}{_nearest(parts)}")
    names = {entry.track_id: entry.name for one in revisions for entry in one.tracks}
    return html(
        "list.html",
        **_shared(parts),
        week=week,
        standing=standings(lists, week, revisions[-1:])[0],
        revisions=revisions[::-1],
        names=names,
        others=[one.group for one in lists.of_week(week.name) if one.group != group],
        **_beside(parts, week.name),
    )


def _nearest(parts: Parts) -> str:
    weeks = parts.memory.lists.weeks()
    return f": those from {weeks[0]} to {weeks[-1]} are known" if weeks else ": none have been published yet"


def _beside(parts: Parts, week: str) -> dict[str, Any]:
    """The weeks with lists before and after."""
    weeks = parts.memory.lists.weeks()
    at = weeks.index(week)
    return {
        "earlier": weeks[at - 1] if at else None,
        "later": weeks[at + 1] if at + 1 < len(weeks) else None,
    }
