"""The HTTP application: its routes, behind its limits."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from service import data, documentation, metrics, pages, predictions, probes, stream, triggers
from service.limits import Guarded
from service.parts import Parts
from service.problems import register

VERSION = "1"
DESCRIPTION = "A weekly top 50 from a stream of listening sessions: lists, tracks, forecasts, and how the pipeline is."


def build(parts: Parts) -> ASGIApp:
    """The application over open parts. Nothing is asked of Kafka by a request."""
    app = FastAPI(
        title="hitparade",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    register(app)
    registry = metrics.registry(parts.memory, parts.reports)
    routers = [probes.routes(parts, registry), predictions.routes(parts), documentation.routes()]
    if parts.shows_data:
        app.add_exception_handler(404, pages.not_found)
        routers += [part.routes(parts) for part in (data, stream, pages)]
    if parts.token and parts.fire:
        routers.append(triggers.routes(parts.token, parts.fire))
    for router in routers:
        app.include_router(router)
    return metrics.Measured(Guarded(app, parts.limits, parts.memory), registry)
