"""What people see: tables and progress on a terminal, or one JSON object a line for pipes.

Rich is imported by what draws with it: a consumer starts without.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

Advance = Callable[[int], None]
WIDE = 1000  # where there is no terminal, nothing needs to be cut


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, and nothing else."""
    is_ascii = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    for row in rows:
        print(json.dumps(row, ensure_ascii=is_ascii), flush=True)


def print_done(as_json: bool, sentence: object, **facts: Any) -> None:
    """What was done: in a sentence, or as one JSON object."""
    if as_json:
        print_json([facts])
    else:
        print(sentence, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the first character of a column's name may say how it stands.

    Args:
        title: what stands above it.
        columns: # are numbers, which stand right. On a narrow terminal ~ is wrapped, … is shortened, all else is whole.
        rows: a value a column.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Names come from anywhere: markup in them would be obeyed, or fail.
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False, emoji=False)
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(
            name.lstrip("#~…"),
            justify="right" if name.startswith("#") else "left",
            no_wrap=not name.startswith(("~", "…")),
        )
    for row in rows:
        table.add_row(*(_cell(value, name.startswith("…")) for value, name in zip(row, columns, strict=True)))
    if console.measure(table, options=console.options.update(max_width=WIDE)).maximum > console.width:
        table.box, table.padding, table.pad_edge = box.SIMPLE_HEAD, (0, 0), False
    with console.capture() as drawn:  # rich itself would end the process where the reader of a pipe has left
        console.print(table)
    print(drawn.get(), end="")


def _cell(value: object, may_be_shortened: bool) -> "Text":
    from rich.text import Text

    text = printable(f"{value:,}" if isinstance(value, int) else str(value))
    return Text(text, no_wrap=may_be_shortened or None, overflow="ellipsis" if may_be_shortened else None)


def printable(text: str) -> str:
    """The text without characters that would move a terminal's cursor or change its colours."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on standard error, where that is a terminal, while the block runs; gives the function that moves it on."""
    if not sys.stderr.isatty():
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    above = sys.stdout.isatty()  # what is printed meanwhile stands above the bar; into a file or pipe it goes there
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=above) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
