"""The steps of the main job, week by week, in real processes on any addresses: what the demo shows and tests check."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from subprocess import Popen

from consumers.kafka import follow
from features.fence import accounted
from features.table import N_WEEKS
from features.weeks import ChartWeek
from hitparade import output, wiring
from hitparade.processes import child, last_lines, leash
from hitparade.settings import Settings, zone
from producers.playlists import Playlist
from producers.sessions import event_time

TRAIN_AFTER_WEEKS = 8
WEEKS_AHEAD = 3  # triggers on their way before the next week is sent
PATIENCE_S = 120
Tell = Callable[[str], None]


class DemoError(Exception):
    """A process of the demo failed, or its lists did not come."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What the demo is fed: a catalogue, and events in the order of event time."""

    tracks: Iterable[tuple[str, bytes]]
    events: Iterable[bytes]


@dataclass(slots=True)
class Outcome:
    """What came out: every playlist record in the order of publication, the tallies, and the weeks."""

    playlists: list[Playlist] = field(default_factory=list)
    tallies: dict[str, int] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    def last_lists(self) -> list[Playlist]:
        """The lists of the last week, by group."""
        week = max((playlist.week for playlist in self.playlists), default="")
        last = {playlist.group: playlist for playlist in self.playlists if playlist.week == week}
        return [last[group] for group in sorted(last)]


def steps(
    env: Mapping[str, str],
    listening: Listening,
    *,
    batch: int = 25,
    n_session_consumers: int = 1,
    train_after: int = TRAIN_AFTER_WEEKS,
    tell: Tell = lambda text: None,
    advance: output.Advance = lambda n: None,
) -> Outcome:
    """Run the whole pipeline against the addresses in `env`: topics, catalogue, then week after week.

    Every week is triggered once the next has begun, so that history grows as it would have. The neural model is trained
    when train_after weeks are closed.

    Raises:
        DemoError: a consumer ended on its own, or the lists of a week did not come.
    """
    from producers.topics import ensure_topics, topic_specs
    from producers.tracks import send_tracks

    settings = Settings.from_env(env)
    ensure_topics(settings.kafka, topic_specs(settings.topics, settings.partitions, settings.weeks_kept))
    tell("topics are there")
    consumers = [*[("consume", "sessions")] * n_session_consumers, ("consume", "tracks"), ("consume", "weekly")]
    with tempfile.TemporaryDirectory(prefix="hitparade-") as logs, _processes(consumers, env, Path(logs)) as processes:
        tell(str(send_tracks(listening.tracks, settings.kafka, settings.topics.tracks)))
        with contextlib.closing(_Pipeline(settings, processes, batch, train_after, tell, advance)) as pipeline:
            try:
                for week, lines in _by_week(settings, listening.events):
                    pipeline.send(week, lines)
                pipeline.finish()
            except DemoError as cause:
                raise DemoError(f"{cause}\n{_last_words(Path(logs))}") from cause
    return pipeline.outcome


@contextlib.contextmanager
def _processes(commands: Iterable[Sequence[str]], env: Mapping[str, str], logs: Path) -> Iterator[list[Popen[bytes]]]:
    """Run commands of our own; they are told to end, in good order, when the block does."""
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(leash())
        yield [
            stack.enter_context(
                child([sys.executable, "-m", "hitparade", *command], logs / f"{n}.log", group, env=env, patience_s=10)
            )
            for n, command in enumerate(commands)
        ]


def _last_words(logs: Path) -> str:
    return "\n".join(f"{path.name}:\n{last_lines(path)}" for path in sorted(logs.iterdir()))


def _by_week(settings: Settings, events: Iterable[bytes]) -> Iterator[tuple[ChartWeek, Iterator[bytes]]]:
    """Events in the order of event time, by chart week; one without a readable time stays with those before it."""
    calendar, event_zone = settings.calendar, zone(settings.event_time_zone)
    week: ChartWeek | None = None

    def week_of(line: bytes) -> ChartWeek:
        nonlocal week
        time_of = event_time(line, event_zone)
        if time_of is not None and (week is None or time_of >= calendar.end(week)):
            week = calendar.week_of(time_of)
        return week or calendar.week_of(datetime.now(UTC))

    return groupby(events, week_of)


