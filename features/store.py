"""The counters, the catalogue and the fences in Redis: the only file that imports redis.

One partition of a source topic owns its keys. They share a hash tag, so that one script changes them together, on a
single node and on a cluster:

    {hp:<topic>:<p>}:fence                        hash   next_offset, topic_id, stream_time; layout, first_day, zone,
                                                         slices; the tallies counted, late, dead, ignored, lost and
                                                         dead:<cause>; bucket:<week>:<group> = offset after the last
                                                         record in it; experiment:<week> = fingerprint of the assignment
    {hp:<topic>:<p>}:week:<week>:<group>:<slice>  hash   track id -> plays, skips, likes (struct '<I4I4I4')
    {hp:<topic>:<p>}:track:<id>                   hash   timestamp and offset of its record; track = JSON, '' when down
    {hp:<topic>:<p>}:tracks:<slice>               set    the ids of the tracks above

slice = CRC-32 of the track id modulo the number of slices.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from importlib.resources import files
from struct import Struct
from typing import ParamSpec, TypeVar

import msgspec
import redis

from features.tally import CatalogueEntry, Part

LAYOUT = "1"
OUTCOMES = ("counted", "late", "dead", "ignored")
INIT = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end"
COUNTS = Struct("<III")

Client = redis.Redis
P = ParamSpec("P")
R = TypeVar("R")
PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.OutOfMemoryError,
)
PASSING_CODES = ("MISCONF", "NOREPLICAS", "MASTERDOWN")
"""A full disk, too few replicas, a replica without its master: errors to which redis-py gives no class."""


class StoreUnavailable(Exception):
    """Redis cannot serve now, and may soon."""


class Fenced(Exception):
    """The partition stands elsewhere in Redis than this consumer thinks; read the fence and go on from there."""


class TopicChanged(Exception):
    """The topic behind the counters is another than the one read: it was created anew."""


def passing(call: Callable[P, R]) -> Callable[P, R]:
    """Turn what redis says of an outage into StoreUnavailable."""

    @wraps(call)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except redis.RedisError as cause:
            if isinstance(cause, PASSING) or str(cause).startswith(PASSING_CODES):
                raise StoreUnavailable(f"Redis cannot serve now: {cause}") from cause
            raise

    return translated


@dataclass(frozen=True, slots=True)
class Fence:
    """Where one partition stands: next_offset is the first one not yet applied."""

    next_offset: int
    topic_id: str
    stream_time: datetime | None
    settings: Mapping[str, str]
    tallies: Mapping[str, int]
    touched: Mapping[tuple[str, str], int]
    experiments: Mapping[str, str]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Fence":
        """Read the fields of a fence's hash."""
        stream_time = fields.get("stream_time")
        parts = {name: name.split(":", 2) for name in fields}
        return cls(
            next_offset=int(fields["next_offset"]),
            topic_id=fields["topic_id"],
            stream_time=datetime.fromisoformat(stream_time) if stream_time else None,
            settings={name: fields[name] for name in ("layout", "first_day", "zone", "slices") if name in fields},
            tallies={name: int(fields[name]) for name in fields if name.split(":")[0] in (*OUTCOMES, "lost")},
            touched={(part[1], part[2]): int(fields[name]) for name, part in parts.items() if part[0] == "bucket"},
            experiments={part[1]: fields[name] for name, part in parts.items() if part[0] == "experiment"},
        )


