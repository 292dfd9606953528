"""The other side of the comparison: the log as Kafka has it, the keys as Redis has them, nothing of ours between."""

import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from tests.oracle import Totals, recount

OUTCOMES = ("counted", "late", "dead", "ignored")
BUCKET = re.compile(r"\{hp:.+:(\d+)\}:week:(\d{4}-W\d\d):\d+")

Counts = dict[tuple[str, str, str], tuple[int, int, int]]
"""Plays, skips and likes by week, group and track."""


def read_back(kafka: str, topic: str) -> dict[int, list[Any]]:
    """Every committed record of a topic, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    partitions = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found: dict[int, list[Any]] = {partition.partition: [] for partition in partitions}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for partition, records in consumer.poll(timeout_ms=200).items():
            found[partition.partition] += records
    consumer.close()
    return found


def ends_of(kafka: str, topic: str) -> dict[int, int]:
    """The end offset of every partition."""
    consumer = KafkaConsumer(bootstrap_servers=kafka)
    partitions = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
    ends = {partition.partition: end for partition, end in consumer.end_offsets(partitions).items()}
    consumer.close()
    return ends


@dataclass
class Standing:
    """What Redis holds of one partition."""

    fence: Mapping[str, str]
    counts: Counts = field(default_factory=dict)

    @property
    def next_offset(self) -> int:
        return int(self.fence.get("next_offset", 0))

    def tally(self, outcome: str) -> int:
        return int(self.fence.get(outcome, 0))


def standings(redis: Any, topic: str) -> dict[int, Standing]:
    """Every partition of the topic that has a fence in Redis."""
    keys = [raw.decode() for raw in redis.scan_iter(match=f"{{hp:{topic}:*", count=1000)]
    found: dict[int, Standing] = {}
    for key in keys:
        if key.endswith("}:fence"):
            fields = {name.decode(): value.decode() for name, value in redis.hgetall(key).items()}
            found[int(key.split("}")[0].rsplit(":", 1)[1])] = Standing(fields)
    for key in keys:
        if bucket := BUCKET.fullmatch(key):
            standing, week, tracks = found[int(bucket[1])], bucket[2], redis.hgetall(key)
            groups = standing.fence[f"groups:{week}"].split(",")
            for track, packed in tracks.items():
                _add(standing.counts, week, groups, track.decode(), packed)
    return found


def _add(counts: Counts, week: str, groups: Sequence[str], track: str, packed: bytes) -> None:
    """Each group's plays, skips and likes of a track; a group in which it has none is left out."""
    for group, three in zip(groups, struct.iter_unpack("<III", packed), strict=True):
        at = (week, group, track)
        assert at not in counts, f"{at} is in two slices"
        if any(three):
            counts[at] = (three[0], three[1], three[2])


def group_of(salt: str, weights: Mapping[str, float], user: str) -> str:
    """DESIGN's rule, written a second time: the least -ln(u)/weight of all groups."""

    def draw(group: str) -> float:
        digest = hashlib.sha256(f"v1:{salt}:{group}:{user}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") + 0.5) / 2**64

    return min(weights, key=lambda group: -math.log(draw(group)) / weights[group])


def difference(truth: Totals, found: Standing) -> int:
    """By how much the counters and tallies are wrong, in events; 0 is exact."""
    expected = {at: tuple(counts) for at, counts in truth.counts.items()}
    wrong = 0
    for at in expected.keys() | found.counts.keys():
        pairs = zip(expected.get(at, (0, 0, 0)), found.counts.get(at, (0, 0, 0)), strict=True)
        wrong += sum(abs(want - have) for want, have in pairs)
    causes = {name for name in found.fence if name.startswith("dead:")} | {*OUTCOMES, "exposure"}
    return wrong + sum(abs(truth.outcomes[name] - found.tally(name)) for name in causes | set(truth.outcomes))


def identities(records: Sequence[Any]) -> set[tuple[str, str, int, int, int, bytes | None]]:
    """What a letter topic holds: cause, topic, partition, offset, place and bytes of each; a letter may come twice."""
    found = set()
    for record in records:
        headers = {name.removeprefix("hitparade-"): value.decode() for name, value in record.headers}
        numbers = (int(headers["partition"]), int(headers["offset"]), int(headers["index"]))
        found.add((headers["cause"], headers["topic"], *numbers, record.value or None))
    return found


def truth_of(
    log: Sequence[Any], weeks_kept: int, salt: str, weights: Mapping[str, float], exposures: bool = False
) -> Totals:
    """The recount of one partition's records."""
    return recount(log, weeks_kept, group_of=lambda user: group_of(salt, weights, user), exposures=exposures)
