"""Whether cost grows in a straight line: time and memory against events, tracks, partitions, weeks and consumers.

Each log is written in a transaction that is committed once the consumers have joined, so that time is that of counting
alone: from the commit until the fences have passed the last record.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from benchmarks.kept import RESULTS
from benchmarks.logs import FIRST, START, Log, catalogue_line, every_track, gate, records
from benchmarks.pictures import Panel, draw, fit
from benchmarks.stand import Counting as Process
from benchmarks.stand import Stand, cpu_s, is_missing, stand, wait_for
from features.topics import Topics
from models.experiments import load
from producers.tracks import send_tracks

EVENTS = (100_000, 316_000, 1_000_000, 3_160_000, 10_000_000)
N_WEEKS = 60  # of the largest; the others are as dense
TRACKS, TRACKS_EVENTS = (10_000, 100_000, 316_000, 1_000_000), 3_000_000
PACKED = 10_000  # tracks whose hashes are so small that Redis packs them: below this step they take a third less
PARTITIONS, PARTITIONS_EVENTS = (1, 4, 16, 64), 1_000_000
CONSUMERS, CONSUMERS_EVENTS, CONSUMERS_PARTITIONS = (1, 2, 4), 2_000_000, 12
BYTES_TRACKS = 1_000_000
CATALOGUE_TRACKS, LOG_EVENTS, ARRAY = 100_000, 100_000, 25
MOST_EXPONENT, MOST_FLAT, MOST_RSS_MIB, MOST_BYTES = 1.05, 0.1, 150, 100
LOOK_EVERY_S, SAMPLE_EVERY_S = 0.005, 0.1
STRAIGHT = f"at most {MOST_EXPONENT}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What stood at one moment: weeks since the log began, memory of the consumers and of Redis."""

    week: float
    rss_mib: float
    redis_mib: float


@dataclass(frozen=True, slots=True)
class Counted:
    """One log counted: wall time; processor time and the most memory of all consumers together; what Redis took."""

    seconds: float
    cpu_s: float
    redis_cpu_s: float
    rss_mib: float
    redis_bytes: int
    samples: Sequence[Sample] = field(repr=False)


def run() -> Iterator[dict[str, Any]]:
    """A row a line, and a picture of each; none where there is no broker."""
    if is_missing("lines"):
        return
    panels: list[Panel] = []
    with stand() as servers:
        yield from chain(
            _events(servers, panels),
            _tracks(servers, panels),
            _partitions(servers, panels),
            _consumers(servers, panels),
            _redis_bytes(servers),
            _catalogue_bytes(servers),
            _log_bytes(servers),
        )
    draw(panels, RESULTS / "lines.png")


def _events(servers: Stand, panels: list[Panel]) -> Iterator[dict[str, Any]]:
    logs = [Log(n, n_weeks=max(1, round(N_WEEKS * n / EVENTS[-1]))) for n in EVENTS]
    counted = [_count(servers, f"events{n}", log) for n, log in enumerate(logs)]
    yield _line("events", EVENTS, counted, panels)
    yield _weeks(servers.settings("weeks").weeks_kept, counted[-1].samples, panels)


def _tracks(servers: Stand, panels: list[Panel]) -> Iterator[dict[str, Any]]:
    counted = [_count(servers, f"tracks{n}", Log(TRACKS_EVENTS, n_tracks=n)) for n in TRACKS]
    row = _line("tracks", TRACKS, counted, panels, events=TRACKS_EVENTS)
    sizes = [one.redis_bytes for one in counted]
    tables = [(n, size) for n, size in zip(TRACKS, sizes, strict=True) if n > PACKED]
    exponent = fit(*zip(*tables, strict=True)).exponent
    panels.append(Panel("Redis' memory", "tracks", "bytes", TRACKS, {"Redis": sizes}))
    holds = row["holds"] and exponent <= MOST_EXPONENT
    target = f"exponents of time, and of Redis' memory above {PACKED:,} tracks, {STRAIGHT}"
    yield row | {"target": target, "holds": holds, "exponent_redis": exponent, "redis_bytes": sizes}


def _partitions(servers: Stand, panels: list[Panel]) -> Iterator[dict[str, Any]]:
    logs = [Log(PARTITIONS_EVENTS, n_partitions=n) for n in PARTITIONS]
    counted = [_count(servers, f"partitions{log.n_partitions}", log) for log in logs]
    yield _line("partitions", PARTITIONS, counted, panels, events=PARTITIONS_EVENTS)


