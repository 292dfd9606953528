"""Where processes are asked how they are: an address to listen on, and what a consumer answers there."""

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from hitparade.errors import OutputError
from hitparade.settings import PREFIX, Settings

if TYPE_CHECKING:
    from consumers.loop import Consumer
    from consumers.schedule import Triggers
    from consumers.triggers import TriggerConsumer

BACKLOG = 64


def listen(settings: Settings, port: Literal["http_port", "metrics_port"], backlog: int = BACKLOG) -> socket.socket:
    """Listen where the settings say.

    Raises:
        OutputError: somebody else does, or nobody can.
    """
    where = settings.http_host, getattr(settings, port)
    try:
        family = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server(where, family=family, backlog=backlog)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a body waits 40 ms behind its headers
        return found
    except (OSError, UnicodeError) as cause:
        raise OutputError(
            f"cannot listen on {where[0]}:{where[1]} ({PREFIX}HTTP_HOST, {PREFIX}{port.upper()}): "
            f"{getattr(cause, 'strerror', None) or cause}"
        ) from cause


def listener(settings: Settings) -> socket.socket | None:
    """Where a consumer's probes listen; None where they are not to be had."""
    return listen(settings, "metrics_port") if settings.metrics_port is not None else None


@contextlib.contextmanager
def probed(where: socket.socket | None, loop: "Consumer | TriggerConsumer | Triggers", read: str) -> Iterator[None]:
    """Answer for a loop while the block runs; `read` is what consumers/metrics.py reads it with."""
    if where is None:
        yield
        return
    from consumers import metrics, probes  # the server and the client of Prometheus, for who wants them

    registry: Any = getattr(metrics, read)(loop)
    answers = {**probes.of_health(loop.health, loop.clock), "/metrics": lambda: metrics.exposed(registry)}
    with probes.answering(where, answers):
        yield
