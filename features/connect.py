"""Redis as a server: opening it (one node, Sentinel or a cluster), what its errors mean, whether it is safe.

features/store.py knows what is in it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from hashlib import sha1
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from features import tls

TIMEOUT_S = 10.0


Client = redis.Redis
P = ParamSpec("P")
R = TypeVar("R")
PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    redis.exceptions.TryAgainError,
    redis.exceptions.OutOfMemoryError,
)
PASSING_CODES = ("BUSY ", "MISCONF", "NOREPLICAS")
"""Somebody's long script, a full disk, too few replicas: errors to which redis-py gives no class."""
NO_PERMISSION_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")  # Valkey's words, Redis'


class StoreUnavailable(Exception):
    """Redis cannot serve now, and may soon."""


class StoreRefused(StoreUnavailable):
    """Redis answers, and will not have us: the password, a certificate or a right is wrong, and stays so."""


def passing(call: Callable[P, R]) -> Callable[P, R]:
    """Turn what redis says of an outage into StoreUnavailable, and of a refusal into StoreRefused."""

    @wraps(call)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except (redis.RedisError, redis.exceptions.RedisClusterException) as cause:
            if refused := _refusal(cause):
                raise StoreRefused(f"Redis refuses: {refused}") from cause
            if isinstance(cause, PASSING) or str(cause).startswith(PASSING_CODES):
                is_moving = type(cause) is redis.exceptions.ClusterError  # TRYAGAIN and ASK again and again
                reason = "a slot of the cluster is being moved to another node" if is_moving else cause
                raise StoreUnavailable(f"Redis cannot serve now: {reason}") from cause
            raise

    return translated


def _refusal(cause: Exception) -> str:
    if isinstance(cause, redis.AuthenticationError):
        return f"user or password of HITPARADE_REDIS_URL is not accepted: {cause}"
    if isinstance(cause, redis.exceptions.NoPermissionError) or str(cause).startswith(NO_PERMISSION_IN_SCRIPT):
        return f"this user lacks a right: {cause}; deploy/acl/redis.acl gives each part those it needs"
    reason = tls.refusal(cause)
    return reason and f"{reason}; look at HITPARADE_REDIS_URL (rediss://…?ssl_ca_certs=FILE)"


class Cluster(RedisCluster):
    """A cluster whose close() closes its connections too."""

    def close(self) -> None:
        """Let go of every node."""
        if hasattr(self, "nodes_manager"):  # it has none where it could not be opened
            self.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        super().close()


class Script:
    """A Lua script, sent to a node that does not know it; to no other, which may be down."""

    def __init__(self, client: Client, text: str) -> None:
        self.client = client
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run it; what it answers."""
        try:
            return self.client.evalsha(self.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.client.eval(self.text, len(keys), *keys, *args)


@passing
def connect(url: str, timeout_s: float = TIMEOUT_S) -> Client:
    """Open redis://, rediss://, redis+cluster://HOST:PORT or redis+sentinel://HOST:PORT/MASTER.

    Nothing is sent yet, but to a cluster, which is asked for its nodes.

    Args:
        url: where it is.
        timeout_s: of one answer, unless the address has `?socket_timeout=…`.

    Raises:
        StoreUnavailable: no node of the cluster answers.
        ValueError: another scheme, or a Sentinel address without a master's name.
    """
    parts = urlsplit(url)
    # The loop repeats what failed: a retry here would only hide how long Redis has been away.
    once: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 0)}
    if parts.scheme in ("redis", "rediss"):
        return redis.Redis.from_url(url, **once)
    if parts.scheme == "redis+cluster":
        # RedisCluster answers the same calls, but shares no base class with Redis.
        return cast(Client, Cluster.from_url(url.replace("redis+cluster", "redis", 1), **once))
    if parts.scheme == "redis+sentinel":
        master = parts.path.strip("/")
        if not master:
            raise ValueError("redis+sentinel:// names no master: expected redis+sentinel://HOST:PORT/MASTER")
        sentinel: Any = Sentinel
        sentinels = sentinel([(parts.hostname or "127.0.0.1", parts.port or 26379)], socket_timeout=timeout_s)
        login = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
        return cast(Client, sentinels.master_for(master, **login, **once))
    raise ValueError(f"unknown scheme {parts.scheme}://: expected redis, rediss, redis+cluster or redis+sentinel")


@passing
def unsafe_settings(client: Client) -> list[str]:
    """What would let this Redis forget counters: a sentence each; empty when every node of it is safe."""
    return [problem for where, node in nodes(client) for problem in _problems(where, node)]


def nodes(client: Any) -> Iterator[tuple[str, Client]]:
    """Every node of a cluster and how it is named in a sentence; of one Redis itself, without a name."""
    if not hasattr(client, "get_nodes"):
        yield "", client
        return
    for node in client.get_nodes():
        yield f"{node.name}: ", client.get_redis_connection(node)


def setting(node: Client, name: str) -> str | None:
    """What a node is set to; None where it does not tell."""
    with suppress(redis.ResponseError):  # CONFIG may be forbidden, or be unknown
        found: Any = node.config_get(name)
        return str(found[name]) if name in found else None
    return None


def _problems(where: str, node: Client) -> Iterator[str]:
    policy = str(node.info("memory").get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        yield (f"{where}maxmemory-policy is {policy}, expected noeviction: Redis would evict counters when it is full")
    if str(node.info("persistence").get("aof_enabled")) != "1":
        yield f"{where}appendonly is no, expected yes: a restart of Redis would lose what was counted"