def _consumers(servers: Stand, panels: list[Panel]) -> Iterator[dict[str, Any]]:
    log = Log(CONSUMERS_EVENTS, n_partitions=CONSUMERS_PARTITIONS)
    counted = [_count(servers, f"consumers{n}", log, n) for n in CONSUMERS]
    row = _line("consumers", CONSUMERS, counted, panels, events=CONSUMERS_EVENTS)
    yield row | {"events_per_s": [round(CONSUMERS_EVENTS / one.seconds) for one in counted]}


def _redis_bytes(servers: Stand) -> Iterator[dict[str, Any]]:
    """A million tracks, each played, skipped and liked in both groups within one week."""
    n_partitions = Log(0).n_partitions
    assignment = load(None, servers.settings("bytes").calendar).in_force(FIRST)
    users = {assignment.group_of(str(user)): user for user in range(100)}
    counted = _counted(
        servers, "bytes", every_track(BYTES_TRACKS, sorted(users.values()), n_partitions), n_partitions, 1
    )
    each = round(counted.redis_bytes / BYTES_TRACKS, 1)
    target = f"less than {MOST_BYTES} bytes a track and week for plays, skips and likes of {len(users)} groups"
    more = {"tracks": BYTES_TRACKS, "bytes_per_track_week": each, "groups": len(users)}
    yield {"name": "lines:redis-bytes", "target": target, "holds": each < MOST_BYTES, **more}


def _catalogue_bytes(servers: Stand) -> Iterator[dict[str, Any]]:
    """Tracks with all that is known of them."""
    prefix = "catalogue"
    servers.topics(prefix, Log(0).n_partitions)
    servers.redis.flushall()
    before, settings = servers.settled_bytes(), servers.settings(prefix)
    lines = ((f"track {n}", catalogue_line(n)) for n in range(CATALOGUE_TRACKS))
    send_tracks(lines, settings.kafka, settings.topics.tracks)
    with servers.consumer(prefix, "--until-idle", what="tracks") as consumer:
        consumer.ended_well()
    each = round((servers.settled_bytes() - before) / CATALOGUE_TRACKS, 1)
    yield {"name": "lines:catalogue-bytes", "tracks": CATALOGUE_TRACKS, "bytes_per_track": each}


def _log_bytes(servers: Stand) -> Iterator[dict[str, Any]]:
    """What an event takes on the broker's disk, uncompressed, alone and in arrays."""
    found = {}
    for name, array in (("single", 1), ("arrays", ARRAY)):
        prefix = f"log-{name}"
        servers.topics(prefix, Log(0).n_partitions)
        settings = servers.settings(prefix)
        with gate(settings, records(Log(LOG_EVENTS, array=array))) as commit:
            commit()
        found[name] = round(servers.log_bytes(settings.topics.sessions) / LOG_EVENTS, 1)
    yield {"name": "lines:log-bytes", "events": LOG_EVENTS, "array": ARRAY, **found}


def _line(name: str, xs: Sequence[int], counted: Sequence[Counted], panels: list[Panel], **more: Any) -> dict[str, Any]:
    """The row of one line; its exponent is that of wall time."""
    lines = {
        "wall time": [one.seconds for one in counted],
        "consumers' processor time": [one.cpu_s for one in counted],
        "Redis' processor time": [max(one.redis_cpu_s, 0.01) for one in counted],
    }
    n_events = more.get("events", xs[-1])
    panels.append(Panel(f"Time against {name}", name, "s", xs, lines))
    exponents = {label: fit(xs, ys).exponent for label, ys in lines.items()}
    wall, cpu, redis = exponents.values()
    return {
        "name": f"lines:{name}",
        "target": f"exponent of time {STRAIGHT}",
        "holds": max(wall, cpu) <= MOST_EXPONENT,
        "exponent": wall,
        "exponent_cpu": cpu,
        "exponent_redis_cpu": redis,
        name: list(xs),
        **more,
        **{
            label: [round(value, 2) for value in ys]
            for label, ys in zip(("s", "cpu_s", "redis_cpu_s"), lines.values(), strict=True)
        },
        "cpu_us_per_event": round(counted[-1].cpu_s / n_events * 1e6, 2),
        "redis_us_per_event": round(counted[-1].redis_cpu_s / n_events * 1e6, 2),
        "rss_mib": [round(one.rss_mib) for one in counted],
    }