class _Pipeline:
    """The weeks on their way: sent, triggered, and answered by lists."""

    def __init__(
        self,
        settings: Settings,
        processes: list[Popen[bytes]],
        batch: int,
        train_after: int,
        tell: Tell,
        advance: output.Advance,
    ) -> None:
        self.settings = settings
        self.processes = processes
        self.batch = batch
        self.train_after = train_after
        self.tell = tell
        self.advance = advance
        self.outcome = Outcome()
        self.experiments = wiring.experiments(settings)
        self.triggers = wiring.triggers(settings)
        partitions = wiring.partitions_of(settings, settings.topics.playlists)
        self.published = follow(settings.kafka, settings.topics.playlists, partitions, {})
        self.newest: ChartWeek | None = None
        self.waiting: list[ChartWeek] = []

    def send(self, week: ChartWeek, lines: Iterable[bytes]) -> None:
        """Send a week's events, then trigger the weeks that it closes."""
        from producers.sessions import send_sessions

        kept = week.span(self.settings.weeks_kept)
        if self.waiting and self.waiting[0].before(N_WEEKS - 1) < kept[0]:
            self._await_lists(at_most=0)  # these events would remove what the lists are made of
        sent = send_sessions(
            lines, self.settings.kafka, self.settings.topics.sessions, batch=self.batch, progress=self.advance
        )
        if not sent.is_complete:
            raise DemoError(str(sent))
        if self.newest in kept:  # else a silence was so long that nothing is left to make lists of
            for closed in kept[kept.index(self.newest) : -1]:
                self._close(closed)
        self.newest = week

    def _close(self, week: ChartWeek) -> None:
        self.triggers.fire(week, "schedule")
        self.waiting.append(week)
        self.outcome.closed.append(week.name)
        is_time_to_train = len(self.outcome.closed) == self.train_after
        self._await_lists(at_most=0 if is_time_to_train else WEEKS_AHEAD)
        if is_time_to_train:
            self._train(week)

    def _train(self, week: ChartWeek) -> None:
        from hitparade.learning import train_and_promote

        trained = train_and_promote(self.settings, week.name, seed=0)
        self.tell(f"neural model {trained.model.version} trained on {len(self.outcome.closed)} closed weeks")

    def _await_lists(self, at_most: int) -> None:
        """Take lists until at most so many weeks are without theirs."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.waiting) > at_most:
            record = next(self.published)
            if record is not None:
                self.outcome.playlists.append(Playlist.model_validate_json(record.value))
                self._note(self.outcome.playlists[-1])
            self._check_processes()
            if time.monotonic() > deadline:
                raise DemoError(f"no lists for the week after {self.waiting[0]} within {PATIENCE_S} s")

    def _note(self, playlist: Playlist) -> None:
        closed = self.settings.calendar.parse(playlist.closed_week)
        groups = {group.name for group in self.experiments.in_force(closed.after()).groups}
        have = {p.group for p in self.outcome.playlists if p.closed_week == playlist.closed_week}
        if groups <= have and closed in self.waiting:
            self.waiting.remove(closed)

    def _check_processes(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise DemoError(f"a consumer ended with exit code {process.returncode}: {process.args!r}")

    def finish(self) -> None:
        """Wait for the last lists and for the last, open week to be counted."""
        from consumers.kafka import end_offsets

        self._await_lists(at_most=0)
        counters = self.triggers.counters
        topic = self.settings.topics.sessions
        ends = end_offsets(self.settings.kafka, {topic: counters.partitions})[topic]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            fences = counters.store.fences(counters.partitions)
            if all(end == 0 or (p in fences and fences[p].next_offset >= end) for p, end in ends.items()):
                break
            self._check_processes()
            if time.monotonic() > deadline:
                raise DemoError(f"the last events were not counted within {PATIENCE_S} s")
            time.sleep(0.05)
        tallies = accounted([fence.tallies for fence in fences.values()])
        self.outcome.tallies = {"read": sum(tallies.values()), **tallies}

    def close(self) -> None:
        """Let go of what reads and what publishes."""
        self.published.close()
        self.triggers.publisher.close()
