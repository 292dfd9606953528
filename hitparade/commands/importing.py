"""What takes the data of others."""

import argparse
from pathlib import Path

from hitparade.arguments import column
from hitparade.commands.declaring import Commands

JSON = "one object a cause, the totals, and what was sent to each topic"


def declare(commands: Commands) -> None:
    """History, and what was listened to."""
    imports = commands.group("import", "take history, listens and scrobbles from elsewhere")
    _history(imports)
    listens = imports.add(
        "listens",
        "importing.listens",
        "ListenBrainz listens, JSON lines, gzip, xz and tar too, into Kafka in the order of their time",
        json=JSON,
        more="A listen is a play. docs/integrating.md says what becomes of its fields.",
        examples=(
            "import listens listens.jsonl --dry-run    # what would be dead, and why",
            "import listens export.jsonl --user rob",
        ),
    )
    listens.add_argument("--user", metavar="USER", help="whose listens they are, where the file does not say")
    scrobbles = imports.add(
        "scrobbles",
        "importing.scrobbles",
        "last.fm's scrobbles (user, time, artist, track, parted by tabs), gzip, xz and tar too, into Kafka",
        json=JSON,
        more="Of six columns the third is the artist's id and the fifth the track's, as in the data set of 1K users.",
        examples=("import scrobbles lastfm-dataset-1K.tar.gz --out imported",),
    )
    for command in (listens, scrobbles):
        _files(command)
        command.add_argument(
            "--out", type=Path, metavar="DIR", help="write sessions.jsonl and tracks.jsonl here, not to Kafka"
        )


def _history(imports: Commands) -> None:
    history = imports.add(
        "history",
        "importing.history",
        "weeks of history, a row a week and track, CSV or Parquet, into the data folder",
        json=JSON,
        more="Columns: week (2023-W24, or the day it begins), track_id, plays (or streams); skips, likes, group, name "
        "and artist where there are any. A week that the counters still hold is counted, and not imported: the next "
        "weekly run writes it anew.",
        examples=(
            "import history charts.parquet --dry-run",
            "import history weekly.csv --column plays=Streams --tracks tracks.jsonl",
        ),
    )
    _files(history)
    history.add_argument("--replace", action="store_true", help="write weeks anew that the history has")
    history.add_argument(
        "--column", type=column, action="append", default=[], metavar="OURS=THEIRS", help="what a column is called"
    )
    history.add_argument(
        "--tracks", type=Path, metavar="FILE", help="write the tracks' names here, for `hitparade produce tracks`"
    )


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="- is standard input")
    command.add_argument("--dry-run", action="store_true", help="only say what would become of each line")
