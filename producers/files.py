"""Files of lines, plain, packed by gzip or xz, or in a tar archive; and one sentence for whatever is wrong with one."""

import gzip
import io
import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STANDARD_INPUT = Path("-")
GZIP, XZ, ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
TAR_AT, TAR = 257, b"ustar"
IN_ARCHIVES = (".listens", ".jsonl", ".json", ".tsv", ".csv")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


class SourceError(ValueError):
    """A file cannot be read; the message says which and why."""


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers from 1, without their ends; blank ones are left out.

    `-` is standard input. Of an archive, those of its files whose names say that they hold lines, as one.

    Raises:
        SourceError: not there, not a file, not permitted, damaged, or packed by something else.
    """
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, start=1):
                text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                if text.strip():
                    yield number, text.rstrip(b"\r\n")
    except DAMAGE as cause:
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
    """The lines of a file, unpacked where it begins as something packed does, whatever its name."""
    if path == STANDARD_INPUT:
        yield _unpacked(path, sys.stdin.buffer)  # type: ignore[arg-type]  # which it is, unless replaced
        return
    with path.open("rb") as file:
        yield _unpacked(path, file)


def _unpacked(path: Path, file: io.BufferedReader) -> Iterable[bytes]:
    start = file.peek(TAR_AT + len(TAR))
    if start.startswith(ZSTD):
        raise SourceError(f"{path} is packed by zstd: `zstd -dc {path} | hitparade … -` reads it")
    if start.startswith(GZIP):
        return _unpacked(path, io.BufferedReader(gzip.GzipFile(fileobj=file)))
    if start.startswith(XZ):
        return _unpacked(path, io.BufferedReader(lzma.LZMAFile(file)))
    return _archived(file) if start[TAR_AT:].startswith(TAR) else file


def _archived(file: io.BufferedReader) -> Iterator[bytes]:
    """The lines of an archive's files; one that ends without a line's end does not run into the next."""
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(IN_ARCHIVES):
                lines = archive.extractfile(member)
                assert lines, "a regular file has content"
                yield from lines
