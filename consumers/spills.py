"""Sums by listener that need not fit in memory: so many rows at most, spilled to files, merged slice by slice.

A spill is a Parquet file of one week with a row group for each slice of users, so that one slice of all files can be
read and summed without the others.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.events import Exposure, SessionEvent
from features.parts import N_KINDS
from features.rules import CountedWeek
from features.weeks import Calendar
from models.usage import SLICES, USAGE

MOST_USERS = 100_000
"""Listeners of one week each, held as rows: about 50 MB."""
N_DAYS = 7
SUMS = USAGE.names[2:8]
DAYS = [f"day{n}" for n in range(N_DAYS)]
SPILL = pa.schema(
    [*(USAGE.field(name) for name in ("user_id", "group", *SUMS, "exposed")), *((day, pa.bool_()) for day in DAYS)]
)
NOBODY = frozenset[str]()

Lists = Mapping[str, frozenset[str]]
"""The tracks of the list that was published for a group, by group."""


def slice_of(user_id: str) -> int:
    """The slice that holds a user in every file."""
    return crc32(user_id.encode()) % SLICES


@dataclass(slots=True)
class _Row:
    """One listener in one week; sums are plays, skips and likes of all tracks, then those of listed ones."""

    group: str
    listed: frozenset[str]
    sums: list[int] = field(default_factory=lambda: [0] * (2 * N_KINDS))
    days: int = 0
    exposed: bool = False

    def cells(self, user_id: str) -> tuple[object, ...]:
        """As a spill has them."""
        return user_id, self.group, *self.sums, self.exposed, *(bool(self.days >> n & 1) for n in range(N_DAYS))


@dataclass
class UserSums:
    """What each listener did in the weeks of `lists`, told event by event; spills hold it afterwards.

    name is that of the spills of this one, in a folder that it may share with others.
    """

    folder: Path
    name: str
    calendar: Calendar
    lists: Mapping[str, Lists]
    most_users: int = MOST_USERS
    _rows: dict[str, dict[str, _Row]] = field(default_factory=dict)
    _n_rows: int = 0
    _n_spills: int = 0
    _midnights: dict[str, list[datetime]] = field(default_factory=dict)

    def counted(self, week: CountedWeek, event: SessionEvent) -> None:
        """Add an event, where its week is asked for."""
        if week.name not in self.lists:
            return
        row = self._row(week, event.user_id)
        row.sums[event.kind] += 1
        if event.track_id in row.listed:
            row.sums[N_KINDS + event.kind] += 1
        row.days |= 1 << bisect_right(self._days(week), event.event_time)

    def exposed(self, week: CountedWeek, exposure: Exposure) -> None:
        """Note who has seen their own list in its week; a list of another week or group is none that is looked at."""
        if week.name not in self.lists or exposure.week != week.name:
            return
        row = self._row(week, exposure.user_id)
        row.exposed = row.exposed or exposure.group == row.group

    def _row(self, week: CountedWeek, user_id: str) -> _Row:
        rows = self._rows.setdefault(week.name, {})
        row = rows.get(user_id)
        if row is None:
            if self._n_rows >= self.most_users:
                self.spill()
                rows = self._rows.setdefault(week.name, {})
            group = week.units.group_of(user_id)
            row = rows[user_id] = _Row(group, self.lists[week.name].get(group, NOBODY))
            self._n_rows += 1
        return row

    def _days(self, week: CountedWeek) -> list[datetime]:
        """The instants at which the days of the week begin, but for the first."""
        if week.name not in self._midnights:
            dates = [week.week.first_day + timedelta(days=n) for n in range(1, N_DAYS)]
            midnights = [datetime.combine(day, time(), self.calendar.zone) for day in dates]
            self._midnights[week.name] = [midnight.astimezone(UTC) for midnight in midnights]
        return self._midnights[week.name]

    def spill(self) -> None:
        """Write what is held, and hold nothing."""
        for week, rows in self._rows.items():
            path = self.folder / week / f"{self.name}-{self._n_spills}.parquet"
            path.parent.mkdir(exist_ok=True)
            slices: list[list[tuple[object, ...]]] = [[] for _ in range(SLICES)]
            for user_id, row in rows.items():
                slices[slice_of(user_id)].append(row.cells(user_id))
            with pq.ParquetWriter(path, SPILL) as writer:
                for cells in slices:
                    writer.write_table(_table(cells), row_group_size=max(1, len(cells)))
        self._rows, self._n_rows, self._n_spills = {}, 0, self._n_spills + 1


def _table(cells: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = zip(*cells, strict=True) if cells else ([] for _ in SPILL)
    return pa.table([pa.array(column, type_.type) for column, type_ in zip(columns, SPILL, strict=True)], SPILL)


def merged(folder: Path, week: str, most_users: int = MOST_USERS) -> Iterator[pa.Table]:
    """A week's rows of all spills together, with the columns of USAGE, a slice at a time, sorted by user.

    In memory are the users of one slice, and as many rows again as most_users.
    """
    paths = sorted((folder / week).glob("*.parquet"))
    for slice_ in range(SLICES):
        held, waiting = SPILL.empty_table(), [SPILL.empty_table()]
        for path in paths:
            waiting.append(_row_group(path, slice_))
            if sum(map(len, waiting)) > most_users:
                held, waiting = _summed([held, *waiting]), []
        yield _usage(_summed([held, *waiting]))


def _row_group(path: Path, slice_: int) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(slice_, use_threads=False)


def _summed(tables: Sequence[pa.Table]) -> pa.Table:
    """One row a user: counts added up, days and exposure where any has them."""
    flags = ["exposed", *DAYS]
    wanted = [(name, "sum") for name in SUMS] + [(name, "any") for name in flags]
    grouped = pa.concat_tables(tables).group_by(["user_id", "group"], use_threads=False).aggregate(wanted)
    columns = [grouped[name] for name in ("user_id", "group")]
    columns += [grouped[f"{name}_{how}"] for name, how in wanted]
    return pa.table(columns, SPILL)


def _usage(rows: pa.Table) -> pa.Table:
    rows = rows.sort_by("user_id")
    n_days = [pc.cast(rows[day], pa.int64()) for day in DAYS]
    active = n_days[0]
    for one in n_days[1:]:
        active = pc.add(active, one)
    return pa.table([*(rows[name] for name in USAGE.names[:8]), active, rows["exposed"]], USAGE)
