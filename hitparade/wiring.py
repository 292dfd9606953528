"""From settings to open parts: the one place that wires. Heavy parts are imported by who needs them."""

from __future__ import annotations

import contextlib
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from hitparade import data_folder
from hitparade.settings import PREFIX, Settings, zone

if TYPE_CHECKING:
    import argparse

    from consumers.client import OpenClient
    from consumers.evaluations import Evaluations
    from consumers.loop import Consumer
    from consumers.playlists import PlaylistLog
    from consumers.runs import Runs
    from consumers.schedule import Triggers
    from consumers.snapshot import Snapshot
    from consumers.source import Source
    from consumers.usage import Usage
    from consumers.weekly import WeeklyRun
    from features.history import History
    from features.reader import CounterReader
    from features.rules import Rules
    from features.runners import Runner
    from features.store import CounterStore
    from models.decisions import Decisions
    from models.experiments import Experiments
    from models.kept_reports import KeptReports
    from models.registry import Registry
    from producers.spans import Spans

log = logging.getLogger(__name__)


class UnsafeRedis(Exception):
    """This Redis could forget counters."""


class ClientMissing(Exception):
    """What the settings ask for is not installed."""


def session_store(settings: Settings) -> CounterStore:
    """The counters, without a look at whether Redis answers."""
    return _store(settings, settings.topics.sessions)


def track_store(settings: Settings) -> CounterStore:
    """The catalogue, without a look at whether Redis answers."""
    return _store(settings, settings.topics.tracks)


def _store(settings: Settings, topic: str) -> CounterStore:
    from features.connect import TIMEOUT_S

    return patient_store(settings, topic, TIMEOUT_S)


def patient_store(settings: Settings, topic: str, timeout_s: float) -> CounterStore:
    """A topic's counters or catalogue, where an answer of Redis is waited for so long."""
    from features.connect import connect
    from features.store import CounterStore

    return CounterStore(connect(settings.redis_url.get_secret_value(), timeout_s), topic, settings.slices)


def check_safety(store: CounterStore) -> None:
    """Refuse a Redis that could forget.

    Raises:
        UnsafeRedis: saying what is set wrong.
        StoreUnavailable: it does not answer.
    """
    from features.connect import unsafe_settings

    if problems := unsafe_settings(store.client):
        raise UnsafeRedis(f"Redis is not safe for counters: {'; '.join(problems)}")


def session_consumer(settings: Settings, accept_loss: bool) -> Consumer:
    """The counter consumer, in its group."""
    from consumers import sessions

    counted_by, store = rules(settings), session_store(settings)  # files that make no sense are told of at once
    check_safety(store)
    source = _source(settings, settings.topics.sessions, "sessions")
    return sessions.session_consumer(
        source, store, sessions.session_letters(settings.kafka, settings.topics), counted_by, accept_loss
    )


def rules(settings: Settings) -> Rules:
    """How session events are counted: one answer for all that count them."""
    from features.mapping_file import load_mapping
    from features.rules import Rules
    from models.experiments import load

    return Rules(
        settings.calendar,
        load(settings.experiment_file, settings.calendar).in_force,
        settings.weeks_kept,
        zone(settings.event_time_zone),
        settings.future_tolerance,
        settings.topics.sessions,
        settings.duplicate_hours,
        settings.exposures,
        load_mapping(settings.mapping_file) if settings.mapping_file else None,
        settings.plays_cap,
        settings.listeners,
    )


def track_consumer(settings: Settings, accept_loss: bool) -> Consumer:
    """The catalogue consumer, in its group."""
    from consumers import tracks

    store = track_store(settings)
    check_safety(store)
    source = _source(settings, settings.topics.tracks, "tracks")
    return tracks.track_consumer(source, store, tracks.track_letters(settings.kafka, settings.topics), accept_loss)


def _source(settings: Settings, topic: str, consumer: str) -> Source:
    from consumers.source import Source

    group = settings.topics.group(consumer)
    return Source(settings.kafka, topic, group, settings.session_timeout_ms, kafka_client(settings))


def kafka_client(settings: Settings) -> OpenClient:
    """What counting reads Kafka with.

    Raises:
        ClientMissing: its package is not installed.
    """
    if settings.kafka_client == "kafka-python":
        from consumers.kafka_python import KafkaPython

        return KafkaPython
    try:
        from consumers.confluent import Confluent
    except ModuleNotFoundError as cause:
        raise ClientMissing(
            f"{settings.kafka_client} is not installed ({cause}): pip install -e '.[confluent]', or unset "
            f"{PREFIX}KAFKA_CLIENT"
        ) from cause
    return Confluent


def partitions_of(settings: Settings, topic: str) -> tuple[int, ...]:
    """The topic's partitions, ascending."""
    from consumers.kafka import TopicWatch

    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        return watch.facts(topic).partitions


