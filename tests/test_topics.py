"""Creating the topics: twice is once, and what differs is said."""

from dataclasses import replace

import pytest

from features.topics import Topics
from producers.kafka import KafkaConfig, KafkaUnreachable
from producers.topics import TopicSpec, ensure_topics, topic_specs
from tests.servers import free_port_pair

ALL = [
    "sessions.v1",
    "tracks.v1",
    "triggers.v1",
    "playlists.v1",
    "evaluations.v1",
    "sessions.late.v1",
    "sessions.dlq.v1",
    "tracks.dlq.v1",
]


@pytest.fixture
def config(kafka: str) -> KafkaConfig:
    return {"bootstrap_servers": kafka}


def said(kafka: KafkaConfig, specs: list[TopicSpec]) -> dict[str, str]:
    """What is said of each topic, without its prefix."""
    states = ensure_topics(kafka, specs)
    return {state.name.split(".", 1)[1]: str(state).removeprefix(f"{state.name}: ") for state in states}


def test_topics_are_created_once(config: KafkaConfig, prefix: str) -> None:
    specs = topic_specs(Topics(prefix), 3, 12)
    assert said(config, specs) == dict.fromkeys(ALL, "created")
    assert said(config, specs) == dict.fromkeys(ALL, "as it should be")


def test_what_is_missing_is_created_beside_what_is_there(config: KafkaConfig, prefix: str) -> None:
    specs = topic_specs(Topics(prefix), 3, 12)
    ensure_topics(config, specs[:2])
    found = said(config, specs)
    assert list(found.values()) == ["as it should be"] * 2 + ["created"] * 6
    assert said(config, specs) == dict.fromkeys(ALL, "as it should be")


def test_another_number_of_partitions_is_told_and_not_changed(config: KafkaConfig, prefix: str) -> None:
    ensure_topics(config, topic_specs(Topics(prefix), 3, 12))
    for _ in range(2):
        found = said(config, topic_specs(Topics(prefix), 5, 12))
        assert found["sessions.v1"] == "expected 5 partitions, found 3"
        assert found["triggers.v1"] == "as it should be"


def test_other_settings_are_told_and_not_changed(apache: str, prefix: str) -> None:
    kafka = {"bootstrap_servers": apache}
    sessions, tracks, *others = topic_specs(Topics(prefix), 2, 12)
    create_time = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
    ensure_topics(kafka, [TopicSpec(sessions.name, 1, create_time), TopicSpec(tracks.name, 2, {}), *others])
    for _ in range(2):
        found = said(kafka, [sessions, tracks, *others])
        assert found["sessions.v1"] == (
            "expected 2 partitions, found 1; expected cleanup.policy=delete, found compact; "
            "expected retention.ms=8467200000, found 604800000; "
            "expected message.timestamp.type=LogAppendTime, found CreateTime"
        )
        assert found["tracks.v1"] == "expected cleanup.policy=compact, found delete"
        assert {found[name] for name in ALL[2:]} == {"as it should be"}


def test_a_topic_that_keeps_more_than_it_must_is_as_it_should_be(apache: str, prefix: str) -> None:
    kafka = {"bootstrap_servers": apache}
    specs = topic_specs(Topics(prefix), 2, 12)
    larger = {"retention.ms": "-1", "max.message.bytes": "9000000"}
    ensure_topics(kafka, [replace(spec, configs={**spec.configs, **larger}) for spec in specs])
    assert said(kafka, specs) == dict.fromkeys(ALL, "as it should be")


@pytest.mark.usefixtures("leaky")
def test_a_broker_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{free_port_pair()}"
    with pytest.raises(KafkaUnreachable, match=address):
        ensure_topics({"bootstrap_servers": address, "bootstrap_timeout_ms": 300}, topic_specs(Topics("t"), 1, 12))


def test_topics_that_cannot_be_made_are_told_by_name(apache: str) -> None:
    with pytest.raises(KafkaUnreachable, match="could not make the topics"):
        ensure_topics({"bootstrap_servers": apache}, [TopicSpec("no such name!", 1, {})])
