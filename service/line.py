"""Where requests with large bodies stand in line, so that the page stays quick and memory has a bound."""

from collections.abc import Callable

import anyio
import anyio.to_thread
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from service.problems import Problem, not_now

AT_ONCE = 2
"""Predictions of many tracks that are computed at the same time."""
MOST_ASKED = 32
"""Of those, that are read, waited for and computed: each may hold as much as a body may be large."""


async def read(request: Request) -> bytes:
    """The body.

    Raises:
        Problem: it ends before its end.
    """
    try:
        return await request.body()
    except ClientDisconnect as cause:
        raise Problem(400, "the body was cut short") from cause


class Line:
    """Those who wait, first come first served."""

    def __init__(self) -> None:
        self._asked = anyio.CapacityLimiter(MOST_ASKED)
        self._computed = anyio.CapacityLimiter(AT_ONCE)

    async def answer(self, request: Request, predict: Callable[[bytes], Response]) -> Response:
        """Read the body and predict in a thread, when it is its turn.

        Raises:
            Problem: the line is too long.
        """
        try:
            self._asked.acquire_nowait()
        except anyio.WouldBlock as cause:
            raise not_now(f"{MOST_ASKED} predictions are being made already: ask again later") from cause
        try:
            return await anyio.to_thread.run_sync(predict, await read(request), limiter=self._computed)
        finally:
            self._asked.release()
