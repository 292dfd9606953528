"""What trains models, and says what they are worth."""

import argparse
from pathlib import Path

from hitparade.arguments import BACKTESTED, models_of, positive, seed
from hitparade.commands.declaring import Commands, add_workers

IF_BETTER = (
    "if it beats last week again and the version in use over the weeks that it was not fitted to (those it held out, "
    "and later ones): NDCG@50 and captured plays of next week's ranking are higher in the mean, and precision@50 is "
    "not lower. The version in use may have been fitted to some of them, which favours it. Exit code 1 where it is not"
)


def declare(commands: Commands) -> None:
    """Training, versions, the backtest, and the original study's formats."""
    train = commands.add(
        "train",
        "learning.train",
        "train the neural model on the history and put it in use",
        json="one object: the version, whether it is in use, and its card",
        examples=("train --if-better", "train --until 2025-W11 --seed 2"),
    )
    train.add_argument("--until", metavar="WEEK", help="learn from weeks up to this one (the last)")
    train.add_argument("--seed", type=seed, default=0, metavar="N", help="of weights and order (0)")
    train.add_argument("--if-better", action="store_true", help=f"put it in use only {IF_BETTER}")
    _models(commands)
    _backtest(commands)
    training = commands.group("export", "the original study's formats").add(
        "training",
        "learning.export_training",
        "what the study's models were fed, as JSON",
        examples=("export training --format linear --out study",),
    )
    _training(training)


def _models(commands: Commands) -> None:
    models = commands.add(
        "models",
        "learning.models",
        "the versions of the neural model; which is in use",
        json="one object a version",
        examples=("models", "models promote 2025-W08-998b96f8"),
    )
    promote = Commands(models, "[promote VERSION]", "more", required=False).add(
        "promote",
        "learning.promote",
        "put a version in use; an older one is a rollback",
        json="one object: the version, and whether it is in use",
        examples=("models promote 2025-W08-998b96f8", "models promote --if-better"),
    )
    promote.add_argument(
        "version", nargs="?", metavar="VERSION", help="one that `hitparade models` lists (the newest, with --if-better)"
    )
    promote.add_argument("--if-better", action="store_true", help=f"only {IF_BETTER}")


def _training(training: argparse.ArgumentParser) -> None:
    training.add_argument("--format", required=True, choices=("linear", "neural"), help="which model's input")
    training.add_argument(
        "--week", metavar="WEEK", help="the week predicted; the four before it are the input (the last)"
    )
    training.add_argument(
        "--out", type=Path, metavar="DIR", help="write <format>-<week>.json here, not to standard output"
    )
    training.add_argument(
        "--sessions", type=Path, nargs="+", metavar="FILE", help="count these files instead of reading the history"
    )
    training.add_argument("--tracks", type=Path, metavar="FILE", help="the catalogue of --sessions")


def _backtest(commands: Commands) -> None:
    backtest = commands.add(
        "backtest",
        "backtesting.backtest",
        "what the models would have forecast of past weeks, against what happened and last week again",
        json="one object a model, one for the bound",
        more="Each week is forecast from the weeks before it alone. A track absent from a chart counts as without "
        "plays there, though it is only below the last rank.",
        examples=(
            "backtest                              # on the history of the data folder",
            "backtest --weekly charts.parquet --tracks tracks.parquet --out pictures",
        ),
    )
    source = backtest.add_mutually_exclusive_group()
    source.add_argument("--history", type=Path, metavar="DIR", help="a history (that of the data folder)")
    source.add_argument("--weekly", type=Path, metavar="PARQUET", help="charts: week, track_id, streams")
    source.add_argument("--sessions", type=Path, nargs="+", metavar="FILE", help="session events, counted first")
    backtest.add_argument(
        "--tracks", type=Path, metavar="FILE", help="the catalogue of --weekly (Parquet) or --sessions (JSON lines)"
    )
    backtest.add_argument(
        "--truth", type=Path, metavar="FILE", help="true rates (truth.jsonl of simulate): also judge an oracle"
    )
    backtest.add_argument(
        "--models", type=models_of, default=BACKTESTED, metavar="LIST", help=f"which ({','.join(BACKTESTED)})"
    )
    backtest.add_argument("--span", type=int, choices=range(1, 5), default=1, help="weeks the ranking is by (1)")
    backtest.add_argument(
        "--last", type=positive, metavar="N", help="calendar weeks that are forecast (30 %% of them, rounded up)"
    )
    backtest.add_argument(
        "--refit-every", type=positive, default=8, metavar="N", help="weeks that a trained network is used for (8)"
    )
    backtest.add_argument("--seed", type=seed, default=0, metavar="N", help="of the network's training (0)")
    backtest.add_argument(
        "--with-popularity", action="store_true", help="let the network see it, though it is of a later day"
    )
    backtest.add_argument(
        "--out", type=Path, metavar="DIR", help="also write weekly.json, difference.png and age.png here"
    )
    add_workers(backtest, "weeks")
