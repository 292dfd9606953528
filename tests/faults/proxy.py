"""A network that fails: a TCP proxy that delays, swallows, cuts and answers by itself, as a scenario tells it."""

import select
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from types import TracebackType

from hitparade.processes import HOST

CHUNK = 1 << 20


class Fate(Enum):
    """What becomes of a request and its answer."""

    PASS = "pass"
    SWALLOW = "swallow"  # served, but nobody hears the answer
    SWALLOW_AND_CUT = "swallow and cut"
    CUT_REQUEST = "cut request"  # half of it arrives
    CUT_ANSWER = "cut answer"


Judge = Callable[[bytes], Fate | bytes]
"""A request's fate; bytes are the answer that it gets without being passed on."""


def passes(request: bytes) -> Fate:
    return Fate.PASS


def is_apply(request: bytes) -> bool:
    """Whether a request to Redis is a script with a span to apply."""
    return b"EVALSHA" in request[:40] and b"buckets" in request


class Proxy:
    """Listens on a port of its own, and passes on to another; a connection has one request in hand at a time."""

    def __init__(self, port: int, judge: Judge = passes) -> None:
        self.upstream = port
        self.judge = judge
        self.delay_s = 0.0
        self.is_deaf = False
        """What the other side sends is thrown away."""
        self.n: Counter[Fate | bytes] = Counter()
        """How often each fate came true."""
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._pause = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, kind: type[BaseException] | None, cause: BaseException | None, at: TracebackType | None) -> None:
        self._pause.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def has_answered(self, answer: bytes, times: int) -> bool:
        """Whether it has given an answer of its own so often."""
        return self.n[answer] >= times

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def turn_to(self, port: int) -> None:
        """Lead to another server from now on."""
        self.upstream = port
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((HOST, self.upstream)) as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            try:
                self._pass_on(client, server)
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        fate: Fate | bytes = Fate.PASS
        while True:
            for one in select.select([client, server], [], [])[0]:
                chunk = one.recv(CHUNK)
                if not chunk:
                    return
                self._pause.wait(self.delay_s)
                if one is client:
                    begins = chunk.startswith(b"*")
                    fate = self.judge(chunk) if begins else fate
                    if isinstance(fate, bytes) and not begins:
                        continue  # the rest of a request that has its answer
                    go_on = self._request(client, server, chunk, fate)
                else:
                    go_on = self._answer(client, chunk, fate)
                if not go_on:
                    return

    def _request(self, client: socket.socket, server: socket.socket, chunk: bytes, fate: Fate | bytes) -> bool:
        if isinstance(fate, bytes):
            self.n[fate] += 1
            client.sendall(fate)
        elif fate is Fate.CUT_REQUEST:
            self.n[fate] += 1
            server.sendall(chunk[: len(chunk) // 2])
            return False
        else:
            server.sendall(chunk)
        return True

    def _answer(self, client: socket.socket, chunk: bytes, fate: Fate | bytes) -> bool:
        if self.is_deaf:
            return True
        if fate is not Fate.PASS:
            assert isinstance(fate, Fate)
            self.n[fate] += 1
        if fate is Fate.CUT_ANSWER:
            client.sendall(chunk[: len(chunk) // 2])
        elif fate is Fate.PASS:
            client.sendall(chunk)
        return fate in (Fate.PASS, Fate.SWALLOW)
