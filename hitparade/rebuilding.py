"""The command that rebuilds: the log counted again beside the counters, which it then replaces."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial

from consumers.kafka import TopicWatch
from consumers.rebuild import Rebuild, discard
from consumers.sessions import session_letters
from features.rules import Rules
from features.runners import here
from hitparade import output, wiring
from hitparade.errors import UsageError
from hitparade.settings import Settings


def rebuild(settings: Settings, arguments: argparse.Namespace) -> int:
    """Count the session topic's log again and switch over, or remove what an interrupted rebuild has left."""
    _check_topic(settings, arguments.topic)
    store = wiring.session_store(settings)
    if arguments.discard:
        n_partitions = discard(store, wiring.partitions_of(settings, store.topic))
        done = f"removed what rebuilds have left of {n_partitions} partitions; the counters are as they were"
        output.print_done(arguments.json, done, topic=store.topic, partitions=n_partitions, offsets=0)
        return 0
    wiring.check_safety(store)
    runner, rules = wiring.runner(arguments), wiring.rules(settings)
    with _opened(settings, rules) as work:
        work.accept_loss = arguments.accept_loss
        work.tell = partial(print, file=sys.stderr if arguments.json else None)
        n_offsets = work.begin()
        with output.progress("offsets counted", n_offsets) as work.advance:
            if runner is here:
                work.run()
            else:
                elsewhere = partial(_count, settings, rules, work.starts, work.ends)
                work.run(lambda partitions: runner(elsewhere, partitions, work.advance))
    done = f"{store.topic} is counted anew; `hitparade audit` compares it with the log"
    output.print_done(arguments.json, done, topic=store.topic, partitions=len(work.starts), offsets=n_offsets)
    return 0


@contextlib.contextmanager
def _opened(settings: Settings, rules: Rules) -> Iterator[Rebuild]:
    letters, store = session_letters(settings.kafka, settings.topics), wiring.session_store(settings)
    with contextlib.closing(letters), contextlib.closing(TopicWatch(settings.kafka)) as watch:
        yield Rebuild(settings.kafka, store, letters, rules, watch)


def _count(
    settings: Settings,
    rules: Rules,
    starts: Mapping[int, int],
    ends: Mapping[int, int],
    partition: int,
    advance: output.Advance,
) -> list[str]:
    """Count one partition by connections of this process' own; return what there is to tell."""
    told: list[str] = []
    with _opened(settings, rules) as work:
        work.starts, work.ends, work.tell, work.advance = starts, ends, told.append, advance
        work.count(partition)
    return told


def _check_topic(settings: Settings, topic: str | None) -> None:
    topics = settings.topics
    if topic == topics.tracks:
        raise UsageError(f"the catalogue is read anew by `hitparade drop {topic} --yes` and `hitparade consume tracks`")
    if topic not in (None, topics.sessions):
        raise UsageError(f"nothing is counted of topic {topic}: expected {topics.sessions}")
