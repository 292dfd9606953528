"""Chart weeks: seven whole days of event time in the chart's zone, named like ISO weeks."""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NAME = re.compile(r"([0-9]{4})-W([0-9]{2})")


@dataclass(frozen=True, order=True, slots=True)
class ChartWeek:
    """Seven whole days, the first included.

    >>> ChartWeek(date(2026, 12, 28)).name
    '2026-W53'
    """

    first_day: date

    @property
    def name(self) -> str:
        """The ISO week of the first day; sorts as the weeks do."""
        year, week, _ = self.first_day.isocalendar()
        return f"{year:04}-W{week:02}"

    def after(self, n_weeks: int = 1) -> "ChartWeek":
        """The week n_weeks later; a negative number goes back.

        Raises:
            OverflowError: that week would begin outside the years 1 to 9999.
        """
        return ChartWeek(self.first_day + timedelta(weeks=n_weeks))

    def before(self, n_weeks: int = 1) -> "ChartWeek":
        """The week n_weeks earlier."""
        return self.after(-n_weeks)

    def span(self, n_weeks: int) -> list["ChartWeek"]:
        """The n_weeks weeks that end with this one, oldest first; what would begin before the year 1 is left out."""
        reach = min(n_weeks - 1, (self.first_day - date.min).days // 7)
        return [self.before(n) for n in range(reach, -1, -1)]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where chart weeks begin: a first weekday (0 is Monday) and a zone."""

    first_weekday: int = 0
    zone: tzinfo = field(default=UTC)

    def week_of(self, instant: datetime) -> ChartWeek:
        """The week that holds an aware instant.

        Raises:
            OverflowError: the week is not wholly within the years 1 to 9999.
        """
        day = instant.astimezone(self.zone).date()
        week = ChartWeek(day - timedelta(days=(day.weekday() - self.first_weekday) % 7))
        # A clock set back over midnight gives a day's first minutes the date of the day before.
        return week.after() if instant >= self.end(week) else week

    def start(self, week: ChartWeek) -> datetime:
        """The first instant of the week, in UTC: midnight in the zone, or the end of the gap that swallowed it.

        Raises:
            OverflowError: that is outside the years 1 to 9999 in UTC.
        """
        # A gap that begins before midnight and ends after it would not do: tzdata has had none since Toronto's of 1919.
        return datetime.combine(week.first_day, time(), self.zone).astimezone(UTC)

    def end(self, week: ChartWeek) -> datetime:
        """The first instant after the week, in UTC; 167, 168 or 169 hours after its start where clocks change."""
        return self.start(week.after())

    def parse(self, name: str) -> ChartWeek:
        """The week of a name such as 2023-W24.

        Raises:
            ValueError: not of that form, or that year has no such week.
        """
        match = NAME.fullmatch(name)
        if not match:
            raise ValueError(f"week {name!r} is not of the form 2023-W24")
        try:
            monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
            return ChartWeek(monday + timedelta(days=self.first_weekday))
        except (ValueError, OverflowError) as cause:
            raise ValueError(f"week {name!r} does not exist: {cause}") from cause
