"""What decides how an event ends, other than the log itself; and the weeks and groups that events are counted under."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from features.events import KINDS, BadRecord, RawEvent, decode, elements
from features.mapping import Mapping
from features.parts import one_of
from features.weeks import Calendar, ChartWeek

MOST_USERS = 100_000  # of an experiment, of any kind; 15 MB
LEAST_BIG_ID = 1 << 20  # of a user: the smaller integers take 2 MB
MOST_OTHERS = 1000  # events of users with other ids, half a microsecond each, until none are looked up as such integers
MOST_WEEKS = 64


class Assignment(Protocol):
    """Who is in which group; fingerprint changes whenever groups, or an answer of group_of, could."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits."""

    @property
    def group_names(self) -> tuple[str, ...]:
        """Every group that somebody can be in, in an order that stays."""

    def group_of(self, user_id: str) -> str:
        """The user's group."""


class Units:
    """What one event of a user adds to its track's counts, by event type: worked out once a user, while there is room.

    A user's place is that of the group among the experiment's, from 1 on; 0 is that of who is not known yet.
    """

    def __init__(self, assignment: Assignment) -> None:
        groups = assignment.group_names
        self.group_of = assignment.group_of
        self.of_place = [{}, *({name: one_of(n, kind) for name, kind in KINDS.items()} for n in range(len(groups)))]
        self._place_of = {name: n for n, name in enumerate(groups, 1)}
        self.any: dict[str | int, int] = {}
        """Places by ids of any kind."""
        # By ids that are small integers, a byte each, so that the processor's cache holds them. Python looks for ids
        # below 0 in the second half, in which nobody has a place.
        self._small = bytearray(2 * LEAST_BIG_ID)
        self._n_others = 0
        self.places: Any = self._small if len(groups) < 256 else self.any
        """Where a user's place is looked up; who is not found there, for whatever reason, has to be learned."""

    def learn(self, user_id: str | int) -> dict[str, int]:
        """What one event adds of a user who was not found, and mostly is from now on.

        Others than small integers are not found among these: after MOST_OTHERS such events all are looked up in `any`.
        """
        units = self[user_id]
        if self.places is self._small:
            if isinstance(user_id, int) and 0 <= user_id < LEAST_BIG_ID:
                self._small[user_id] = self.any[user_id]
            else:
                self._n_others += 1
                self.places = self._small if self._n_others < MOST_OTHERS else self.any
        return units

    def __getitem__(self, user_id: str | int) -> dict[str, int]:
        """What is known, or what the experiment says; an integer is its decimal text."""
        place = self.any.get(user_id)
        if place is None:
            if len(self.any) >= MOST_USERS:
                self.any.clear()
            place = self.any[user_id] = self._place_of[self.group_of(str(user_id))]
        return self.of_place[place]


@dataclass(frozen=True, slots=True, eq=False)
class CountedWeek:
    """A chart week [start, end), and the experiment that it is counted under."""

    week: ChartWeek
    name: str
    start: datetime
    end: datetime
    fingerprint: str
    groups: tuple[str, ...]
    units: Units


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides how an event ends, other than the log itself."""

    calendar: Calendar
    assignment_of: Callable[[ChartWeek], Assignment]
    weeks_kept: int = 12
    event_zone: tzinfo = UTC
    future_tolerance: timedelta = timedelta(minutes=10)
    topic: str = ""  # that is read: whose letters may come back
    duplicate_hours: int = 0  # of stream time, for which the ids of events are remembered; 0: not at all
    exposures: bool = False  # whether who has seen a list is told of; else such events are ignored
    mapping: Mapping | None = None  # how events of others are read; None: all are of the contract
    plays_cap: int = 0  # at most so many plays of one track by one user count in a week; 0: all
    listeners: bool = False  # whether the different listeners of each track and week are estimated
    _weeks: dict[ChartWeek, CountedWeek] = field(default_factory=dict, init=False, repr=False, compare=False)
    _units: dict[str, Units] = field(default_factory=dict, init=False, repr=False, compare=False)

    def decode(self, value: bytes | None) -> list[RawEvent | BadRecord]:
        """The events of one Kafka value."""
        return self.mapping.decode(value) if self.mapping else decode(value)

    def elements(self, value: bytes) -> list[bytes]:
        """The bytes of each of them."""
        return self.mapping.elements(value) if self.mapping else elements(value)

    def week_of(self, instant: datetime) -> CountedWeek:
        """The week that holds an aware instant.

        Raises:
            OverflowError: the week is not wholly within the years 1 to 9999.
        """
        week = self.calendar.week_of(instant)
        found = self._weeks.get(week)
        if found is None:
            if len(self._weeks) >= MOST_WEEKS:
                self._weeks.clear()
            found = self._weeks[week] = self._counted(week)
        return found

    def weeks_between(self, first: datetime, last: datetime) -> Iterator[CountedWeek]:
        """The weeks from that of an instant to that of a later one.

        Raises:
            OverflowError: one of them is not wholly within the years 1 to 9999.
        """
        week, newest = self.week_of(first), self.week_of(last)
        yield week
        while week.week != newest.week:  # of one week there may be two CountedWeeks: not all are remembered
            week = self.week_of(week.end)
            yield week

    def _counted(self, week: ChartWeek) -> CountedWeek:
        calendar, assignment = self.calendar, self.assignment_of(week)
        fingerprint, groups = assignment.fingerprint, assignment.group_names
        units = self._units.setdefault(fingerprint, Units(assignment))
        return CountedWeek(week, week.name, calendar.start(week), calendar.end(week), fingerprint, groups, units)
