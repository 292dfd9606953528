"""The commands that move data: topics, producers, consumers, triggers."""

import argparse
import logging
import time
from datetime import UTC, datetime, timedelta

from features.store import CounterStore
from features.weeks import ChartWeek
from hitparade import output, wiring
from hitparade.errors import OutputError, UsageError
from hitparade.settings import Settings, zone

log = logging.getLogger(__name__)
SCHEDULE_EVERY_S = 15.0
SCHEDULE_EVERY_S_BY_EVENT_TIME = 1.0


def embedded(settings: Settings, arguments: argparse.Namespace) -> int:
    """Keep broker and Redis in the foreground."""
    from hitparade.embedded import run

    return run(arguments.dir, arguments.kafka_port, arguments.redis_port)


def topics(settings: Settings, arguments: argparse.Namespace) -> int:
    """Create and check the topics; 1 where one differs."""
    from producers.topics import ensure_topics, topic_specs

    specs = topic_specs(settings.topics, settings.partitions, settings.weeks_kept)
    states = ensure_topics(settings.kafka, specs, settings.replication_factor)
    if arguments.json:
        output.print_json({"topic": s.name, "created": s.created, "differences": s.differences} for s in states)
    else:
        print(*states, sep="\n")
    return 1 if any(state.differences for state in states) else 0


def produce_sessions(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send session files; 1 where an event was not acknowledged."""
    from producers.sessions import produce_sessions as produce

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
            progress=advance,
        )
    print(sent)
    return 0 if sent.is_complete else 1


def produce_tracks(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send a catalogue; 1 where a track was refused or not acknowledged."""
    from producers.tracks import produce_tracks as produce

    with output.progress("tracks sent") as advance:
        sent = produce(arguments.file, settings.kafka, settings.topics.tracks, progress=advance)
    print(sent)
    return 0 if sent.is_complete else 1


def simulate(settings: Settings, arguments: argparse.Namespace) -> int:
    """Simulate into files, into Kafka, or into Kafka at the pace of the clock."""
    from producers import simulator
    from producers.sessions import send_sessions
    from producers.tracks import send_tracks

    start = parse_week(settings, arguments.start)
    try:
        simulation = simulator.Simulation(
            arguments.weeks, arguments.users, arguments.tracks, arguments.seed, start, settings.calendar
        )
    except ValueError as cause:
        raise UsageError(str(cause)) from cause
    if arguments.out:
        try:
            with output.progress("events written") as advance:
                n_events = simulator.write(simulation, arguments.out, advance)
        except OSError as cause:
            raise OutputError(f"{arguments.out} cannot be written: {cause.strerror or cause}") from cause
        print(f"wrote {n_events:,} events and {arguments.tracks:,} tracks to {arguments.out}")
        return 0
    lines = ((f"track {n}", line) for n, line in enumerate(simulator.track_lines(simulation), 1))
    print(send_tracks(lines, settings.kafka, settings.topics.tracks))
    stop = wiring.stop_on_signals()
    events = (
        simulator.live(simulation, lambda: datetime.now(UTC), time.sleep, stop.is_set)
        if arguments.live
        else (line for line in simulation.events() if not stop.is_set())
    )
    with output.progress("events sent") as advance:
        sent = send_sessions(
            events, settings.kafka, settings.topics.sessions, batch=1 if arguments.live else 25, progress=advance
        )
    print(sent)
    return 0 if sent.is_complete else 1


def consume_sessions(settings: Settings, arguments: argparse.Namespace) -> int:
    """Count session events until SIGTERM."""
    consumer = wiring.session_consumer(settings, arguments.accept_loss)
    code = consumer.run(wiring.stop_on_signals(), arguments.until_idle)
    _report(consumer.store, dict(consumer.tallies))
    return code


def consume_tracks(settings: Settings, arguments: argparse.Namespace) -> int:
    """Keep the catalogue until SIGTERM."""
    consumer = wiring.track_consumer(settings, arguments.accept_loss)
    code = consumer.run(wiring.stop_on_signals(), arguments.until_idle)
    _report(consumer.store, dict(consumer.tallies))
    return code


def _report(store: CounterStore, tallies: dict[str, int]) -> None:
    text = ", ".join(f"{count:,} {name}" for name, count in sorted(tallies.items())) or "nothing"
    log.info("read from %s: %s", store.topic, text)


def consume_weekly(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run triggers until SIGTERM."""
    from consumers.group import GroupReader
    from consumers.triggers import TriggerConsumer

    wiring.check_safety(wiring.session_store(settings))
    run = wiring.weekly_run(settings)
    reader = GroupReader(
        settings.kafka,
        settings.topics.triggers,
        settings.topics.group("weekly"),
        settings.session_timeout_ms,
        run.playlists.forget,
    )
    return TriggerConsumer(reader, run.run, wiring.stop_on_signals()).consume(arguments.until_idle)


def schedule(settings: Settings, arguments: argparse.Namespace) -> int:
    """Fire what is due until SIGTERM, or once."""
    triggers = wiring.triggers(settings)
    grace = timedelta(seconds=settings.grace_s)
    if arguments.once:
        weeks = triggers.fire_due(None if arguments.event_time else datetime.now(UTC), grace)
        print(f"triggered {', '.join(week.name for week in weeks) or 'nothing: no closed week is without a trigger'}")
        return 0
    every_s = SCHEDULE_EVERY_S_BY_EVENT_TIME if arguments.event_time else SCHEDULE_EVERY_S
    triggers.run(wiring.stop_on_signals(), grace, arguments.event_time, every_s)
    return 0


def trigger(settings: Settings, arguments: argparse.Namespace) -> int:
    """Fire by hand."""
    if arguments.all and arguments.week:
        raise UsageError(f"expected a week or --all, found both: {arguments.week} and --all")
    wanted = parse_week(settings, arguments.week) if arguments.week else None
    triggers = wiring.triggers(settings)
    closed = triggers.counters.standing().closed()
    if not closed or (wanted is not None and wanted not in closed):
        from features.reader import WeekError

        known = f"expected one of {closed[0]} to {closed[-1]}" if closed else "none is closed and counted yet"
        raise WeekError(f"week {wanted or '(the last)'} is not closed, or not kept: {known}")
    weeks = closed if arguments.all else [wanted or closed[-1]]
    for week in weeks:
        triggers.fire(week, "manual")
        print(f"triggered {week}: `hitparade consume weekly` makes the lists for {week.after()}")
    return 0


def drop(settings: Settings, arguments: argparse.Namespace) -> int:
    """Remove a topic's keys from Redis."""
    stores = {store.topic: store for store in (wiring.session_store(settings), wiring.track_store(settings))}
    if arguments.topic not in stores:
        raise UsageError(f"nothing is counted of topic {arguments.topic}: expected one of {', '.join(stores)}")
    store = stores[arguments.topic]
    partitions = wiring.partitions_of(settings, store.topic)
    fences = store.fences(partitions)
    counted = sum(fence.tallies.get("counted", 0) for fence in fences.values())
    if not arguments.yes:
        print(
            f"would remove {counted:,} counted events of {len(fences)} partitions of {store.topic}; add --yes to do it"
        )
        return 0
    n_keys = sum(store.drop(partition) for partition in partitions)
    print(f"removed {n_keys:,} keys of {store.topic}; a consumer counts it anew from the log's beginning")
    return 0


def parse_week(settings: Settings, name: str) -> ChartWeek:
    """The week of a name given on the command line.

    Raises:
        UsageError: there is no such week.
    """
    try:
        return settings.calendar.parse(name)
    except ValueError as cause:
        raise UsageError(str(cause)) from cause
