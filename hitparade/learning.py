"""The commands about models: train, versions, and the original study's formats."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from features.files import replacing
from features.history import History
from hitparade import data_folder, histories, output, wiring
from hitparade.errors import NotInstalled, OutputError, UsageError
from hitparade.pipeline import parse_week
from hitparade.settings import Settings
from models.scoring import ArtefactError, NotEnoughHistory

if TYPE_CHECKING:
    from models.cards import Card
    from models.neural import Trained
    from models.training import Progress

MODEL, PRECISION = "neural", "precision_at_50"
NO_HISTORY = "there is no history yet: `hitparade consume weekly` writes it, a file a closed week"
UNTRAINED = "no model has been trained yet: run `hitparade train`"


def train(settings: Settings, arguments: argparse.Namespace) -> int:
    """Train, save with card and loss curve, and put in use: always, or if it is better; 1 where it is not."""
    until = parse_week(settings, arguments.until).name if arguments.until else _last_week(wiring.history(settings))
    with output.progress("epochs") as advance:
        trained = _train(settings, until, arguments.seed, lambda done, most: advance(1))
    promoted = (_promote_if_better if arguments.if_better else _promote)(settings, trained.model.version)
    data_folder.send(settings)
    figures = {
        name: ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
        for name, metrics in trained.card.metrics.items()
    }
    text = "\n".join([promoted.text, *(f"  {name}: {of_it}" for name, of_it in figures.items())])
    return _tell(promoted, arguments.json, text, card=trained.card.model_dump(mode="json"))


def train_and_promote(settings: Settings, until: str, seed: int, progress: "Progress | None" = None) -> "Trained":
    """Fit on the history up to a week, publish the version, and make it the one in use."""
    trained = _train(settings, until, seed, progress)
    wiring.registry(settings).promote(MODEL, trained.model.version)
    return trained


def _train(settings: Settings, until: str, seed: int, progress: "Progress | None") -> "Trained":
    """Fit and publish."""
    try:
        from models.training import train as fit
    except ModuleNotFoundError as cause:
        raise NotInstalled(f"{cause.name} is not installed: pip install -e '.[neural]'") from cause
    trained = fit(wiring.history(settings), until, seed, progress)
    wiring.registry(settings).publish(MODEL, trained.model.version, trained.save)
    return trained


def _last_week(history: History) -> str:
    weeks = history.weeks()
    if not weeks:
        raise NotEnoughHistory(NO_HISTORY)
    return weeks[-1]


def models(settings: Settings, arguments: argparse.Namespace) -> int:
    """List the versions, with what their cards say."""
    registry = wiring.registry(settings)
    registry.champion(MODEL)  # an alias of a version that is not there is an error
    in_use, after = (registry.in_use(MODEL) or [("", "")])[-1]
    versions = [(version, *_card(registry.version(MODEL, version))) for version in registry.versions(MODEL)]
    if arguments.json:
        output.print_json(
            {
                "model": MODEL,
                "version": version,
                "in_use": version == in_use,
                "after": (after or None) if version == in_use else None,
                "card": card.model_dump(mode="json") if card else None,
                "fault": fault,
            }
            for version, card, fault in versions
        )
    elif versions:
        output.print_table(
            "Models, with what they were worth on the weeks they held out: the mean, and its difference to naive's",
            ("model", "version", "", "learned from", "#weeks held out", "#precision@50", "#less naive's", "~fault"),
            (
                (MODEL, version, _use(after) if version == in_use else "", *_row(card), fault or "")
                for version, card, fault in versions
            ),
        )
    else:
        print(UNTRAINED)
    if not arguments.json:
        _print_decided(settings)
    return 0


def _use(after: str) -> str:
    """Since when a version is in use; '' is at once."""
    return f"in use after {after}" if after else "in use"


def _print_decided(settings: Settings) -> None:
    """Which model makes everyone's list because an experiment has decided so."""
    holding = [one.decision for one in wiring.decisions(settings).all() if one.undone is None]
    for decision in holding[-1:]:
        print(
            f"Outside experiments everyone's list is {decision.everyones}'s from {decision.from_week} on: "
            f"{decision.experiment} has decided it, by {decision.winner}'s {decision.model}."
        )


def _card(folder: Path) -> tuple["Card | None", str | None]:
    """The card, or why it cannot be read; and why the version cannot be used."""
    from models.artefact import CARD, check_content, read_json
    from models.cards import Card

    card = None
    try:
        card = read_json(folder / CARD, Card)
        check_content(folder)
    except ArtefactError as cause:
        return card, str(cause)
    return card, None


def _row(card: "Card | None") -> tuple[str, int | str, str, str]:
    if card is None:
        return "", "", "", ""
    own, difference = card.metrics.get(MODEL, {}).get(PRECISION), card.vs_naive.get(PRECISION)
    return (
        f"{card.first_week} to {card.last_week}",
        len(card.holdout_weeks),
        "" if own is None else f"{own:.3f}",
        "" if difference is None else "{1:+.3f} [{0:+.3f}, {2:+.3f}]".format(*difference),
    )


def promote(settings: Settings, arguments: argparse.Namespace) -> int:
    """Put a version in use, always or if it is better (1 where it is not); rollback is to promote an older one."""
    registry = wiring.registry(settings)
    if not arguments.version and not arguments.if_better:
        raise UsageError("expected a version, or --if-better, found neither: `hitparade models` lists the versions")
    if not registry.versions(MODEL):
        raise ArtefactError(f"there is no version {arguments.version or 'to promote'}: {UNTRAINED}")
    if arguments.if_better:
        promoted = _promote_if_better(settings, arguments.version or registry.newest(MODEL))
    else:
        promoted = _promote(settings, arguments.version)
    data_folder.send(settings)
    return _tell(promoted, arguments.json, promoted.text)


class Promoted(NamedTuple):
    """Whether a version is in use now, and what is to be said of it."""

    version: str
    in_use: bool
    text: str


def _tell(promoted: Promoted, as_json: bool, text: str, **more: Any) -> int:
    """Say what came of it; 1 where it is not in use."""
    output.print_done(as_json, text, model=MODEL, version=promoted.version, in_use=promoted.in_use, **more)
    return 0 if promoted.in_use else 1


def _promote(settings: Settings, version: str) -> Promoted:
    """Put it in use, once it is known that it can be loaded."""
    from models.scorers import load

    registry = wiring.registry(settings)
    load(registry.version(MODEL, version))
    folder = registry.promote(MODEL, version)
    return Promoted(version, True, f"{MODEL} {version} is in use: {folder}")


def _promote_if_better(settings: Settings, version: str) -> Promoted:
    from models.promotion import promote_if_better

    verdict = promote_if_better(wiring.history(settings), wiring.registry(settings), version)
    end = "It is not put in use" if verdict.unbeaten else "It is in use"
    return Promoted(version, not verdict.unbeaten, f"{verdict}. {end}.")


def export_training(settings: Settings, arguments: argparse.Namespace) -> int:
    """Write what the study's models were fed."""
    from models.study import linear_format, neural_format

    if arguments.tracks and not arguments.sessions:
        raise UsageError("expected --sessions with --tracks, found --tracks alone")
    with histories.chosen(settings, sessions=arguments.sessions, tracks=arguments.tracks) as history:
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
