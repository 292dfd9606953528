"""The commands that send: session files, catalogues, and the simulator's listening."""

import argparse
import sys
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from hitparade import output
from hitparade.errors import OutputError, UsageError
from hitparade.experimental import fields_of
from hitparade.pipeline import parse_week
from hitparade.settings import Settings, zone
from hitparade.signals import stop_on_signals
from models.experiments import ExperimentError

if TYPE_CHECKING:
    from producers.kafka import Sent
    from producers.simulator import Simulation


def produce_sessions(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send session files; 1 where an event was not acknowledged."""
    from features.mapping_file import load_mapping
    from producers.sessions import produce_sessions as produce

    mapping = load_mapping(arguments.mapping) if arguments.mapping else None
    stop = stop_on_signals()
    with output.progress("events sent") as advance:
        sent = produce(
            arguments.files,
            settings.kafka,
            settings.topics.sessions,
            batch=arguments.batch,
            key=arguments.key,
            sort=not arguments.unsorted,
            rate=arguments.rate,
            zone=zone(settings.event_time_zone),
            mapping=mapping,
            progress=advance,
            stop=stop.is_set,
        )
    return _sent(sent, stop, arguments.json)


def _sent(sent: "Sent", stop: threading.Event, as_json: bool) -> int:
    """Say what was sent; 1 where it is not all there was to send."""
    output.print_done(as_json, sent, **asdict(sent))
    if stop.is_set():
        print("hitparade: stopped by a signal before everything was sent", file=sys.stderr)
    return 0 if sent.is_complete and not stop.is_set() else 1


def produce_tracks(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send a catalogue; 1 where a track was refused or not acknowledged."""
    from producers.tracks import produce_tracks as produce

    with output.progress("tracks sent") as advance:
        sent = produce(arguments.file, settings.kafka, settings.topics.tracks, progress=advance)
    output.print_done(arguments.json, sent, **asdict(sent))
    return 0 if sent.is_complete else 1


def simulate(settings: Settings, arguments: argparse.Namespace) -> int:
    """Simulate into files, into Kafka, or into Kafka at the pace of the clock."""
    from producers import simulator
    from producers.sessions import send_sessions
    from producers.tracks import send_tracks

    simulation = _simulation(settings, arguments)
    if arguments.truth:
        _write_truth(simulation, arguments.truth)
    if arguments.out:
        try:
            with output.progress("events written") as advance:
                n_events = simulator.write(simulation, arguments.out, advance)
        except OSError as cause:
            raise OutputError(f"{arguments.out} cannot be written: {cause.strerror or cause}") from cause
        wrote = f"wrote {n_events:,} events and {arguments.tracks:,} tracks to {arguments.out}"
        where = str(arguments.out)
        output.print_done(arguments.json, wrote, folder=where, events=n_events, tracks=arguments.tracks)
        return 0
    lines = ((f"track {n}", line) for n, line in enumerate(simulator.track_lines(simulation), 1))
    stop = stop_on_signals()
    catalogue = send_tracks(lines, settings.kafka, settings.topics.tracks)
    output.print_done(arguments.json, catalogue, **asdict(catalogue))
    events = (
        simulator.live(simulation, lambda: datetime.now(UTC), time.sleep, stop.is_set)
        if arguments.live
        else takewhile(lambda _: not stop.is_set(), simulation.events())
    )
    with output.progress("events sent") as advance:
        sent = send_sessions(
            events, settings.kafka, settings.topics.sessions, batch=1 if arguments.live else 25, progress=advance
        )
    cut_off = threading.Event() if arguments.live else stop  # a live service has no end
    return _sent(sent, cut_off, arguments.json)


def _simulation(settings: Settings, arguments: argparse.Namespace) -> "Simulation":
    """What the options ask for; a live one begins with the present week."""
    from producers.climates import CLIMATES
    from producers.simulator import Simulation

    start = parse_week(settings, arguments.start)
    if arguments.live:
        start = settings.calendar.week_of(datetime.now(UTC))
    try:
        return Simulation(
            arguments.weeks,
            arguments.users,
            arguments.tracks,
            arguments.seed,
            start,
            settings.calendar,
            CLIMATES[arguments.catalogue],
            **fields_of(settings, arguments),
        )
    except ExperimentError:
        raise
    except ValueError as cause:
        raise UsageError(str(cause)) from cause


def _write_truth(simulation: "Simulation", file: Path) -> None:
    from producers.truth import write_truth

    try:
        write_truth(simulation, file)
    except OSError as cause:
        raise OutputError(f"{file} cannot be written: {cause.strerror or cause}") from cause
