"""The commands that move data: topics, producers, consumers, triggers."""

import argparse
import gc
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from features.weeks import ChartWeek
from hitparade import data_folder, output, probing, wiring
from hitparade.errors import UsageError
from hitparade.settings import Settings
from hitparade.signals import stop_on_signals

if TYPE_CHECKING:
    from socket import socket

    from consumers.loop import Consumer
    from producers.playlists import Playlist
    from producers.triggers import Trigger

log = logging.getLogger(__name__)
SCHEDULE_EVERY_S = 10.0  # a turn of SLOW_S would be told of as a hang
COLLECT_EVERY = 50_000  # objects: those of records and events are in no cycle, and looking at them cost a quarter
SCHEDULE_EVERY_S_BY_EVENT_TIME = 1.0


def embedded(settings: Settings, arguments: argparse.Namespace) -> int:
    """Keep broker and Redis in the foreground, until Ctrl-C or SIGTERM."""
    from hitparade import embedded as servers

    stop = stop_on_signals()
    with servers.embedded(arguments.dir, arguments.kafka_port, arguments.redis_port) as stack:
        print("Both are up; Ctrl-C ends them.", file=sys.stderr)
        if arguments.json:
            output.print_json([stack.environment])
        else:
            print(*(f"export {name}={value}" for name, value in stack.environment.items()), sep="\n", flush=True)
        servers.watch(stack, stop)
    return 0


def topics(settings: Settings, arguments: argparse.Namespace) -> int:
    """Create and check the topics; 1 where one differs."""
    from producers.topics import ensure_topics, topic_specs

    specs = topic_specs(settings.topics, settings.partitions, settings.weeks_kept)
    states = ensure_topics(settings.kafka, specs, settings.replication_factor)
    if arguments.json:
        output.print_json({"topic": s.name, "created": s.created, "differences": s.differences} for s in states)
    else:
        print(*states, sep="\n")
    if all(not state.differences for state in states):
        return 0
    print(
        "hitparade: topics differ from the settings: correct HITPARADE_PARTITIONS or HITPARADE_WEEKS_KEPT, or alter "
        "the topics with Kafka's own tools",
        file=sys.stderr,
    )
    return 1


def consume_sessions(settings: Settings, arguments: argparse.Namespace) -> int:
    """Count session events until SIGTERM."""
    where = probing.listener(settings)
    return _consume(wiring.session_consumer(settings, arguments.accept_loss), arguments, where)


def consume_tracks(settings: Settings, arguments: argparse.Namespace) -> int:
    """Keep the catalogue until SIGTERM."""
    where = probing.listener(settings)
    return _consume(wiring.track_consumer(settings, arguments.accept_loss), arguments, where)


def _consume(consumer: "Consumer", arguments: argparse.Namespace, where: "socket | None") -> int:
    gc.freeze()  # what has been imported is here to stay
    gc.set_threshold(COLLECT_EVERY)
    stop, topic = stop_on_signals(), consumer.store.topic
    until = "everything has been read" if arguments.until_idle else "SIGTERM or Ctrl-C"
    log.info("reading %s, until %s", topic, until, extra={"topic": topic})
    with probing.probed(where, consumer, "counting"):
        code = consumer.run(stop, arguments.until_idle)
    log.info("read from %s: %s", topic, accounting(consumer.tallies), extra={"topic": topic})
    if arguments.json:
        output.print_json([dict(sorted(consumer.tallies.items()))])
    return code


def accounting(tallies: Mapping[str, int]) -> str:
    """How events ended, with the causes of each outcome in brackets."""
    parts = []
    for outcome in sorted(name for name in tallies if ":" not in name):
        of_it = {name: n for name, n in sorted(tallies.items()) if name.startswith(f"{outcome}:")}
        causes = ", ".join(f"{n:,} {name.split(':')[1]}" for name, n in of_it.items())
        parts.append(f"{tallies[outcome]:,} {outcome}" + (f" ({causes})" if causes else ""))
    return ", ".join(parts) or "nothing"


