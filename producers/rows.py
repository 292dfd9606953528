"""Rows of CSV and Parquet, under our names of their columns, one after another."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from producers.files import STANDARD_INPUT, SourceError, read_lines

PARQUET = b"PAR1"
NEEDED = ("week", "track_id", "plays")
COLUMNS = {
    "week": ("week",),
    "track_id": ("track_id", "track"),
    "plays": ("plays", "streams"),
    "skips": ("skips",),
    "likes": ("likes",),
    "group": ("group",),
    "name": ("name",),
    "artist": ("artist",),
}
"""Ours, and what each may be called, in any case; the first that is there counts."""
ROWS_AT_ONCE = 10_000

Row = Mapping[str, Any]


def read_rows(path: Path, names: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    """The rows of a file, with the numbers of their lines (of Parquet: of the rows, from 1).

    Args:
        path: CSV with a header, parted by commas, semicolons or tabs, packed as read_lines() takes it; or Parquet.
        names: what our columns are called there, where it is not one of COLUMNS.

    Raises:
        SourceError: it cannot be read, or lacks a column.
    """
    yield from (_parquet_rows if _is_parquet(path) else _csv_rows)(path, names)


def _is_parquet(path: Path) -> bool:
    if path == STANDARD_INPUT:
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError as cause:
        raise SourceError(f"{path} cannot be read: {cause.strerror or cause}") from cause


def _csv_rows(path: Path, names: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    number = 0

    def text() -> Iterator[str]:
        nonlocal number
        for number, line in read_lines(path):  # noqa: B007  # the reader takes lines as it needs them
            yield line.decode(errors="surrogateescape") + "\n"

    lines = text()
    header = next(lines, "")
    delimiter = max(",;\t", key=header.count)
    try:
        columns = _columns(path, next(csv.reader([header], delimiter=delimiter), []), names)
        for row in csv.reader(lines, delimiter=delimiter):
            yield number, {ours: row[place] if place < len(row) else None for ours, place in columns.items()}
    except csv.Error as cause:
        raise SourceError(f"{path} line {number:,} is no CSV: {cause}") from cause


def _parquet_rows(path: Path, names: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    n_read = 0
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            columns = {ours: found[place] for ours, place in _columns(path, found, names).items()}
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns.values()), use_threads=False):
                values = [batch.column(name).to_pylist() for name in columns.values()]
                for number, row in enumerate(zip(*values, strict=True), n_read + 1):
                    yield number, dict(zip(columns, row, strict=True))
                n_read += batch.num_rows
    except (OSError, pa.ArrowException, UnicodeDecodeError) as cause:
        raise SourceError(f"{path} cannot be read after row {n_read:,}: {cause}") from cause


def _columns(path: Path, found: Sequence[str], names: Mapping[str, str]) -> dict[str, int]:
    """The place of each of our columns that is there."""
    places = {name.strip().lower(): place for place, name in reversed(list(enumerate(found)))}
    wanted = {**COLUMNS, **{ours: (theirs.strip(),) for ours, theirs in names.items()}}
    columns: dict[str, int] = {}
    for ours, theirs in wanted.items():
        there = [places[name.lower()] for name in theirs if name.lower() in places]
        if there:
            columns[ours] = there[0]
        elif ours in NEEDED or ours in names:
            raise SourceError(
                f"{path}: expected a column {' or '.join(theirs)}, found {', '.join(found) or 'none'}; "
                f"--column {ours}=NAME says what it is called"
            )
    return columns
