"""What can be wrong with Kafka: each check says in a sentence what is well, or raises what is not, and what to do."""

from consumers.brokers import NotTold, Unreadable
from hitparade.doctor import Careful, Check, Patient, Wrong
from hitparade.settings import PREFIX
from producers.topics import DEFAULT_MAX_MESSAGE_BYTES, TopicSpec, config_differences, topic_specs

ENDING = ".sessions.v1"
FULL = 0.9  # of a disk


def answers(patient: Patient) -> str:
    """Somebody answers at the address of the settings."""
    n_brokers = len(patient.brokers.addresses())
    return f"{patient.settings.kafka_bootstrap_servers} answers, {n_brokers} broker{'s' if n_brokers > 1 else ''}"


def advertised(patient: Patient) -> str:
    """Every broker is reached where it tells clients to come."""
    found = patient.brokers.addresses()
    if lost := [f"broker {broker} at {found[broker]}" for broker in patient.brokers.unreached()]:
        raise Wrong(
            f"{patient.settings.kafka_bootstrap_servers} answers, and sends clients to {', '.join(lost)}, where nobody "
            "answers from here: advertised.listeners of that broker must be an address that this machine reaches "
            "(in a container that is not localhost), and no firewall may be between"
        )
    return f"each answers at the address that it advertises: {', '.join(found.values())}"


def topics(patient: Patient) -> str:
    """Every topic is there."""
    wanted = patient.settings.topics.all()
    if hidden := patient.brokers.hidden(wanted):
        raise Wrong(
            f"this user may not see {_listed(hidden)}: give it Describe on the topics that begin with "
            f"{patient.settings.topic_prefix}."
        )
    there = patient.brokers.names()
    if missing := [name for name in wanted if name not in there]:
        verb = "does" if len(missing) == 1 else "do"
        raise Wrong(f"{_listed(missing)} {verb} not exist: run `hitparade topics`{_hint(patient, there)}")
    return f"the {len(wanted)} topics of {patient.settings.topic_prefix} are there"


def _listed(names: list[str]) -> str:
    return f"topic {names[0]}" if len(names) == 1 else f"{len(names)} topics ({', '.join(names)})"


def _hint(patient: Patient, there: list[str]) -> str:
    ours = patient.settings.topic_prefix
    others = [name.removesuffix(ENDING) for name in there if name.endswith(ENDING) and name != f"{ours}{ENDING}"]
    if not others:
        return ""
    return f", or set {PREFIX}TOPIC_PREFIX, which is {ours}, to a prefix that is there: {', '.join(others[:5])}"


def partitions(patient: Patient) -> str:
    """The topics have as many partitions as they should."""
    expected = {spec.name: spec.partitions for spec in _specs(patient)}
    found = {name: len(parts) for name, parts in patient.brokers.replication(list(expected)).items()}
    topic = patient.settings.topics.sessions
    if found[topic] == 1 < expected[topic]:
        raise Careful(
            f"{topic} has one partition, expected {expected[topic]}: only one consumer can count. More can be added "
            f"with Kafka's own tools (kafka-topics --alter), or set {PREFIX}PARTITIONS to 1 if that is enough"
        )
    if other := [f"{name} has {found[name]}, expected {n}" for name, n in expected.items() if found[name] != n]:
        raise Careful(
            f"another number of partitions than the settings': {'; '.join(other)}. Set {PREFIX}PARTITIONS to what is "
            "there, or add some with Kafka's own tools (kafka-topics --alter)"
        )
    return f"sessions and tracks in {found[topic]}, what is not counted too, all else in one"


def topic_settings(patient: Patient) -> str:
    """No topic is set so that records vanish, or are refused."""
    wrong = [
        f"{spec.name}: {difference}"
        for spec in _specs(patient)
        for difference in config_differences(spec, patient.configs.get(spec.name, {}))
    ]
    if wrong:
        raise Wrong(
            f"{'; '.join(wrong)}. Alter the topics with Kafka's own tools (kafka-configs --alter --add-config …), or, "
            f"where they keep too little, lower {PREFIX}WEEKS_KEPT"
        )
    untold = [name for name in patient.settings.topics.all() if not patient.configs.get(name)]
    text = f"cleanup, retention for {patient.settings.weeks_kept} weeks and 2 more, sizes and timestamps are right"
    return f"the brokers do not tell, of {_listed(untold)}" if untold else text


