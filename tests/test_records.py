"""Records decoded in one loop are those that kafka-python decodes call by call; the rest it keeps to itself."""

import struct
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from consumers.kafka_python import KafkaPython
from consumers.log import PartitionLog
from consumers.records import _PartitionRecords
from tests.builders import play
from tests.test_confluent import NoText

AT = TopicPartition("sessions", 0)
APPENDED, CONTROL = 0x08, 0x20
NONE, GZIP = 0, 1

TEXTS = st.none() | st.binary(max_size=200)
SENT = st.tuples(
    st.integers(0, 2**41),
    TEXTS,
    TEXTS,
    st.lists(st.tuples(st.text(max_size=70), TEXTS), max_size=2),
    st.integers(0, 90),
)
BATCHES = st.lists(st.tuples(st.lists(SENT, min_size=1, max_size=9), st.sampled_from([NONE, GZIP])), max_size=4)


def batch(rows: Sequence[Any], offset: int = 0, compression: int = NONE, magic: int = 2, **more: Any) -> bytes:
    """Records of (timestamp, key, value, headers, how many before it were compacted away)."""
    builder = MemoryRecordsBuilder(magic, compression, 1 << 20, offset=offset, **more)
    for timestamp, key, value, headers, n_gone in rows:
        builder.skip(n_gone)
        builder.append(timestamp, key, value, headers)
    builder.close()
    return bytes(builder.buffer())


def row(n: int, value: bytes | None = None) -> tuple[int, bytes, bytes, list[Any], int]:
    return 1_700_000_000_000 + n, b"k", value or play(n), [], 0


def log_of(batches: Sequence[tuple[Sequence[Any], int]]) -> bytes:
    """One batch after the other; an older one first, where a producer has left it."""
    found, offset = b"", 0
    for rows, compression in batches:
        found += batch(rows, offset, compression)
        offset += len(rows) + sum(n_gone for *_, n_gone in rows)
    return found


def taken(
    kind: Any, data: bytes | bytearray, fetch_offset: int = 0, at_once: int | None = None, **more: Any
) -> tuple[Any, ...]:
    """Every record, and where the next fetch begins."""
    part = kind(fetch_offset, AT, MemoryRecords(data), **more)
    found: list[Any] = []
    while part:
        some = part.take(at_once)
        assert at_once is None or len(some) <= at_once
        found += some
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in found], part.next_fetch_offset


@settings(max_examples=300, deadline=None)
@given(BATCHES, st.integers(0, 200), st.integers(1, 9))
def test_records_and_where_they_end_are_kafka_pythons(
    batches: Sequence[tuple[Sequence[Any], int]], fetch_offset: int, at_once: int
) -> None:
    data = log_of(batches)
    expected = taken(Fetcher.PartitionRecords, data, fetch_offset)
    assert taken(_PartitionRecords, data, fetch_offset, at_once) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(SENT, min_size=1, max_size=5))
def test_the_time_of_the_broker_is_that_of_all_records(rows: Sequence[Any]) -> None:
    data = bytearray(batch(rows))
    data[22] |= APPENDED
    unchecked: dict[str, Any] = {"check_crcs": False}
    assert taken(_PartitionRecords, data, **unchecked) == taken(Fetcher.PartitionRecords, data, **unchecked)


@pytest.mark.parametrize("magic", [0, 1])
def test_older_formats_are_left_to_kafka_python(magic: int) -> None:
    data = batch([row(n) for n in range(3)], magic=magic) + batch([row(9)], offset=3)
    found, end = taken(_PartitionRecords, data, at_once=2)
    assert ([offset for offset, *_ in found], end) == ([0, 1, 2, 3], 4)
    assert (found, end) == taken(Fetcher.PartitionRecords, data)


