"""Records of a log as counting reads them: one by one, and field by field where many are looked at together."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, overload

import msgspec

Headers = Sequence[tuple[str, bytes]]


class LogRecord(Protocol):
    """What is read of a Kafka record."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, negative where there is none."""

    @property
    def key(self) -> bytes | None:
        """What it was partitioned by."""

    @property
    def value(self) -> bytes | None:
        """One event or an array of them; anything, from outside."""

    @property
    def headers(self) -> Headers:
        """Names and values; those of an Origin make it a replay."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is read of a record; made by C for a tenth of a microsecond."""

    value: bytes | None
    timestamp: int
    headers: Headers
    offset: int
    key: bytes | None


@dataclass(slots=True)
class Records(Sequence[Record]):
    """Records field by field, of which one is made where it is looked at alone: mostly none is."""

    values: list[bytes | None] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: Any) -> Any:
        fields = [column[at] for column in (self.values, self.timestamps, self.headers, self.offsets, self.keys)]
        return list(map(Record, *fields)) if isinstance(at, slice) else Record(*fields)

    def __iter__(self) -> Iterator[Record]:
        return map(Record, self.values, self.timestamps, self.headers, self.offsets, self.keys)


@dataclass(frozen=True, slots=True)
class Run:
    """Records in a row, [first, after) of those of a log; and of all of them what is looked at together."""

    log: Sequence[LogRecord]
    first: int
    after: int
    values: Sequence[bytes | None]
    timestamps: Sequence[int]
    longest: int
    """How many bytes the longest value has."""
    has_headers: bool

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(self.log[self.first : self.after])

    def offset_after(self, n: int) -> int:
        """The offset after the nth record; negative n count from the last, which is -1."""
        return self.log[(self.first if n >= 0 else self.after) + n].offset + 1


def runs(log: Sequence[LogRecord], most_bytes: int) -> Iterator[Run]:
    """The records in runs of about so many bytes, of one record at least."""
    values, timestamps = _fields(log)
    has_headers, sizes, first = have_headers(log), _sizes(values), 0
    ends = list(accumulate(sizes))
    while first < len(log):
        after = min(bisect_left(ends, (ends[first - 1] if first else 0) + most_bytes, first) + 1, len(log))
        longest = max(sizes[first:after])
        yield Run(log, first, after, values[first:after], timestamps[first:after], longest, has_headers)
        first = after


def have_headers(log: Sequence[LogRecord]) -> bool:
    """Whether any of the records has headers: mostly none has."""
    return any(log.headers if isinstance(log, Records) else [record.headers for record in log])


def _fields(log: Sequence[LogRecord]) -> tuple[Sequence[bytes | None], Sequence[int]]:
    if isinstance(log, Records):
        return log.values, log.timestamps
    return [record.value for record in log], [record.timestamp for record in log]


def _sizes(values: Sequence[Any]) -> list[int]:
    try:
        return list(map(len, values))
    except TypeError:  # some are null
        return [len(value or b"") for value in values]
