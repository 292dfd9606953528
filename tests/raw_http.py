"""HTTP as bytes, which no client would send, and the service behind the server that `serve` configures."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.types import ASGIApp

from hitparade.processes import HOST
from hitparade.serving import server_of
from tests.servers import wait_until

PATIENCE_S = 15.0


@dataclass(frozen=True)
class Answer:
    """The first answer, and whatever followed its head."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """The application on a free port."""
    with socket.create_server((HOST, 0)) as listener:
        server = server_of(app)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_until(lambda: server.started, what="the server")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def connected(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), PATIENCE_S)
    connection.settimeout(PATIENCE_S)
    return connection


def asked(port: int, *chunks: bytes) -> Answer:
    """What comes until the other side closes, after these bytes; `Connection: close` makes it soon."""
    with connected(port) as connection:
        for chunk in chunks:
            connection.sendall(chunk)
        return parsed(until_closed(connection))


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    while chunk := connection.recv(65536):
        found += chunk
    return found


def parsed(found: bytes) -> Answer:
    head, _, body = found.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict((name.lower(), value) for name, value in (field.split(": ", 1) for field in lines))
    return Answer(int(line.split()[1]), headers, body)


def request(method: str, path: str, *fields: str, body: bytes = b"", closes: bool = True) -> bytes:
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields, *(["Connection: close"] if closes else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
