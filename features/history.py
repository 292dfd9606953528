"""What was counted, kept for models to learn from: one Parquet file a closed week, and the catalogue.

    <folder>/weeks/2023-W24.parquet    week, track_id, group, plays, skips, likes
    <folder>/catalogue.parquet         id, name, id_artist, release_date, the audio features

One row group is one slice: a track is in slice CRC-32(id) mod n_slices of every file, so that slice i of them all holds
whole tracks. A file that a change of the slices left behind is read whole and sifted.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.columns import COUNTS, KINDS, TRACKS, tracks_table
from features.counts import ROWS_AT_ONCE, Counts, Part, summed
from features.files import remove_abandoned, replacing
from features.weeks import NAME

log = logging.getLogger(__name__)

CountRow = tuple[str, str, int, int, int]
"""track id, group, plays, skips, likes"""

WEEK = COUNTS.insert(0, pa.field("week", pa.string()))
COUNTED = ("track_id", *KINDS)
STAMP = b"hitparade.stamp"


class HistoryError(Exception):
    """A file of the history cannot be read; says which, and what to do."""


class History:
    """The closed weeks under one folder; a week that has no file is missing, which is not the same as no plays."""

    def __init__(self, folder: Path) -> None:
        self._weeks = folder / "weeks"
        self._catalogue = folder / "catalogue.parquet"

    def weeks(self) -> list[str]:
        """The names of the weeks there are, oldest first."""
        return sorted(path.stem for path in self._weeks.glob("*.parquet") if NAME.fullmatch(path.stem))

    def stamp(self, name: str) -> dict[str, str] | None:
        """What was given with the week's counts; None where there is no file, or none that can be read."""
        return _stamp(self._path(name))

    def catalogue_stamp(self) -> dict[str, str] | None:
        """What was given with the catalogue; None where there is no file, or none that can be read."""
        return _stamp(self._catalogue)

    def remove_broken(self, names: Iterable[str]) -> None:
        """Remove the files of these weeks, and the catalogue's, that cannot be read to their end: write them anew."""
        for path in (self._catalogue, *map(self._path, names)):
            if path.exists() and not _is_whole(path):
                of = {} if path == self._catalogue else {"week": path.stem}
                log.error("history file %s is broken; it is written anew", path, extra=of)
                path.unlink(missing_ok=True)

    def write_week(self, name: str, slices: Iterable[pa.Table], stamp: Mapping[str, str]) -> None:
        """Replace a week as a whole; the slices come in their order, each a row group, with the columns of COUNTS."""
        tables = (counts.add_column(0, WEEK.field(0), pa.repeat(name, len(counts))) for counts in slices)
        _write(self._path(name), WEEK, tables, stamp)

    def write_catalogue(self, slices: Iterable[Sequence[str]], stamp: Mapping[str, str]) -> None:
        """Replace the catalogue as a whole; the slices come in their order, each a row group, each track its JSON."""
        _write(self._catalogue, TRACKS, map(tracks_table, slices), stamp)

    def read(self, names: Sequence[str], slices: Part = None, kinds: Sequence[str] = KINDS) -> pd.DataFrame:
        """The rows of these weeks, sorted by week, track id and group; a week without a file has none.

        Args:
            names: week names, in any order.
            slices: which slices to read, of n_slices(); all of them where not given.
            kinds: which of plays, skips and likes to read.

        Raises:
            HistoryError: a file is broken.
        """
        order, columns = [("track_id", "ascending"), ("group", "ascending")], ("week", "track_id", "group", *kinds)
        weeks = self.rows(sorted(set(names)), slices, columns)
        return _frame(pa.concat_tables([_schema(columns).empty_table(), *(rows.sort_by(order) for rows in weeks)]))

    def counts(self, names: Sequence[str], slices: Part = None, kinds: Sequence[str] = KINDS) -> Counts:
        """The counts of these weeks by track, of all groups together; arguments and errors are those of read."""
        return summed(names, self.rows(names, slices, ("track_id", *kinds)))

    def rows(self, names: Sequence[str], slices: Part = None, columns: Sequence[str] = COUNTED) -> Iterator[pa.Table]:
        """The rows of one week after the other, in any order; else as read has it."""
        schema, n_slices = _schema(columns), self.n_slices() if slices is not None else 0
        for path in map(self._path, names):
            yield _read(path, schema, slices, n_slices) if path.exists() else schema.empty_table()

    def tracks(self, slices: Part = None) -> pa.Table:
        """The catalogue, sorted by id, with the columns of TRACKS; no row where there is none yet.

        Raises:
            HistoryError: the file is broken.
        """
        if not self._catalogue.exists():
            return TRACKS.empty_table()
        n_slices = self.n_slices() if slices is not None else 0
        return _read(self._catalogue, TRACKS, slices, n_slices).sort_by("id")

    def catalogue(self, slices: Part = None) -> pd.DataFrame:
        """The same as a frame."""
        return _frame(self.tracks(slices))

    def parts(self, names: Sequence[str], rows_at_once: int = ROWS_AT_ONCE) -> list[Part]:
        """The slices in parts that hold about rows_at_once rows of the catalogue and of these weeks together.

        None is all of them: the slices of other files need not be the catalogue's then.

        Raises:
            HistoryError: a file is broken.
        """
        n_slices = self.n_slices()
        step = max(1, n_slices * rows_at_once // max(1, self.n_rows(names)))
        if step >= n_slices:
            return [None]
        return [range(first, min(first + step, n_slices)) for first in range(0, n_slices, step)]

    def n_slices(self) -> int:
        """How many slices the catalogue has (else the newest week, else 1).

        Raises:
            HistoryError: that file is broken.
        """
        files = [path for path in (self._catalogue, *map(self._path, self.weeks()[-1:])) if path.exists()]
        return max(1, _metadata(files[0]).num_row_groups) if files else 1

    def n_rows(self, names: Sequence[str]) -> int:
        """The rows of the catalogue and of these weeks together: at most so many tracks are in them.

        Raises:
            HistoryError: a file is broken.
        """
        files = [self._catalogue, *map(self._path, set(names))]
        return sum(_metadata(path).num_rows for path in files if path.exists())

    def _path(self, name: str) -> Path:
        return self._weeks / f"{name}.parquet"


def counts_of(rows: Iterable[CountRow]) -> pa.Table:
    """Rows as write_week takes them."""
    columns = list(zip(*rows, strict=True)) or [()] * len(COUNTS)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, COUNTS, strict=True)], COUNTS)


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([WEEK.field(name) for name in columns])


