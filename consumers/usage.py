"""What each listener did in a closed week, from the log: a file a week, made again only where something has moved.

    <folder>/2023-W24.parquet    the columns of models.usage.USAGE; row group i holds slice i of the users

What counts is decided as counting decides it, by the same code, as far as the fences in Redis stand: the sums over
listeners are the counters. A week of which the log has lost a part is not extracted; a file that was made of it while
the log was whole stays in use.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.beginning import Stopped
from consumers.kafka import TopicFacts, end_offsets
from consumers.log import PartitionLog, log_starts
from consumers.playlists import PlaylistLog
from consumers.recount import Recount
from consumers.sessions import check_experiments, fence_settings
from consumers.spills import MOST_USERS, Lists, UserSums, merged
from features.fence import Fence
from features.files import alone, claimed, remove_abandoned, replacing
from features.history import History
from features.reader import CounterReader, Standing
from features.rules import Rules
from features.runners import Advance, Runner, here
from features.store import CounterStore
from features.weeks import ChartWeek
from models.forgotten import marked, read_forgotten
from models.usage import USAGE
from producers.kafka import KafkaConfig

LAYOUT = "1"
STAMP = b"hitparade.stamp"
KINDS = ("plays", "skips", "likes")
NO_WEEK = ("none",)

Totals = Mapping[str, tuple[int, ...]]
"""Plays, skips and likes by group."""


class ExtractionError(Exception):
    """The log cannot be held to be what the counters were counted from; says where, and what to do."""


class _Short(Exception):
    """The log holds less of a week than was counted."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The files of the weeks asked for, by name; and a sentence for each without one, or with an older one.

    n_waiting: offsets of the log that are not counted yet; what they hold of these weeks is not in the files.
    """

    files: Mapping[str, Path]
    notes: Mapping[str, str]
    n_waiting: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What it takes to extract the use of weeks from a session topic.

    totals: what Redis, else history, has counted of a week; None where neither knows it any more.
    """

    kafka: KafkaConfig
    store: CounterStore
    rules: Rules
    topic: TopicFacts
    lists: PlaylistLog
    totals: Callable[[ChartWeek], Totals | None]
    folder: Path
    runner: Runner = here
    most_users: int = MOST_USERS
    keep_weeks: int = 26
    """Closed weeks before these get no file."""
    forgotten: Path = Path("forgotten")
    """Of whom no file is made: models.forgotten."""

    def extract(self, weeks: Sequence[ChartWeek], advance: Advance = lambda n: None) -> Extracted:
        """Make the files of those weeks that are closed and have none that still holds; advance is told of offsets.

        Raises:
            ExtractionError: Redis was not counted from this log, or by other settings.
            KafkaUnavailable, StoreUnavailable: nobody answers.
        """
        self.lists.refresh()
        standing, n_waiting = self._standing(), self._n_waiting()
        newest = standing.newest()
        oldest = newest.before(self.keep_weeks)
        closed = sorted(week for week in set(weeks) if oldest <= week < newest)
        notes = {week.name: f"week {week} is still open" for week in set(weeks) if week >= newest}
        gone = f"what listeners did is kept of {self.keep_weeks} closed weeks"
        notes |= {week.name: f"week {week}: {gone}; it is left out" for week in set(weeks) if week < oldest}
        stale = [week for week in closed if _stamp(self.path(week)) != self._stamp(week, standing)]
        if stale:
            notes |= self._make(stale, advance)
        files = {week.name: self.path(week) for week in closed if self._holds(week)}
        return Extracted(files, dict(sorted(notes.items())), n_waiting)

    def path(self, week: ChartWeek) -> Path:
        """Where the file of a week is, or will be."""
        return self.folder / f"{week}.parquet"

    def _holds(self, week: ChartWeek) -> bool:
        """Whether there is a file that means what the settings and lists mean now, whenever it was made."""
        found = _stamp(self.path(week))
        return found is not None and found.get("meaning") == self._meaning(week)

    def _make(self, weeks: Sequence[ChartWeek], advance: Advance) -> dict[str, str]:
        """Write the files of these weeks; return why not, of those that cannot be made whole."""
        totals = {week: self.totals(week) for week in weeks}  # before the cut, so that the log can only hold more
        standing = self._standing()
        starts = log_starts(self.kafka, self.store.topic, self.topic.partitions)
        spans = [_Span(p, starts[p], fence.next_offset) for p, fence in sorted(standing.fences.items())]
        n_lost = sum(min(span.start, span.end) for span in spans)
        with self._spills() as spills:
            reading = _Reading(self.kafka, self.store.topic, self.rules, self._lists(weeks), spills, self.most_users)
            work = partial(_read, reading)
            for _ in self.runner(work, [span for span in spans if span.start < span.end], advance):
                pass
            why = {w.name: self._write(w, spills, self._stamp(w, standing), totals[w], n_lost) for w in weeks}
        return {week: sentence for week, sentence in why.items() if sentence}

    @contextmanager
    def _spills(self) -> Iterator[Path]:
        """A folder for spills, which nobody finds afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        spills = self.folder / f".{uuid4().hex}.tmp"
        spills.mkdir()
        try:
            with claimed(spills):
                yield spills
        finally:
            shutil.rmtree(spills)

    def _write(
        self, week: ChartWeek, spills: Path, stamp: Mapping[str, str], counted: Totals | None, n_lost: int
    ) -> str | None:
        """Write a week's file, unless the log has less of it than was counted: then say so."""
        forgotten = read_forgotten(self.forgotten).of_week(week.name)
        schema = marked(USAGE.with_metadata({STAMP: json.dumps(stamp, sort_keys=True).encode()}), forgotten)
        sums: dict[str, list[int]] = {}
        try:
            if counted is None and not (spills / week.name).exists():
                raise _Short("nothing of it was ever counted, as far as is known")
            if counted is None and n_lost:
                raise _Short("neither Redis nor the history knows how much of it was counted")
            # Alone: whoever is forgotten meanwhile is taken out of the file once it is there.
            with alone(self.folder), replacing(self.path(week)) as temporary:
                with pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
                    for table in merged(spills, week.name, self.most_users):
                        _add(sums, table)
                        rows = forgotten.without(table)
                        writer.write_table(rows.cast(schema), row_group_size=max(1, len(rows)))
                _check_whole(sums, counted or {})
        except _Short as cause:
            lost = f"; the log has lost its first {n_lost:,} offsets" if n_lost else ""
            return f"week {week}: {cause}{lost}; {self._older(week)}"
        return None

    def _older(self, week: ChartWeek) -> str:
        """Leave a file that was made while the log was whole; one that has another meaning goes."""
        if self._holds(week):
            return "what was extracted before is used"
        self.path(week).unlink(missing_ok=True)
        return "it is left out"

    def _standing(self) -> Standing:
        """The fences, where they were counted from this topic under these rules."""
        fences = self.store.fences(self.topic.partitions)
        for partition, fence in fences.items():
            self._check(partition, fence)
        return Standing(fences, self.rules.calendar, self.rules.weeks_kept)

    def _n_waiting(self) -> int:
        """How many offsets there are that no consumer has counted."""
        ends = end_offsets(self.kafka, {self.store.topic: self.topic.partitions})[self.store.topic]
        fences = self.store.fences(self.topic.partitions)
        return sum(max(0, end - (fences[p].next_offset if p in fences else 0)) for p, end in ends.items())

    def _check(self, partition: int, fence: Fence) -> None:
        where = f"{self.store.topic} partition {partition}"
        if fence.topic_id != self.topic.topic_id:
            raise ExtractionError(
                f"{where}: Redis counts topic id {fence.topic_id}, Kafka has {self.topic.topic_id}: the topic was "
                "created anew; `hitparade audit` says more"
            )
        for name, ours in fence_settings(self.rules, self.store.slices).items():
            if fence.settings.get(name) != ours:
                raise ExtractionError(
                    f"{where} was counted with {name} {fence.settings.get(name)}, the settings have {ours}"
                )
        try:
            check_experiments(self.rules, fence)
        except Stopped as cause:
            raise ExtractionError(f"{where}: {cause}") from cause

    def _lists(self, weeks: Sequence[ChartWeek]) -> dict[str, Lists]:
        """What was listed for every group of these weeks; nothing for a group whose list was never published."""
        found: dict[str, Lists] = {}
        for week in weeks:
            groups = self.rules.assignment_of(week).group_names
            lists = {group: self.lists.latest(week.name, group) for group in groups}
            found[week.name] = {g: frozenset(e.track_id for e in one.tracks) for g, one in lists.items() if one}
        return found

    def _stamp(self, week: ChartWeek, standing: Standing) -> dict[str, str]:
        """What the file of a week is made of: what its rows mean, and how far the log was counted."""
        return {"meaning": self._meaning(week), "cut": _cut(week, standing, self.rules)}

    def _meaning(self, week: ChartWeek) -> str:
        """Changes whenever the same events would give other rows."""
        rules, assignment = self.rules, self.rules.assignment_of(week)
        lists = {group: self.lists.latest(week.name, group) for group in assignment.group_names}
        parts = {
            "layout": LAYOUT,
            "topic_id": self.topic.topic_id,
            "calendar": [rules.calendar.first_weekday, str(rules.calendar.zone)],
            "rules": [rules.weeks_kept, str(rules.event_zone), rules.future_tolerance.total_seconds()],
            "duplicate_hours": rules.duplicate_hours,
            "exposures": rules.exposures,
            "experiment": assignment.fingerprint,
            "lists": {group: one.id if one else None for group, one in lists.items()},
        }
        if rules.mapping:
            parts["mapping"] = rules.mapping.fingerprint
        if rules.plays_cap:  # else as before there was one: what was extracted stays in use
            parts["plays_cap"] = rules.plays_cap
        return json.dumps(parts, sort_keys=True)


