"""What decides how an event ends, other than the log itself; and the weeks and groups that events are counted under."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from features.events import BadRecord, RawEvent, decode, elements
from features.mapping import Mapping
from features.weeks import Calendar, ChartWeek

N_KINDS = 3
MOST_USERS = 100_000  # of an experiment; 15 MB
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


class Places:
    """Where the counts of a user's group begin among a track's: worked out once a user, as long as there is room."""

    def __init__(self, assignment: Assignment) -> None:
        self.known: dict[str | int, int] = {}
        """Those that have been; Python reads its own dicts a quarter faster than what is made of them."""
        self._group_of = assignment.group_of
        self._first = {name: N_KINDS * n for n, name in enumerate(assignment.group_names)}

    def __getitem__(self, user_id: str | int) -> int:
        """What is known, or what the experiment says; an integer is its decimal text."""
        place = self.known.get(user_id)
        if place is None:
            if len(self.known) >= MOST_USERS:
                self.known.clear()
            place = self.known[user_id] = self._first[self._group_of(str(user_id))]
        return place


@dataclass(frozen=True, slots=True, eq=False)
class CountedWeek:
    """A chart week [start, end), and the experiment that it is counted under."""

    week: ChartWeek
    name: str
    start: datetime
    end: datetime
    fingerprint: str
    groups: tuple[str, ...]
    places: Places


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
    _places: dict[str, Places] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        places = self._places.setdefault(fingerprint, Places(assignment))
        return CountedWeek(week, week.name, calendar.start(week), calendar.end(week), fingerprint, groups, places)