def counter_reader(settings: Settings) -> CounterReader:
    """The counters of all partitions."""
    from features.reader import CounterReader

    partitions = partitions_of(settings, settings.topics.sessions)
    return CounterReader(session_store(settings), partitions, settings.calendar, settings.weeks_kept)


def runner(arguments: argparse.Namespace) -> Runner:
    """Who does the work over slices: this process, several, or Ray."""
    from features.runners import here, in_processes, on_ray

    if arguments.ray:
        return on_ray(arguments.ray)
    return in_processes(arguments.workers) if arguments.workers > 1 else here


def history(settings: Settings) -> History:
    """The closed weeks on disk."""
    from features.history import History

    return History(data_folder.ready(settings) / "history")


def registry(settings: Settings) -> Registry:
    """The fitted models on disk."""
    from models.registry import Registry

    return Registry(data_folder.ready(settings) / "models")


def runs(settings: Settings) -> Runs:
    """The weekly runs on disk."""
    from consumers.runs import Runs

    return Runs(data_folder.ready(settings) / "runs")


def evaluations(settings: Settings) -> Evaluations:
    """What the lists were worth, on disk."""
    from consumers.evaluations import Evaluations

    return Evaluations(data_folder.ready(settings) / "history" / "evaluations")


def experiments(settings: Settings) -> Experiments:
    """The experiments of the file, and what earlier ones have decided as far as the data folder knows."""
    from dataclasses import replace

    from models.decisions import Decisions
    from models.experiments import load

    found = load(settings.experiment_file, settings.calendar)
    return replace(found, decisions=Decisions(settings.data_dir / "decisions"))


def decisions(settings: Settings) -> Decisions:
    """What experiments have decided, with what is new in object storage."""
    from models.decisions import Decisions

    return Decisions(data_folder.ready(settings) / "decisions")


def reports(settings: Settings) -> KeptReports:
    """The last report of each experiment, on disk."""
    from models.kept_reports import KeptReports

    return KeptReports(settings.data_dir / "experiments" / "reports")


def playlist_log(settings: Settings) -> PlaylistLog:
    """The lists as published."""
    from consumers.playlists import PlaylistLog

    return PlaylistLog(settings.kafka, settings.topics.playlists)


def usage(settings: Settings, runner: Runner | None = None) -> Usage:
    """What listeners did, week by week, for the analysis of experiments."""
    from consumers.kafka import TopicWatch
    from consumers.usage import Usage, totals_of
    from features.runners import here

    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        topic = watch.facts(settings.topics.sessions)
    return Usage(
        settings.kafka,
        session_store(settings),
        rules(settings),
        topic,
        playlist_log(settings),
        partial(totals_of, counter_reader(settings), history(settings)),
        data_folder.usage(settings),
        runner or here,
        keep_weeks=settings.usage_weeks,
        forgotten=data_folder.forgotten(settings),
    )


def snapshot(settings: Settings) -> Snapshot:
    """What a weekly run reads."""
    from consumers.snapshot import Snapshot

    partitions = partitions_of(settings, settings.topics.tracks)
    return Snapshot(counter_reader(settings), track_store(settings), partitions, history(settings), spans(settings))


def weekly_run(settings: Settings, stop: threading.Event | None = None) -> WeeklyRun:
    """Everything that a weekly run reads and writes; `stop` ends its waiting."""
    from consumers.guard import Guard
    from consumers.weekly import WeeklyRun
    from producers.publisher import Publisher

    return WeeklyRun(
        snapshot(settings),
        registry(settings),
        experiments(settings),
        runs(settings),
        evaluations(settings),
        playlist_log(settings),
        Publisher(settings.kafka),
        settings.topics,
        settings.list_span_weeks,
        settings.cut_timeout_s,
        stop or threading.Event(),
        Guard(settings.guard_min_overlap_naive, settings.guard_min_overlap_last_week, settings.guard_min_captured),
        spans=spans(settings),
    )


def triggers(settings: Settings) -> Triggers:
    """What fires."""
    from consumers.schedule import Triggers
    from producers.publisher import Publisher

    publisher = Publisher(settings.kafka)
    return Triggers(settings.kafka, settings.topics, counter_reader(settings), publisher, spans=spans(settings))


def spans(settings: Settings) -> Spans:
    """What traces, where the settings want it.

    Raises:
        ClientMissing: OpenTelemetry is not installed.
    """
    from producers.spans import UNTRACED

    if not settings.tracing:
        return UNTRACED
    try:
        from hitparade.tracing import start_tracing
    except ModuleNotFoundError as cause:
        raise ClientMissing(
            f"OpenTelemetry is not installed ({cause}): pip install -e '.[tracing]', or unset {PREFIX}TRACING"
        ) from cause
    return start_tracing()
