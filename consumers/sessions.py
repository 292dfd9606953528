"""The counter consumer: session events into rolling weekly counters per track."""

from collections.abc import Callable, Iterable
from datetime import datetime

from consumers.beginning import Beginning, Log, Stopped
from consumers.edges import Decide
from consumers.loop import Consumer
from consumers.source import Batch, Source
from features.caps import NOTHING_PLAYED, pairs_in
from features.duplicates import has_ids, ids_in
from features.fence import Fence
from features.parts import Part
from features.rules import Rules
from features.store import LAYOUT, CounterStore
from features.tally import MOST_TRACKS, tally
from features.topics import Topics
from features.weeks import WEEKDAYS
from producers.kafka import KafkaConfig
from producers.letters import Letters


def fence_settings(rules: Rules, slices: int) -> dict[str, str]:
    """What a session fence must agree with, so that no bucket mixes two meanings."""
    return {
        "layout": LAYOUT,
        "first_day": WEEKDAYS[rules.calendar.first_weekday],
        "zone": str(rules.calendar.zone),
        "slices": str(slices),
        "plays_cap": str(rules.plays_cap),
        "listeners": str(rules.listeners),
    }


def check_experiments(rules: Rules, fence: Fence) -> None:
    """Refuse to count on where a week was counted under another experiment.

    Raises:
        Stopped: naming the week and both fingerprints.
    """
    for week, found in sorted(fence.experiments.items()):
        ours = rules.assignment_of(rules.calendar.parse(week)).fingerprint
        if found != ours:
            raise Stopped(
                f"week {week} was counted under experiment {found}, the experiment file now says {ours}. "
                "An experiment changes only where a week begins: set the file back for this week, "
                "or count the log anew under it with `hitparade rebuild`"
            )


def deciding(store: CounterStore, rules: Rules, most_tracks: int = MOST_TRACKS) -> Decide:
    """What turns a span into parts."""

    def decide(
        batch: Batch,
        stream_time: datetime | None,
        going_on: Part | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> Iterable[Part]:
        # Whoever moves the fence after this has the part refused, and the batch is read and looked up again.
        at = going_on.start if going_on else batch.start  # it has neither ids nor plays that Redis should know
        known = None
        if has_ids(batch.records, rules.duplicate_hours):
            wanted = ids_in(batch.records, rules.topic, rules.duplicate_hours, rules.decode)
            settle()
            known = store.known_ids(batch.partition, at, wanted)
        played = NOTHING_PLAYED
        if rules.plays_cap:
            settle()
            played = store.played(batch.partition, at, pairs_in(batch.records, rules))
        span = batch.records, batch.start, batch.end, stream_time
        return tally(*span, rules, most_tracks, known, played=played, going_on=going_on)

    return decide


def session_consumer(
    source: Source,
    store: CounterStore,
    letters: Letters,
    rules: Rules,
    accept_loss: bool = False,
    most_tracks: int = MOST_TRACKS,
) -> Consumer:
    """Wire the counter consumer from its open edges."""
    return Consumer(
        source,
        store,
        letters,
        deciding(store, rules, most_tracks),
        session_beginning(source, store, rules, accept_loss),
    )


def session_beginning(log: Log, store: CounterStore, rules: Rules, accept_loss: bool = False) -> Beginning:
    """What the fences of sessions must agree with."""
    settings = fence_settings(rules, store.slices)
    return Beginning(log, store, settings, lambda fence: check_experiments(rules, fence), accept_loss)


def session_letters(kafka: KafkaConfig, topics: Topics) -> Letters:
    """Where late and dead session events go."""
    return Letters(kafka, topics.sessions, {"late": topics.late, "dead": topics.dead_sessions})
