"""The commands and their arguments; what a command needs is imported when it runs."""

import argparse
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from features.events import CAUSES
from hitparade.settings import Settings

Add = Callable[..., Any]
LETTERS = ("sessions", "late", "tracks")
LETTER_CAUSES = (*CAUSES, "late", "track")


def _later(module: str, name: str) -> Callable[[Settings, argparse.Namespace], int]:
    """A command that is imported when it runs, so that the counter consumer starts without pandas."""

    def run(settings: Settings, arguments: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"hitparade.{module}"), name)(settings, arguments)
        return code

    return run


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="hitparade",
        description="A weekly top 50 from a stream of listening sessions: Kafka in, Redis counters, "
        "one playlist per experiment group out.",
        epilog="Settings come from the environment (HITPARADE_…): `hitparade config` shows them. "
        "Begin with `hitparade demo`.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, module: str, function: str, text: str, under: Any = None) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = (under or commands).add_parser(name, help=text, description=text)
        command.set_defaults(command=_later(module, function))
        return command

    def group(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=text).add_subparsers(metavar="WHAT", required=True)

    _add_trying(add)
    _add_pipeline(add, group)
    _add_checking(add)
    _add_looking(add)
    _add_models(add, group)
    return parser


def _add_trying(add: Add) -> None:
    demo = add("demo", "demo", "run", "run the whole pipeline on an embedded broker and Redis, and show the lists")
    demo.add_argument(
        "--sessions", type=Path, metavar="FILE", help="real session events (JSON lines) instead of simulated ones"
    )
    demo.add_argument("--tracks", type=Path, metavar="FILE", help="the catalogue of --sessions (JSON lines)")
    demo.add_argument("--weeks", type=_positive, default=12, metavar="N", help="simulated weeks (12)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="of the simulation (1)")
    demo.add_argument("--json", action="store_true", help="every playlist record, then the accounting")
    embedded = add(
        "embedded", "pipeline", "embedded", "broker and Redis in the foreground; prints the settings to use them"
    )
    embedded.add_argument("--kafka-port", type=int, default=0, metavar="PORT", help="a free one unless given")
    embedded.add_argument("--redis-port", type=int, default=0, metavar="PORT", help="a free one unless given")
    embedded.add_argument("--dir", type=Path, metavar="DIR", help="keep Redis' data here")
    simulate = add("simulate", "sending", "simulate", "a listening service with known truth, into Kafka or into files")
    for name, default in (("weeks", 12), ("users", 400), ("tracks", 2000)):
        simulate.add_argument(
            f"--{name}", type=_positive, default=default, metavar="N", help=f"how many {name} ({default})"
        )
    simulate.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same bytes (1)")
    simulate.add_argument("--start", default="2025-W01", metavar="WEEK", help="the first week (2025-W01)")
    simulate.add_argument(
        "--out", type=Path, metavar="DIR", help="write sessions.jsonl and tracks.jsonl here, not to Kafka"
    )
    simulate.add_argument(
        "--live",
        action="store_true",
        help="at the pace of the clock, from now on; until Ctrl-C or SIGTERM, or the last week's end",
    )


def _add_pipeline(add: Add, group: Callable[[str, str], Any]) -> None:
    topics = add("topics", "pipeline", "topics", "create the topics that are missing, and check the others")
    topics.add_argument("--json", action="store_true", help="one object a topic")
    produce = group("produce", "send files into Kafka")
    sessions = add(
        "sessions", "sending", "produce_sessions", "session events, one JSON object a line, gzip too", produce
    )
    sessions.add_argument("files", nargs="+", type=Path, metavar="FILE", help="several are sent as one stream")
    sessions.add_argument(
        "--batch", type=_positive, default=25, metavar="N", help="events a record (25); 1 sends them bare"
    )
    sessions.add_argument(
        "--key", choices=("track", "user"), default="track", help="what decides the partition (track)"
    )
    sessions.add_argument("--rate", type=_rate, metavar="N", help="events a second; as fast as it goes unless given")
    sessions.add_argument("--unsorted", action="store_true", help="in the files' order, not in that of event time")
    tracks = add("tracks", "sending", "produce_tracks", "the catalogue, one JSON object a line, gzip too", produce)
    tracks.add_argument("file", type=Path, metavar="FILE", help="a track needs an id; the rest may be missing")
    consume = group("consume", "run a consumer")
    for name, text in (
        ("sessions", "count session events into Redis"),
        ("tracks", "keep the catalogue in Redis"),
        ("weekly", "score closed weeks and publish their lists"),
    ):
        command = add(name, "pipeline", f"consume_{name}", text, consume)
        command.add_argument("--until-idle", action="store_true", help="end when everything has been read")
        if name != "weekly":
            command.add_argument(
                "--accept-loss",
                action="store_true",
                help="go on where the log has lost records, and tally them as lost",
            )
    schedule = add("schedule", "pipeline", "schedule", "trigger every week that has ended, missed ones too")
    schedule.add_argument(
        "--event-time", action="store_true", help="a week ends when stream time has passed it, not the clock"
    )
    schedule.add_argument("--once", action="store_true", help="fire what is due now, and end")
    trigger = add("trigger", "pipeline", "trigger", "trigger the last closed week, or the one given")
    trigger.add_argument("week", nargs="?", metavar="WEEK", help="a closed week such as 2023-W24")
    trigger.add_argument("--all", action="store_true", help="every closed week that is kept, oldest first")
    drop = add("drop", "pipeline", "drop", "remove from Redis what was counted of a topic")
    drop.add_argument("topic", metavar="TOPIC", help="the session or the track topic")
    drop.add_argument("--yes", action="store_true", help="do it; without this it only says what it would remove")


def _add_checking(add: Add) -> None:
    audit = add("audit", "auditing", "audit", "count the log again, and compare it with Redis, partition by partition")
    audit.add_argument("weeks", nargs="*", metavar="WEEK", help="only these weeks (all that are kept)")
    audit.add_argument("--json", action="store_true", help="one object a partition")
    rebuild = add(
        "rebuild",
        "rebuilding",
        "rebuild",
        "count the log again beside the counters, by the settings of now, and replace them once it has caught up; "
        "interrupted, the next one goes on from there",
    )
    rebuild.add_argument("topic", nargs="?", metavar="TOPIC", help="the session topic")
    rebuild.add_argument(
        "--accept-loss", action="store_true", help="go on where the log has lost events that were counted"
    )
    rebuild.add_argument("--discard", action="store_true", help="remove what an interrupted one has left, and end")


def _add_looking(add: Add) -> None:
    playlists = add("playlists", "looking", "playlists", "the latest list of each group")
    playlists.add_argument("--week", metavar="WEEK", help="the week the list is for")
    playlists.add_argument("--follow", action="store_true", help="these, and then each list as it is published")
    counters = add("counters", "looking", "counters", "plays, skips and likes by group and track")
    counters.add_argument("--week", required=True, metavar="WEEK", help="the week counted")
    why = add("why", "why", "why", "why a track is where it is: counts, features, scores and ranks")
    why.add_argument("track", type=_id, metavar="TRACK", help="a track id")
    why.add_argument("--week", metavar="WEEK", help="the closed week (the last one that was run)")
    letters = add("dead-letters", "letters", "dead_letters", "what was not counted, why, and where it came from")
    more = letters.add_subparsers(title="more", metavar="[replay]")
    replay = add("replay", "letters", "replay", "send it again; what has become valid counts, and only once", more)
    letters.add_argument("--topic", choices=LETTERS, default=LETTERS[0], help="whose letters (sessions)")
    replay.add_argument("--topic", choices=LETTERS[:2], default=argparse.SUPPRESS, help="whose letters (sessions)")
    letters.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", help=f"only {', '.join(LETTER_CAUSES)}")
    replay.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", default=argparse.SUPPRESS, help="only these")
    letters.add_argument("--limit", type=_positive, metavar="N", help="the newest N (50; with --json all)")
    replay.add_argument("--yes", action="store_true", help="do it; without this it only says what it would send")
    evaluations = add("evaluations", "looking", "evaluations", "what the lists were worth, beside last week again")
    experiments = add("experiments", "looking", "experiments", "the experiments of the file")
    more = experiments.add_subparsers(title="more", metavar="[assign USER]")
    assign = add("assign", "looking", "assign", "the group of a user", more)
    assign.add_argument("user", type=_id, metavar="USER", help="a user id")
    experiments.add_argument("--week", metavar="WEEK", help="the one in force in this week")
    # A default would take the place of what was given before `assign`.
    assign.add_argument("--week", default=argparse.SUPPRESS, metavar="WEEK", help="in this week (that of stream time)")
    assign.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one object")
    config = add("config", "checking", "config", "the settings in force, secrets masked")
    doctor = add("doctor", "checking", "doctor", "what is reachable, what is wrong, and what to do")
    for command in (playlists, counters):
        command.add_argument("--group", metavar="GROUP", help="only this group")
    for command in (playlists, counters, why, letters, evaluations, experiments, config, doctor):
        command.add_argument("--json", action="store_true", help="one object a line")


def _add_models(add: Add, group: Callable[[str, str], Any]) -> None:
    train = add("train", "learning", "train", "train the neural model on the history and put it in use")
    train.add_argument("--until", metavar="WEEK", help="learn from weeks up to this one (the last)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and order (0)")
    models = add("models", "learning", "models", "the versions of the neural model; which is in use")
    more = models.add_subparsers(title="more", metavar="[promote VERSION]")
    promote = add("promote", "learning", "promote", "put a version in use; an older one is a rollback", more)
    promote.add_argument("version", metavar="VERSION", help="one that `hitparade models` lists")
    models.add_argument("--json", action="store_true", help="one object a version")
    export = group("export", "the original study's formats")
    training = add("training", "learning", "export_training", "what the study's models were fed, as JSON", export)
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


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return number


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return rate


def _id(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected an id, found nothing")
    return text
