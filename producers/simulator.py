"""A listening service with known truth: the same seed gives the same bytes, on any day and in any process."""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter
from pathlib import Path
from random import Random

from features.files import replacing
from features.weeks import ChartWeek
from producers.catalogue import HiddenTrack
from producers.chance import stream
from producers.damage import TimedLine, bots_listening, in_transit
from producers.listeners import FIRST_USER
from producers.listening import Happening, week_of_listening
from producers.truth import lists, write_truth
from producers.world import World

SHARE_OF_WHOLE_SECONDS = 0.05
LONGEST_SLEEP_S = 1.0


class Simulation(World):
    """The events of a world, week by week."""

    def events(self) -> Iterator[bytes]:
        """The lines of all weeks in the order of event time."""
        for _, line in self.timed_events():
            yield line

    def timed_events(self) -> Iterator[TimedLine]:
        """When every event arrives, and its line; what happens after the last week is left out.

        Unless some are late or come twice, they arrive when they happen.
        """
        lines = self._lines_in_event_time()
        if not self.damage.is_in_transit:
            return lines
        return in_transit(lines, self.damage, stream(self.seed, "transit"))

    def _lines_in_event_time(self) -> Iterator[TimedLine]:
        waiting: list[TimedLine] = []
        for n, (week, happenings) in enumerate(self.happenings()):
            end = self.calendar.end(week)
            waiting += _lines(happenings, self.calendar.start(week), self.hidden_tracks, stream(self.seed, "clocks", n))
            waiting.sort(key=itemgetter(0))
            n_before_end = bisect_left(waiting, end, key=itemgetter(0))
            yield from islice(waiting, n_before_end)
            del waiting[:n_before_end]

    def happenings(self) -> Iterator[tuple[ChartWeek, list[Happening]]]:
        """By week what happens in the sessions that begin in it, and is not lost; not in the order of time."""
        first_session = 1
        for n, week in enumerate(self.chart_weeks()):
            happenings = self._listen(n, week, first_session)
            first_session = max((h.session for h in happenings), default=first_session - 1) + 1
            yield week, self._kept(week, happenings)

    def _listen(self, n: int, week: ChartWeek, first_session: int) -> list[Happening]:
        rng, charts = stream(self.seed, "week", n), self.charts(n)
        weekday = self.start.first_day.weekday()
        found = list(
            week_of_listening(
                rng, self.listeners, weekday, self.hidden_tracks, charts, first_session, self.responses(week)
            )
        )
        if self.damage.bots:
            first_session = max((h.session for h in found), default=first_session - 1) + 1
            playable = [place for tracks in self.charts(0).tracks for place in tracks]
            found += bots_listening(self.seed, self.bots, self.hidden_tracks, playable, first_session)
        return found

    def _kept(self, week: ChartWeek, happenings: list[Happening]) -> list[Happening]:
        """Without what is lost; a bot is as likely to be lost as a listener."""
        experiment = self.experiment(week)
        if not self.damage.lost or self.damage.lost_group not in experiment.group_names:
            return happenings
        users = (*range(FIRST_USER, FIRST_USER + self.users), *self.bots)
        lost = {user for user in users if self.damage.loses(self.seed, user, experiment.group_of(str(user)))}
        return [happening for happening in happenings if happening.user not in lost]


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

    Where there is an effect, damage or skew, also experiment.json, what is true of it, and lists.jsonl, the lists.
    Progress is told of every thousand events, and of the rest. Interrupted, it leaves the folder's files as they were:
    sessions with the tracks of another seed would be believed.
    """
    with ExitStack() as files:

        def file(name: str) -> Path:
            return files.enter_context(replacing(folder / name))

        file("tracks.jsonl").write_bytes(b"".join(line + b"\n" for line in track_lines(simulation)))
        with file("truth.jsonl").open("w") as truth:
            for week in simulation.chart_weeks():
                truth.write(json.dumps({"week": week.name, "rates": simulation.rates(week)}) + "\n")
        if not simulation.is_plain:
            write_truth(simulation, file("experiment.json"))
            file("lists.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lists(simulation)))
        return _write_events(simulation, file("sessions.jsonl"), progress)


def _write_events(simulation: Simulation, file: Path, progress: Callable[[int], None]) -> int:
    n_events = 0
    with file.open("wb") as sessions:
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
