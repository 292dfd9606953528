"""What is read from files on its way, on disk, so that no file is too large: it comes back in order.

It lies in a temporary file that nobody else sees and that is gone when it is closed, or the process ends.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self
from zlib import crc32

from producers.heard import Heard

MOST_REMEMBERED = 10_000
TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE event (time REAL, event BLOB);
CREATE TABLE track (id TEXT PRIMARY KEY, track BLOB) WITHOUT ROWID;
CREATE TABLE counts (
    week TEXT, slice INTEGER, track TEXT, grp TEXT, plays INTEGER, skips INTEGER, likes INTEGER,
    PRIMARY KEY (week, slice, track, grp)
) WITHOUT ROWID;
BEGIN;
"""

CountRow = tuple[str, str, int, int, int]


class Shelf:
    """Events come back by their time, equal ones as they came; of a track, what was put in last."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(TABLES)
        self._known: dict[str, bytes] = {}

    def put(self, heard: Heard) -> None:
        """Take an event, and its track."""
        self._db.execute("INSERT INTO event VALUES (?, ?)", (heard.event_time.timestamp(), heard.event))
        self.put_track(heard.track_id, heard.track)

    def put_track(self, track_id: str, track: bytes) -> None:
        """Take a track."""
        if self._known.get(track_id) == track:
            return
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[track_id] = track
        self._db.execute("INSERT OR REPLACE INTO track VALUES (?, ?)", (track_id, track))

    def put_counts(self, week: str, n_slices: int, row: CountRow) -> bool:
        """Take a row of history; False where there is one of its week, track and group."""
        track_id, *others = row
        values = (week, crc32(track_id.encode()) % n_slices, track_id, *others)
        return self._db.execute("INSERT OR IGNORE INTO counts VALUES (?, ?, ?, ?, ?, ?, ?)", values).rowcount > 0

    def events(self) -> Iterator[bytes]:
        """All of them in the order of time."""
        return (event for (event,) in self._db.execute("SELECT event FROM event ORDER BY time, rowid"))

    def tracks(self) -> Iterator[bytes]:
        """All of them in the order of their ids."""
        return (track for (track,) in self._db.execute("SELECT track FROM track ORDER BY id"))

    def weeks(self) -> Sequence[str]:
        """The weeks of which there are counts, oldest first."""
        return [week for (week,) in self._db.execute("SELECT DISTINCT week FROM counts ORDER BY week")]

    def counts(self, week: str, part: int) -> Iterator[CountRow]:
        """The rows of a week's slice, sorted by track and group."""
        query = "SELECT track, grp, plays, skips, likes FROM counts WHERE week = ? AND slice = ? ORDER BY track, grp"
        return iter(self._db.execute(query, (week, part)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the file."""
        self._db.close()
