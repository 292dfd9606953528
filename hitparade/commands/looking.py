"""What shows lists and counters."""

from pathlib import Path

from hitparade.arguments import an_id
from hitparade.commands.declaring import Commands


def declare(commands: Commands) -> None:
    """Lists, counters, why a track is where it is, and what lists were worth."""
    playlists = commands.add(
        "playlists",
        "looking.playlists",
        "the latest list of each group",
        json="one object a list: the record as it was published",
        examples=(
            "playlists",
            "playlists --week 2025-W12 --group treatment",
            "playlists --follow --json             # each list as it is published",
        ),
    )
    playlists.add_argument("--week", metavar="WEEK", help="the week the list is for")
    playlists.add_argument("--follow", action="store_true", help="these, and then each list as it is published")
    counters = commands.add(
        "counters",
        "looking.counters",
        "plays, skips and likes by group and track",
        json="one object a group and track",
        examples=("counters --week 2025-W11", "counters --week 2025-W11 --json | jq .plays"),
    )
    counters.add_argument("--week", required=True, metavar="WEEK", help="the week counted")
    for command in (playlists, counters):
        command.add_argument("--group", metavar="GROUP", help="only this group")
    why = commands.add(
        "why",
        "why.why",
        "why a track is where it is: counts, features, scores and ranks",
        json="one object",
        examples=("why 4p8QcNkaq2FQj8uGJ7HEDK",),
    )
    why.add_argument("track", type=an_id, metavar="TRACK", help="a track id")
    why.add_argument("--week", metavar="WEEK", help="the closed week (the last one that was run)")
    evaluations = commands.add(
        "evaluations",
        "evaluating.evaluations",
        "what the lists were worth, beside last week again",
        json="one object a list; with --means one a group and metric",
        examples=("evaluations --means",),
    )
    evaluations.add_argument("--means", action="store_true", help="only the means over the weeks, with their intervals")
    evaluations.add_argument("--out", type=Path, metavar="FILE", help="draw the series into this PNG file too")
