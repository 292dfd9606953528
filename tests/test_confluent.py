"""What is confluent-kafka's own: its words for our settings, its troubles, and that it is an extra."""

import contextlib
import sys
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from consumers import confluent
from consumers.confluent import Confluent, translated
from consumers.kafka import KafkaUnavailable
from consumers.source import Source
from hitparade.__main__ import main
from hitparade.settings import Settings
from producers.kafka import CLIENT, build_producer
from tests.servers import free_port_pair, wait_until


def test_every_setting_of_kafka_has_librdkafkas_name(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "u",
        "KAFKA_SASL_PASSWORD": "p",
        "KAFKA_SSL_CAFILE": str(file),
        "KAFKA_SSL_CERTFILE": str(file),
        "KAFKA_SSL_KEYFILE": str(file),
    }
    settings = Settings.from_env({f"HITPARADE_{name}": value for name, value in env.items()})
    assert translated(settings.kafka) == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": str(file),
        "ssl.certificate.location": str(file),
        "ssl.key.location": str(file),
    }


def test_where_the_package_is_missing_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_url: str
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "consumers.confluent")
    monkeypatch.setenv("HITPARADE_KAFKA_CLIENT", "confluent-kafka")
    monkeypatch.setenv("HITPARADE_REDIS_URL", redis_url)
    assert main(["consume", "tracks"]) == 1
    error = capsys.readouterr().err
    assert "confluent-kafka is not installed" in error
    assert "pip install -e '.[confluent]'" in error
    assert "Traceback" not in error


def test_a_broker_that_does_not_answer_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confluent, "PATIENCE_S", 2)
    address = f"127.0.0.1:{free_port_pair()}"
    with pytest.raises(KafkaUnavailable, match=f"Kafka at {address} cannot serve now: .*[Cc]onnect"):
        Confluent({"bootstrap_servers": address}, "topic", "group", 6000)


class NoText(str):
    """A name of a header that is written as what is not UTF-8."""

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe"


def test_a_header_whose_name_is_no_text_stops_nothing(apache: str, prefix: str) -> None:
    kafka = {"bootstrap_servers": apache}
    with contextlib.closing(KafkaAdminClient(**CLIENT, **kafka)) as admin:
        admin.create_topics([NewTopic(prefix, 1, 1)])
    with contextlib.closing(build_producer(kafka)) as producer:
        producer.send(prefix, b"a", headers=[("good", b"1")])
        producer.send(prefix, b"b", headers=[("good", b"1"), (NoText("bad"), b"2")])
        producer.send(prefix, b"c")
        producer.send(prefix, b"d", headers=[(NoText("bad"), b"2")])
    with contextlib.closing(Source(kafka, prefix, prefix, 6000, Confluent)) as source:
        assert read(source, 4) == [(b"a", [("good", b"1")]), (b"b", []), (b"c", []), (b"d", [])]


def read(source: Source, end: int) -> list[tuple[bytes | None, list[tuple[str, bytes]]]]:
    """Everything of partition 0 up to an offset."""
    found: list[tuple[bytes | None, list[tuple[str, bytes]]]] = []

    def is_there() -> bool:
        for partition in list(source.waiting):
            source.start(partition, 0)
        for batch in source.poll(0.2):
            found.extend((record.value, list(record.headers)) for record in batch.records)
            source.goes_on(batch.partition, batch.end)
        return source.positions.get(0) == end

    wait_until(is_there, f"offset {end}")
    return found
