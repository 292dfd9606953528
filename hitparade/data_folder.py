"""The data folder as commands find and leave it: shared by object storage, with no more of listeners than may be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hitparade.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.mirror import Mirror

log = logging.getLogger(__name__)


def ready(settings: Settings) -> Path:
    """The data folder, with what is new in object storage, where that is set; without what listeners must not be in.

    Raises:
        MirrorError: it does not answer.
    """
    if settings.data_url:
        _mirror(settings).fetch()
    try:
        _tend(settings)
    except OSError as cause:  # a service may only read it, and who may write to it comes by each week
        log.warning("what is kept of listeners in %s stays as it is: %s", usage(settings), cause)
    return settings.data_dir


def _tend(settings: Settings) -> None:
    """Take out of what is kept of listeners who is forgotten, and remove what is old."""
    if not usage(settings).is_dir():
        return
    from features.history import History
    from models.forgotten import cleanse, expired

    kept, out = usage(settings), forgotten(settings)
    cleanse(kept, out)
    if weeks := History(settings.data_dir / "history").weeks():
        oldest = settings.calendar.parse(weeks[-1]).span(settings.usage_weeks)[0]
        _remove(settings, expired(kept, out, oldest.name))


def send(settings: Settings) -> None:
    """Take what is new in the data folder to object storage, where that is set, but nobody who is forgotten.

    Raises:
        MirrorError: it does not answer.
    """
    _tend(settings)
    if settings.data_url:
        _mirror(settings).send()


def _remove(settings: Settings, paths: Sequence[Path]) -> None:
    """Remove files of the data folder, in object storage too, where that is set."""
    if settings.data_url and paths:
        _mirror(settings).remove([path.relative_to(settings.data_dir).as_posix() for path in paths])
    for path in paths:
        path.unlink(missing_ok=True)


def usage(settings: Settings) -> Path:
    """Where the files of weekly use are: what each listener did."""
    return settings.data_dir / "experiments"


def forgotten(settings: Settings) -> Path:
    """Where it is kept who is forgotten."""
    return settings.data_dir / "forgotten"


def _mirror(settings: Settings) -> Mirror:
    from features.mirror import Mirror

    assert settings.data_url
    return Mirror(settings.data_dir, settings.data_url.get_secret_value(), settings.shown("data_url"))