def _write(path: Path, schema: pa.Schema, slices: Iterable[pa.Table], stamp: Mapping[str, str]) -> None:
    stamped = schema.with_metadata({STAMP: json.dumps(dict(stamp), sort_keys=True).encode()})
    remove_abandoned(path.parent)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, stamped, write_page_checksum=True) as writer:
        for table in slices:
            # Without a size, Arrow cuts a slice of more than 1,048,576 rows in two.
            writer.write_table(table.cast(stamped), row_group_size=max(1, table.num_rows))


def _stamp(path: Path) -> dict[str, str] | None:
    try:
        stamp = json.loads((pq.read_schema(path).metadata or {})[STAMP])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def _is_whole(path: Path) -> bool:
    """Whether every page of the file can be read and has its checksum."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for row_group in range(file.num_row_groups):
                file.read_row_group(row_group, use_threads=False)
    except (OSError, pa.ArrowException):
        return False
    return True


def _metadata(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as cause:
        raise _broken(path, cause) from cause


def _read(path: Path, schema: pa.Schema, slices: Part, n_slices: int) -> pa.Table:
    """The columns of schema; of a file with another number of slices than n_slices, those rows that belong."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not set(schema.names) <= set(file.schema_arrow.names):
                raise HistoryError(f"{path}: expected the columns {schema.names}, found {file.schema_arrow.names}")
            if slices is None:
                return file.read(schema.names, use_threads=False).cast(schema)
            if file.num_row_groups == n_slices:
                return file.read_row_groups(slices, schema.names, use_threads=False).cast(schema)
            return _sifted(file.read(schema.names, use_threads=False).cast(schema), set(slices), n_slices)
    except (OSError, pa.ArrowException) as cause:
        raise _broken(path, cause) from cause


def _sifted(table: pa.Table, slices: set[int], n_slices: int) -> pa.Table:
    ids = table.column("track_id" if "track_id" in table.column_names else "id").to_pylist()
    return table.filter(pa.array([crc32(track_id.encode()) % n_slices in slices for track_id in ids], pa.bool_()))


def _broken(path: Path, cause: Exception) -> HistoryError:
    return HistoryError(
        f"history file {path} cannot be read ({cause}): delete it; it is written anew while its week is still counted"
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