def consume_weekly(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run triggers until SIGTERM."""
    from consumers.group import GroupReader
    from consumers.triggers import TriggerConsumer

    where = probing.listener(settings)
    wiring.check_safety(wiring.session_store(settings))
    stop = stop_on_signals()
    run = replace(wiring.weekly_run(settings, stop), runner=wiring.runner(arguments))
    reader = GroupReader(
        settings.kafka,
        settings.topics.triggers,
        settings.topics.group("weekly"),
        settings.session_timeout_ms,
        run.playlists.forget,
    )
    log.info("waiting for triggers on %s, until SIGTERM or Ctrl-C", reader.topic, extra={"topic": reader.topic})
    consumer = TriggerConsumer(reader, _told(settings, run.run, arguments.json), stop, spans=run.spans)
    with probing.probed(where, consumer, "weekly"):
        return consumer.consume(arguments.until_idle)


def _told(
    settings: Settings, run: "Callable[[Trigger], list[Playlist]]", as_json: bool
) -> "Callable[[Trigger], list[Playlist]]":
    def told(trigger: "Trigger") -> "list[Playlist]":
        data_folder.ready(settings)  # another machine may have trained
        lists = run(trigger)
        for p in lists:
            what = p.week, p.group, p.revision, p.model
            fields = {"week": p.week, "group": p.group}
            log.info("published for week %s, group %s: revision %d, by %s", *what, extra=fields)
        if as_json:
            output.print_json(p.model_dump(mode="json") for p in lists)
        data_folder.send(settings)
        return lists

    return told


def schedule(settings: Settings, arguments: argparse.Namespace) -> int:
    """Fire what is due until SIGTERM, or once."""
    from features.reader import WeekError

    where = None if arguments.once else probing.listener(settings)
    triggers = wiring.triggers(settings)
    stop = threading.Event() if arguments.once else stop_on_signals()
    if settings.retrain_weeks:
        from hitparade.retraining import Retraining

        triggers.prepare = Retraining(settings, stop).before
    grace = timedelta(seconds=settings.grace_s)
    if arguments.once:
        try:
            weeks = triggers.fire_due(None if arguments.event_time else datetime.now(UTC), grace)
        except WeekError as cause:  # new, and not wrong
            weeks, why = [], str(cause)
        else:
            why = "no closed week is without a trigger"
        if arguments.json:
            output.print_json(map(_triggered, weeks))
        else:
            print(f"triggered {', '.join(week.name for week in weeks) or f'nothing: {why}'}")
        return 0
    log.info("watching for weeks that end, until SIGTERM or Ctrl-C")
    every_s = SCHEDULE_EVERY_S_BY_EVENT_TIME if arguments.event_time else SCHEDULE_EVERY_S
    with probing.probed(where, triggers, "scheduler"):
        triggers.run(stop, grace, arguments.event_time, every_s)
    return 0


def trigger(settings: Settings, arguments: argparse.Namespace) -> int:
    """Fire by hand."""
    if arguments.all and arguments.week:
        raise UsageError(f"expected a week or --all, found both: {arguments.week} and --all")
    wanted = parse_week(settings, arguments.week) if arguments.week else None
    triggers = wiring.triggers(settings)
    weeks = triggers.closed(wanted)
    for week in weeks if arguments.all else weeks[-1:]:
        triggers.fire(week, "manual")
        told = f"triggered {week}: `hitparade consume weekly` makes the lists for {week.after()}"
        output.print_done(arguments.json, told, **_triggered(week))
    return 0


def _triggered(week: ChartWeek) -> dict[str, str]:
    return {"closed_week": week.name, "week": week.after().name}


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
        what = f"{counted:,} counted events of {len(fences)} partitions of {store.topic}"
        would = f"would remove {what}; add --yes to do it"
        output.print_done(arguments.json, would, topic=store.topic, counted=counted, keys_removed=0)
        return 0
    n_keys = sum(store.drop(partition) for partition in partitions)
    done = f"removed {n_keys:,} keys of {store.topic}; a consumer counts it anew from the log's beginning"
    output.print_done(arguments.json, done, topic=store.topic, counted=counted, keys_removed=n_keys)
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
