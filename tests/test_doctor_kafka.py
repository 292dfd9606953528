"""What the doctor finds on a real Kafka that is set wrong, and what it says to do."""

import struct
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import repeat

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, TopicPartition

import consumers.brokers
import hitparade.checks_kafka
from features.topics import Topics
from hitparade.checks_kafka import KAFKA
from hitparade.processes import HOST
from producers.kafka import CLIENT
from producers.topics import ensure_topics, topic_specs
from tests.builders_counting import PARTITIONS, Counted, running
from tests.doctoring import OK, WARNING, WRONG, look, looks
from tests.faults.proxy import Fate, Proxy
from tests.servers import free_port_pair, wait_until

DEAD_PORT = 9


def made(kafka: str, prefix: str, topic: str, **configs: str) -> dict[str, str]:
    """Every topic as it should be, but for one; the settings to look at them."""
    name = getattr(Topics(prefix), topic)
    specs = topic_specs(Topics(prefix), PARTITIONS, 6)
    other = [replace(spec, configs={**spec.configs, **configs}) if spec.name == name else spec for spec in specs]
    ensure_topics({"bootstrap_servers": kafka}, other)
    return env_of(kafka, prefix, WEEKS_KEPT="6")


def env_of(kafka: str, prefix: str, **more: str) -> dict[str, str]:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC_PREFIX": prefix, "PARTITIONS": str(PARTITIONS), **more}
    return {f"HITPARADE_{name}": value for name, value in settings.items()}


def test_topics_as_they_are_made_are_well_on_both_brokers(log: Counted) -> None:
    found = looks(log.env, *(check.name for check in KAFKA))
    assert [finding.level for finding in found] == [*repeat(OK, len(KAFKA) - 1), WARNING]
    groups = ", ".join(f"{log.settings.topic_prefix}.{name}" for name in ("sessions", "tracks", "weekly"))
    assert found[-1].found.startswith(f"nobody is a member of {groups}: start `hitparade consume sessions`, ")


@pytest.mark.usefixtures("leaky")
def test_what_depends_on_a_broker_that_is_away_is_not_looked_at(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers.brokers, "BOOTSTRAP_MS", 300)
    env = env_of(f"127.0.0.1:{free_port_pair()}", prefix)
    kafka, *others = looks(env, "kafka", "brokers", "topics", "newest records", "counters", "Kafka's clock")
    assert kafka.level == WRONG
    assert kafka.found.endswith("is that right, and is it up?")
    assert {(finding.level, finding.found) for finding in others} == {(WRONG, "not looked at: first mend kafka")}


class Misadvertised(Proxy):
    """Leads to a broker, and says in its name that it is at a port where nobody listens."""

    def _answer(self, client: object, chunk: bytes, fate: Fate | bytes) -> bool:
        there, nowhere = (HOST.encode() + struct.pack(">i", port) for port in (self.upstream, DEAD_PORT))
        return super()._answer(client, chunk.replace(there, nowhere), fate)  # type: ignore[arg-type]


@pytest.mark.usefixtures("leaky")
def test_an_address_that_a_broker_advertises_in_vain_is_named(apache: str, prefix: str) -> None:
    with Misadvertised(int(apache.rpartition(":")[2])) as relay:
        kafka, brokers, topics = looks(env_of(f"{HOST}:{relay.port}", prefix), "kafka", "brokers", "topics")
    assert kafka.level == OK
    assert brokers.level == WRONG
    assert f"{HOST}:{relay.port} answers, and sends clients to broker 1 at {HOST}:{DEAD_PORT}, where" in brokers.found
    assert "advertised.listeners" in brokers.found
    assert topics.found == "not looked at: first mend brokers"


def test_a_topic_that_is_missing_is_named_and_so_are_prefixes_that_are_there(apache: str, prefix: str) -> None:
    made = [spec for spec in topic_specs(Topics(prefix), PARTITIONS, 12) if not spec.name.endswith("triggers.v1")]
    ensure_topics({"bootstrap_servers": apache}, made)
    level, found = look(env_of(apache, prefix), "topics")
    assert level == WRONG
    assert found.startswith(f"topic {prefix}.triggers.v1 does not exist: run `hitparade topics`")
    level, found = look(env_of(apache, f"{prefix}x"), "topics")
    assert (level, found.startswith(f"8 topics ({prefix}x.sessions.v1, ")) == (WRONG, True)
    assert f"set HITPARADE_TOPIC_PREFIX, which is {prefix}x, to a prefix that is there: " in found


def test_one_partition_where_there_should_be_more(apache: str, prefix: str) -> None:
    kafka = {"bootstrap_servers": apache}
    ensure_topics(kafka, topic_specs(Topics(prefix), 1, 12))
    level, found = look(env_of(apache, prefix), "partitions")
    assert level == WARNING
    assert found.startswith(f"{prefix}.sessions.v1 has one partition, expected 2: only one consumer can count")
    assert look(env_of(apache, prefix, PARTITIONS="1"), "partitions")[0] == OK


def test_another_number_of_partitions_than_the_settings(apache_log: Counted) -> None:
    level, found = look(apache_log.other(PARTITIONS="3").env, "partitions")
    assert level == WARNING
    assert f"{apache_log.topic} has 2, expected 3; " in found


