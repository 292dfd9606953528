"""Rows of history as others have it: a week, a track, and how often it was heard."""

import math
from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from features.events import BadRecord, read_id
from features.weeks import NAME, WEEKDAYS, Calendar, ChartWeek
from producers.heard import encoded_track
from producers.rows import NEEDED, Row
from producers.shelf import Shelf

ALL = "all"  # the group of those who are in none
MOST = 2**53  # what every reader of Parquet and JSON holds exactly


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes rows of weeks that have ended and are not kept yet, each week, track and group once."""

    shelf: Shelf
    calendar: Calendar
    now: datetime
    kept: Set[str]
    n_slices: int

    def take(self, row: Row) -> bool:
        """Whether the row says that anything was heard.

        Raises:
            BadRecord: naming the first of week, kept, track_id, group, plays, skips, likes and twice that does not
                hold.
        """
        week = self._week(row["week"])
        track_id = read_id(row["track_id"], "track_id")
        group = read_id(row.get("group") or ALL, "group")
        plays, skips, likes = (_count(row.get(name), name) for name in ("plays", "skips", "likes"))
        if not plays + skips + likes:
            return False
        if not self.shelf.put_counts(week, self.n_slices, (track_id, group, plays, skips, likes)):
            raise BadRecord("twice", f"track {track_id} of group {group} has a row in {week} already")
        if row.get("name"):
            self.shelf.put_track(track_id, encoded_track(track_id, str(row["name"]), str(row.get("artist") or "")))
        return True

    def _week(self, value: Any) -> str:
        week = _week_of(value, self.calendar)
        if self.calendar.end(week) > self.now:
            raise BadRecord("week", f"{week} has not ended")
        if week.name in self.kept:
            raise BadRecord("kept", f"{week} is in the history already; --replace writes it anew")
        return week.name


def _week_of(value: Any, calendar: Calendar) -> ChartWeek:
    """The week of a name, or of the day it begins with."""
    text = value.isoformat() if isinstance(value, date) else value  # a datetime is a date too
    try:
        week = calendar.parse(text) if NAME.fullmatch(text) else ChartWeek(datetime.fromisoformat(text).date())
        calendar.end(week)
    except (TypeError, ValueError, OverflowError) as cause:
        raise BadRecord("week", f"expected a week such as 2023-W24, or its first day, found {value!r}") from cause
    found, expected = WEEKDAYS[week.first_day.weekday()], WEEKDAYS[calendar.first_weekday]
    if found != expected:
        raise BadRecord("week", f"{week.first_day} is a {found}, weeks begin on a {expected} (HITPARADE_WEEK_START)")
    return week


def _count(value: Any, name: str) -> int:
    """A count; nothing is nought, but for plays."""
    if (value is None or value == "") and name not in NEEDED:
        return 0
    try:
        number = math.nan if isinstance(value, bool) else float(value)
        if not (0 <= number < MOST and number.is_integer()):
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError) as cause:
        raise BadRecord(name, f"expected a whole number from 0 on, found {value!r}") from cause
    return int(number)
