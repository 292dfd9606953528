"""One, two and four consumers over three brokers that replicate, and three nodes of a Redis cluster.

On a machine whose cores they all share, more consumers cannot count more, and each takes time from the others' caches.
That a group costs an event no more processor time than as many consumers that share nothing, each with a topic and a
group of its own, shows that they could count more where there are cores for them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.logs import Log, gate, records
from benchmarks.stand import Stand, cpu_s, is_missing, wait_for
from features.fence import accounted
from hitparade.processes import leash
from hitparade.wiring import session_store
from tests.faults.servers import Cluster, Server, three_brokers

CONSUMERS = (1, 2, 4)
LOG = Log(9_600_000, n_partitions=12)  # so long that what each consumer does once is little of it
WARM_UP = Log(200_000, n_partitions=12)
MOST_GROWTH = 1.25
LOOK_EVERY_S = 0.02
NOTE = (
    "all share the cores of one machine, so events_per_s says nothing of more machines, and network and disks of their "
    "own are not seen; what shows that it scales is that sharing a topic costs no processor time"
)


@dataclass(frozen=True)
class Machines:
    """What is measured on, and whose processor time it takes."""

    stand: Stand
    brokers: Sequence[Server]
    nodes: Sequence[Server]


@dataclass(frozen=True, slots=True)
class Counted:
    """What one number of consumers took."""

    seconds: float
    cpu_s: float
    redis_cpu_s: float
    brokers_cpu_s: float
    rss_mib: float
    is_exact: bool


def run() -> Iterator[dict[str, Any]]:
    """A row a number of consumers; none where there is no broker."""
    if is_missing("scale"):
        return
    with machines() as found:
        _count(found, "warm-up", 1, WARM_UP)  # of three virtual machines of Java
        together = {n: _count(found, f"scale{n}", n, LOG) for n in CONSUMERS}
        apart = {n: _count(found, f"apart{n}", 1, LOG, n) for n in CONSUMERS}
    for n, one in together.items():
        growth = round(one.cpu_s / apart[n].cpu_s, 2)
        yield {
            "name": f"scale:consumers-{n}",
            "target": f"at most {MOST_GROWTH} times the processor time of as many consumers that share nothing; "
            "every event counted",
            "holds": growth <= MOST_GROWTH and one.is_exact and apart[n].is_exact,
            "consumers": n,
            "brokers": len(found.brokers),
            "redis_nodes": len(found.nodes),
            "partitions": LOG.n_partitions,
            "array": LOG.array,
            "events": LOG.n_events,
            "exact": one.is_exact,
            "events_per_s": round(LOG.n_events / one.seconds),
            "cpu_us_per_event": _us(one.cpu_s),
            "redis_us_per_event": _us(one.redis_cpu_s),
            "brokers_us_per_event": _us(one.brokers_cpu_s),
            "apart_cpu_us_per_event": _us(apart[n].cpu_s),
            "growth_cpu": growth,
            "rss_mib": round(one.rss_mib),
            "note": NOTE,
        }


def _us(seconds: float) -> float:
    return round(seconds / LOG.n_events * 1e6, 2)


@contextmanager
def machines() -> Iterator[Machines]:
    """All servers, in a folder that is removed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hitparade-bench-", ignore_cleanup_errors=True)))
        group = stack.enter_context(leash())
        brokers, cluster = three_brokers(folder, group), Cluster(folder, group)
        for server in (*brokers, *cluster.nodes):
            stack.callback(server.close)
        for broker in brokers:
            broker.launch()
        cluster.start()
        for broker in brokers:
            broker.await_up()
        client = stack.enter_context(closing(cluster.client()))
        addresses = ",".join(broker.address for broker in brokers)
        yield Machines(Stand(addresses, client, cluster.url, 0, folder, group), brokers, cluster.nodes)


def _cpu_s(servers: Sequence[Server]) -> float:
    return sum(cpu_s(server.process.pid) for server in servers if server.process)


def _count(found: Machines, name: str, n_consumers: int, log: Log, n_groups: int = 1) -> Counted:
    """Count a log, or one that is split among groups of so many consumers each.

    Time is that from its commit until the fences have passed its last record.

    Raises:
        RuntimeError: a consumer has failed.
    """
    servers = found.stand
    sizes = {name: getattr(log, name) // n_groups for name in ("n_events", "n_tracks", "n_partitions")}
    part = replace(log, **sizes)
    prefixes = [f"{name}-{n}" for n in range(n_groups)]
    end = part.n_events // part.array // part.n_partitions
    with ExitStack() as stack:
        for prefix in prefixes:
            servers.topics(prefix, part.n_partitions)
        commits = [stack.enter_context(gate(servers.settings(prefix), records(part))) for prefix in prefixes]
        consumers = [stack.enter_context(servers.consumer(prefix)) for prefix in prefixes for _ in range(n_consumers)]

        def fences() -> list[int | None]:
            return [fence for prefix in prefixes for fence in servers.fences(prefix, part.n_partitions)]

        def used() -> tuple[float, float, float]:
            return sum(consumer.cpu_s() for consumer in consumers), _cpu_s(found.nodes), _cpu_s(found.brokers)

        wait_for(lambda: None not in fences(), "the fences", *consumers)
        for prefix in prefixes:
            wait_for(partial(servers.is_shared, prefix, n_consumers), "the group", *consumers, every_s=0.2)
        before = used()
        for commit in commits:
            commit()
        began = time.monotonic()
        ended = wait_for(
            lambda: min(fence or 0 for fence in fences()) >= end, "the count", *consumers, every_s=LOOK_EVERY_S
        )
        cpu, redis_cpu, brokers_cpu = (now - then for now, then in zip(used(), before, strict=True))
        rss_mib = max(consumer.rss_mib() for consumer in consumers)
    stores = [session_store(servers.settings(prefix)) for prefix in prefixes]
    tallies = [fence.tallies for store in stores for fence in store.fences(range(part.n_partitions)).values()]
    is_exact = accounted(tallies)["counted"] == log.n_events
    return Counted(ended - began, cpu, redis_cpu, brokers_cpu, rss_mib, is_exact)
