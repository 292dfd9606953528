"""A listening service with known truth: the same seed gives the same bytes, on any day and in any process."""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

from features.weeks import Calendar, ChartWeek
from producers.catalogue import GENRES, HiddenTrack, make_catalogue
from producers.chance import normal, stream
from producers.listeners import Happening, Listener, make_charts, make_listeners, week_of_listening

MOMENTUM, SHOCK, PULL_BACK = 0.6, 0.08, 0.04  # of a track's drift a week: kept, new, and lost of how far it has gone
SEASON = 0.15  # how far a genre swings in a year, in logarithms
HALO, HALO_WEEKS = 0.35, 3  # how much and how long a new release lifts its artist's other tracks
SHARE_OF_WHOLE_SECONDS = 0.05
LONGEST_SLEEP_S = 1.0

TimedLine = tuple[datetime, bytes]


@dataclass(frozen=True)
class Simulation:
    """So many users listening to so many tracks for so many chart weeks."""

    weeks: int
    users: int
    tracks: int
    seed: int
    start: ChartWeek
    calendar: Calendar = field(default_factory=Calendar)

    def __post_init__(self) -> None:
        for name, value in (("weeks", self.weeks), ("users", self.users), ("tracks", self.tracks)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if not 1900 <= self.start.first_day.year <= 9000:
            raise ValueError(f"start is {self.start}; expected a week of the years 1900 to 9000")

    def chart_weeks(self) -> list[ChartWeek]:
        """The simulated weeks, oldest first."""
        return [self.start.after(n) for n in range(self.weeks)]

    def catalogue(self) -> list[dict[str, Any]]:
        """Every track as the topic has it, those that come out in later weeks included."""
        return [dict(track.record) for track in self._catalogue]

    def rates(self, week: ChartWeek) -> dict[str, float]:
        """The hidden rate of every track in a week: its plays are in proportion, tastes and chance apart.

        Raises:
            ValueError: the week is not simulated.
        """
        weeks = self.chart_weeks()
        if week not in weeks:
            raise ValueError(f"week {week} is not simulated; expected {weeks[0]} to {weeks[-1]}")
        rates = self._rates[weeks.index(week)]
        return {track.record["id"]: rate for track, rate in zip(self._catalogue, rates, strict=True)}

    def events(self) -> Iterator[bytes]:
        """The lines of all weeks in the order of event time."""
        for _, line in self.timed_events():
            yield line

    def timed_events(self) -> Iterator[TimedLine]:
        """Event time and line of every event, week by week; what runs on past the last week is left out."""
        waiting: list[TimedLine] = []
        first_session = 1
        for n, week in enumerate(self.chart_weeks()):
            end = self.calendar.end(week)
            happenings = self._listen(n, first_session)
            first_session = max((h.session for h in happenings), default=first_session - 1) + 1
            waiting += _lines(happenings, self.calendar.start(week), self._catalogue, stream(self.seed, "clocks", n))
            waiting.sort(key=itemgetter(0))
            n_before_end = bisect_left(waiting, end, key=itemgetter(0))
            yield from islice(waiting, n_before_end)
            del waiting[:n_before_end]

    def _listen(self, n: int, first_session: int) -> list[Happening]:
        charts = make_charts(self._catalogue, self._rates[n])
        rng = stream(self.seed, "week", n)
        weekday = self.start.first_day.weekday()
        return list(week_of_listening(rng, self._listeners, weekday, self._catalogue, charts, first_session))

    @cached_property
    def _catalogue(self) -> list[HiddenTrack]:
        return make_catalogue(self.seed, self.tracks, self.weeks, self.start.first_day)

    @cached_property
    def _listeners(self) -> list[Listener]:
        return make_listeners(self.seed, self.users)

    @cached_property
    def _rates(self) -> list[list[float]]:
        """By week and place in the catalogue: lasting rate, drift, age, season and the artist's news."""
        rng = stream(self.seed, "drift")
        growth = [normal(rng, 0.0, SHOCK) for _ in self._catalogue]
        level = [normal(rng, 0.0, 0.3) for _ in self._catalogue]
        weeks = []
        for n, week in enumerate(self.chart_weeks()):
            growth = [MOMENTUM * speed + normal(rng, 0.0, SHOCK) for speed in growth]
            level = [(1 - PULL_BACK) * height + speed for height, speed in zip(level, growth, strict=True)]
            weeks.append(_rates_of_week(self._catalogue, level, n, week))
        return weeks


def _rates_of_week(catalogue: list[HiddenTrack], level: list[float], n: int, week: ChartWeek) -> list[float]:
    in_the_news = {t.artist for t in catalogue if t.released is not None and 0 <= n - t.released < HALO_WEEKS}
    of_year = week.first_day.isocalendar().week
    season = [SEASON * math.cos(math.tau * (of_year - genre.peak_week) / 52) for genre in GENRES]
    rates = []
    for track, height in zip(catalogue, level, strict=True):
        lift = 1 + HALO if track.artist in in_the_news else 1.0
        rates.append(track.base * math.exp(height + season[track.genre]) * track.stage(n) * lift)
    return rates


def _lines(
    happenings: list[Happening], start: datetime, catalogue: list[HiddenTrack], rng: Random
) -> Iterator[TimedLine]:
    """Happenings in the wire format; now and then a listener's clock knows no fraction of a second."""
    for second, session, user, track, event_type in happenings:
        thousandths = int(second) * 1000 if rng.random() < SHARE_OF_WHOLE_SECONDS else int(second * 1000)
        event_time = start + timedelta(milliseconds=thousandths)
        track_id = "null" if track < 0 else f'"{catalogue[track].record["id"]}"'
        line = (
            f'{{"session_id": {session}, "timestamp": "{event_time.replace(tzinfo=None).isoformat()}", '
            f'"user_id": {user}, "track_id": {track_id}, "event_type": "{event_type}"}}'
        )
        yield event_time, line.encode()


def track_lines(simulation: Simulation) -> Iterator[bytes]:
    """The catalogue as lines of JSON."""
    for record in simulation.catalogue():
        yield json.dumps(record).encode()


def write(simulation: Simulation, folder: Path, progress: Callable[[int], None] = lambda n: None) -> int:
    """Write sessions.jsonl, tracks.jsonl and truth.jsonl (the hidden rates, a line a week); return how many events.

    Progress is told of every thousand events, and of the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tracks.jsonl").write_bytes(b"".join(line + b"\n" for line in track_lines(simulation)))
    with (folder / "truth.jsonl").open("w") as truth:
        for week in simulation.chart_weeks():
            truth.write(json.dumps({"week": week.name, "rates": simulation.rates(week)}) + "\n")
    n_events = 0
    with (folder / "sessions.jsonl").open("wb") as sessions:
        lines = simulation.events()
        while part := list(islice(lines, 1000)):
            sessions.write(b"".join(line + b"\n" for line in part))
            n_events += len(part)
            progress(len(part))
    return n_events


def live(
    simulation: Simulation, now: Callable[[], datetime], sleep: Callable[[float], None], stop: Callable[[], bool]
) -> Iterator[bytes]:
    """The events of the present week from now on, and of the weeks after it, each when it is due.

    The simulation's own start is not used. It ends with the last week, or within a second of stop() being true. Send
    these one a record: an array would wait for its last event.
    """
    begun = now()
    present = replace(simulation, start=simulation.calendar.week_of(begun))
    for due, line in present.timed_events():
        if due < begun:
            continue
        while (wait := (due - now()).total_seconds()) > 0 and not stop():
            sleep(min(wait, LONGEST_SLEEP_S))
        if stop():
            return
        yield line
