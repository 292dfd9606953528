"""What a weekly run saw and said, kept so that any list can be explained and judged later.

<folder>/<list week>/<revision>/tracks.parquet   a row a track: its features, and each model's prediction and score
<folder>/<list week>/<revision>/<group>.json     the playlist record
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.files import claimed, remove_abandoned, to_disk
from features.table import KINDS, N_WEEKS, STATIC_FEATURES, FeatureTable
from models.scoring import Scores

TRACKS = "tracks.parquet"


class Run:
    """A run in the making: a folder beside its week's, until it is kept under its revision."""

    def __init__(self, week_folder: Path) -> None:
        self.folder = week_folder / f".{uuid4().hex}.tmp"
        self.folder.mkdir(parents=True)
        self._open = contextlib.ExitStack()
        self._open.enter_context(claimed(self.folder))
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: FeatureTable, predictions: Mapping[str, Scores], scores: Mapping[str, Scores]) -> None:
        """Append the tracks of a table, with what each model predicts and what its list ranks by."""
        rows = pa.table(_columns(table, predictions, scores))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.folder / TRACKS, rows.schema)
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

    def tracks(self, week: str, revision: int) -> pd.DataFrame | None:
        """The tracks of a run as they were scored; None where that run is not kept here."""
        path = self._folder / week / str(revision) / TRACKS
        try:
            return pd.read_parquet(path)
        except (OSError, pa.ArrowException):
            return None

    def latest(self, week: str) -> pd.DataFrame | None:
        """The tracks of the week's last run."""
        revisions = [int(path.name) for path in (self._folder / week).glob("*") if path.name.isdigit()]
        return self.tracks(week, max(revisions)) if revisions else None


def _columns(table: FeatureTable, predictions: Mapping[str, Scores], scores: Mapping[str, Scores]) -> dict[str, object]:
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
    for model in scores:
        columns[f"prediction_{model}"] = predictions[model]
        columns[f"score_{model}"] = scores[model]
    return columns
