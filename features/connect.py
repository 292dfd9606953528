"""Opening Redis: one node, Sentinel or a cluster, and whether it can be trusted with counters."""

from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from features.store import Client, passing

TIMEOUT_S = 10.0


def connect(url: str) -> Client:
    """Open redis://, rediss://, redis+cluster://HOST:PORT or redis+sentinel://HOST:PORT/MASTER; nothing is sent yet.

    Raises:
        ValueError: another scheme, or a Sentinel address without a master's name.
    """
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        # The loop repeats what failed: a retry here would only hide how long Redis has been away.
        return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))
    host, port = parts.hostname or "127.0.0.1", parts.port
    if parts.scheme == "redis+cluster":
        # RedisCluster answers the same calls, but shares no base class with Redis.
        return cast(
            Client,
            RedisCluster(
                host, port or 6379, username=parts.username, password=parts.password, socket_timeout=TIMEOUT_S
            ),
        )
    if parts.scheme == "redis+sentinel":
        master = parts.path.strip("/")
        if not master:
            raise ValueError("redis+sentinel:// names no master: expected redis+sentinel://HOST:PORT/MASTER")
        sentinel: Any = Sentinel
        return cast(Client, sentinel([(host, port or 26379)]).master_for(master, password=parts.password))
    raise ValueError(f"unknown scheme {parts.scheme}://: expected redis, rediss, redis+cluster or redis+sentinel")


@passing
def unsafe_settings(client: Client) -> list[str]:
    """What would let this Redis forget counters: a sentence each; empty when it is safe."""
    problems = []
    policy = str(client.info("memory").get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        problems.append(
            f"maxmemory-policy is {policy}, expected noeviction: Redis would evict counters when it is full"
        )
    if str(client.info("persistence").get("aof_enabled")) != "1":
        problems.append("appendonly is no, expected yes: a restart of Redis would lose what was counted")
    return problems
