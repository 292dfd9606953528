"""What people see: tables and progress on a terminal, or one JSON object a line for pipes."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Advance = Callable[[int], None]
PLAIN_WIDTH = 120


def console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for every table where there is none."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, and nothing else."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False), flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns that begin with # are numbers, and stand right."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name.lstrip("#"), justify="right" if name.startswith("#") else "left")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    console().print(table)


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on standard error, where that is a terminal, while the block runs; gives the function that moves it on."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
