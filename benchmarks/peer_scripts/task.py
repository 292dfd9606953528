"""What each script is told, and how it tells how far it is. Runs in the peers' environments: the standard library only.

The progress file holds two numbers of 8 bytes, little-endian: how many events are counted, and 1 once that was seen.
"""

import mmap
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

KINDS = {"play": 0, "skip": 1, "like": 2}


@dataclass(slots=True)
class Task:
    """A run: where to read how many events, under which name, and where to write."""

    kafka: str
    topic: str
    n_events: int
    name: str
    progress: Path
    dump: Path
    counted: int = 0
    _shared: mmap.mmap = field(init=False)

    def __post_init__(self) -> None:
        with self.progress.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 16)

    @classmethod
    def given(cls) -> "Task":
        """The task that the command line names."""
        kafka, topic, n_events, name, progress, dump = sys.argv[1:7]
        return cls(kafka, topic, int(n_events), name, Path(progress), Path(dump))

    def add(self, n_events: int) -> bool:
        """Tell of so many events more; True when all are counted."""
        self.counted += n_events
        struct.pack_into("<q", self._shared, 0, self.counted)
        return self.counted >= self.n_events

    def finish(self, rows: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Wait until the end was seen, then write week, track id, plays, skips and likes."""
        while not self._shared[8]:
            time.sleep(0.01)
        with self.dump.with_suffix(".part").open("w") as sink:
            sink.writelines(" ".join(map(str, row)) + "\n" for row in rows)
        self.dump.with_suffix(".part").rename(self.dump)


def week_of(timestamp: str, weeks: dict[str, str]) -> str:
    """The ISO week of a timestamp; each day is looked up once."""
    day = timestamp[:10]
    week = weeks.get(day)
    if week is None:
        from datetime import date

        year, number, _ = date.fromisoformat(day).isocalendar()
        week = weeks[day] = f"{year}-W{number:02}"
    return week
