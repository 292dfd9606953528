"""How kafka-python connects: a TLS handshake that ends, a refusal that is told, sockets that are read fast and closed.

By itself the client waits without end for a handshake that is not answered, and repeats whatever else fails until its
time is out, of which alone it then tells.
"""

import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from kafka.errors import (
    AuthorizationError,
    InvalidReceiveError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from features import tls

HANDSHAKE_S = 5.0
RECEIVE_BYTES = 128 * 1024
PREFIX = "HITPARADE_KAFKA_"
FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")


class Refused(KafkaError):  # type: ignore[misc]
    """The broker answers, and will not have us: to ask again is of no use."""


def refusal(cause: BaseException) -> str:
    """Why the broker will not have us, and the setting to look at; empty where it may soon."""
    if isinstance(cause, Refused):
        return str(cause.args[0])
    if isinstance(cause, SaslAuthenticationFailedError):
        return f"{PREFIX}SASL_USERNAME or its password is not accepted: {_said(cause)}"
    if isinstance(cause, UnsupportedSaslMechanismError):
        return f"{PREFIX}SASL_MECHANISM is not offered: {_said(cause)}"
    if isinstance(cause, AuthorizationError):
        what = type(cause).__name__.removesuffix("AuthorizationFailedError").lower()
        which = _said(cause).strip("{}'")
        return f"this user lacks a right: {what} {which}; deploy/acl/kafka.sh gives each part those it needs"
    if isinstance(cause, InvalidReceiveError):
        return f"what answers is not Kafka in the clear ({_said(cause)}); look at {PREFIX}SECURITY_PROTOCOL"
    reason = tls.refusal(cause)
    return reason and f"{reason}; look at {PREFIX}SECURITY_PROTOCOL and {PREFIX}SSL_…"


def _hint(trouble: BaseException) -> str:
    """What else it may be: who speaks in the clear to a port of TLS is hung up on, and may not hear why."""
    return f"; look at {PREFIX}SECURITY_PROTOCOL too" if "disconnected" in str(trouble) else ""


def _said(error: KafkaError) -> str:
    return str(error).rpartition(f"{type(error).__name__}: ")[2]


class _Socket(ssl.SSLSocket):
    """A socket that is cut if its handshake has not ended in time, and that ends only after all that has come.

    kafka-python drops what it reads together with the end, and a broker says why it refuses, and hangs up.
    """

    _alarm: Any = None
    _has_given = False

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """What has come; the end, or a failure, is first taken for nothing where something came just before."""
        try:
            data = super().recv(buflen, flags)
        except ssl.SSLWantReadError:
            self._has_given = False
            raise
        except OSError:
            self._give_first()
            raise
        if not data:
            self._give_first()
        self._has_given = bool(data)
        return data

    def _give_first(self) -> None:
        if self._has_given:
            self._has_given = False
            raise ssl.SSLWantReadError

    def do_handshake(self, block: bool = False) -> None:
        """Go on with the handshake as far as it goes.

        Raises:
            TimeoutError: it was cut.
            ssl.SSLError: it is not finished, or has failed.
        """
        net = self.context.net  # type: ignore[attr-defined]
        if self._alarm is None:
            self._alarm = net.call_later(HANDSHAKE_S, self._cut)
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as cause:
            if self._alarm.is_done:
                raise TimeoutError(f"no TLS handshake within {HANDSHAKE_S:g} s") from cause
            net.cancel(self._alarm)
            raise
        net.cancel(self._alarm)

    def _cut(self) -> None:
        socket.socket.shutdown(self, socket.SHUT_RDWR)  # which wakes who waits for an answer


class _Wide(socket.socket):
    """A socket of which much is read at once.

    kafka-python reads 4 KiB, and after each piece waits anew for the interpreter's lock, while another thread counts.
    """

    __slots__ = ()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """What has come, though it be more than was asked for."""
        return super().recv(max(buflen, RECEIVE_BYTES), flags)


class _Net(NetworkSelector):  # type: ignore[misc]
    """The loop of a client; when it closes, so does every socket that it waited for.

    kafka-python leaves open those that were still to be written to, or to connect.
    """

    def __init__(self, **configs: Any) -> None:
        super().__init__(**configs)
        self._sockets: WeakSet[socket.socket] | set[socket.socket] = WeakSet()

    def register_event(self, fileobj: socket.socket, event: int, task: Any) -> None:
        """As kafka-python."""
        self._sockets.add(fileobj)
        super().register_event(fileobj, event, task)

    def close(self) -> None:
        """Stop, and leave no socket open."""
        self.stop()
        self._sockets = set(self._sockets)  # what now gives up waiting for one may be the last that knows of it
        super().close()
        for each in self._sockets:
            each.close()


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """The connections of a client, and what was last wrong with each that has failed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._troubles: dict[str, BaseException] = {}
        super().__init__(*args, **kwargs)

    def get_connection(self, node_id: Any, *args: Any, **kwargs: Any) -> KafkaConnection:
        """As kafka-python, but not again where every address has refused us before a connection stood.

        Raises:
            Refused: the broker will not have us.
        """
        if not self.bootstrapped:
            reasons = [refusal(self._troubles[n.node_id]) for n in self._first if n.node_id in self._troubles]
            if len(reasons) == len(self._first) and all(reasons):
                raise Refused(reasons[0])
        connection = super().get_connection(node_id, *args, **kwargs)
        if not connection.init_future.is_done:
            connection.init_future.add_errback(partial(self._troubles.__setitem__, node_id))
        return connection

    async def _build_transport(self, *args: Any, **kwargs: Any) -> Any:
        transport = await super()._build_transport(*args, **kwargs)
        if type(transport._sock) is socket.socket:  # what TLS gives is shorter
            transport._sock.__class__ = _Wide
        return transport

    @property
    def _first(self) -> Sequence[Any]:
        nodes: Sequence[Any] = self.cluster.bootstrap_brokers()
        return nodes

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Connect for the first time; a client that cannot be made leaves no thread behind that tries on for good.

        Raises:
            Refused: the broker will not have us.
            KafkaTimeoutError: nothing has come of it, and why.
        """
        try:
            super().bootstrap(*args, **kwargs)
        except KafkaError as cause:
            self._let_go()
            if isinstance(cause, KafkaTimeoutError):
                for trouble in self._troubles.values():
                    raise KafkaTimeoutError(f"{_said(cause)}: {trouble}{_hint(trouble)}") from trouble
            raise

    def _let_go(self) -> None:
        self.close()
        self._net.close()


def _context(net: NetworkSelector, configs: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        context: Any = ssl.create_default_context(cafile=configs["ssl_cafile"])
        if configs["ssl_certfile"]:
            context.load_cert_chain(configs["ssl_certfile"], configs["ssl_keyfile"])
    except OSError as cause:  # of what ssl says no more is known than that
        files = ", ".join(f"{PREFIX}{name.upper()}" for name in FILES if configs[name])
        raise Refused(f"one of {files} does not hold what it should, in PEM: {cause}") from cause
    context.sslsocket_class, context.net = _Socket, net
    return cast(ssl.SSLContext, context)


class Client(KafkaNetClient):  # type: ignore[misc]
    """What `kafka_client` of every consumer, producer and admin client is."""

    def __init__(self, **configs: Any) -> None:
        net = _Net(**configs)
        if configs["security_protocol"].endswith("SSL"):
            configs["ssl_context"] = _context(net, configs)
        super().__init__(net, _Manager(net, **configs), **configs)