def test_a_poll_gives_no_more_than_it_should_and_the_next_one_goes_on_from_there() -> None:
    data = batch([row(n) for n in range(3)]) + batch([row(n) for n in range(3)], 3) + batch([row(7)], 6)
    drained: list[Any] = []
    ours, theirs = (
        kind(1, AT, MemoryRecords(data), on_drain=drained.append)
        for kind in (_PartitionRecords, Fetcher.PartitionRecords)
    )
    for n in (1, 3, 1, 1):
        given = [record.offset for record in ours.take(n)]
        assert len(given) == n
        assert given == [record.offset for record in theirs.take(n)]
        assert ours.next_fetch_offset == theirs.next_fetch_offset
        assert ours
    assert (ours.take(5), theirs.take(5)) == ([], [])
    assert (bool(ours), bool(theirs), drained) == (False, False, [ours, theirs])


def test_what_is_left_of_a_batch_goes_with_its_partition() -> None:
    part = _PartitionRecords(0, AT, MemoryRecords(batch([row(n) for n in range(3)])))
    part.take(1)
    part.drain()
    assert not part


@pytest.mark.parametrize("checks", [True, False])
def test_what_is_corrupt_is_refused_after_what_came_before_it(checks: bool) -> None:
    good, bad = batch([row(0), row(1)]), bytearray(batch([row(2)], 2))
    bad[-1] ^= 0x7F  # how many headers there are
    part = _PartitionRecords(0, AT, MemoryRecords(good + bad), check_crcs=checks)
    assert [record.offset for record in part.take(10)] == [0, 1]
    with pytest.raises(CorruptRecordError):
        part.take(10)


def test_a_record_that_is_not_as_long_as_it_says_is_corrupt() -> None:
    data = bytearray(batch([row(0)]))
    data[61] ^= 2
    with pytest.raises(CorruptRecordError, match="was to end at byte"):
        taken(_PartitionRecords, data, check_crcs=False)


@settings(max_examples=400, deadline=None)
@given(st.integers(61, 400), st.integers(1, 255), st.integers(0, 3))
def test_no_bytes_make_anything_but_records_or_a_corrupt_one(where: int, flip: int, n_less: int) -> None:
    data = bytearray(batch([row(n) for n in range(3)]))
    data[where % len(data) if where % len(data) > 60 else 61] ^= flip
    data[57:61] = struct.pack(">i", 3 + n_less)
    try:
        found, _ = taken(_PartitionRecords, data, check_crcs=False)
    except CorruptRecordError:
        return
    assert n_less == 0
    assert len(found) <= 3  # an offset may have become one that was not asked for


def test_an_aborted_transaction_is_not_given() -> None:
    def data(producer_id: int, *rows: Any, offset: int) -> bytes:
        return batch(rows, offset, producer_id=producer_id, producer_epoch=0, base_sequence=0, transactional=True)

    class Aborted:
        producer_id, first_offset = 7, 0

    marker = bytearray(data(7, (0, b"\0\0\0\0", b"\0\0\0\0\0\0", [], 0), offset=3))  # of the kind that aborts
    marker[22] |= CONTROL
    log = data(7, row(0), row(1), offset=0) + data(8, row(2), offset=2) + marker + data(7, row(4), offset=4)
    more: dict[str, Any] = {"isolation_level": 1, "aborted_transactions": [Aborted], "check_crcs": False}
    found, end = taken(_PartitionRecords, log, **more)
    assert ([offset for offset, *_ in found], end) == ([2, 4], 5)
    assert (found, end) == taken(Fetcher.PartitionRecords, log, **more)


def test_who_counts_and_who_reads_a_log_once_more_decode_so(kafka: str, prefix: str) -> None:
    config = {"bootstrap_servers": kafka}
    with closing(KafkaPython(config, prefix, prefix, 6000)) as client, PartitionLog(config, prefix, 0, 0) as log:
        for consumer in (client.consumer, log._consumer):
            assert consumer._fetcher.PartitionRecords is _PartitionRecords


def test_a_header_whose_name_is_no_text_stops_nobody() -> None:
    data = batch([(0, b"k", b"a", [("good", b"1"), (NoText("bad"), b"2")], 0), row(1, b"b")])
    found, _ = taken(_PartitionRecords, data)
    assert [(value, headers) for *_, value, headers in found] == [
        (b"a", [("good", b"1"), ("\ufffd\ufffd", b"2")]),
        (b"b", []),
    ]
