"""Setting events aside: every letter arrives with what identifies it, or nothing goes on."""

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest

from consumers.kafka import read_to_end
from features.parts import SetAside
from producers.letters import Letters
from producers.publisher import NotAcknowledged
from producers.topics import TopicSpec, ensure_topics
from tests.servers import free_port_pair


@pytest.fixture
def letters(kafka: str, prefix: str) -> Iterator[Letters]:
    """Letters of topic `source` to PREFIX.late and PREFIX.dead, which has a partition fewer."""
    specs = [TopicSpec(f"{prefix}.late", 2, {}), TopicSpec(f"{prefix}.dead", 1, {})]
    ensure_topics({"bootstrap_servers": kafka}, specs)
    with closing(Letters({"bootstrap_servers": kafka}, "source", topics(prefix))) as opened:
        yield opened


def topics(prefix: str) -> dict[str, str]:
    return {"late": f"{prefix}.late", "dead": f"{prefix}.dead"}


def dead(value: bytes | None, key: bytes | None = b"k", index: int = 0) -> SetAside:
    return SetAside("dead", "json", 10**14, index, key, value)


def records(kafka: str, topic: str, *partitions: int) -> list[Any]:
    return read_to_end({"bootstrap_servers": kafka}, topic, partitions, {})


def test_a_letter_is_the_events_bytes_with_five_headers(kafka: str, letters: Letters) -> None:
    letters.send(1, [SetAside("late", "late", 10**14, 7, b"its key", b" \xff "), dead(b"x")])
    (late,) = records(kafka, letters.topics["late"], 0, 1)
    assert (late.partition, late.key, late.value) == (1, b"its key", b" \xff ")
    assert late.headers == [
        ("hitparade-cause", b"late"),
        ("hitparade-topic", b"source"),
        ("hitparade-partition", b"1"),
        ("hitparade-offset", b"100000000000000"),
        ("hitparade-index", b"7"),
    ]
    (other,) = records(kafka, letters.topics["dead"], 0)
    assert (other.value, dict(other.headers)["hitparade-cause"]) == (b"x", b"json")


@pytest.mark.parametrize(("key", "value", "arrives"), [(b"k", None, None), (None, b"", b""), (None, None, b"")])
def test_a_null_value_stays_null_where_kafka_can_hold_it(
    kafka: str, letters: Letters, key: bytes | None, value: bytes | None, arrives: bytes | None
) -> None:
    letters.send(0, [dead(value, key)])
    (found,) = records(kafka, letters.topics["dead"], 0)
    assert (found.key, found.value) == (key, arrives)


def test_many_letters_arrive_in_their_order(kafka: str, letters: Letters) -> None:
    letters.send(0, [dead(b"x", index=n) for n in range(12_001)])
    found = records(kafka, letters.topics["dead"], 0)
    assert [int(dict(record.headers)["hitparade-index"]) for record in found] == list(range(12_001))


def test_what_a_topic_does_not_take_is_told_and_the_next_letter_arrives(apache: str, prefix: str) -> None:
    kafka = {"bootstrap_servers": apache}
    ensure_topics(kafka, [TopicSpec(f"{prefix}.dead", 1, {"max.message.bytes": "1000"})])
    with closing(Letters(kafka, "source", topics(prefix))) as letters:
        with pytest.raises(NotAcknowledged, match=rf"{prefix}.dead did not take all of 2 records: MessageSizeTooLarge"):
            letters.send(0, [dead(b"first"), dead(Random(1).randbytes(3000))])
        letters.send(0, [dead(b"second")])
    assert records(apache, f"{prefix}.dead", 0)[-1].value == b"second"


@pytest.mark.usefixtures("leaky")
def test_no_letters_need_no_broker_and_some_are_not_acknowledged_without_one() -> None:
    with closing(
        Letters({"bootstrap_servers": f"127.0.0.1:{free_port_pair()}", "bootstrap_timeout_ms": 300}, "s", {"dead": "d"})
    ) as letters:
        letters.send(0, [])
        with pytest.raises(NotAcknowledged, match="d did not take all of 1 records"):
            letters.send(0, [dead(b"x")])
