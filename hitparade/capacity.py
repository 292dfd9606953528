"""How much of everything a load needs: arithmetic on what things cost, as costs.toml has it from the benchmarks."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from hitparade.arguments import Client

ROWS: Mapping[Client, str] = {"kafka-python": "count-kafka-python", "confluent-kafka": "count-confluent"}
Costs = Mapping[str, Mapping[str, float]]
"""Figures by the row of the benchmarks that has them, and the figure's name there."""

ARRAY = 25  # events a record where the benchmarks count arrays
HEADROOM = 0.5  # the share of what was measured that is planned with: an outage is caught up in its own length
LOG_WEEKS_MORE = 2  # the session topic keeps so many weeks more than there are counters
LEAST_PARTITIONS = 6
GROUP_BYTES = 12  # of one more group in a track's packed counts
NODE_BYTES = 16 * 2**30  # of one Redis: as much again is free for the fork that rewrites its append-only file
DISK_BYTES = 2 * 2**40  # of one broker
DAY_S, WEEK_S, HOUR_S = 86_400, 7 * 86_400, 3600


@dataclass(frozen=True, slots=True)
class Load:
    """What comes in, on average over a busy hour, and how long it is kept."""

    events_per_s: int
    tracks: int
    weeks_kept: int = 12
    array: int = ARRAY
    groups: int = 2
    client: Client = "kafka-python"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a load needs; cores are those in use, of which HEADROOM is planned to be busy.

    strain says how much of one consumer, one Redis and so on is needed, largest first: what is above 1 needs more.
    """

    consumers: int
    partitions: int
    consumer_cores: float
    consumers_mib: float
    redis_nodes: int
    redis_cores: float
    redis_bytes: float
    log_bytes_per_day: float
    log_bytes: float
    scoring_s: float
    scoring_mib: float
    recount_days: float
    strain: Mapping[str, float]

    @property
    def breaks_first(self) -> str:
        """What one of each would be short of first."""
        return next(iter(self.strain))


def measured() -> Costs:
    """The costs that are shipped."""
    costs: Costs = tomllib.loads(files("hitparade").joinpath("costs.toml").read_text())
    return costs


def capacity(load: Load, costs: Costs) -> Capacity:
    """What the load needs.

    An event costs what one in an array does, and its share of the record; every track is played every week. Redis'
    time is that of a million tracks, of which hardly any occurs twice in a step.
    """
    single, arrays = (costs[f"{ROWS[load.client]}-{form}"] for form in ("single", "arrays"))
    rate = 1 / _of_array(1 / single["events_per_s"], 1 / arrays["events_per_s"], load.array)
    redis_us = costs["lines:tracks"]["redis_us_per_event"]
    consumer_us = _of_array(_consumer_us(single), _consumer_us(arrays), load.array)
    consumers = _whole(load.events_per_s / (rate * HEADROOM))
    redis_cores = load.events_per_s * redis_us / 1e6
    redis_bytes = load.tracks * bytes_per_track(load, costs)
    log_bytes = _of_array(costs["lines:log-bytes"]["single"], costs["lines:log-bytes"]["arrays"], load.array)
    log_weeks = load.weeks_kept + LOG_WEEKS_MORE
    scoring = costs["scoring"]
    scoring_s = load.tracks * scoring["seconds"] / scoring["tracks"]
    strain = {
        "one consumer": load.events_per_s / (rate * HEADROOM),
        "one Redis' core": redis_cores / HEADROOM,
        "one Redis' memory": redis_bytes / NODE_BYTES,
        "one broker's disk": load.events_per_s * log_bytes * log_weeks * WEEK_S / DISK_BYTES,
        "the hour before a list is due": scoring_s / HOUR_S,
    }
    redis_nodes = _whole(max(strain["one Redis' core"], strain["one Redis' memory"]))
    return Capacity(
        consumers,
        max(LEAST_PARTITIONS, 2 * consumers, redis_nodes),  # twice: consumers can be doubled, and no more than these
        load.events_per_s * consumer_us / 1e6,
        consumers * max(single["rss_mib"], arrays["rss_mib"]),
        redis_nodes,
        redis_cores,
        redis_bytes,
        load.events_per_s * log_bytes * DAY_S,
        load.events_per_s * log_bytes * log_weeks * WEEK_S,
        scoring_s,
        scoring["peak_mib"],
        load.events_per_s * log_weeks * WEEK_S / (consumers * rate) / DAY_S,
        dict(sorted(strain.items(), key=lambda item: -item[1])),
    )


def _whole(strain: float) -> int:
    """So many are needed: at least one, and none for the last bits of a division."""
    return max(1, math.ceil(round(strain, 6)))


def _consumer_us(row: Mapping[str, float]) -> float:
    """What an event costs the consumer alone: the row's processor time is Redis' too."""
    return row["cpu_us_per_event"] - row["redis_us_per_event"]


def _of_array(single: float, arrays: float, array: int) -> float:
    """What an event costs in arrays of this size, from what it costs alone and in arrays of ARRAY.

    >>> _of_array(5.0, 2.6, 1), _of_array(5.0, 2.6, 25), round(_of_array(5.0, 2.6, 50), 2)
    (5.0, 2.6, 2.55)
    """
    record = max(single - arrays, 0) * ARRAY / (ARRAY - 1)
    return single - record * (1 - 1 / array)


def bytes_per_track(load: Load, costs: Costs) -> float:
    """Of Redis: the weeks kept, one more while a reader's copy of it stands, and the catalogue."""
    week = costs["lines:redis-bytes"]
    of_week = week["bytes_per_track_week"] + (load.groups - week["groups"]) * GROUP_BYTES
    return (load.weeks_kept + 1) * of_week + costs["lines:catalogue-bytes"]["bytes_per_track"]
