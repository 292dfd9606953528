"""The counting again, in weeks of a zone and under experiments that change: slow, and unlike the product's way."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from tests.oracle import Totals, judge, split

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rule:
    """Where weeks begin, what zone a time without one is in, and a user's group by the week's name."""

    group_of: Callable[[str, str], str]
    weeks_kept: int
    first_weekday: int = 0
    zone: tzinfo = UTC
    event_zone: tzinfo = UTC

    def recount(self, log: Sequence[Any]) -> Totals:
        """One partition's records, event by event."""
        totals, aside = Totals(), Counter[str]()
        newest: date | None = None
        for record in log:
            for index, element in enumerate([None] if record.value is None else split(record.value)):
                verdict = judge(element, self.event_zone)
                if isinstance(verdict, str):
                    aside[verdict] += 1
                    if verdict != "ignored":
                        totals.aside.append(("dead", verdict, record.offset, index, element))
                    continue
                instant, user, track, kind = verdict
                if instant.timestamp() > record.timestamp / 1000 + 600:
                    aside["future"] += 1
                    totals.aside.append(("dead", "future", record.offset, index, element))
                    continue
                first = self.first_day(instant)
                if newest is not None and first < newest - 7 * (self.weeks_kept - 1) * DAY:
                    aside["late"] += 1
                    totals.aside.append(("late", "late", record.offset, index, element))
                    continue
                newest = max(first, newest or first)
                week = name_of(first)
                totals.counts.setdefault((week, self.group_of(week, user), track), [0, 0, 0])[kind] += 1
                totals.outcomes["counted"] += 1
        oldest = name_of(newest - 7 * (self.weeks_kept - 1) * DAY) if newest else ""
        totals.counts = {at: counts for at, counts in totals.counts.items() if at[0] >= oldest}
        dead = {f"dead:{cause}": n for cause, n in aside.items() if cause not in ("late", "ignored")}
        totals.outcomes += Counter(late=aside["late"], ignored=aside["ignored"], dead=sum(dead.values())) + Counter(
            dead
        )
        return totals

    def first_day(self, instant: datetime) -> date:
        """Back from the day of the instant to the last first weekday, day by day."""
        day = instant.astimezone(self.zone).date()
        while day.weekday() != self.first_weekday:
            day -= DAY
        return day


def name_of(first_day: date) -> str:
    """The ISO week of a day."""
    return first_day.strftime("%G-W%V")
