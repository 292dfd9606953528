"""What counting makes of the records of a log: what to add and what to set aside."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from features.duplicates import Origin

N_KINDS = 3  # plays, skips and likes, in the order of their Kind
COUNT_BYTES = 4  # of each, a whole number without a sign


def one_of(group: int, kind: int) -> int:
    """What one event of the n-th group and of a kind adds to its track's counts, which a Bucket has as one number."""
    return 1 << 8 * COUNT_BYTES * (N_KINDS * group + kind)


@dataclass(slots=True)
class Bucket:
    """What to add in one week.

    counts are each track's plays, skips and likes of the first group, of the second, and so on, as one number: its
    bytes, the lowest first, are those of Redis. It is added to at once, and takes half of the memory of a list.
    touched is the offset after the last record in it.
    """

    week: str
    groups: tuple[str, ...]
    fingerprint: str
    counts: dict[str, int]
    touched: int = 0
    listeners: Mapping[str, set[str]] = field(default_factory=dict)
    """Who has played each track, where that is looked at."""

    @property
    def n_counts(self) -> int:
        """How many counts each track has."""
        return N_KINDS * len(self.groups)


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that was not counted, by its own bytes; topic is `late` or `dead`, index its place in its array.

    origin, of a replay, is where it was first read.
    """

    topic: str
    cause: str
    offset: int
    index: int
    key: bytes | None
    value: bytes | None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A track as its record has it; an empty value is a track that was taken down."""

    track_id: str
    timestamp: int
    offset: int
    value: str


@dataclass(slots=True)
class Part:
    """What a span [start, end) of one partition changes: all of it in one step, or nothing.

    since is the stream time at start. horizon, where not empty, names the oldest week still kept: the buckets of older
    ones are removed. ids are to be remembered, by set; kept, where not empty, or with a horizon, are the generations of
    them that are not removed. plays are how many of a user and a track have counted by now, by week and digest.
    """

    start: int
    end: int
    stream_time: datetime | None
    horizon: str = ""
    buckets: list[Bucket] = field(default_factory=list)
    entries: list[CatalogueEntry] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    tallies: Counter[str] = field(default_factory=Counter)
    ids: dict[str, list[bytes]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    since: datetime | None = None
    plays: Mapping[str, Mapping[bytes, int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How much it remembers: tracks by week, and their listeners, where these are looked at."""
        return sum([len(one.counts) + sum(map(len, one.listeners.values())) for one in self.buckets])

    @property
    def has_only_counts(self) -> bool:
        """Whether it adds to counters and does nothing else, so that it may go on with the span that follows."""
        return not (self.entries or self.set_aside or self.ids or self.plays or self.kept or self.horizon)
