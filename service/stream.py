"""Server-sent events: a list when it is published, the pipeline's figures each second."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from producers.playlists import Playlist, canonical
from service.figures import Figures
from service.limits import IS_HEAD
from service.parts import Memory, Parts
from service.problems import RETRY_AFTER_S, Problem

EVERY_S = 1.0
MOST_READERS = 500  # of MOST_CONNECTIONS, so that others are answered too
MEDIA_TYPE = "text/event-stream"
TOO_MANY = Problem(
    503,
    "there are too many readers: ask for what you need now and again instead",
    headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},  # which others may need
)


class Events(StreamingResponse):
    """A reader, counted from before the first await: of hundreds who come at once, each sees those before it."""

    media_type = MEDIA_TYPE

    def __init__(self, memory: Memory, seen: int | None) -> None:
        super().__init__(_events(memory, seen), headers={"cache-control": "no-store"})
        self.memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell what happens, or that too many are told of it."""
        if self.memory.n_readers >= MOST_READERS:
            await TOO_MANY.response()(scope, receive, send)
            return
        self.memory.n_readers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.memory.n_readers -= 1


def routes(parts: Parts) -> APIRouter:
    """GET /events."""
    router = APIRouter(tags=["live"])

    @router.get(
        "/events",
        summary="What happens, as server-sent events",
        response_class=StreamingResponse,
        responses={200: {"content": {MEDIA_TYPE: {"example": "event: figures\ndata: {…}\n\n"}}}},
    )
    async def events(
        request: Request, last_event_id: str = Header("", description="the last `id` seen, to go on after it")
    ) -> Any:
        """`playlist` when a list is published, with its week, group, revision and id; `figures` every second."""
        if request.scope.get(IS_HEAD):
            return Response(media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        seen = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 16 else None
        return Events(parts.memory, seen)

    return router


async def _events(memory: Memory, seen: int | None) -> AsyncIterator[bytes]:
    last = memory.lists.n_published() if seen is None else seen
    while True:
        for number, playlist in memory.lists.since(last):
            yield _published(number, playlist)
            last = number
        yield figures_event(memory.figures)
        await asyncio.sleep(EVERY_S)


def _published(number: int, playlist: Playlist) -> bytes:
    about = playlist.model_dump(mode="json", include={"id", "week", "group", "revision", "model"})
    return b"id: %d\nevent: playlist\ndata: %s\n\n" % (number, canonical(about))


def figures_event(figures: Figures) -> bytes:
    """The figures as an event."""
    return b"event: figures\ndata: %s\n\n" % figures.model_dump_json().encode()
