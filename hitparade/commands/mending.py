"""What checks the counters, and counts again."""

from argparse import SUPPRESS
from typing import get_args

from features.events import CAUSES
from hitparade.arguments import Client, amount, positive
from hitparade.commands.declaring import Commands, add_workers

LETTERS = ("sessions", "late", "tracks")
LETTER_CAUSES = (*CAUSES, "late", "track")


def declare(commands: Commands) -> None:
    """Audit and rebuild, dead letters, removal, and what a load needs."""
    audit = commands.add(
        "audit",
        "auditing.audit",
        "count the log again, and compare it with Redis, partition by partition",
        json="one object a partition",
        examples=("audit", "audit 2025-W11 --workers 2"),
    )
    audit.add_argument("weeks", nargs="*", metavar="WEEK", help="only these weeks (all that are kept)")
    add_workers(audit, "partitions")
    rebuild = commands.add(
        "rebuild",
        "rebuilding.rebuild",
        "count the log again beside the counters, and then replace them",
        json="one object at the end",
        more="It counts by the settings of now, and replaces the counters once it has caught up; where it is "
        "interrupted, the next one goes on from there.",
        examples=("rebuild --workers 2", "rebuild --discard"),
    )
    rebuild.add_argument("topic", nargs="?", metavar="TOPIC", help="the session topic")
    rebuild.add_argument(
        "--accept-loss", action="store_true", help="go on where the log has lost events that were counted"
    )
    rebuild.add_argument("--discard", action="store_true", help="remove what an interrupted one has left, and end")
    add_workers(rebuild, "partitions")
    _letters(commands)
    drop = commands.add(
        "drop",
        "pipeline.drop",
        "remove from Redis what was counted of a topic",
        json="one object: what was removed, or would be",
        examples=("drop hitparade.tracks.v1", "drop hitparade.tracks.v1 --yes"),
    )
    drop.add_argument("topic", metavar="TOPIC", help="the session or the track topic")
    drop.add_argument("--yes", action="store_true", help="do it; without this it only says what it would remove")
    _sizing(commands)


def _letters(commands: Commands) -> None:
    letters = commands.add(
        "dead-letters",
        "letters.dead_letters",
        "what was not counted, why, and where it came from",
        json="one object a letter",
        examples=("dead-letters", "dead-letters --topic late --limit 5", "dead-letters replay --cause timestamp --yes"),
    )
    replay = Commands(letters, "[replay]", "more", required=False).add(
        "replay",
        "letters.replay",
        "send it again; what has become valid counts, and only once",
        json="one object: what was sent, or would be",
        examples=("dead-letters replay", "dead-letters replay --yes"),
    )
    letters.add_argument("--topic", choices=LETTERS, default=LETTERS[0], help="whose letters (sessions)")
    replay.add_argument("--topic", choices=LETTERS[:2], default=SUPPRESS, help="whose letters (sessions)")
    letters.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", help=f"only {', '.join(LETTER_CAUSES)}")
    replay.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", default=SUPPRESS, help="only these")
    letters.add_argument("--limit", type=positive, metavar="N", help="the newest N (50; with --json all)")
    replay.add_argument("--yes", action="store_true", help="do it; without this it only says what it would send")


def _sizing(commands: Commands) -> None:
    sizing = commands.add(
        "sizing",
        "sizing.sizing",
        "how many partitions, consumers, Redis nodes and bytes a load needs",
        json="one object",
        examples=("sizing --events-per-s 100000 --tracks 10000000",),
    )
    sizing.add_argument("--events-per-s", type=amount, required=True, metavar="N", help="on average in a busy hour")
    sizing.add_argument("--tracks", type=amount, required=True, metavar="N", help="that are played every week")
    sizing.add_argument("--weeks-kept", type=amount, metavar="N", help="weeks with counters (those of the settings)")
    sizing.add_argument("--array", type=amount, default=25, metavar="N", help="events a record (25)")
    sizing.add_argument("--groups", type=amount, default=2, metavar="N", help="groups of the experiment (2)")
    sizing.add_argument("--client", choices=get_args(Client), help="what reads Kafka (that of the settings)")
