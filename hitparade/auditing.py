"""The command that audits: the log counted again, and held against Redis."""

import argparse
import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from consumers.audit import MOST_SHOWN, Audit, PartitionAudit, Subject
from consumers.kafka import TopicWatch
from features.rules import Rules
from hitparade import output, wiring
from hitparade.pipeline import parse_week
from hitparade.settings import Settings

COLUMNS = ("#partition", "#log from", "#to", "#fence", "#events read", "tallies", "#wrong", "#by", "#unproved")


def audit(settings: Settings, arguments: argparse.Namespace) -> int:
    """Compare the counters with the log; 0 only where all that the log can prove is right."""
    weeks = [parse_week(settings, name) for name in arguments.weeks]
    with contextlib.closing(TopicWatch(settings.kafka)) as watch:
        facts = watch.facts(settings.topics.sessions)
    if weeks:
        standing = wiring.counter_reader(settings).standing()
        for week in weeks:
            standing.check_kept(week)
    runner, opened = wiring.runner(arguments), (settings, wiring.rules(settings), {week.name for week in weeks})
    subjects = _audit(*opened).survey(facts.partitions, facts.topic_id)
    with output.progress("offsets read", sum(subject.n_offsets for subject in subjects)) as advance:
        found = list(runner(partial(_partition, *opened), subjects, advance))
    if arguments.json:
        output.print_json(map(_json, found))
    else:
        _print(found, ", ".join(sorted(week.name for week in weeks)) or "all weeks kept")
    return 0 if all(one.is_exact for one in found) else 1


def _audit(settings: Settings, rules: Rules, weeks: Collection[str]) -> Audit:
    return Audit(settings.kafka, wiring.session_store(settings), rules, weeks)


def _partition(
    settings: Settings, rules: Rules, weeks: Collection[str], subject: Subject, advance: output.Advance
) -> PartitionAudit:
    """Audit one partition by connections of this process' own."""
    return _audit(settings, rules, weeks).partition(subject, advance)


def _json(one: PartitionAudit) -> dict[str, Any]:
    return {
        "partition": one.partition,
        "exact": one.is_exact,
        "log_start": one.log_start,
        "log_end": one.log_end,
        "fence": one.fence,
        "events": one.events,
        "tallies": _tallies(one),
        "wrong": one.differing,
        "by": one.difference,
        "unproved": one.unproved,
        "problems": one.problems,
        "tally_differences": {name: {"log": log, "redis": redis} for name, (log, redis) in one.tallies.items()},
        "differences": [asdict(difference) for difference in one.differences],
    }


def _tallies(one: PartitionAudit) -> str:
    if not one.is_compared:
        return "not compared"
    if not one.tallies:
        return "equal"
    return "differ" if one.tallies_are_proved else "unproved"


def _row(p: PartitionAudit) -> tuple[object, ...]:
    fence = "none" if p.fence is None else p.fence
    return p.partition, p.log_start, p.log_end, fence, p.events, _tallies(p), p.differing, p.difference, p.unproved


def _print(found: Sequence[PartitionAudit], weeks: str) -> None:
    output.print_table(f"The log against Redis: {weeks}", COLUMNS, map(_row, found))
    differences = [(p.partition, d) for p in found for d in p.differences][:MOST_SHOWN]
    if differences:
        columns = ("#partition", "week", "group", "track", "kind", "#the log says", "#Redis says")
        cells = ((p, d.week, d.group, d.track_id, d.kind, d.log, d.redis) for p, d in differences)
        n_wrong = sum(p.differing for p in found)
        output.print_table(f"Counters that are wrong, {len(differences)} of {n_wrong:,}", columns, cells)
    for partition in found:
        for sentence in _sentences(partition):
            print(f"partition {partition.partition}: {output.printable(sentence)}")
    print(_verdict(found))


def _sentences(one: PartitionAudit) -> Iterable[str]:
    yield from one.problems
    if one.tallies_are_proved:
        for name, (log, redis) in one.tallies.items():
            yield f"tally {name}: the log says {log:,}, Redis says {redis:,}"
    elif one.log_start:
        yield (
            f"the log has lost its first {one.log_start:,} offsets, and with them events that were counted: of "
            f"counters larger than what is left of it makes them ({one.unproved:,}) nobody can say if they are right"
        )


def _verdict(found: Sequence[PartitionAudit]) -> str:
    if wrong := [str(one.partition) for one in found if not one.is_exact]:
        return (
            f"not exact: partition {', '.join(wrong)} of {len(found)}. The log was counted by the settings as they are "
            "now; `hitparade rebuild` counts it anew into Redis"
        )
    n_events = sum(one.events for one in found)
    if any(not one.tallies_are_proved for one in found):
        return f"exact as far as the log reaches: {n_events:,} events read"
    return f"exact: {n_events:,} events in {len(found)} partitions"
