"""The counters, the catalogue and the fences in Redis: the only file that knows their keys.

One partition of a source topic owns its keys. They share a hash tag, so that one script changes them together, on a
single node and on a cluster:

    {hp:<topic>:<p>}:fence                        hash   next_offset, topic_id, stream_time; layout, first_day, zone,
                                                         slices, plays_cap, listeners; the tallies counted, late, dead,
                                                         ignored, duplicate,
                                                         capped, exposure, lost, dead:<cause>; bucket:<week> = offset
                                                         after the last record in it; experiment:<week> =
                                                         fingerprint of the assignment, groups:<week> = its
                                                         groups, in order;
                                                         ids:<name> for every set of ids there is
    {hp:<topic>:<p>}:week:<week>:<slice>          hash   track id -> plays, skips, likes of the first group, of the
                                                         second, and so on (32-bit integers, little-endian)
    {hp:<topic>:<p>}:ids:<name>                   set    16-byte digests of what was counted, so that it counts once;
                                                         <hours>h:<n> and replayed:<week>: features/duplicates.py
    {hp:<topic>:<p>}:plays:<week>                 hash   16-byte digest of user and track -> how many plays of theirs
                                                         have counted, where there is a cap: features/caps.py
    {hp:<topic>:<p>}:listeners:<week>:<slice>     hash   track id -> who has played it, as Redis' HyperLogLog, which
                                                         begins with their number; where listeners are looked at
    {hp:<topic>:<p>}:copy:<token>:week:…           hash   a week as it stood at one instant, for one reader
    {hp:<topic>:<p>}:new:…                        all of the above but copies, while a rebuild counts the log again; its
                                                  fence has `rules` too. Afterwards topic_id ends in #<rebuilds>
    {hp:<topic>:<p>}:tracks:<slice>               hash   track id -> timestamp and offset of its record and the track as
                                                         JSON, with a space between; of one taken down no JSON

slice = CRC-32 of the track id modulo the number of slices.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from importlib.resources import files
from struct import unpack
from typing import Any

from features.connect import Client, Script, StoreUnavailable, passing
from features.fence import Fence
from features.packing import arguments_of, entry, n_listeners, slice_of, unpacked
from features.parts import CatalogueEntry, Part

LAYOUT = "2"
MOST_IDS = 5000  # looked up in one step
INIT = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end"
SHADOW = "new:"
COPIES_GO_AFTER_S = 24 * 3600  # of a reader that died; one that lives reads a week in seconds


class Fenced(Exception):
    """The partition stands elsewhere in Redis than this consumer thinks; read the fence and go on from there."""


class TopicChanged(Exception):
    """The topic behind the counters is another than the one read: it was created anew."""


class CounterStore:
    """The keys of one source topic."""

    def __init__(self, client: Client, topic: str, slices: int, under: str = "") -> None:
        self.client = client
        self.topic = topic
        self.slices = slices
        self.under = under
        self._apply = Script(client, files("features").joinpath("apply.lua").read_text())
        self._known = Script(client, files("features").joinpath("known.lua").read_text())
        self._played = Script(client, files("features").joinpath("played.lua").read_text())
        self._init = Script(client, INIT)
        self._freeze = Script(client, files("features").joinpath("freeze.lua").read_text())
        self._replace = Script(client, files("features").joinpath("replace.lua").read_text())

    def key(self, partition: int, name: str) -> str:
        """The full name of a partition's key."""
        return f"{{hp:{self.topic}:{partition}}}:{self.under}{name}"

    def _whole(self, partition: int) -> list[str]:
        """The keys that a script is given: the fence, and one that never exists.

        A cluster that moves a slot from node to node refuses (TRYAGAIN) whoever names a key that is not there, and so
        nobody changes a partition of which one half is here and one there.
        """
        return [self.key(partition, "fence"), self.key(partition, "absent")]

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
            Fenced: the fence is not at part.start, or not at its stream time, or there is none.
            TopicChanged: the fence is of another topic id.
            StoreUnavailable: nothing is known of whether it was applied; the fence tells.
        """
        answer = self._apply(keys=self._whole(partition), args=arguments_of(part, topic_id, self.slices))
        where = f"{self.topic} partition {partition}"
        match [text.decode() for text in answer]:
            case ["OK"]:
                return
            case ["FENCED", found]:
                raise Fenced(f"{where}: expected the fence at offset {part.start}, found {found}")
            case ["SINCE", found]:
                raise Fenced(f"{where}: expected stream time {part.since}, found {found or None}")
            case ["TOPIC", found] if found.partition("#")[0] == topic_id.partition("#")[0]:
                raise Fenced(f"{where}: it was rebuilt, and is counted as {found}, not {topic_id}")
            case ["TOPIC", found]:
                raise TopicChanged(f"{where}: Redis counts topic id {found}, Kafka has {topic_id}")
            case [problem, *_]:
                raise Fenced(f"{where}: expected the fence at offset {part.start}, found {problem}")

    @passing
    def known_ids(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> dict[str, set[bytes]]:
        """Which of the ids wanted of each family of sets are remembered, by set.

        Raises:
            Fenced: the fence is not at start, so what is remembered is not what was counted before start.
        """
        found: dict[str, set[bytes]] = defaultdict(set)
        for family, ids in wanted.items():
            ordered = list(ids)
            for first in range(0, len(ordered), MOST_IDS):
                for name, some in self._known_ids(partition, start, family, ordered[first : first + MOST_IDS]):
                    found[name] |= some
        return found

    def _known_ids(
        self, partition: int, start: int, family: str, ids: Sequence[bytes]
    ) -> Iterator[tuple[str, set[bytes]]]:
        for name, *places in self._at(self._known, partition, start, family, ids):
            yield name.decode(), {ids[place] for place in places}

    @passing
    def played(self, partition: int, start: int, wanted: Mapping[str, Set[bytes]]) -> dict[str, dict[bytes, int]]:
        """How many plays of the pairs wanted of each week have counted, of those of which any has.

        Raises:
            Fenced: the fence is not at start, so what has counted is not what had before start.
        """
        found: dict[str, dict[bytes, int]] = defaultdict(dict)
        for week, pairs in wanted.items():
            ordered = list(pairs)
            for first in range(0, len(ordered), MOST_IDS):
                some = ordered[first : first + MOST_IDS]
                (packed,) = self._at(self._played, partition, start, week, some)
                counts = unpack(f"<{len(some)}I", packed)
                found[week] |= {pair: n for pair, n in zip(some, counts, strict=True) if n}
        return found

    @passing
    def forget_plays(self, partition: int, week: str, pairs: Sequence[bytes]) -> int:
        """Remove how many plays of these pairs have counted, so that more may; return of how many it was known."""
        key = self.key(partition, f"plays:{week}")
        parts = (pairs[first : first + MOST_IDS] for first in range(0, len(pairs), MOST_IDS))
        return sum(int(self.client.hdel(key, *part)) for part in parts)

    def _at(self, script: Script, partition: int, start: int, what: str, digests: Sequence[bytes]) -> list[Any]:
        """What a script that looks digests up answers, unless the fence is not at start."""
        arguments: list[bytes | str] = [str(start), what, b"".join(digests)]
        found: list[Any]
        problem, *found = script(keys=self._whole(partition), args=arguments)
        if problem != b"OK":
            where = f"{self.topic} partition {partition}"
            raise Fenced(f"{where}: expected the fence at offset {start}, found {problem.decode()}")
        return found

    def slice_of(self, track_id: str) -> int:
        """The slice that holds a track, in every partition and in history."""
        return slice_of(track_id, self.slices)

    @passing
    def fences(self, partitions: Sequence[int]) -> dict[int, Fence]:
        """The fences of those partitions that have one."""
        found = {partition: self.fence(partition) for partition in partitions}
        return {partition: fence for partition, fence in found.items() if fence is not None}

    @passing
    def freeze(self, partition: int, weeks: Sequence[str], copies: str) -> Fence | None:
        """Copy the buckets of these weeks as they stand at one instant, and return the fence of that instant.

        Args:
            partition: whose.
            weeks: names of weeks.
            copies: begins the names of the copies, which bucket() takes.
        """
        arguments: list[str | int] = [copies, COPIES_GO_AFTER_S, self.slices, *weeks]
        found = [_text(text) for text in self._freeze(keys=self._whole(partition), args=arguments)]
        return Fence.of(dict(zip(found[::2], found[1::2], strict=True))) if found else None

    @passing
    def remove_copies(self, partition: int, week: str, copies: str) -> int:
        """Remove what freeze() has copied of a week; 0 where a Redis that was restarted has lost it."""
        names = [self.key(partition, f"{copies}week:{week}:{slice_}") for slice_ in range(self.slices)]
        return int(self.client.unlink(*names))

    @passing
    def packed(self, partition: int, week: str, slice_: int, copies: str = "") -> dict[bytes, bytes]:
        """The counts of a slice by track, all as Redis has them."""
        return self._fields(partition, f"{copies}week:{week}:{slice_}")

    def bucket(self, partition: int, week: str, slice_: int, copies: str = "") -> dict[str, tuple[int, ...]]:
        """Plays, skips and likes of every group by track id."""
        return _counts(self.packed(partition, week, slice_, copies))

    @passing
    def n_tracks(self, partition: int, name: str) -> int:
        """How many tracks are in all slices of a week (`week:2023-W24`), or of the catalogue (`tracks`)."""
        with self.client.pipeline(transaction=False) as pipeline:
            for slice_ in range(self.slices):
                pipeline.hlen(self.key(partition, f"{name}:{slice_}"))
            return sum(pipeline.execute())

    @passing
    def entries(self, partition: int, slice_: int) -> list[CatalogueEntry]:
        """The tracks of a slice as their records had them, those taken down too."""
        return [entry(track_id, value) for track_id, value in self._fields(partition, f"tracks:{slice_}").items()]

    @passing
    def counts_of(self, partition: int, weeks: Sequence[str], track_id: str) -> dict[str, tuple[int, ...]]:
        """Plays, skips and likes of every group, by week, of one track; weeks without it are left out."""
        slice_ = self.slice_of(track_id)
        with self.client.pipeline(transaction=False) as pipeline:
            for week in weeks:
                pipeline.hget(self.key(partition, f"week:{week}:{slice_}"), track_id)
            found = pipeline.execute()
        return {week: unpacked(counts) for week, counts in zip(weeks, found, strict=True) if counts}

    @passing
    def listeners_of(self, partition: int, weeks: Sequence[str], track_id: str) -> dict[str, int]:
        """How many have played a track, about, by week; weeks in which nobody has are left out."""
        slice_ = self.slice_of(track_id)
        with self.client.pipeline(transaction=False) as pipeline:
            for week in weeks:
                pipeline.hget(self.key(partition, f"listeners:{week}:{slice_}"), track_id)
            found = pipeline.execute()
        return {week: n_listeners(sketch) for week, sketch in zip(weeks, found, strict=True) if sketch}

    @passing
    def entries_of(self, partition: int, track_ids: Sequence[str]) -> list[CatalogueEntry]:
        """Those of these tracks that the partition has a record of, those taken down too."""
        with self.client.pipeline(transaction=False) as pipeline:
            for track_id in track_ids:
                pipeline.hget(self.key(partition, f"tracks:{self.slice_of(track_id)}"), track_id)
            found = pipeline.execute()
        return [entry(track_id.encode(), value) for track_id, value in zip(track_ids, found, strict=True) if value]

    def _fields(self, partition: int, name: str) -> dict[bytes, bytes]:
        """A hash, however large; HSCAN keeps Redis free for others, and may give a field twice."""
        key = self.key(partition, name)
        expected = self.client.hlen(key)
        found = dict(self.client.hscan_iter(key, count=1000))
        if len(found) < expected:  # a cursor means nothing to a Redis that was restarted, or to another node: it skips
            raise StoreUnavailable(f"{key} was read while Redis changed: {len(found)} of {expected} entries came")
        return found

    @passing
    def bucket_now(self, partition: int, week: str, slice_: int) -> tuple[Fence | None, dict[str, tuple[int, ...]]]:
        """A slice of a bucket and the fence at one instant; a slice of 60,000 tracks keeps Redis busy for 10 ms."""
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self.key(partition, "fence"))
            pipeline.hgetall(self.key(partition, f"week:{week}:{slice_}"))
            fields, packed = pipeline.execute()
        fence = Fence.of({_text(name): _text(value) for name, value in fields.items()}) if fields else None
        return fence, _counts(packed)

    @passing
    def bucket_keys(self) -> list[tuple[int, str]]:
        """Partition and name of every bucket of the topic, named by a fence or not; it looks at every key in Redis."""
        found = self.client.scan_iter(match=f"{{hp:{self.topic}:*}}:week:*", count=1000)
        tags_and_names = [_text(key).split("}:", 1) for key in found]
        return [(int(tag.rpartition(":")[2]), name) for tag, name in tags_and_names]

    @passing
    def topics(self) -> set[str]:
        """Every topic that has a fence in this Redis, of any prefix; it looks at every key."""
        found = self.client.scan_iter(match="{hp:*}:fence", count=1000)
        return {_text(key).removeprefix("{hp:").rpartition(":")[0].rpartition(":")[0] for key in found}

    @passing
    def has(self, partition: int, name: str) -> bool:
        """Whether the partition has a key of this name."""
        return bool(self.client.exists(self.key(partition, name)))

    def shadow(self) -> "CounterStore":
        """The counters that a rebuild makes beside these."""
        return CounterStore(self.client, self.topic, self.slices, SHADOW)

    @passing
    def switch(self, partition: int, topic_id: str) -> bool:
        """Put the shadow in the place of the counters; False where they have been counted further than it by now.

        Counters of another topic id than Kafka's present one make way whatever they hold.

        Raises:
            Fenced: there is no shadow: it has taken their place already, or was discarded.
            TopicChanged: the shadow is of another topic id.
        """
        keys = [*self._whole(partition), self.key(partition, f"{SHADOW}fence")]
        where = f"{self.topic} partition {partition}"
        match [text.decode() for text in self._replace(keys=keys, args=[topic_id])]:
            case ["OK"]:
                return True
            case ["BEHIND", _]:
                return False
            case ["TOPIC", found]:
                raise TopicChanged(f"{where}: the rebuild counts topic id {found}, Kafka has {topic_id}")
            case _:
                raise Fenced(f"{where}: nothing is being rebuilt")

    @passing
    def discard(self, partition: int) -> bool:
        """Remove the partition's fence and what it names, at once; False where there was none."""
        return bool(self._replace(keys=self._whole(partition), args=[""])[0] == b"OK")

    @passing
    def drop(self, partition: int) -> int:
        """Remove every key of the partition; return how many there were."""
        keys = list(self.client.scan_iter(match=self.key(partition, "*"), count=1000))
        for key in keys:
            self.client.unlink(key)
        return len(keys)


def _counts(packed: Mapping[bytes, bytes]) -> dict[str, tuple[int, ...]]:
    return {track_id.decode(): unpacked(counts) for track_id, counts in packed.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
