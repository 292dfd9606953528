"""A listening service with known truth: the same seed gives the same bytes, on any day and in any process."""

import json
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
from producers.catalogue import HiddenTrack, make_catalogue
from producers.chance import stream
from producers.choices import Charts, expected_plays, make_charts
from producers.climates import CLIMATES, Climate
from producers.drift import hidden_rates
from producers.listeners import Listener, make_listeners
from producers.listening import Happening, week_of_listening

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
    climate: Climate = CLIMATES["mixed"]

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
        """How many plays each track gets in a week, in the mean over chance: all that can be known before it.

        It is of the sessions that begin in the week; less than one play in a thousand comes after the week's end.

        Raises:
            ValueError: the week is not simulated.
        """
        weeks = self.chart_weeks()
        if week not in weeks:
            raise ValueError(f"week {week} is not simulated; expected {weeks[0]} to {weeks[-1]}")
        n = weeks.index(week)
        rates = expected_plays(self._listeners, self._catalogue, self._rates[n], self._charts(n))
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
        rng = stream(self.seed, "week", n)
        weekday = self.start.first_day.weekday()
        return list(week_of_listening(rng, self._listeners, weekday, self._catalogue, self._charts(n), first_session))

    def _charts(self, n: int) -> Charts:
        return make_charts(self._catalogue, self._rates[n], n)

    @cached_property
    def _catalogue(self) -> list[HiddenTrack]:
        return make_catalogue(self.seed, self.tracks, self.weeks, self.start.first_day, self.climate)

    @cached_property
    def _listeners(self) -> list[Listener]:
        return make_listeners(self.seed, self.users, self._catalogue, self.climate.loyalty)

    @cached_property
    def _rates(self) -> list[list[float]]:
        return hidden_rates(self.seed, self._catalogue, self.chart_weeks(), self.climate)


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
    """Write sessions.jsonl, tracks.jsonl and truth.jsonl (the expected plays, a line a week); return how many events.

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
