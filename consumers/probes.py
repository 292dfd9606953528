"""Whether a process lives and is ready, and its figures, over HTTP: a server that costs little and never harms it."""

import contextlib
import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

from consumers.health import Health, State

log = logging.getLogger(__name__)
MOST_THREADS = 8
MOST_HEAD_BYTES = 8 * 1024
PATIENCE_S = 3.0
"""In which a request must have come, and its answer be taken."""
JSON = "application/json"

Answer = tuple[int, str, bytes]
"""Status, media type, body."""
Answers = Mapping[str, Callable[[], Answer]]


def of_health(health: Health, clock: Callable[[], float]) -> Answers:
    """/livez and /readyz of a loop: 503 where only a restart helps, or work stands still."""
    return {
        "/livez": lambda: _state(health.state(clock()), "live"),
        "/readyz": lambda: _state(health.state(clock()), "ready"),
    }


def _state(state: State, name: str) -> Answer:
    is_well: bool = getattr(state, name)
    ago = state.progressed_s_ago
    found = {
        name: is_well,
        "reason": state.reason,
        "for_s": round(state.for_s, 1),
        "progressed_s_ago": None if ago is None else round(ago, 1),
    }
    return 200 if is_well else 503, JSON, json.dumps(found).encode() + b"\n"


class _Request(BaseHTTPRequestHandler):
    """One request a connection, GET or HEAD; its head is read whole, or not at all."""

    server: "_Server"
    server_version, sys_version = "hitparade", ""
    default_request_version = "HTTP/1.0"  # so that what cannot be read is answered with a head too

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(PATIENCE_S)
        self.rfile = BytesIO(_head(self.connection))

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
            return
        try:
            status, media_type, body = answer()
        except Exception as cause:  # whatever is asked for, the consumer goes on
            log.warning("%s cannot be answered: %r", self.path.partition("?")[0], cause)
            self.send_error(500)
            return
        self._send(status, media_type, body)

    do_HEAD = do_GET

    def _send(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", media_type), ("Cache-Control", "no-store"), ("Connection", "close")):
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Nothing of the request is repeated."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send(status, "text/plain", f"{status.phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged of a request."""


def _head(connection: socket.socket) -> bytes:
    """The head of a request; what has come of it where the rest is too long or too late."""
    deadline, found = time.monotonic() + PATIENCE_S, b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in found and len(found) < MOST_HEAD_BYTES and time.monotonic() < deadline:
            chunk = connection.recv(MOST_HEAD_BYTES - len(found))
            if not chunk:
                break
            found += chunk
    return found if b"\r\n\r\n" in found else b""


class _Server(socketserver.ThreadingTCPServer):
    """Few threads; a connection beyond them is closed."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, answers: Answers) -> None:
        super().__init__(listener.getsockname()[:2], _Request, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.answers = answers
        self._free = threading.BoundedSemaphore(MOST_THREADS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread is to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone."""
        log.debug("a probe was not answered", exc_info=True)


@contextlib.contextmanager
def answering(listener: socket.socket, answers: Answers) -> Iterator[None]:
    """Answer, in a thread, while the block runs."""
    with _Server(listener, answers) as server:
        threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
