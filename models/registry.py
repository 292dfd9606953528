"""Fitted models on disk: immutable versions, and one alias a model that says which is in use.

<folder>/<model>/<version>/…     what the model's save wrote
<folder>/<model>/champion        the version in use; rollback is to promote another. A line more for each version that
                                 is in use only after a week has closed: "<version> after 2025-W13"

A version is named after its content, the last week learned from and a hash of the weights: it never changes, and what
is no longer what its name says is refused.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from features.files import claimed, remove_abandoned, replacing, to_disk
from models.artefact import check_content, learned_until, read_bytes
from models.scoring import ArtefactError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CHAMPION = "champion"
AFTER = " after "


class Registry:
    """The versions of all models under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, model: str, version: str, save: Callable[[Path], None]) -> Path:
        """Let save fill a new folder, and give it the version's name once it is whole; return it.

        A version that is already there is left as it is, and save is not called.

        Raises:
            ArtefactError: the version's name is not one of a folder.
        """
        path = self._path(model, version)
        if path.is_dir():
            return path
        remove_abandoned(path.parent)
        temporary = path.with_name(f".{version}.{uuid4().hex}.tmp")
        temporary.mkdir(parents=True)
        try:
            with claimed(temporary):
                save(temporary)
                for file in temporary.iterdir():
                    to_disk(file)
                _rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        to_disk(path.parent)
        return path

    def versions(self, model: str) -> list[str]:
        """The versions there are, in the order of their names."""
        folders = self._folder.joinpath(model).glob("*/")
        return sorted(folder.name for folder in folders if NAME.fullmatch(folder.name))

    def newest(self, model: str) -> str:
        """The version that has learned from the latest week; of several, the one published last.

        Raises:
            ArtefactError: there is none.
        """
        versions = self.versions(model)
        if not versions:
            raise ArtefactError(f"{model} has no version yet")
        published = {version: self._path(model, version).stat().st_mtime_ns for version in versions}
        return max(versions, key=lambda version: (learned_until(version), published[version], version))

    def version(self, model: str, version: str) -> Path:
        """The folder of a version.

        Raises:
            ArtefactError: there is no such version; names those there are.
        """
        versions = self.versions(model)
        if version not in versions:
            raise ArtefactError(f"{model} has no version {version!r}: expected one of {versions}")
        return self._path(model, version)

    def champion(self, model: str, closed_week: str | None = None) -> Path | None:
        """The folder of the version in use for lists after a closed week (for the latest); None where none ever was.

        Raises:
            ArtefactError: the alias names a version that is not there.
        """
        found = [version for version, after in self.in_use(model) if closed_week is None or after <= closed_week]
        return self.version(model, found[-1]) if found else None

    def in_use(self, model: str) -> list[tuple[str, str]]:
        """The versions that were put in use since one was at once, each with the week after which; for all weeks ''.

        Of those whose week has closed the last one counts.
        """
        alias = self._folder / model / CHAMPION
        if not alias.exists():
            return []
        lines = read_bytes(alias).decode(errors="replace").strip().split("\n")
        return [(version, after) for version, _, after in (line.partition(AFTER) for line in lines)]

    def promote(self, model: str, version: str, after: str | None = None) -> Path:
        """Put a version in use, at once or for lists after a closed week, and return its folder.

        At once also ends what was to come after a week.

        Raises:
            ArtefactError: there is no such version (names those there are), or its content is not what its name says.
        """
        path = self.version(model, version)
        try:
            check_content(path)
        except ArtefactError as cause:
            raise ArtefactError(f"{model} {version} is not what it was when it was published: {cause}") from cause
        earlier = [f"{v}{AFTER}{week}" if week else v for v, week in self.in_use(model)] if after else []
        line = f"{version}{AFTER}{after}" if after else version
        if earlier[-1:] != [line]:
            with replacing(path.with_name(CHAMPION)) as temporary:
                temporary.write_text("\n".join([*earlier, line]) + "\n", encoding="utf-8")
        return path

    def _path(self, model: str, version: str) -> Path:
        if not NAME.fullmatch(version) or version == CHAMPION:
            raise ArtefactError(f"{version!r} cannot name a version of {model}")
        return self._folder / model / version


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():  # else another process has published the same version meanwhile
            raise