def _cut(week: ChartWeek, standing: Standing, rules: Rules) -> str:
    """How far the log was counted when it last had something of the week; `closed` once all that comes is late."""
    fences = standing.fences
    if all(f.stream_time and week < _oldest(f, rules) for f in fences.values()):
        return "closed"
    cut: dict[str, object] = {"touched": standing.touched(week)}
    if rules.exposures:  # they touch no week in Redis
        cut["exposures"] = {p: fence.tallies.get("exposure", 0) for p, fence in fences.items()}
    return json.dumps(cut, sort_keys=True)


def _oldest(fence: Fence, rules: Rules) -> ChartWeek:
    assert fence.stream_time
    return rules.calendar.week_of(fence.stream_time).span(rules.weeks_kept)[0]


@dataclass(frozen=True, slots=True)
class _Span:
    """What there is to read of a partition."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """What it takes to read a partition, wherever that is done."""

    kafka: KafkaConfig
    topic: str
    rules: Rules
    lists: Mapping[str, Lists]
    folder: Path
    most_users: int


def _read(reading: _Reading, span: _Span, advance: Advance) -> None:
    """Decide every event of a partition again, and spill what the listeners did."""
    sums = UserSums(reading.folder, str(span.partition), reading.rules.calendar, reading.lists, reading.most_users)
    recount = Recount(reading.rules, span.start, len, NO_WEEK, sums)
    with PartitionLog(reading.kafka, reading.topic, span.partition, span.start) as log:
        for batch in log.read_to(span.end):
            recount.add(batch)
            advance(batch.end - batch.start)
    sums.spill()


def _add(sums: dict[str, list[int]], table: pa.Table) -> None:
    for group in pc.unique(table["group"]).to_pylist():
        rows = table.filter(pc.equal(table["group"], group))
        of_group = sums.setdefault(group, [0] * len(KINDS))
        for n, kind in enumerate(KINDS):
            of_group[n] += pc.sum(rows[kind]).as_py()


def _check_whole(sums: Mapping[str, Sequence[int]], counted: Totals) -> None:
    for group, expected in sorted(counted.items()):
        found = sums.get(group, [0] * len(KINDS))
        for kind, have, want in zip(KINDS, found, expected, strict=True):
            if have < want:
                raise _Short(f"the log holds {have:,} {kind} of group {group}, {want:,} were counted")


def _stamp(path: Path) -> dict[str, str] | None:
    """What a file was made of; None where there is none, or none that can be read."""
    try:
        stamp = json.loads((pq.read_schema(path).metadata or {})[STAMP])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def totals_of(reader: CounterReader, history: History, week: ChartWeek) -> Totals | None:
    """What was counted of a week: by Redis as long as it keeps it, else as history has it."""
    standing = reader.standing()
    if week in standing.kept():
        tables = list(reader.slices(week, standing))
    elif week.name in history.weeks():
        tables = list(history.rows([week.name], None, ("group", *KINDS)))
    else:
        return None
    sums: dict[str, list[int]] = {}
    for table in tables:
        _add(sums, table)
    return {group: tuple(found) for group, found in sums.items()}
