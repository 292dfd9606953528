"""Creating the topics, and saying what differs where they are there already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from features.topics import Topics
from producers.kafka import CLIENT, KafkaConfig, KafkaUnreachable, accepted

WEEK_MS = 7 * 24 * 3600 * 1000
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
HEADER_BYTES = 64 * 1024  # a dead letter is as large as its event, and has headers
AT_LEAST = ("retention.ms", "retention.bytes", "max.message.bytes")  # more is as good, and -1 is without limit


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be like."""

    name: str
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """What became of a topic: created now, or what differs from its spec (nothing, when all is well)."""

    name: str
    created: bool
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {'created' if self.created else '; '.join(self.differences) or 'as it should be'}"


def topic_specs(
    topics: Topics, partitions: int, weeks_kept: int, most_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
) -> list[TopicSpec]:
    """Every topic of the pipeline; most_bytes is the largest record of the topics that are read.

    Sessions are stamped by the broker: a producer's clock then neither moves the tolerance for events from the future
    nor makes retention delete what is replayed.
    """
    kept = {"cleanup.policy": "delete", "retention.ms": str((weeks_kept + 2) * WEEK_MS), "retention.bytes": "-1"}
    aside = {**kept, "max.message.bytes": str(most_bytes + HEADER_BYTES)}
    compacted = {"cleanup.policy": "compact"}
    return [
        TopicSpec(topics.sessions, partitions, {**kept, "message.timestamp.type": "LogAppendTime"}),
        TopicSpec(topics.tracks, partitions, compacted),
        TopicSpec(topics.triggers, 1, compacted),
        TopicSpec(topics.playlists, 1, compacted),
        TopicSpec(topics.evaluations, 1, compacted),
        TopicSpec(topics.late, partitions, aside),
        TopicSpec(topics.dead_sessions, partitions, aside),
        TopicSpec(topics.dead_tracks, partitions, aside),
    ]


def ensure_topics(kafka: KafkaConfig, specs: Sequence[TopicSpec], replication_factor: int = -1) -> list[TopicState]:
    """Create the topics that are missing and check the others; doing it twice changes nothing.

    Raises:
        KafkaUnreachable: no broker answers, or it refuses to create a topic.
    """
    try:
        with accepted(kafka), KafkaAdminClient(**CLIENT, **{"bootstrap_timeout_ms": 10_000, **kafka}) as admin:
            found = {
                t["name"]: len(t["partitions"])
                for t in admin.describe_topics([s.name for s in specs])
                if t["partitions"]
            }
            missing = {spec.name: spec for spec in specs if spec.name not in found}
            if missing:
                admin.create_topics(
                    {
                        name: {
                            "num_partitions": spec.partitions,
                            "replication_factor": replication_factor,
                            "configs": dict(spec.configs),
                        }
                        for name, spec in missing.items()
                    }
                )
                admin.wait_for_topics(list(missing))
            configs = configs_of(admin, list(found))
    except KafkaError as cause:
        raise KafkaUnreachable(
            f"Kafka at {kafka.get('bootstrap_servers')} could not make the topics: {cause}"
        ) from cause
    return [
        TopicState(spec.name, True)
        if spec.name in missing
        else TopicState(spec.name, False, tuple(_differences(spec, found[spec.name], configs.get(spec.name, {}))))
        for spec in specs
    ]


def configs_of(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each topic is set to; a broker that does not tell (Tansu) is believed."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {name: {key: str(entry["value"]) for key, entry in entries.items()} for name, entries in answer.items()}


def _differences(spec: TopicSpec, partitions: int, configs: Mapping[str, str]) -> list[str]:
    differences = []
    if partitions != spec.partitions:
        differences.append(f"expected {spec.partitions} partitions, found {partitions}")
    return differences + config_differences(spec, configs)


def config_differences(spec: TopicSpec, configs: Mapping[str, str]) -> list[str]:
    """What a topic is set to otherwise than it should be."""
    return [
        f"expected {name}={expected}, found {configs[name]}"
        for name, expected in spec.configs.items()
        if name in configs and not _is_enough(name, expected, configs[name])
    ]


def _is_enough(name: str, expected: str, found: str) -> bool:
    if name not in AT_LEAST or found == expected:
        return found == expected
    return found == "-1" or (expected != "-1" and int(found) > int(expected))
