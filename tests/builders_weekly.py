"""A stage for weekly runs: topics on a real broker, counters in a real Redis, and a counter without a group."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from consumers.kafka import TopicFacts, TopicWatch, end_offsets, read_to_end
from consumers.schedule import Triggers
from consumers.sessions import fence_settings
from consumers.tracks import read_entries
from consumers.weekly import WeeklyRun
from features.parts import CatalogueEntry, Part
from features.store import CounterStore
from features.tally import tally
from features.weeks import ChartWeek
from hitparade import wiring
from hitparade.settings import Settings
from producers.playlists import Evaluation, Playlist
from producers.publisher import Message, Publisher
from producers.topics import ensure_topics, topic_specs
from tests.builders_history import track

W20 = datetime(2023, 5, 15, tzinfo=UTC)
PARTITIONS = (0, 1)


def moment(week: int) -> datetime:
    """Noon of the third day of a week of 2023."""
    return W20 + timedelta(weeks=week - 20, days=2, hours=12)


def chart_week(week: int) -> ChartWeek:
    return ChartWeek((W20 + timedelta(weeks=week - 20)).date())


def plays(week: int, counts: Mapping[str, int], user: str = "u") -> bytes:
    """One record: so many plays of each track in a week of 2023."""
    time = moment(week).isoformat()
    events = [
        {"timestamp": time, "user_id": user, "track_id": track_id, "event_type": "play"}
        for track_id, n in counts.items()
        for _ in range(n)
    ]
    return json.dumps(events).encode()


@dataclass
class Stage:
    """Everything of one prefix: what is sent is counted when `count` is called, and not before."""

    env: Mapping[str, str]
    settings: Settings
    publisher: Publisher
    publishers: list[Publisher] = field(default_factory=list)

    def send(self, *values: bytes, partition: int = 0) -> None:
        """Records of events."""
        topic = self.settings.topics.sessions
        self.publisher.publish([Message(topic, b"k", value, partition=partition) for value in values])

    def catalogue(self, *ids: str, partition: int = 0, **fields: Any) -> None:
        """Tracks."""
        topic = self.settings.topics.tracks
        values = [(track_id, track(track_id, **fields).model_dump_json().encode()) for track_id in ids]
        self.publisher.publish([Message(topic, i.encode(), value, partition=partition) for i, value in values])

    def take_down(self, track_id: str, partition: int = 0) -> None:
        topic = self.settings.topics.tracks
        self.publisher.publish([Message(topic, track_id.encode(), None, partition=partition)])

    def count(self) -> None:
        """Apply all that was sent."""
        rules = wiring.rules(self.settings)
        self._apply(
            wiring.session_store(self.settings),
            lambda records, start, end, stream_time: list(tally(records, start, end, stream_time, rules)),
        )
        self.count_tracks()

    def count_tracks(self) -> None:
        self._apply(
            wiring.track_store(self.settings), lambda records, start, end, _: list(read_entries(records, start, end))
        )

    def _apply(self, store: CounterStore, decide: Any) -> None:
        facts = self.facts(store.topic)
        ends = end_offsets(self.settings.kafka, {store.topic: facts.partitions})[store.topic]
        settings = fence_settings(wiring.rules(self.settings), store.slices)
        for partition in facts.partitions:
            fence = store.init(partition, 0, facts.topic_id, settings)
            start = fence.next_offset
            if start < ends[partition]:
                records = read_to_end(self.settings.kafka, store.topic, [partition], {partition: start})
                for part in decide(records, start, ends[partition], fence.stream_time):
                    store.apply(partition, facts.topic_id, part)

    def facts(self, topic: str) -> TopicFacts:
        with closing(TopicWatch(self.settings.kafka)) as watch:
            return watch.facts(topic)

    @cached_property
    def triggers(self) -> Triggers:
        triggers = wiring.triggers(self.settings)
        self.publishers.append(triggers.publisher)
        return triggers

    def weekly_run(self) -> WeeklyRun:
        """A weekly run that remembers nothing."""
        run = wiring.weekly_run(self.settings)
        self.publishers.append(run.publisher)
        return run

    def records(self, topic: str) -> list[Any]:
        """Every record of a topic with one partition."""
        return read_to_end(self.settings.kafka, topic, [0], {})

    def published(self, group: str = "control") -> list[bytes]:
        """The values of a group's lists in the order of publication."""
        records = self.records(self.settings.topics.playlists)
        return [record.value for record in records if record.key.decode().endswith(f"/{group}")]

    def lists(self, group: str = "control") -> list[Playlist]:
        return [Playlist.model_validate_json(value) for value in self.published(group)]

    def evaluations(self) -> list[Evaluation]:
        records = self.records(self.settings.topics.evaluations)
        return [Evaluation.model_validate_json(record.value) for record in records]


@contextmanager
def staged(kafka: str, redis_url: str, prefix: str, folder: Path, **env: str) -> Iterator[Stage]:
    """The topics are there, and nothing is in them."""
    given = {
        "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HITPARADE_REDIS_URL": redis_url,
        "HITPARADE_TOPIC_PREFIX": prefix,
        "HITPARADE_PARTITIONS": str(len(PARTITIONS)),
        "HITPARADE_SESSION_TIMEOUT_MS": "6000",
        "HITPARADE_DATA_DIR": str(folder),
        "HITPARADE_SLICES": "4",
        **env,
    }
    settings = Settings.from_env(given)
    ensure_topics(settings.kafka, topic_specs(settings.topics, settings.partitions, settings.weeks_kept))
    stage = Stage(given, settings, Publisher(settings.kafka))
    try:
        yield stage
    finally:
        for publisher in (stage.publisher, *stage.publishers):
            publisher.close()


def entry(track_id: str, timestamp: int, offset: int, value: str | None = None) -> CatalogueEntry:
    return CatalogueEntry(track_id, timestamp, offset, track(track_id).model_dump_json() if value is None else value)


def part(start: int, end: int, **changes: Any) -> Part:
    return Part(start, end, None, **changes)
