"""What a weekly run saw and said, kept so that any list can be explained and judged later.

<folder>/<list week>/<revision>/tracks.parquet   a row a track: its features, and each model's prediction and score
<folder>/<list week>/<revision>/<group>.json     the playlist record
"""

import contextlib
import os
import re
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from features.columns import KINDS
from features.context import CONTEXT
from features.files import claimed, remove_abandoned, to_disk
from features.table import N_WEEKS, STATIC_FEATURES, FeatureTable
from models.scoring import Scores
from producers.playlists import Playlist

TRACKS = "tracks.parquet"
NAME = re.compile(r"([0-9]{4}-W[0-9]{2})/([1-9][0-9]{0,8})/([^/\s]+)")


class RunError(Exception):
    """A run is not kept here, or cannot be read, or not be used for this; says which, and why."""


@dataclass(frozen=True, order=True, slots=True)
class RunName:
    """A group's part of a run: the week that its list is for, the run's revision, the group.

    >>> RunName.parse("2023-W25/1/control")
    RunName(week='2023-W25', revision=1, group='control')
    """

    week: str
    revision: int
    group: str

    @classmethod
    def parse(cls, text: str) -> "RunName":
        """The name as people write it.

        Raises:
            ValueError: it is not of that form.
        """
        match = NAME.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is no run: expected WEEK/REVISION/GROUP, such as 2023-W25/1/control")
        return cls(match[1], int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.week}/{self.revision}/{self.group}"