def _weeks(kept: int, samples: Sequence[Sample], panels: list[Panel]) -> dict[str, Any]:
    """Memory by week, from the first week on in which an older one has fallen out."""
    most = {week: [one for one in samples if int(one.week) == week] for week in range(kept + 1, N_WEEKS)}
    most = {week: some for week, some in most.items() if some}
    lines = {
        "consumer": [max(one.rss_mib for one in some) for some in most.values()],
        "Redis": [max(one.redis_mib for one in some) for some in most.values()],
    }
    panels.append(Panel(f"Memory once {kept} weeks are kept", "weeks", "MiB", list(most), lines))
    rss, redis = (fit(list(most), ys).exponent for ys in lines.values())
    highest = max(one.rss_mib for one in samples)
    return {
        "name": "lines:weeks",
        "target": f"memory flat (exponents at most {MOST_FLAT}) over {EVENTS[-1]:,} events and {N_WEEKS} weeks; "
        f"a consumer's below {MOST_RSS_MIB} MiB",
        "holds": max(rss, redis) <= MOST_FLAT and highest < MOST_RSS_MIB,
        "exponent_rss": rss,
        "exponent_redis": redis,
        "weeks_kept": kept,
        "rss_mib": round(highest),
        "redis_mib": round(max(one.redis_mib for one in samples)),
    }


def _count(servers: Stand, prefix: str, log: Log, n_consumers: int = 1) -> Counted:
    return _counted(servers, prefix, records(log), log.n_partitions, n_consumers)


def _counted(
    servers: Stand, prefix: str, values: Iterable[tuple[int, bytes]], n_partitions: int, n_consumers: int
) -> Counted:
    """Count a log with so many consumers into an empty Redis; they end by themselves.

    Raises:
        RuntimeError: a consumer has failed.
    """
    servers.topics(prefix, n_partitions)
    servers.redis.flushall()
    redis_before = servers.settled_bytes()
    ends = [0] * n_partitions

    def told() -> Iterator[tuple[int, bytes]]:
        for partition, value in values:
            ends[partition] += 1
            yield partition, value

    with gate(servers.settings(prefix), told()) as commit, ExitStack() as stack:
        consumers = [stack.enter_context(servers.consumer(prefix, "--until-idle")) for _ in range(n_consumers)]
        wait_for(lambda: None not in servers.fences(prefix, n_partitions), "the fences", *consumers)
        wait_for(lambda: servers.is_shared(prefix, n_consumers), "the group", *consumers, every_s=0.2)
        watch = Watch(servers, prefix, consumers)

        def all_counted() -> bool:
            watch.look()
            return all((now or 0) >= end for now, end in zip(servers.fences(prefix, n_partitions), ends, strict=True))

        cpu_before, redis_cpu_before = watch.cpu_s()
        commit()
        began = time.monotonic()
        seconds = wait_for(all_counted, "the count", *consumers, every_s=LOOK_EVERY_S) - began
        cpu, redis_cpu = watch.cpu_s()
        watch.sample()
        for consumer in consumers:
            consumer.ended_well()
    redis_bytes = servers.settled_bytes() - redis_before
    rss_mib = max(one.rss_mib for one in watch.samples)
    return Counted(seconds, cpu - cpu_before, redis_cpu - redis_cpu_before, rss_mib, redis_bytes, watch.samples)


@dataclass(slots=True)
class Watch:
    """Takes a sample now and then, while consumers count."""

    servers: Stand
    prefix: str
    consumers: Sequence[Process]
    samples: list[Sample] = field(default_factory=list)
    _next: float = 0.0

    def look(self) -> None:
        """Take one, if it is time."""
        if time.monotonic() > self._next:
            self.sample()
            self._next = time.monotonic() + SAMPLE_EVERY_S

    def sample(self) -> None:
        """Take one."""
        rss_mib = sum(consumer.rss_mib() for consumer in self.consumers)
        redis_mib = int(self.servers.redis.info("memory")["used_memory"]) / 2**20
        self.samples.append(Sample(_week(self.servers, self.prefix), rss_mib, redis_mib))

    def cpu_s(self) -> tuple[float, float]:
        """The processor time of the consumers together, and of Redis."""
        return sum(consumer.cpu_s() for consumer in self.consumers), cpu_s(self.servers.redis_pid)


def _week(servers: Stand, prefix: str) -> float:
    """How many weeks the first partition has come from the log's beginning."""
    found: Any = servers.redis.hget(f"{{hp:{Topics(prefix).sessions}:0}}:fence", "stream_time")
    return (datetime.fromisoformat(found.decode()) - START) / timedelta(weeks=1) if found else 0.0
