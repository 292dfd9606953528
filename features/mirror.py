"""A copy of the data folder in object storage, by which machines share history, runs and models.

The folder stays what everybody reads and writes; what is new or has changed is copied, file by file and whole. What was
last seen of each file on both sides is kept in `.mirror.json`, so that no two clocks are ever compared.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from features.files import replacing

log = logging.getLogger(__name__)
KNOWN = ".mirror.json"
MOST_OF_A_NAME = 100  # bytes
Stamp = tuple[int, int]
"""Size in bytes, and when it was last changed, in ns by the clock of its side."""


class MirrorError(OSError):
    """Object storage cannot be used now; says which address, and why."""


class Mirror:
    """A folder and its copy at s3://, gs://, abfs:// or file://, as pyarrow.fs.FileSystem.from_uri reads them."""

    def __init__(self, folder: Path, url: str, shown: str) -> None:
        self.folder = folder
        self._shown = shown
        self._lock = threading.Lock()
        try:
            self._there, self._root = FileSystem.from_uri(url)
        except (OSError, ValueError) as cause:
            raise self._error(cause) from cause

    def fetch(self) -> list[str]:
        """Bring what is new there, or has changed since it was last seen; return its names.

        Where a file has changed on both sides, theirs counts.

        Raises:
            MirrorError: it does not answer.
        """
        with self._lock:
            known, found = self._known(), []
            for name, there in sorted(self._all_there().items()):
                here = self.folder / name
                if here.exists() and known.get(name, (None, None))[1] == there and not self._may_differ(name, here):
                    continue
                self._fetch(name, here)
                known[name] = _stamp(here), there
                found.append(name)
            self._remember(known, found)
            return found

    def send(self) -> list[str]:
        """Take there what is new here, or has changed since it was last seen; return its names.

        Large files go first: what names them, such as a model in use, is small.

        Raises:
            MirrorError: it does not answer.
        """
        with self._lock:
            known, sent = self._known(), []
            for here in sorted(self._all_here(), key=lambda path: (-path.stat().st_size, path)):
                name, stamp = here.relative_to(self.folder).as_posix(), _stamp(here)
                if known.get(name, (None, None))[0] == stamp:
                    continue
                known[name] = stamp, self._send(name, here)
                sent.append(name)
            self._remember(known, sent)
            return sent

    def remove(self, names: Sequence[str]) -> None:
        """Remove files there and here, in this order: what is only here is not sent again, and can be removed again.

        Other machines keep theirs until they remove them too.

        Raises:
            MirrorError: it does not answer.
        """
        with self._lock:
            known = self._known()
            for name in names:
                try:
                    if self._there.get_file_info(self._path(name)).type == FileType.File:
                        self._there.delete_file(self._path(name))
                except OSError as cause:
                    raise self._error(cause) from cause
                (self.folder / name).unlink(missing_ok=True)
                known.pop(name, None)
            self._remember(known, list(names))

    def _all_here(self) -> Iterator[Path]:
        for path in self.folder.rglob("*"):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(self.folder).parts):
                yield path

    def _all_there(self) -> dict[str, Stamp]:
        wanted = FileSelector(self._root, allow_not_found=True, recursive=True)
        try:
            found = self._there.get_file_info(wanted)
        except OSError as cause:
            raise self._error(cause) from cause
        return {
            name: _stamp_there(one)
            for one in found
            if one.type == FileType.File and _is_ours(name := one.path.removeprefix(self._path("")))
        }

    def _may_differ(self, name: str, here: Path) -> bool:
        """Whether a file that looks the same is another: a name is as long as the next, and stores count in seconds."""
        if here.stat().st_size > MOST_OF_A_NAME:
            return False
        try:
            with self._there.open_input_file(self._path(name)) as there:
                return bool(there.read() != here.read_bytes())
        except OSError as cause:
            raise self._error(cause) from cause

    def _fetch(self, name: str, here: Path) -> None:
        with replacing(here) as temporary:
            try:
                copy_files(self._path(name), str(temporary), self._there, LocalFileSystem())
            except OSError as cause:
                raise self._error(cause) from cause

    def _send(self, name: str, here: Path) -> Stamp:
        try:
            if isinstance(self._there, LocalFileSystem):  # others have no folders
                self._there.create_dir(self._path(name).rpartition("/")[0], recursive=True)
            copy_files(str(here), self._path(name), LocalFileSystem(), self._there)
            return _stamp_there(self._there.get_file_info(self._path(name)))
        except OSError as cause:
            raise self._error(cause) from cause

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _known(self) -> dict[str, tuple[Stamp, Stamp]]:
        """What was last seen of each file, here and there; nothing where the file that says so is missing or broken."""
        try:
            return msgspec.json.decode((self.folder / KNOWN).read_bytes(), type=dict[str, tuple[Stamp, Stamp]])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _remember(self, known: dict[str, tuple[Stamp, Stamp]], changed: list[str]) -> None:
        if changed:
            with replacing(self.folder / KNOWN) as temporary:
                temporary.write_bytes(msgspec.json.encode(known))

    def _error(self, cause: Exception) -> MirrorError:
        return MirrorError(f"{self._shown} cannot be used: {cause}")


def _is_ours(name: str) -> bool:
    """Whether it may be a name in the folder: whoever writes there must not write elsewhere here."""
    parts = name.split("/")
    return all(part and not part.startswith(".") for part in parts)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _stamp_there(found: FileInfo) -> Stamp:
    return found.size or 0, found.mtime_ns or 0