class Run:
    """A run in the making: a folder beside its week's, until it is kept under its revision."""

    def __init__(self, week_folder: Path) -> None:
        self.folder = week_folder / f".{uuid4().hex}.tmp"
        self.folder.mkdir(parents=True)
        self._open = contextlib.ExitStack()
        self._open.enter_context(claimed(self.folder))
        self._writer: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table) -> None:
        """Append the tracks of a table, as rows_of has them."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.folder / TRACKS, rows.schema, write_page_checksum=True)
        self._writer.write_table(rows)

    def keep(self, revision: int, records: Mapping[str, bytes]) -> None:
        """Give the run its place once it is on disk; what stood there, of the same revision, makes way."""
        if self._writer is not None:
            self._writer.close()
        for group, record in records.items():
            (self.folder / f"{group}.json").write_bytes(record)
        for file in self.folder.iterdir():
            to_disk(file)
        place, former = self.folder.parent / str(revision), self.folder.with_name(f".{uuid4().hex}.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.rename(place, former)
        os.rename(self.folder, place)
        shutil.rmtree(former, ignore_errors=True)

    def discard(self) -> None:
        """Let go, and remove what was not kept."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a full disk; what it could not write is removed with the rest
                self._writer.close()
        self._open.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Runs:
    """The runs of all weeks under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, week: str) -> Run:
        """Begin a run for the lists of a week; what runs that died have left is removed."""
        remove_abandoned(self._folder)
        return Run(self._folder / week)

    def tracks(self, week: str, revision: int, beginnings: tuple[str, ...] = ("",)) -> pd.DataFrame | None:
        """The tracks of a run as they were scored; None where that run is not kept here.

        Args:
            week: that its lists are for.
            revision: of the run.
            beginnings: of the names of the columns that are wanted.
        """
        path = self._folder / week / str(revision) / TRACKS
        try:
            names = [name for name in pq.read_schema(path).names if name.startswith(beginnings)]
            return pd.read_parquet(path, columns=names)
        except (OSError, pa.ArrowException):
            return None

    def latest(self, week: str, beginnings: tuple[str, ...] = ("",)) -> pd.DataFrame | None:
        """The tracks of the week's last run."""
        revision = self._last_revision(week)
        return self.tracks(week, revision, beginnings) if revision else None

    def latest_file(self, week: str) -> Path | None:
        """Where the tracks of the week's last run are; None where no run of the week is kept here."""
        revision = self._last_revision(week)
        return self._folder / week / str(revision) / TRACKS if revision else None

    def _last_revision(self, week: str) -> int:
        """0 where there is none."""
        return max((int(path.name) for path in (self._folder / week).glob("*") if path.name.isdigit()), default=0)

    def kept(self) -> list[RunName]:
        """Every group's part of every run that is kept here, by week, revision and group."""
        names = [str(path.relative_to(self._folder).with_suffix("")) for path in self._folder.glob("*/*/*.json")]
        return sorted(RunName.parse(name) for name in names if NAME.fullmatch(name))

    def record(self, run: RunName) -> Playlist:
        """The playlist record of a run that is kept.

        Raises:
            RunError: it is gone or broken, or that of another list.
        """
        file = f"{run.group}.json"
        try:
            playlist = Playlist.model_validate_json(self._path(run, file).read_bytes())
        except ValidationError as cause:
            problems = [": ".join((*map(str, error["loc"]), error["msg"])) for error in cause.errors()]
            raise _broken(run, file, f"no playlist record ({problems[0]})") from cause
        except OSError as cause:
            raise _broken(run, file, str(cause.strerror)) from cause
        if playlist.key != f"{run.week}/{run.group}":
            raise _broken(run, file, f"it is the record of {playlist.key!r}")
        return playlist

    def model(self, run: RunName, playlist: Playlist) -> str:
        """What a run calls the model that made its list.

        Raises:
            RunError: the file is gone or broken.
        """
        try:
            return model_in(pq.read_schema(self._path(run, TRACKS)).names, playlist)
        except (OSError, ValueError, pa.ArrowException) as cause:
            raise _broken(run, TRACKS, str(getattr(cause, "strerror", None) or cause)) from cause

    def columns(self, run: RunName, schema: pa.Schema) -> pd.DataFrame:
        """These columns of the tracks of a run, a row a track; nothing in them is null.

        Raises:
            RunError: the file is gone or broken, or has no such columns.
        """
        try:
            with pq.ParquetFile(self._path(run, TRACKS), page_checksum_verification=True) as file:
                missing = [name for name in schema.names if name not in file.schema_arrow.names]
                if missing:
                    raise _broken(run, TRACKS, f"it has no {', '.join(missing)}: another version has written it")
                table = file.read(schema.names, use_threads=False).cast(schema)
            table.validate(full=True)  # a text that is no UTF-8 would be an error later
            if nulls := [name for name in schema.names if table[name].null_count]:
                raise _broken(run, TRACKS, f"{', '.join(nulls)} has gaps")
            frame: pd.DataFrame = table.to_pandas()
        except (OSError, ValueError, pa.ArrowException) as cause:  # a column's name that is no UTF-8 is a ValueError
            raise _broken(run, TRACKS, str(getattr(cause, "strerror", None) or cause)) from cause
        if n_twice := int(frame.iloc[:, 0].duplicated().sum()):
            raise _broken(run, TRACKS, f"{n_twice} tracks are in it twice")
        return frame

    def _path(self, run: RunName, file: str) -> Path:
        return self._folder / run.week / str(run.revision) / file


def model_in(columns: Container[object], playlist: Playlist) -> str:
    """What a run calls the model that made a list: a version that was asked for has columns of its own."""
    pinned = f"{playlist.model}@{playlist.model_version}"
    return pinned if f"score_{pinned}" in columns else playlist.model


def _broken(run: RunName, file: str, why: str) -> RunError:
    return RunError(f"run {run} cannot be used: {file}: {why}. `hitparade compare` lists the others")


def rows_of(table: FeatureTable, predictions: Mapping[str, Scores], scores: Mapping[str, Scores]) -> pa.Table:
    """What is kept of a table: a row a track, with what each model predicts and what its list ranks by."""
    columns: dict[str, object] = {
        "track_id": pa.array(table.track_ids, pa.string()),
        "name": pa.array(table.names, pa.string()),
        "listed": table.listed,
    }
    for column, name in enumerate(STATIC_FEATURES):
        columns[name] = table.features[:, -1, column]
    for column, name in enumerate(KINDS):
        for week in range(N_WEEKS):
            columns[f"{name}_week_{week + 1}"] = table.counts[:, week, column]
    for column, name in enumerate(CONTEXT):
        columns[name] = table.context[:, column]
    for model in scores:
        columns[f"prediction_{model}"] = predictions[model]
        columns[f"score_{model}"] = scores[model]
    return pa.table(columns)
