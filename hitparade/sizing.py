"""The command that says what a load needs."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from hitparade import output
from hitparade.capacity import LOG_WEEKS_MORE, Capacity, Load, capacity, measured
from hitparade.settings import Settings

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def sizing(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print what is needed, and what breaks first."""
    load = Load(
        arguments.events_per_s,
        arguments.tracks,
        arguments.weeks_kept or settings.weeks_kept,
        arguments.array,
        arguments.groups,
        arguments.client or settings.kafka_client,
    )
    found = capacity(load, measured())
    if arguments.json:
        output.print_json([{**asdict(load), **asdict(found), "breaks_first": found.breaks_first}])
        return 0
    title = (
        f"{load.events_per_s:,} events/s, {load.tracks:,} tracks, {load.weeks_kept} weeks kept, "
        f"{load.array} events a record, {load.groups} groups, {load.client}"
    )
    output.print_table(title, ("what", "#how much", "~why"), rows(load, found))
    of, much = next(iter(found.strain.items()))
    if much > 1:
        print(f"First to break with one of each: {of}, of which {much:,.1f} are needed. docs/scaling.md says how so.")
    else:
        print(f"One of each is enough; nearest to its limit is {of}, at {much:.0%}.")
    return 0


def rows(load: Load, found: Capacity) -> Iterator[tuple[str, str, str]]:
    """What people read: a thing, how much of it, and how that comes about."""
    yield "consumers", f"{found.consumers:,}", "each at half of what was measured"
    yield "partitions", f"{found.partitions:,}", "two a consumer, so that consumers can be doubled"
    yield "consumers' cores in use", cores(found.consumer_cores), "plan twice as many"
    yield "consumers' memory", size(found.consumers_mib * 2**20), "all together"
    yield "Redis nodes", f"{found.redis_nodes:,}", "16 GiB and half a core each"
    yield "Redis' cores in use", cores(found.redis_cores), "plan twice as many"
    yield "Redis' memory", size(found.redis_bytes), "every track in every week, the catalogue, a reader's copy"
    yield "log a day", size(found.log_bytes_per_day), "uncompressed, of one replica"
    yield "log kept", size(found.log_bytes), f"{load.weeks_kept + LOG_WEEKS_MORE} weeks, of one replica"
    yield "scoring", duration(found.scoring_s), "one process"
    yield "scoring's memory", size(found.scoring_mib * 2**20), "slice by slice: it does not grow with the tracks"
    yield (
        "counting the log again",
        duration(found.recount_days * 86_400),
        "all of it, by these consumers, at full speed",
    )


def size(n_bytes: float) -> str:
    """Bytes as people write them.

    >>> size(96 * 2**20), size(1536), size(5 * 2**60)
    ('96 MiB', '1.5 KiB', '5,120 PiB')
    """
    power = 0
    while n_bytes >= 1000 and power < len(UNITS) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{_short(n_bytes)} {UNITS[power]}"


def cores(number: float) -> str:
    """Cores as people write them.

    >>> cores(0.018), cores(0.3), cores(12.34)
    ('0.02', '0.30', '12.3')
    """
    return f"{number:,.1f}" if number >= 1 else f"{number:.2f}"


def duration(seconds: float) -> str:
    """A time as people write it.

    >>> duration(20.4), duration(5400), duration(1_000_000)
    ('20 s', '1.5 h', '12 days')
    """
    for unit, name in ((86_400 * 3, "days"), (3600, "h"), (180, "min")):
        if seconds >= unit:
            return f"{_short(seconds / {'days': 86_400, 'h': 3600, 'min': 60}[name])} {name}"
    return f"{_short(seconds)} s"


def _short(number: float) -> str:
    return f"{number:,.1f}" if number < 10 and round(number, 1) != round(number) else f"{number:,.0f}"
