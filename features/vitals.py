"""What Redis says of its own health, node by node; nothing is changed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from features.connect import Client, nodes, passing, setting

DATABASE = re.compile("db[0-9]+")
WRITES = {
    "aof_last_write_status": "the last write of its append-only file",
    "aof_last_bgrewrite_status": "the last rewrite of its append-only file",
    "rdb_last_bgsave_status": "its last snapshot",
}


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a node: whether it follows, when it was last heard of, and how many bytes it lacks."""

    address: str
    is_online: bool
    silent_s: int
    behind: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """One node; where names it in a cluster, and ends with a colon and a space."""

    where: str
    name: str
    master: str
    """whom it copies; empty where it is a master itself"""
    is_loading: bool
    used: int
    limit: int
    """bytes that it may use: its maxmemory, or all of its machine's; 0 where it does not tell"""
    failed: tuple[str, ...]
    """what could not be written to its disk"""
    replicas: tuple[Replica, ...]
    wanted_replicas: int
    """it takes no writes with fewer good ones"""
    good_replicas: int
    elsewhere: Sequence[int]
    """other databases that hold keys"""


@passing
def vitals(client: Client) -> list[Vitals]:
    """Every node."""
    return [_vitals(where, node) for where, node in nodes(client)]


@passing
def times(client: Client) -> list[float]:
    """What each node that tells takes for the present, in seconds since 1970; TIME would be one more right to have."""
    found = [cast(Any, node.info("server")).get("server_time_usec") for _, node in nodes(client)]
    return [micros / 1e6 for micros in found if micros]


def _vitals(where: str, node: Any) -> Vitals:
    found = node.info()
    is_copy = found["role"] != "master" and not where  # a cluster has its replicas among its nodes
    return Vitals(
        where,
        _name(found),
        f"{found.get('master_host')}:{found.get('master_port')}" if is_copy else "",
        bool(found.get("loading")),
        found["used_memory"],
        found.get("maxmemory") or found.get("total_system_memory", 0),
        tuple(text for name, text in WRITES.items() if found.get(name, "ok") != "ok"),
        tuple(_replicas(found)),
        int(setting(node, "min-replicas-to-write") or 0),
        found.get("min_slaves_good_slaves", 0),
        [int(name[2:]) for name in found if DATABASE.fullmatch(name) and int(name[2:]) != _database(node)],
    )


def _database(node: Any) -> int:
    return int(node.get_connection_kwargs().get("db") or 0)


def _name(found: Mapping[str, Any]) -> str:
    valkey = found.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {found.get('redis_version')}"


def _replicas(found: Mapping[str, Any]) -> Iterator[Replica]:
    for n in range(found.get("connected_slaves", 0)):
        one = found[f"slave{n}"]
        behind = found["master_repl_offset"] - one["offset"]
        yield Replica(f"{one['ip']}:{one['port']}", one["state"] == "online", one.get("lag", 0), behind)
