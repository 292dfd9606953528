"""Whether the service lives, whether it is ready, and its figures for Prometheus."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from consumers.metrics import exposed
from service.figures import Reach
from service.parts import Parts


class Readiness(BaseModel):
    """Ready is who knows the lists; what else does not answer, and since when, is told beside it."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    lists: Reach
    kafka: Reach
    redis: Reach


def routes(parts: Parts, registry: CollectorRegistry) -> APIRouter:
    """GET /livez, /readyz, /metrics."""
    router = APIRouter(tags=["probes"])

    @router.get("/livez", summary="Whether the process answers")
    async def livez() -> dict[str, bool]:
        """Always; that it answers is what it tells."""
        return {"live": True}

    @router.get("/readyz", summary="Whether lists can be served", responses={503: {"model": Readiness}})
    async def readyz() -> Any:
        """503 until the lists have been read once. Afterwards they are in memory, whoever is away."""
        figures = parts.memory.figures
        found = Readiness(ready=figures.lists.ok, lists=figures.lists, kafka=figures.kafka, redis=figures.redis)
        return JSONResponse(found.model_dump(mode="json"), 200 if found.ready else 503)

    @router.get(
        "/metrics",
        summary="The figures, for Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"example": "hitparade_ready 1.0\n"}}}},
    )
    async def metrics() -> Any:
        """docs/metrics.md says what each means."""
        status, media_type, body = exposed(registry)
        return Response(body, status, {"cache-control": "no-store"}, media_type)

    return router
