"""Which history a command looks at: the product's own, or one made of files for as long as it is needed."""

import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from features.history import History
from hitparade import wiring
from hitparade.settings import Settings, zone
from producers.files import SourceError


@contextmanager
def chosen(
    settings: Settings,
    *,
    folder: Path | None = None,
    weekly: Path | None = None,
    sessions: Sequence[Path] | None = None,
    tracks: Path | None = None,
) -> Iterator[History]:
    """The history in a folder, of charts or of session files; the data folder's own where none is named.

    Raises:
        SourceError: a session file cannot be read, or holds nothing that counts.
        ChartsError: a chart file cannot be read, or holds what no chart can.
    """
    if folder:
        yield History(folder)
    elif weekly and tracks:
        from models.charts import history_from_charts

        with tempfile.TemporaryDirectory(prefix="hitparade-") as temporary:
            yield history_from_charts(weekly, tracks, Path(temporary))
    elif sessions:
        with tempfile.TemporaryDirectory(prefix="hitparade-") as temporary:
            yield _counted(settings, sessions, tracks, Path(temporary))
    else:
        yield wiring.history(settings)


def _counted(settings: Settings, sessions: Sequence[Path], tracks: Path | None, folder: Path) -> History:
    from models.recount import history_from_sessions

    try:
        history = history_from_sessions(sessions, tracks, settings.calendar, folder, zone(settings.event_time_zone))
    except (OSError, EOFError, zlib.error) as cause:
        raise SourceError(_damage(cause, [*sessions, tracks])) from cause
    if not history.weeks():
        raise SourceError(f"no event that counts in {', '.join(map(str, sessions))}")
    return history


def _damage(cause: Exception, files: Iterable[Path | None]) -> str:
    """Which file, and why; what is damaged in the middle does not say its name."""
    found = getattr(cause, "filename", None) or " or ".join(str(file) for file in files if file)
    return f"{found} cannot be read: {getattr(cause, 'strerror', None) or cause}"