class CounterStore:
    """The keys of one source topic."""

    def __init__(self, client: Client, topic: str, slices: int) -> None:
        self.client = client
        self.topic = topic
        self.slices = slices
        self._apply = client.register_script(files("features").joinpath("apply.lua").read_text())
        self._init = client.register_script(INIT)

    def key(self, partition: int, name: str) -> str:
        """The full name of a partition's key."""
        return f"{{hp:{self.topic}:{partition}}}:{name}"

    @passing
    def fence(self, partition: int) -> Fence | None:
        """Where the partition stands; None when nothing of it was ever counted here."""
        fields = self.client.hgetall(self.key(partition, "fence"))
        return Fence.of({_text(name): _text(value) for name, value in fields.items()}) if fields else None

    @passing
    def init(self, partition: int, next_offset: int, topic_id: str, settings: Mapping[str, str]) -> Fence:
        """Make the partition's fence unless there is one; return the one that stands."""
        fields = {"next_offset": str(next_offset), "topic_id": topic_id, **settings}
        arguments = [text for item in fields.items() for text in item]
        self._init(keys=[self.key(partition, "fence")], args=arguments)
        fence = self.fence(partition)
        if fence is None:
            raise StoreUnavailable(f"the fence of {self.topic} partition {partition} was lost as it was made")
        return fence

    @passing
    def apply(self, partition: int, topic_id: str, part: Part) -> None:
        """Add a part and move the fence to its end: both or neither.

        Raises:
            Fenced: the fence is not at part.start, or there is none.
            TopicChanged: the fence is of another topic id.
            StoreUnavailable: nothing is known of whether it was applied; the fence tells.
        """
        answer = self._apply(keys=[self.key(partition, "fence")], args=[self._packed(topic_id, part)])
        where = f"{self.topic} partition {partition}"
        match [text.decode() for text in answer]:
            case ["OK"]:
                return
            case ["FENCED", found]:
                raise Fenced(f"{where}: expected the fence at offset {part.start}, found {found}")
            case ["TOPIC", found]:
                raise TopicChanged(f"{where}: Redis counts topic id {found}, Kafka has {topic_id}")
            case [problem, *_]:
                raise Fenced(f"{where}: expected the fence at offset {part.start}, found {problem}")

    def _packed(self, topic_id: str, part: Part) -> bytes:
        return msgspec.msgpack.encode(
            {
                "start": str(part.start),
                "end": str(part.end),
                "topic_id": topic_id,
                "stream_time": part.stream_time.isoformat() if part.stream_time else "",
                "horizon": part.horizon,
                "slices": self.slices,
                "tallies": part.tallies,
                "buckets": [
                    (b.week, b.group, b.fingerprint, str(b.touched), self._by_slice(b.counts)) for b in part.buckets
                ],
                "entries": [
                    (e.track_id, self.slice_of(e.track_id), e.timestamp, e.offset, e.value) for e in part.entries
                ],
            }
        )

    def _by_slice(self, counts: Mapping[str, Sequence[int]]) -> list[tuple[int, list[str | int]]]:
        slices: dict[int, list[str | int]] = defaultdict(list)
        for track_id, (plays, skips, likes) in counts.items():
            slices[self.slice_of(track_id)] += (track_id, plays, skips, likes)
        return list(slices.items())

    def slice_of(self, track_id: str) -> int:
        """The slice that holds a track, in every partition and in history."""
        return zlib.crc32(track_id.encode()) % self.slices

    @passing
    def fences(self, partitions: Sequence[int]) -> dict[int, Fence]:
        """The fences of those partitions that have one."""
        found = {partition: self.fence(partition) for partition in partitions}
        return {partition: fence for partition, fence in found.items() if fence is not None}

    @passing
    def bucket(self, partition: int, week: str, group: str, slice_: int) -> dict[str, tuple[int, int, int]]:
        """Plays, skips and likes by track id; HSCAN keeps Redis free for others, and may give a field twice."""
        key = self.key(partition, f"week:{week}:{group}:{slice_}")
        packed = dict(self.client.hscan_iter(key, count=1000))
        return {track_id.decode(): COUNTS.unpack(counts) for track_id, counts in packed.items()}

    @passing
    def entries(self, partition: int, slice_: int) -> list[CatalogueEntry]:
        """The tracks of a slice as their records had them, those taken down too."""
        ids = {
            track_id.decode()
            for track_id in self.client.sscan_iter(self.key(partition, f"tracks:{slice_}"), count=1000)
        }
        ordered = sorted(ids)
        chunks = (ordered[first : first + 1000] for first in range(0, len(ordered), 1000))
        return [entry for chunk in chunks for entry in self._entries(partition, chunk)]

    def _entries(self, partition: int, ids: Sequence[str]) -> Iterator[CatalogueEntry]:
        with self.client.pipeline(transaction=False) as pipeline:
            for track_id in ids:
                pipeline.hmget(self.key(partition, f"track:{track_id}"), "timestamp", "offset", "track")
            rows = pipeline.execute()
        for track_id, (timestamp, offset, value) in zip(ids, rows, strict=True):
            if timestamp is not None:
                yield CatalogueEntry(track_id, int(timestamp), int(offset), value.decode())

    @passing
    def drop(self, partition: int) -> int:
        """Remove every key of the partition; return how many there were."""
        keys = list(self.client.scan_iter(match=self.key(partition, "*"), count=1000))
        for key in keys:
            self.client.unlink(key)
        return len(keys)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