def _specs(patient: Patient) -> list[TopicSpec]:
    """What the topics must be like; what is set aside must be as large as what is read."""
    settings = patient.settings
    read = [patient.configs.get(name, {}) for name in (settings.topics.sessions, settings.topics.tracks)]
    most = max(int(configs.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES)) for configs in read)
    return topic_specs(settings.topics, settings.partitions, settings.weeks_kept, max(most, DEFAULT_MAX_MESSAGE_BYTES))


def replicas(patient: Patient) -> str:
    """Every partition has a leader, and as many replicas in step as a write waits for."""
    wrong, behind = [], []
    for topic, parts in patient.brokers.replication(patient.settings.topics.all()).items():
        least = int(patient.configs.get(topic, {}).get("min.insync.replicas", 1))
        for part in parts:
            if part.leader < 0 or part.in_sync < least:
                wrong.append(f"{topic} partition {part.partition} has {part.in_sync}, min.insync.replicas is {least}")
            elif part.in_sync < part.replicas:
                behind.append(f"{topic} partition {part.partition} has {part.in_sync} of {part.replicas}")
    if wrong:
        raise Wrong(
            f"too few replicas in step, so that nothing can be written: {_first(wrong)}. Bring the missing brokers up, "
            "or lower min.insync.replicas"
        )
    if behind:
        raise Careful(f"replicas are not in step: {_first(behind)}. A broker is down, or slow: look at its log")
    return "every partition has a leader, and all its replicas are in step"


def _first(texts: list[str]) -> str:
    return "; ".join(texts[:3]) + (f"; and {len(texts) - 3} more" if len(texts) > 3 else "")


def newest(patient: Patient) -> str:
    """What producers send can be read here."""
    topics = patient.settings.topics
    for topic in (topics.sessions, topics.tracks):
        n_partitions = len(patient.brokers.replication([topic])[topic])
        try:
            held_back = patient.brokers.held_back(topic, range(n_partitions))
        except Unreadable as cause:
            raise Wrong(
                f"the newest records of {topic} cannot be read: {cause}. Have the producer compress with gzip or not "
                "at all (compression.type), or install the library wherever hitparade runs"
            ) from cause
        if held_back:
            raise Careful(
                f"an open transaction holds back what is newest in partition {', '.join(map(str, held_back))} of "
                f"{topic}, and it is not counted before that ends: is its producer dead? kafka-transactions "
                "find-hanging tells, and abort ends it"
            )
    return "the newest records of sessions and tracks can be read"


def disks(patient: Patient) -> str:
    """The brokers have room."""
    try:
        found = patient.brokers.disks()
    except NotTold as cause:
        return str(cause)
    for disk in found:
        if disk.free < (1 - FULL) * disk.total:
            raise Careful(
                f"the disk of broker {disk.broker} ({disk.folder}) has {disk.free / disk.total:.0%} left of "
                f"{disk.total / 2**30:,.1f} GiB: make room before it is full, for then the broker stops; "
                "`hitparade sizing` says how much a load needs"
            )
    return f"{min(disk.free / disk.total for disk in found):.0%} of the fullest broker's disk is free"


def members(patient: Patient) -> str:
    """Somebody counts, keeps the catalogue and makes lists."""
    groups = {patient.settings.topics.group(name): name for name in ("sessions", "tracks", "weekly")}
    try:
        idle = patient.brokers.idle(list(groups))
    except NotTold as cause:
        return str(cause)
    if idle:
        started = ", ".join(f"`hitparade consume {groups[group]}`" for group in idle)
        raise Careful(f"nobody is a member of {', '.join(idle)}: start {started}")
    return "sessions, tracks and weekly each have a consumer"


KAFKA = (
    Check("kafka", answers),
    Check("brokers", advertised, ("kafka",)),
    Check("topics", topics, ("brokers",)),
    Check("partitions", partitions, ("topics",)),
    Check("topic settings", topic_settings, ("topics",)),
    Check("replicas", replicas, ("topics",)),
    Check("newest records", newest, ("topics",)),
    Check("Kafka's disk", disks, ("brokers",)),
    Check("consumers", members, ("brokers",)),
)
