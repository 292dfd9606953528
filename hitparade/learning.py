"""The commands about models: train, versions, and the original study's formats."""

import argparse
import contextlib
import json
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from features.files import replacing
from features.history import History
from hitparade import output, wiring
from hitparade.errors import OutputError, UsageError
from hitparade.pipeline import parse_week
from hitparade.settings import Settings, zone
from models.scoring import ArtefactError, ModelError, NotEnoughHistory
from producers.files import SourceError

if TYPE_CHECKING:
    from models.neural import Trained
    from models.training import Progress

MODEL = "neural"
UNTRAINED = "no model has been trained yet: run `hitparade train`"


class NotInstalled(ModelError):
    """An extra is missing."""


def train(settings: Settings, arguments: argparse.Namespace) -> int:
    """Train, save with card and loss curve, and put in use."""
    until = parse_week(settings, arguments.until).name if arguments.until else _last_week(wiring.history(settings))
    with output.progress("epochs") as advance:
        trained = train_and_promote(settings, until, arguments.seed, lambda done, most: advance(1))
    folder = wiring.registry(settings).champion(MODEL)
    print(f"{MODEL} {trained.model.version} is in use: {folder}")
    for name, metrics in trained.card.metrics.items():
        print(f"  {name}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items()))
    return 0


def train_and_promote(settings: Settings, until: str, seed: int, progress: "Progress | None" = None) -> "Trained":
    """Fit on the history up to a week, publish the version, and make it the one in use."""
    try:
        from models.training import train as fit
    except ModuleNotFoundError as cause:
        raise NotInstalled(f"{cause.name} is not installed: pip install -e '.[neural]'") from cause
    trained = fit(wiring.history(settings), until, seed, progress)
    registry = wiring.registry(settings)
    registry.publish(MODEL, trained.model.version, trained.save)
    registry.promote(MODEL, trained.model.version)
    return trained


def _last_week(history: History) -> str:
    weeks = history.weeks()
    if not weeks:
        raise NotEnoughHistory("there is no history yet: `hitparade consume weekly` writes it, a file a closed week")
    return weeks[-1]


def models(settings: Settings, arguments: argparse.Namespace) -> int:
    """List the versions."""
    registry = wiring.registry(settings)
    champion = registry.champion(MODEL)
    in_use = champion.name if champion else None
    rows = [{"model": MODEL, "version": v, "in_use": v == in_use} for v in registry.versions(MODEL)]
    if arguments.json:
        output.print_json(rows)
    elif rows:
        output.print_table(
            "Models",
            ("model", "version", ""),
            ([r["model"], r["version"], "in use" if r["in_use"] else ""] for r in rows),
        )
    else:
        print(UNTRAINED)
    return 0


def promote(settings: Settings, arguments: argparse.Namespace) -> int:
    """Put a version in use; rollback is to promote an older one."""
    registry = wiring.registry(settings)
    if not registry.versions(MODEL):
        raise ArtefactError(f"there is no version {arguments.version}: {UNTRAINED}")
    folder = registry.promote(MODEL, arguments.version)
    print(f"{MODEL} {arguments.version} is in use: {folder}")
    return 0


def export_training(settings: Settings, arguments: argparse.Namespace) -> int:
    """Write what the study's models were fed."""
    from models.study import linear_format, neural_format

    if arguments.tracks and not arguments.sessions:
        raise UsageError("expected --sessions with --tracks, found --tracks alone")
    with _history(settings, arguments) as history:
        week = parse_week(settings, arguments.week).name if arguments.week else _last_week(history)
        rows = (linear_format if arguments.format == "linear" else neural_format)(history, week)
    if arguments.out:
        path = arguments.out / f"{arguments.format}-{week}.json"
        try:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as cause:
            raise OutputError(f"{path} cannot be written: {cause.strerror or cause}") from cause
        print(path)
    else:
        json.dump(rows, sys.stdout, ensure_ascii=False)
        print()
    return 0


@contextlib.contextmanager
def _history(settings: Settings, arguments: argparse.Namespace) -> Iterator[History]:
    """The history, or one counted from files for as long as it is needed."""
    if not arguments.sessions:
        yield wiring.history(settings)
        return
    from models.recount import history_from_sessions

    with tempfile.TemporaryDirectory(prefix="hitparade-") as folder:
        event_zone = zone(settings.event_time_zone)
        try:
            history = history_from_sessions(
                arguments.sessions, arguments.tracks, settings.calendar, Path(folder), event_zone
            )
        except (OSError, EOFError, zlib.error) as cause:
            raise SourceError(_damage(cause, [*arguments.sessions, arguments.tracks])) from cause
        if not history.weeks():
            raise SourceError(f"no event that counts in {', '.join(map(str, arguments.sessions))}")
        yield history


def _damage(cause: Exception, files: Iterable[Path | None]) -> str:
    """Which file, and why; what is damaged in the middle does not say its name."""
    found = getattr(cause, "filename", None) or " or ".join(str(file) for file in files if file)
    return f"{found} cannot be read: {getattr(cause, 'strerror', None) or cause}"