@pytest.mark.parametrize(
    ("topic", "configs", "said"),
    [
        ("sessions", {"cleanup.policy": "compact"}, "expected cleanup.policy=delete, found compact"),
        ("sessions", {"retention.ms": "604800000"}, "expected retention.ms=4838400000, found 604800000"),
        ("sessions", {"retention.bytes": "1000000"}, "expected retention.bytes=-1, found 1000000"),
        (
            "sessions",
            {"message.timestamp.type": "CreateTime"},
            "message.timestamp.type=LogAppendTime, found CreateTime",
        ),
        ("tracks", {"cleanup.policy": "delete"}, "expected cleanup.policy=compact, found delete"),
        ("playlists", {"cleanup.policy": "compact,delete"}, "expected cleanup.policy=compact, found compact,delete"),
        ("dead_sessions", {"max.message.bytes": "1048588"}, "expected max.message.bytes=1114124, found 1048588"),
    ],
)
def test_a_topic_that_would_lose_records_or_refuse_them(
    apache: str, prefix: str, topic: str, configs: Mapping[str, str], said: str
) -> None:
    level, found = look(made(apache, prefix, topic, **configs), "topic settings")
    assert level == WRONG
    assert found.startswith(f"{getattr(Topics(prefix), topic)}: ")
    assert said in found
    assert "kafka-configs --alter" in found


def test_what_is_set_aside_must_be_as_large_as_what_is_read(apache: str, prefix: str) -> None:
    level, found = look(made(apache, prefix, "sessions", **{"max.message.bytes": "5000000"}), "topic settings")
    assert level == WRONG
    for name in ("sessions.late", "sessions.dlq", "tracks.dlq"):
        assert f"{prefix}.{name}.v1: expected max.message.bytes=5065536, found 1114124" in found
    assert "sessions.v1: " not in found


def test_more_weeks_than_the_topics_keep_are_told_and_fewer_are_well(apache_log: Counted) -> None:
    level, found = look(apache_log.other(WEEKS_KEPT="30").env, "topic settings")
    assert (level, "lower HITPARADE_WEEKS_KEPT" in found) == (WRONG, True)
    assert look(apache_log.other(WEEKS_KEPT="5").env, "topic settings")[0] == OK


def test_fewer_replicas_than_a_write_waits_for(apache: str, prefix: str) -> None:
    level, found = look(made(apache, prefix, "sessions", **{"min.insync.replicas": "2"}), "replicas")
    assert level == WRONG
    assert (
        f"{prefix}.sessions.v1 partition 0 has 1, min.insync.replicas is 2; {prefix}.sessions.v1 partition 1" in found
    )


def test_records_that_are_compressed_with_what_is_not_installed(apache_log: Counted) -> None:
    producer = Producer({"bootstrap.servers": apache_log.settings.kafka_bootstrap_servers, "compression.codec": "zstd"})
    producer.produce(apache_log.topic, b" " * 1000, partition=1)
    assert producer.flush(30) == 0
    level, found = look(apache_log.env, "newest records")
    assert level == WRONG
    assert f"of {apache_log.topic} cannot be read: Libraries for zstd compression codec not found" in found


def test_a_transaction_that_nobody_ends(apache_log: Counted) -> None:
    servers = apache_log.settings.kafka_bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "transactional.id": apache_log.settings.topic_prefix})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(apache_log.topic, b"{}", partition=1)
    assert producer.flush(30) == 0
    level, found = look(apache_log.env, "newest records")
    producer.abort_transaction()
    assert level == WARNING
    assert found.startswith(f"an open transaction holds back what is newest in partition 1 of {apache_log.topic}, ")
    assert look(apache_log.env, "newest records")[0] == OK


def test_a_disk_that_is_nearly_full(apache_log: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(apache_log.env, "Kafka's disk")[0] in (OK, WARNING)
    monkeypatch.setattr(hitparade.checks_kafka, "FULL", 0)  # a limit that no disk meets
    level, found = look(apache_log.env, "Kafka's disk")
    assert level == WARNING
    assert found.startswith("the disk of broker 1 (")


def test_a_consumer_that_runs_is_seen_and_those_that_do_not_are_named(apache_log: Counted) -> None:
    apache_log.fill(20)
    with running(apache_log.consumer()) as consumer:
        wait_until(lambda: consumer.tallies, "something to be counted")
        level, found = look(apache_log.env, "consumers")
    assert level == WARNING
    assert ".sessions" not in found
    assert "start `hitparade consume tracks`, `hitparade consume weekly`" in found


@pytest.mark.parametrize(
    ("hours", "level", "said"), [(0, OK, "agree"), (2, WRONG, "2 h ahead: "), (-2, WRONG, "2 h behind: ")]
)
def test_a_clock_that_is_wrong_is_held_against_kafkas(
    apache_log: Counted, hours: int, level: object, said: str
) -> None:
    found = look(apache_log.env, "Kafka's clock", clock=lambda: time.time() + hours * 3600)
    assert (found[0], said in found[1]) == (level, True)


def test_a_broker_that_does_not_tell_is_believed(log: Counted) -> None:
    assert look(log.env, "Kafka's clock")[0] == OK


def deleted(log: Counted, before: int) -> None:
    with KafkaAdminClient(**CLIENT, **log.settings.kafka) as admin:
        admin.delete_records({TopicPartition(log.topic, 0): before})


def test_records_that_were_deleted_before_they_were_counted(apache_log: Counted) -> None:
    apache_log.fill(200)
    apache_log.count(2)
    deleted(apache_log, 5)
    level, found = look(apache_log.env, "counters")
    assert level == WRONG
    assert "partition 0: the fence is at offset 2, but the log begins at 5: 3 offsets were deleted before" in found


def test_a_redis_that_was_emptied_after_the_log_was_cut(apache_log: Counted) -> None:
    apache_log.fill(200)
    apache_log.consume()
    deleted(apache_log, 5)
    apache_log.redis.unlink(apache_log.key("fence"))
    level, found = look(apache_log.env, "counters")
    assert level == WRONG
    assert "partition 0 has no fence in Redis, but was counted up to offset " in found
