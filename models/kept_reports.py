"""The last report of each experiment, kept for who watches: <folder>/<experiment>.json."""

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from features.files import replacing
from models.experiments import Experiment
from models.reports import Report

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int]
"""When a file was changed, its size, and which it is: another where it was replaced."""


class KeptReports:
    """Written by whoever reports, read by the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[Stamp, Report | None]] = {}

    def keep(self, report: Report) -> None:
        """Take the place of the experiment's report before.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(self.folder / f"{report.name}.json") as temporary:
            temporary.write_text(report.model_dump_json())

    def read(self) -> list[tuple[Report, float]]:
        """Each with when it was made (Unix time), by name; one that is none is logged and left out."""
        return [found for path in sorted(self.folder.glob("*.json")) for found in _read(path)]

    def of(self, experiment: Experiment) -> Report | None:
        """The experiment's, read once a change; None where there is none, or it is of other groups than it has now."""
        path = self.folder / f"{experiment.name}.json"
        try:
            found = path.stat()
        except OSError:
            return None
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        known = self._known.get(experiment.name)
        if known is None or known[0] != stamp:
            self._known[experiment.name] = known = stamp, next((report for report, _ in _read(path)), None)
        report = known[1]
        return report if report and sorted(report.users) == list(experiment.group_names) else None


def _read(path: Path) -> Iterator[tuple[Report, float]]:
    """With when it was made; nothing where it is none, which is logged."""
    try:
        yield Report.model_validate_json(path.read_bytes()), path.stat().st_mtime
    except (OSError, ValidationError) as cause:
        log.error("%s is no report, and is left out: %s", path, cause)
