"""The command that rebuilds: the log counted again beside the counters, which it then replaces."""

import argparse
import contextlib

from consumers.kafka import TopicWatch
from consumers.rebuild import Rebuild, discard
from consumers.sessions import session_letters
from hitparade import output, wiring
from hitparade.errors import UsageError
from hitparade.settings import Settings


def rebuild(settings: Settings, arguments: argparse.Namespace) -> int:
    """Count the session topic's log again and switch over, or remove what an interrupted rebuild has left."""
    _check_topic(settings, arguments.topic)
    store = wiring.session_store(settings)
    if arguments.discard:
        n_partitions = discard(store, wiring.partitions_of(settings, store.topic))
        print(f"removed what rebuilds have left of {n_partitions} partitions; the counters are as they were")
        return 0
    wiring.check_safety(store)
    rules = wiring.rules(settings)
    letters = session_letters(settings.kafka, settings.topics)
    with contextlib.closing(letters), contextlib.closing(TopicWatch(settings.kafka)) as watch:
        work = Rebuild(settings.kafka, store, letters, rules, watch, arguments.accept_loss, tell=print)
        n_offsets = work.begin()
        with output.progress("offsets counted", n_offsets) as work.advance:
            work.run()
    print(f"{store.topic} is counted anew; `hitparade audit` compares it with the log")
    return 0


def _check_topic(settings: Settings, topic: str | None) -> None:
    topics = settings.topics
    if topic == topics.tracks:
        raise UsageError(f"the catalogue is read anew by `hitparade drop {topic} --yes` and `hitparade consume tracks`")
    if topic not in (None, topics.sessions):
        raise UsageError(f"nothing is counted of topic {topic}: expected {topics.sessions}")
