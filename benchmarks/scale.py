"""One, two and four consumers over three brokers that replicate, and three nodes of a Redis cluster.

On a machine whose cores they all share, more consumers cannot count more; that an event costs the same processor time
however many there are, shows that they could where there are cores for them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
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
LOG = Log(3_000_000, n_partitions=12)
WARM_UP = Log(200_000, n_partitions=12)
MOST_GROWTH = 1.25
LOOK_EVERY_S = 0.02
NOTE = (
    "all share the cores of one machine, so events_per_s says nothing of more machines, and network and disks of their "
    "own are not seen; what shows that it scales is processor time an event that stays as it is"
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
        counted = {n: _count(found, f"scale{n}", n, LOG) for n in CONSUMERS}
    alone = counted[1]
    for n, one in counted.items():
        growth = round(one.cpu_s / alone.cpu_s, 2)
        yield {
            "name": f"scale:consumers-{n}",
            "target": f"processor time an event at most {MOST_GROWTH} times that of one consumer; every event counted",
            "holds": growth <= MOST_GROWTH and one.is_exact,
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


def _count(found: Machines, prefix: str, n_consumers: int, log: Log) -> Counted:
    """Count a log; time is that from its commit until the fences have passed its last record.

    Raises:
        RuntimeError: a consumer has failed.
    """
    servers = found.stand
    servers.topics(prefix, log.n_partitions)
    store = session_store(servers.settings(prefix))
    end = log.n_events // log.array // log.n_partitions
    with gate(servers.settings(prefix), records(log)) as commit, ExitStack() as stack:
        consumers = [stack.enter_context(servers.consumer(prefix)) for _ in range(n_consumers)]
        wait_for(lambda: None not in servers.fences(prefix, log.n_partitions), "the fences", *consumers)
        wait_for(lambda: servers.is_shared(prefix, n_consumers), "the group", *consumers, every_s=0.2)

        def used() -> tuple[float, float, float]:
            return sum(consumer.cpu_s() for consumer in consumers), _cpu_s(found.nodes), _cpu_s(found.brokers)

        before = used()
        commit()
        began = time.monotonic()
        ended = wait_for(
            lambda: min(fence or 0 for fence in servers.fences(prefix, log.n_partitions)) >= end,
            "the count",
            *consumers,
            every_s=LOOK_EVERY_S,
        )
        cpu, redis_cpu, brokers_cpu = (now - then for now, then in zip(used(), before, strict=True))
        rss_mib = max(consumer.rss_mib() for consumer in consumers)
    tallies = [fence.tallies for fence in store.fences(range(log.n_partitions)).values()]
    is_exact = accounted(tallies)["counted"] == log.n_events
    return Counted(ended - began, cpu, redis_cpu, brokers_cpu, rss_mib, is_exact)
