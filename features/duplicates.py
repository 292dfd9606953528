"""Telling what comes twice, purely: an event by the id of its producer, a replay by the place it was first read at.

What has been counted is remembered in named sets of 16-byte digests:

    <hours>h:<n>      ids of events that were counted while n = floor(stream time / hours); an id is looked for in the
                      generation of stream time and in the one before: for at least the hours, and at most twice those
    replayed:<week>   replayed events of that week, for as long as the week is kept: afterwards they are late anyway
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType

from features.events import BadRecord, RawEvent, decode, event_id
from features.records import Headers, LogRecord, have_headers

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
REPLAYED = "replayed"
DIGEST_BYTES = 16  # of a thousand million ids no two are the same, but for one chance in 10 to the 20th
MOST_DIGITS = 19  # of an offset, which has 64 bits

Decode = Callable[[bytes | None], Sequence[RawEvent | BadRecord]]
KnownIds = Mapping[str, Set[bytes]]
Ids = tuple[bytes | None, bytes | None]
"""What an event can be known by: its producer's id, and its place of origin where it is a replay."""
NOTHING_KNOWN: KnownIds = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in a topic an event was first read; index is its place in its array."""

    partition: int
    offset: int
    index: int

    def headers(self, topic: str) -> list[tuple[str, bytes]]:
        """The headers that name it, on a letter and on a replay."""
        fields = {"topic": topic, "partition": self.partition, "offset": self.offset, "index": self.index}
        return [(f"hitparade-{name}", str(value).encode()) for name, value in fields.items()]

    @classmethod
    def of(cls, headers: Headers, topic: str) -> "Origin | None":
        """The origin that headers name; None where they name another topic, or not all of it in plain numbers."""
        found = dict(headers)
        numbers = [found.get(f"hitparade-{name}") or b"" for name in ("partition", "offset", "index")]
        if found.get("hitparade-topic") != topic.encode():
            return None
        if not all(number.isdigit() and len(number) <= MOST_DIGITS for number in numbers):
            return None
        return cls(*map(int, numbers))


@lru_cache(maxsize=1 << 16)  # each is wanted twice: to be looked up, and to be decided by
def event_digest(text: str) -> bytes:
    """What is remembered of a producer's id, however long that is."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def replay_digest(origin: Origin, value: bytes | None, place: int) -> bytes:
    """What is remembered of the event at a place in a replayed value.

    The value is part of it: a topic that was created anew gives its places to other events.
    """
    where = f"{origin.partition}:{origin.offset}:{origin.index}:{place}:"
    return blake2b(where.encode() + (value or b""), digest_size=DIGEST_BYTES).digest()


def ids_of(raw: RawEvent | BadRecord, hours: int, origin: Origin | None, value: bytes | None, place: int) -> Ids:
    """What the event at a place in a record's value is known by; by a producer's id only where hours says how long."""
    text = event_id(raw) if hours and isinstance(raw, RawEvent) else None
    return event_digest(text) if text else None, replay_digest(origin, value, place) if origin else None


def has_ids(records: Sequence[LogRecord], hours: int) -> bool:
    """Whether an event of these records can be known by an id: mostly not."""
    return hours > 0 or have_headers(records)


def ids_in(records: Iterable[LogRecord], topic: str, hours: int, decode: Decode = decode) -> dict[str, set[bytes]]:
    """Every id that must be looked up before these records are decided, by the family of its sets; mostly nothing."""
    found: list[Ids] = []
    for record in records:
        origin = Origin.of(record.headers, topic) if record.headers else None
        if hours or origin is not None:
            value = record.value
            found += [ids_of(raw, hours, origin, value, place) for place, raw in enumerate(decode(value))]
    wanted = {f"{hours}h": {event for event, _ in found if event}, REPLAYED: {replay for _, replay in found if replay}}
    return {family: ids for family, ids in wanted.items() if ids}


class Memory:
    """What is known while a span is decided: what was remembered before, and what the span adds."""

    def __init__(self, hours: int, known: KnownIds, stream_time: datetime | None) -> None:
        self._hours = hours
        self._generations = {name: set(ids) for name, ids in known.items() if name.startswith(f"{hours}h:")}
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self._end = datetime.min.replace(tzinfo=UTC)
        self._replayed = {id_ for name, ids in known.items() if name.startswith(f"{REPLAYED}:") for id_ in ids}
        self._added: dict[str, list[bytes]] = {}
        self._names: tuple[str, ...] = ()
        self.n_added = 0
        self._advance(stream_time)
        self._has_advanced = False

    def knows(self, ids: Ids, stream_time: datetime | None) -> bool:
        """Whether the event was counted before."""
        event, replay = ids
        if replay is not None and replay in self._replayed:
            return True
        if event is None:
            return False
        self._advance(stream_time)
        return event in self._now or event in self._before

    def remember(self, ids: Ids, stream_time: datetime, week: str) -> None:
        """Know the event from now on; stream_time has taken it in, week is its own."""
        event, replay = ids
        if event is not None:
            self._advance(stream_time)
            self._now.add(event)
            self._add(self._names[0], event)
        if replay is not None:
            self._replayed.add(replay)
            self._add(f"{REPLAYED}:{week}", replay)

    def take(
        self, stream_time: datetime | None, oldest_week: str, sweeps: bool
    ) -> tuple[dict[str, list[bytes]], tuple[str, ...]]:
        """What was added since the last time, by set, and the generations that stay where others must go now."""
        self._advance(stream_time)
        added = {name: ids for name, ids in self._added.items() if self._stays(name, oldest_week)}
        kept = self._names if sweeps or self._has_advanced else ()
        self._added, self.n_added, self._has_advanced = {}, 0, False
        return added, kept

    def _add(self, name: str, id_: bytes) -> None:
        self._added.setdefault(name, []).append(id_)
        self.n_added += 1

    def _stays(self, name: str, oldest_week: str) -> bool:
        family, _, week = name.partition(":")
        return week >= oldest_week if family == REPLAYED else name in self._names

    def _advance(self, stream_time: datetime | None) -> None:
        """Be in the generation of stream time, which never goes back."""
        if not self._hours or stream_time is None or stream_time < self._end:
            return
        span = timedelta(hours=self._hours)
        number = (stream_time - EPOCH) // span
        self._names = (f"{self._hours}h:{number}", f"{self._hours}h:{number - 1}")
        self._generations = {name: self._generations.get(name, set()) for name in self._names}
        self._now, self._before = self._generations.values()
        self._has_advanced = True
        try:
            self._end = EPOCH + (number + 1) * span
        except OverflowError:
            self._end = NEVER
