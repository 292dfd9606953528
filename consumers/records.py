"""kafka-python's records, decoded batch by batch in one loop: a third of the time of its calls for every field.

Whatever is not decoding stays kafka-python's: checksums, compression, transactions, control records, positions. It is
given one record a batch, in whose place the records of that batch come out in the end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from features.records import Headers, Record

ONE_BYTE = tuple((n >> 1) ^ -(n & 1) for n in range(0x80))
"""The varints of one byte, which most are, by that byte."""


class _Whole(msgspec.Struct, frozen=True):
    """A batch as the one record that kafka-python is given; the value is the records, the offset their last one's."""

    value: list[Record]
    offset: int
    timestamp: int
    timestamp_type: int
    size_in_bytes: int
    key: None = None
    headers: tuple[()] = ()
    checksum: None = None

    def validate_crc(self) -> bool:
        """The checksum is the batch's."""
        return True


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch; kafka-python does not iterate over one of control records, it looks at the next one alone."""

    def __iter__(self) -> Iterator[_Whole]:
        self._maybe_uncompress()
        if records := _decoded(self, bytes(self._buffer), self._pos):
            yield _Whole(records, records[-1].offset, self.max_timestamp, self.timestamp_type, len(self._buffer))


def _decoded(batch: DefaultRecordBatch, buffer: bytes, pos: int) -> list[Record]:
    """The records from a position on (Source: https://kafka.apache.org/documentation/#record).

    Raises:
        CorruptRecordError: they are not as many, or not as long, as they should be.
    """
    is_appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    timestamp, first, base = batch.max_timestamp, batch.first_timestamp, batch.base_offset
    found: list[Record] = []
    try:
        for _ in range(batch.records_count):
            length, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            end = pos + length
            pos += 1  # attributes, of which there are none
            since, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            after, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            size, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            key = buffer[pos : pos + size] if size >= 0 else None
            pos += max(size, 0)
            size, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            value = buffer[pos : pos + size] if size >= 0 else None
            pos += max(size, 0)
            n_headers, pos = (ONE_BYTE[n], pos + 1) if (n := buffer[pos]) < 0x80 else decode_varint(buffer, pos)
            headers, pos = _headers(buffer, pos, n_headers) if n_headers else ((), pos)
            if pos != end:
                raise ValueError(f"one of {length} bytes was to end at byte {end}, but ends at {pos}")
            found.append(Record(value, timestamp if is_appended else first + since, headers, base + after, key))
        if pos != len(buffer):
            raise ValueError(f"they were to end at byte {len(buffer)}, but end at {pos}")
    except (ValueError, IndexError) as cause:
        raise CorruptRecordError(f"the records of the batch at offset {base} cannot be decoded: {cause}") from cause
    return found


def _headers(buffer: bytes, pos: int, n_headers: int) -> tuple[Headers, int]:
    if n_headers < 0:
        raise ValueError(f"{n_headers} headers")
    headers: list[Any] = []
    for _ in range(n_headers):
        size, pos = decode_varint(buffer, pos)
        if size < 0:
            raise ValueError("a header without a name")
        name, pos = buffer[pos : pos + size].decode(errors="replace"), pos + size  # what is no text stops nobody
        size, pos = decode_varint(buffer, pos)
        headers.append((name, buffer[pos : pos + size] if size >= 0 else None))
        pos += max(size, 0)
    return headers, pos


class _Batches:
    """The batches of an answer, to be decoded here where they can be."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    def next_batch(self) -> Any:
        """The next one; None at the end."""
        batch = self._records.next_batch()
        return batch if batch is None or batch.magic < 2 else _Batch(batch._buffer)


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What came of a partition."""

    _rest: Sequence[Any] = ()
    """What is left of a batch that was more than was asked for."""
    _end = 0
    """Where the batches end that kafka-python has given."""
    next_fetch_offset: int

    def _unpack_records(self, tp: Any, records: MemoryRecords, *deserializers: Any) -> Any:
        return super()._unpack_records(tp, _Batches(records), *deserializers)

    def __bool__(self) -> bool:
        return bool(self._rest) or super().__bool__()

    def drain(self) -> None:
        """Forget what is left."""
        self._rest = ()
        super().drain()

    def take(self, n: int | None = None) -> list[Any]:
        """At most n records; a failure is told of when what came before it has been taken."""
        found, self._rest = [*self._rest], ()
        try:
            while (n is None or len(found) < n) and super().__bool__() and (some := super().take(1)):
                records = some[0].value if isinstance(some[0].value, list) else some  # of the formats before
                found += self._wanted(records)
        except Exception as cause:  # whatever it is: raised by the next call
            if not found:
                raise
            self._next_inline_exception = cause
        self._end = max(self._end, self.next_fetch_offset)
        taken, self._rest = found[:n], found[n:] if n is not None else ()
        self.next_fetch_offset = self._rest[0].offset if self._rest else self._end
        return taken

    def _wanted(self, records: list[Any]) -> list[Any]:
        """Without those of the first batch that are before what was asked for."""
        is_first = records[0].offset < self.fetch_offset
        return [record for record in records if record.offset >= self.fetch_offset] if is_first else records


def decode_here(consumer: KafkaConsumer) -> None:
    """Have a consumer give its records as Record, decoded here."""
    consumer._fetcher.PartitionRecords = _PartitionRecords
