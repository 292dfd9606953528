"""The last report of each experiment, kept for who watches: <folder>/<experiment>.json."""

import logging
from pathlib import Path

from pydantic import ValidationError

from features.files import replacing
from models.reports import Report

log = logging.getLogger(__name__)


class KeptReports:
    """Written by whoever reports, read by the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, report: Report) -> None:
        """Take the place of the experiment's report before.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(self.folder / f"{report.name}.json") as temporary:
            temporary.write_text(report.model_dump_json())

    def read(self) -> list[tuple[Report, float]]:
        """Each with when it was made (Unix time), by name; one that is none is logged and left out."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append((Report.model_validate_json(path.read_bytes()), path.stat().st_mtime))
            except (OSError, ValidationError) as cause:
                log.error("%s is no report, and is left out: %s", path, cause)
        return found
