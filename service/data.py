"""The reading end points: lists, tracks, and what else is known."""

from fastapi import APIRouter

from service import facts, makers, playlists, track
from service.parts import Parts


def routes(parts: Parts) -> APIRouter:
    """All of them; they read memory, and of a track Redis and disk."""
    router = APIRouter()
    for part in (playlists, track, facts, makers):
        router.include_router(part.routes(parts))
    return router
