"""The commands that check: the settings in force, and what is reachable."""

import argparse
import contextlib
from collections.abc import Callable, Iterator

from consumers.kafka import TopicWatch
from features.reader import WeekError
from hitparade import output, wiring
from hitparade.errors import USAGE, is_expected, sentence
from hitparade.settings import PREFIX, Settings

Finding = tuple[str, bool, str]
"""What was looked at, whether all is well, and what was found or what to do."""
NEEDS = {"counters": ("kafka", "redis")}
"""What cannot be looked at where something else is wrong: its answer would take as long again, and be the same."""


def config(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show every setting."""
    rows = [(name, settings.shown(name), field.description or "") for name, field in Settings.model_fields.items()]
    if arguments.json:
        output.print_json({"setting": PREFIX + name.upper(), "value": value} for name, value, _ in rows)
    else:
        columns = ("setting", "~value", "~what it is")
        output.print_table("Settings", columns, ((PREFIX + n.upper(), v, d) for n, v, d in rows))
    return 0


def doctor(settings: Settings, arguments: argparse.Namespace) -> int:
    """Look at everything; 1 where something is wrong."""
    findings = list(_findings(settings))
    if arguments.json:
        output.print_json({"check": what, "ok": is_well, "found": text} for what, is_well, text in findings)
    else:
        for what, is_well, text in findings:
            print(f"{'ok  ' if is_well else 'FAIL'} {what}: {text}")
    return 0 if all(is_well for _, is_well, _ in findings) else 1


def _findings(settings: Settings) -> Iterator[Finding]:
    checks: dict[str, Callable[[Settings], str]] = {
        "kafka": _kafka,
        "redis": _redis,
        "counters": _counters,
        "experiments": _experiments,
        "data folder": _data_dir,
        "neural model": _neural,
    }
    wrong: set[str] = set()
    for what, check in checks.items():
        if hidden := wrong.intersection(NEEDS.get(what, ())):
            yield what, False, f"not looked at: first mend {' and '.join(sorted(hidden))}"
            continue
        try:
            yield what, True, check(settings)
        except Exception as cause:
            if not isinstance(cause, USAGE) and not is_expected(cause):
                raise
            wrong.add(what)
            yield what, False, sentence(cause, settings)


def _kafka(settings: Settings) -> str:
    topics = settings.topics
    names = [topics.sessions, topics.tracks, topics.triggers, topics.playlists, topics.evaluations]
    names += [topics.late, topics.dead_sessions, topics.dead_tracks]
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        counts = [len(watch.facts(name).partitions) for name in names]
    return (
        f"{settings.kafka_bootstrap_servers} has the {len(names)} topics of {settings.topic_prefix}, "
        f"sessions in {counts[0]} partitions and tracks in {counts[1]}"
    )


def _redis(settings: Settings) -> str:
    store = wiring.session_store(settings)
    wiring.check_safety(store)
    return f"{settings.shown('redis_url')} answers, noeviction and append-only"


def _counters(settings: Settings) -> str:
    standing = wiring.counter_reader(settings).standing()
    try:
        kept = standing.kept()
    except WeekError as cause:  # new, and not wrong
        return str(cause)
    counted = sum(fence.tallies.get("counted", 0) for fence in standing.fences.values())
    return f"{counted:,} events counted, weeks {kept[0]} to {kept[-1]}, {len(standing.fences)} partitions"


def _experiments(settings: Settings) -> str:
    return ", ".join(experiment.name for experiment in wiring.experiments(settings).experiments) or "none"


def _data_dir(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    probe = settings.data_dir / ".probe"
    probe.touch()
    probe.unlink()
    return f"{settings.data_dir} can be written, {len(wiring.history(settings).weeks())} weeks of history"


def _neural(settings: Settings) -> str:
    champion = wiring.registry(settings).champion("neural")
    return f"{champion.name} is in use" if champion else "none trained yet (naive takes its place): `hitparade train`"
