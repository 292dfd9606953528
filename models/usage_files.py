"""The files of weekly use that an experiment's report reads: one a week, a row group a slice of the users."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.history import HistoryError
from features.weeks import Calendar, ChartWeek
from models.listeners import Slice
from models.usage import SLICES, USAGE, WEEKS, open_week


def weeks_in(folder: Path, calendar: Calendar) -> list[ChartWeek]:
    """The weeks that a folder has a file of, oldest first; other files are nothing to it."""
    found = []
    for path in folder.glob(WEEKS):
        try:
            found.append(calendar.parse(path.stem))
        except ValueError:
            continue
    return sorted(found)


@dataclass(frozen=True, slots=True)
class UsageFiles:
    """The use of some weeks, gone through slice by slice as often as one likes."""

    folder: Path
    weeks: Sequence[ChartWeek]
    before: Sequence[ChartWeek] = ()

    def __iter__(self) -> Iterator[Slice]:
        """A slice of the users after the other; all at once where a file is not parted as it should be.

        Raises:
            HistoryError: a file is broken, or of another form.
        """
        with ExitStack() as opened:
            weeks, before = (
                [opened.enter_context(self._open(week)) for week in of] for of in (self.weeks, self.before)
            )
            is_parted = all(file.num_row_groups == SLICES for file in (*weeks, *before))
            for n in range(SLICES if is_parted else 1):
                yield Slice(*([_read(file, n if is_parted else None) for file in of] for of in (weeks, before)))

    def _open(self, week: ChartWeek) -> pq.ParquetFile:
        path = self.folder / f"{week}.parquet"
        file = open_week(path)
        if missing := set(USAGE.names) - set(file.schema_arrow.names):
            raise HistoryError(f"{path} lacks {', '.join(sorted(missing))}: remove it, and it is made anew")
        return file


def _read(file: pq.ParquetFile, n: int | None) -> pa.Table:
    table = file.read(USAGE.names) if n is None else file.read_row_group(n, USAGE.names)
    return table.cast(USAGE)
