"""Connections that cannot be held for ever: uvicorn's own wait for the head of a request, and for a slow reader."""

import asyncio
import json
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.limits import HEADERS
from service.problems import MEDIA_TYPE

MOST_CONNECTIONS = 800  # a process may often open 1024 files
HEAD_S = 10.0  # in which the head of a request must have come
LINGER_S = 2.0  # the rest of a body that was refused is read so long, or a reset would take the answer away
END_S = 1.0
TAKE_S = 30.0  # in which some of an answer must be taken


class Connection(H11Protocol):
    """One connection, with a time limit for everything that the other side may keep it waiting for."""

    _waits_s: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, "too many connections")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Go on, and wait for the rest."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or what is left of this one."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        for timer in (self._timer, self._untaken):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        """What has been sent is not taken: give up after a while."""
        super().pause_writing()
        self._untaken = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has been taken."""
        super().resume_writing()
        if self._untaken:
            self._untaken.cancel()

    def shutdown(self) -> None:
        """Finish what is being answered; streams have no end of their own."""
        super().shutdown()
        self.loop.call_later(END_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with the status that h11 has for it; the application learns that nobody is there."""
        cause = sys.exc_info()[1]
        self._refuse(getattr(cause, "error_status_hint", 400), "what came is no request of HTTP/1.1, or too long")

    def _watch(self) -> None:
        """Wait for the other side no longer than is due; the application has limits of its own for a body."""
        waits_s = None
        if self.conn.their_state is h11.IDLE:
            waits_s = HEAD_S
        elif self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            waits_s = LINGER_S
        if waits_s == self._waits_s:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(waits_s, self.transport.close) if waits_s else None
        self._waits_s = waits_s

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without the application, where no answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            phrase = HTTPStatus(status).phrase
            body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail}).encode()
            headers = {**HEADERS, "content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close"}
            for event in (
                h11.Response(status_code=status, headers=list(headers.items()), reason=phrase.encode()),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
