"""The counter consumer: session events into rolling weekly counters per track."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache

from consumers.beginning import Beginning, Stopped
from consumers.loop import Consumer, Decide
from consumers.source import Batch, Source
from features.duplicates import ids_in
from features.fence import Fence
from features.store import LAYOUT, CounterStore
from features.tally import MOST_TRACKS, Assignment, Part, Rules, tally
from features.topics import Topics
from features.weeks import WEEKDAYS, Calendar, ChartWeek
from producers.kafka import KafkaConfig
from producers.letters import Letters


class RememberedAssignment:
    """An assignment that hashes each user once."""

    def __init__(self, assignment: Assignment) -> None:
        self.fingerprint = assignment.fingerprint
        self.group_of = lru_cache(maxsize=100_000)(assignment.group_of)


def remembered(assignment_of: Callable[[ChartWeek], Assignment]) -> Callable[[ChartWeek], Assignment]:
    """The same assignments, with a memory that outlives a batch and is bounded."""

    @lru_cache(maxsize=64)
    def remembered_assignment_of(week: ChartWeek) -> Assignment:
        return RememberedAssignment(assignment_of(week))

    return remembered_assignment_of


def fence_settings(calendar: Calendar, slices: int) -> dict[str, str]:
    """What a session fence must agree with, so that no bucket mixes two meanings."""
    return {
        "layout": LAYOUT,
        "first_day": WEEKDAYS[calendar.first_weekday],
        "zone": str(calendar.zone),
        "slices": str(slices),
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

    def decide(batch: Batch, stream_time: datetime | None) -> Iterable[Part]:
        # Whoever moves the fence after this has the part refused, and the batch is read and looked up again.
        known = store.known_ids(batch.partition, batch.start, ids_in(batch.records, rules.topic, rules.duplicate_hours))
        return tally(batch.records, batch.start, batch.end, stream_time, rules, most_tracks, known)

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
        Beginning(
            source,
            store,
            fence_settings(rules.calendar, store.slices),
            check=lambda fence: check_experiments(rules, fence),
            accept_loss=accept_loss,
        ),
    )


def session_letters(kafka: KafkaConfig, topics: Topics) -> Letters:
    """Where late and dead session events go."""
    return Letters(kafka, topics.sessions, {"late": topics.late, "dead": topics.dead_sessions})
