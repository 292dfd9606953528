"""When a week is due: the clock that fires, and the hand that does."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from consumers.health import Health
from consumers.kafka import TopicWatch, end_offsets, read_to_end
from consumers.troubles import PASSING, REFUSED
from features.reader import CounterReader, Standing, WeekError
from features.topics import Topics
from features.weeks import ChartWeek
from producers.kafka import KafkaConfig
from producers.publisher import Publisher
from producers.spans import UNTRACED, Spans
from producers.triggers import Reason, Trigger

log = logging.getLogger(__name__)


def due_weeks(standing: Standing, triggered: Iterable[str], now: datetime | None, grace: timedelta) -> list[ChartWeek]:
    """The kept weeks that have closed and were never triggered, oldest first.

    Args:
        standing: the fences.
        triggered: names of weeks that have had their trigger.
        now: the wall clock, which must have passed a week's end and the grace; None: stream time must have.
        grace: for events that are on their way.
    """
    calendar, done = standing.calendar, set(triggered)
    closed = standing.closed() if now is None else [w for w in standing.kept() if calendar.end(w) + grace <= now]
    return [week for week in closed if week.name not in done]


def missed_weeks(standing: Standing, triggered: Iterable[str]) -> list[str]:
    """The weeks after the last trigger that have fallen out of the counters without one."""
    last, oldest = max(triggered, default=None), standing.kept()[0]
    if last is None:
        return []
    week, missed = standing.calendar.parse(last).after(), []
    while week < oldest:
        missed.append(week.name)
        week = week.after()
    return missed


@dataclass(slots=True)
class Triggers:
    """Takes cuts and publishes triggers; any number may run, since a trigger is keyed by its week."""

    kafka: KafkaConfig
    topics: Topics
    counters: CounterReader
    publisher: Publisher
    prepare: Callable[[ChartWeek], None] = lambda week: None
    """Called before weeks that are due are fired, with the oldest; it must not raise, and may take long."""
    spans: Spans = UNTRACED
    n_fired: int = 0
    clock: Callable[[], float] = time.monotonic
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        self.health = Health(self.clock())

    def closed(self, wanted: ChartWeek | None = None) -> list[ChartWeek]:
        """The closed weeks that are kept, oldest first; of these the one wanted alone.

        Raises:
            WeekError: there is none, or not that one; names those there are.
        """
        closed = self.standing().closed()
        if not closed or wanted not in (None, *closed):
            known = f"expected one of {closed[0]} to {closed[-1]}" if closed else "none is closed and counted yet"
            raise WeekError(f"week {wanted or '(the last)'} is not closed, or not kept: {known}")
        return [wanted] if wanted else closed

    def standing(self) -> Standing:
        """The fences of the session topic's partitions, which may have become more."""
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            partitions = watch.facts(self.topics.sessions).partitions
        return replace(self.counters, partitions=partitions).standing()

    def fire(self, week: ChartWeek, reason: Reason) -> Trigger:
        """Take the cut and publish the trigger of a closed week.

        Raises:
            KafkaUnavailable: the cut could not be taken.
            NotAcknowledged: the trigger may be there or not; to fire again does no harm.
        """
        topic = self.topics.triggers
        with self.spans.span("trigger", kind="producer", topic=topic, week=week.name, reason=reason):
            trigger = self._cut(week, reason)
            self.publisher.publish([trigger.message(topic).with_headers(self.spans.headers())])
        return trigger

    def _cut(self, week: ChartWeek, reason: Reason) -> Trigger:
        names = {"sessions": self.topics.sessions, "tracks": self.topics.tracks}
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            facts = {name: watch.facts(topic) for name, topic in names.items()}
        ends = end_offsets(self.kafka, {names[name]: fact.partitions for name, fact in facts.items()})
        return Trigger(
            closed_week=week.name,
            reason=reason,
            topic_ids={name: fact.topic_id for name, fact in facts.items()},
            cut={name: {str(p): end for p, end in sorted(ends[topic].items())} for name, topic in names.items()},
        )

    def triggered(self) -> set[str]:
        """The weeks that have a trigger for the session topic as it is now."""
        with contextlib.closing(TopicWatch(self.kafka)) as watch:
            partitions = watch.facts(self.topics.triggers).partitions
            topic_id = watch.facts(self.topics.sessions).topic_id
        found = set()
        for record in read_to_end(self.kafka, self.topics.triggers, partitions, {}):
            with contextlib.suppress(ValidationError):
                trigger = Trigger.model_validate_json(record.value or b"null")
                if trigger.topic_ids.get("sessions") == topic_id:
                    found.add(trigger.closed_week)
        return found

    def fire_due(self, now: datetime | None, grace: timedelta) -> list[ChartWeek]:
        """Fire every week that is due, oldest first; report those that were missed for good."""
        standing, triggered = self.standing(), self.triggered()
        if missed := missed_weeks(standing, triggered):
            log.warning("weeks %s were missed and are not kept any more: they get no list", ", ".join(missed))
        weeks = due_weeks(standing, triggered, now, grace)
        if weeks:
            self.health.may_take_long()
            self.prepare(weeks[0])
            self.health.turned(self.clock())
        for week in weeks:
            self.fire(week, "schedule")
            self.n_fired += 1
            self.health.progressed(self.clock())
            log.info("week %s has closed: triggered", week, extra={"week": week.name})
        return weeks

    def run(self, stop: threading.Event, grace: timedelta, event_time: bool, every_s: float) -> None:
        """Fire what is due, now and again, until told to stop."""
        while not stop.is_set():
            self.health.turned(self.clock())
            try:
                self.fire_due(None if event_time else datetime.now(UTC), grace)
                self.health.recovered(self.clock())
            except WeekError as cause:  # new, and not wrong
                log.debug("%s", cause)
                self.health.recovered(self.clock())
            except REFUSED:
                raise
            except PASSING as cause:
                self.health.failed(str(cause), self.clock())
            self.health.turned(self.clock())
            stop.wait(every_s)
        self.health.ended(self.clock())
