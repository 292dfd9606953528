"""What stands before every route: who may ask, how much, how often, how long; and the headers of every answer."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.parts import Limits, Memory
from service.problems import Problem

MOST_ADDRESSES = 10_000
MOST_DIGITS = 20
MOST_HEAD_BYTES = 16 * 1024
IS_HEAD = "hitparade.is_head"
"""In the scope of a HEAD, which is answered as a GET without its body."""
STALE = "hitparade-stale"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(slots=True)
class Rates:
    """A bucket of tokens for each address, which holds those of a second; the addresses asked last are remembered."""

    per_s: float
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def takes(self, address: str) -> bool:
        """Whether one more request of the address is taken now."""
        if not self.per_s:
            return True
        now, most = self.clock(), max(1.0, self.per_s)
        left, asked = self._left.pop(address, (most, now))
        left = min(most, left + (now - asked) * self.per_s)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class Guarded:
    """An application behind its limits."""

    def __init__(self, app: ASGIApp, limits: Limits, memory: Memory) -> None:
        self.app = app
        self.limits = limits
        self.memory = memory
        self.rates = Rates(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = self._with_headers(send)
        if scope["method"] == "HEAD":  # the routes know GET; here, because whoever sends looks at the same scope
            scope["method"], scope[IS_HEAD] = "GET", True
            send = _without_body(send)
        if refused := self._refused(scope):
            await refused.response()(scope, receive, send)
            return
        await self.app(scope, self._bounded(receive), send)

    def _refused(self, scope: Scope) -> Problem | None:
        headers, most = Headers(scope=scope), self.limits.max_body_bytes
        host = _name(headers.get("host", ""))
        if "content-length" in headers and "transfer-encoding" in headers:  # who stands before may read it otherwise
            return Problem(400, "expected a length or chunks, found both", headers={"Connection": "close"})
        if _size(scope) > MOST_HEAD_BYTES:
            return Problem(431, f"expected a head of at most {MOST_HEAD_BYTES // 1024} KiB")
        if self.limits.hosts and host not in self.limits.hosts:
            return Problem(421, "this service is not called by that name: HITPARADE_HTTP_HOSTS has those it knows")
        if not self.rates.takes((scope.get("client") or ("",))[0]):
            return Problem(
                429, f"expected at most {self.limits.rate:g} requests a second", headers={"Retry-After": "1"}
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > MOST_DIGITS or int(length) > most):
            return Problem(413, _too_large(most))
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """The body, up to its limits of size and time; what comes after it is waited for as long as it takes."""
        deadline = anyio.current_time() + self.limits.timeout_s
        n_bytes, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal n_bytes, is_whole
            if is_whole:
                return await receive()
            try:
                with anyio.fail_after(max(0.0, deadline - anyio.current_time())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the request did not come within {self.limits.timeout_s:g} s") from None
            n_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if n_bytes > self.limits.max_body_bytes:
                raise HTTPException(413, _too_large(self.limits.max_body_bytes))
            return message

        return bounded

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if away := self._away():
                    headers[STALE] = away
            await send(message)

        return sending

    def _away(self) -> str:
        """What does not answer, so that what is served may be old."""
        figures = self.memory.figures
        return ", ".join(name for name in ("kafka", "redis") if not getattr(figures, name).ok)


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).strip("[]").lower()


def _size(scope: Scope) -> int:
    return (
        len(scope["path"])
        + len(scope["query_string"])
        + sum(len(name) + len(value) for name, value in scope["headers"])
    )


def _without_body(send: Send) -> Send:
    async def sending(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sending


def _too_large(most: int) -> str:
    return f"expected a body of at most {most / 1024 / 1024:g} MiB: HITPARADE_HTTP_MAX_BODY_MB says how much"
