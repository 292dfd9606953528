"""Opening Redis: one node, Sentinel or a cluster, and whether it can be trusted with counters."""

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from features.store import Client, passing

TIMEOUT_S = 10.0  # of one answer; `?socket_timeout=…` in the address says otherwise


class Cluster(RedisCluster):
    """A cluster whose close() closes its connections too."""

    def close(self) -> None:
        """Let go of every node."""
        if hasattr(self, "nodes_manager"):  # it has none where it could not be opened
            self.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        super().close()


@passing
def connect(url: str) -> Client:
    """Open redis://, rediss://, redis+cluster://HOST:PORT or redis+sentinel://HOST:PORT/MASTER.

    Nothing is sent yet, but to a cluster, which is asked for its nodes.

    Raises:
        StoreUnavailable: no node of the cluster answers.
        ValueError: another scheme, or a Sentinel address without a master's name.
    """
    parts = urlsplit(url)
    # The loop repeats what failed: a retry here would only hide how long Redis has been away.
    once: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
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
        sentinels = sentinel([(parts.hostname or "127.0.0.1", parts.port or 26379)], socket_timeout=TIMEOUT_S)
        return cast(Client, sentinels.master_for(master, password=unquote(parts.password or "") or None, **once))
    raise ValueError(f"unknown scheme {parts.scheme}://: expected redis, rediss, redis+cluster or redis+sentinel")


@passing
def unsafe_settings(client: Client) -> list[str]:
    """What would let this Redis forget counters: a sentence each; empty when every node of it is safe."""
    return [problem for where, node in _nodes(client) for problem in _problems(where, node)]


def _nodes(client: Any) -> Iterator[tuple[str, Client]]:
    if not hasattr(client, "get_nodes"):
        yield "", client
        return
    for node in client.get_nodes():
        yield f"{node.name}: ", client.get_redis_connection(node)


def _problems(where: str, node: Client) -> Iterator[str]:
    policy = str(node.info("memory").get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        yield (f"{where}maxmemory-policy is {policy}, expected noeviction: Redis would evict counters when it is full")
    if str(node.info("persistence").get("aof_enabled")) != "1":
        yield f"{where}appendonly is no, expected yes: a restart of Redis would lose what was counted"
