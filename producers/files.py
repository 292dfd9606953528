"""Files of lines, plain or gzip, and one sentence for whatever is wrong with one."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SourceError(ValueError):
    """A file cannot be read; the message says which and why."""


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers from 1, without their ends; blank ones are left out.

    Raises:
        SourceError: not there, not a file, not permitted, or damaged gzip.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                if text.strip():
                    yield number, text.rstrip(b"\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as cause:
        raise SourceError(f"{path} is damaged after line {number:,}: {cause}") from cause
    except OSError as cause:
        raise SourceError(f"{path} cannot be read: {cause.strerror or cause}") from cause


def read_all_lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of several files, one after another, as one stream.

    Raises:
        SourceError: as read_lines() does.
    """
    for path in paths:
        for _, line in read_lines(path):
            yield line


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    """The bytes of a file, unpacked where they begin as gzip does, whatever its name."""
    with path.open("rb") as file:
        if file.peek(len(GZIP)).startswith(GZIP):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file
