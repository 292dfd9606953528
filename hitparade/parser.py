"""The commands and their arguments; what a command needs is imported when it runs."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from features.events import CAUSES
from hitparade.arguments import BACKTESTED, amount, an_id, models_of, part, positive, rate, ray_address, seed, whole
from hitparade.experimental import add_options as add_experimental_options
from hitparade.settings import Settings
from producers.climates import CLIMATES

Add = Callable[..., argparse.ArgumentParser]
CLIENTS = get_args(Settings.model_fields["kafka_client"].annotation)
LETTERS = ("sessions", "late", "tracks")
LETTER_CAUSES = (*CAUSES, "late", "track")
IF_BETTER = (
    "if it beats last week again and the version in use over the weeks that it was not fitted to (those it held out, "
    "and later ones): NDCG@50 and captured plays of next week's ranking are higher in the mean, and precision@50 is "
    "not lower. The version in use may have been fitted to some of them, which favours it. Exit code 1 where it is not"
)


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
    add("serve", "serving", "serve", "the HTTP service and its page, until SIGTERM or Ctrl-C")
    _add_checking(add)
    _add_looking(add)
    _add_sizing(add)
    _add_models(add, group)
    return parser


def _add_trying(add: Add) -> None:
    demo = add("demo", "demo", "run", "run the whole pipeline on an embedded broker and Redis, and show the lists")
    demo.add_argument(
        "--sessions", type=Path, metavar="FILE", help="real session events (JSON lines) instead of simulated ones"
    )
    demo.add_argument("--tracks", type=Path, metavar="FILE", help="the catalogue of --sessions (JSON lines)")
    demo.add_argument("--weeks", type=positive, default=12, metavar="N", help="simulated weeks (12)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="of the simulation (1)")
    demo.add_argument("--serve", action="store_true", help="then serve its lists over HTTP until Ctrl-C")
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
            f"--{name}", type=positive, default=default, metavar="N", help=f"how many {name} ({default})"
        )
    simulate.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same bytes (1)")
    simulate.add_argument(
        "--catalogue",
        choices=CLIMATES,
        default="mixed",
        help="how popularity is spread, and how fast it moves: mixed, flat (all much alike), steep (a few hits), fast "
        "(new hits every week) (mixed)",
    )
    simulate.add_argument("--start", default="2025-W01", metavar="WEEK", help="the first week (2025-W01)")
    simulate.add_argument(
        "--out", type=Path, metavar="DIR", help="write sessions.jsonl, tracks.jsonl and truth.jsonl here, not to Kafka"
    )
    simulate.add_argument(
        "--live",
        action="store_true",
        help="at the pace of the clock, from now on; until Ctrl-C or SIGTERM, or the last week's end",
    )
    add_experimental_options(simulate)


def _add_pipeline(add: Add, group: Callable[[str, str], Any]) -> None:
    topics = add("topics", "pipeline", "topics", "create the topics that are missing, and check the others")
    topics.add_argument("--json", action="store_true", help="one object a topic")
    produce = group("produce", "send files into Kafka")
    sessions = add(
        "sessions", "sending", "produce_sessions", "session events, one JSON object a line, gzip too", produce
    )
    sessions.add_argument("files", nargs="+", type=Path, metavar="FILE", help="several are sent as one stream")
    sessions.add_argument(
        "--batch", type=positive, default=25, metavar="N", help="events a record (25); 1 sends them bare"
    )
    sessions.add_argument(
        "--key", choices=("track", "user"), default="track", help="what decides the partition (track)"
    )
    sessions.add_argument("--rate", type=rate, metavar="N", help="events a second; as fast as it goes unless given")
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
        if name == "weekly":
            _add_workers(command, "tracks that are scored")
        else:
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
    _add_workers(audit, "partitions")
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
    _add_workers(rebuild, "partitions")


def _add_workers(command: argparse.ArgumentParser, slices: str) -> None:
    """Who does the work; the results are the same."""
    who = command.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", type=positive, default=1, metavar="N", help=f"so many processes share the {slices} (1: this one)"
    )
    who.add_argument(
        "--ray",
        nargs="?",
        type=ray_address,
        const="local",
        metavar="ADDRESS",
        help=f"the machines of a cluster of Ray share the {slices}; without an address, one started here",
    )


def _add_looking(add: Add) -> None:
    playlists = add("playlists", "looking", "playlists", "the latest list of each group")
    playlists.add_argument("--week", metavar="WEEK", help="the week the list is for")
    playlists.add_argument("--follow", action="store_true", help="these, and then each list as it is published")
    counters = add("counters", "looking", "counters", "plays, skips and likes by group and track")
    counters.add_argument("--week", required=True, metavar="WEEK", help="the week counted")
    for command in (playlists, counters):
        command.add_argument("--group", metavar="GROUP", help="only this group")
    why = add("why", "why", "why", "why a track is where it is: counts, features, scores and ranks")
    why.add_argument("track", type=an_id, metavar="TRACK", help="a track id")
    why.add_argument("--week", metavar="WEEK", help="the closed week (the last one that was run)")
    letters = _add_letters(add)
    evaluations = add("evaluations", "evaluating", "evaluations", "what the lists were worth, beside last week again")
    evaluations.add_argument("--means", action="store_true", help="only the means over the weeks, with their intervals")
    evaluations.add_argument("--out", type=Path, metavar="FILE", help="draw the series into this PNG file too")
    compare, experiments = _add_compare(add), _add_experiments(add)
    config = add("config", "checking", "config", "the settings in force, secrets masked")
    doctor = add("doctor", "checking", "doctor", "what is reachable, what is wrong, and what to do")
    for command in (playlists, counters, why, letters, evaluations, compare, experiments, config, doctor):
        command.add_argument("--json", action="store_true", help="one object a line")


def _add_letters(add: Add) -> argparse.ArgumentParser:
    letters = add("dead-letters", "letters", "dead_letters", "what was not counted, why, and where it came from")
    more = letters.add_subparsers(title="more", metavar="[replay]")
    replay = add("replay", "letters", "replay", "send it again; what has become valid counts, and only once", more)
    letters.add_argument("--topic", choices=LETTERS, default=LETTERS[0], help="whose letters (sessions)")
    replay.add_argument("--topic", choices=LETTERS[:2], default=argparse.SUPPRESS, help="whose letters (sessions)")
    letters.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", help=f"only {', '.join(LETTER_CAUSES)}")
    replay.add_argument("--cause", choices=LETTER_CAUSES, metavar="CAUSE", default=argparse.SUPPRESS, help="only these")
    letters.add_argument("--limit", type=positive, metavar="N", help="the newest N (50; with --json all)")
    replay.add_argument("--yes", action="store_true", help="do it; without this it only says what it would send")
    return letters


def _add_compare(add: Add) -> argparse.ArgumentParser:
    compare = add("compare", "comparing", "compare", "a kept run against what happened or another; alone, those kept")
    compare.epilog = (
        "Alone it lists the runs that are kept. One run is judged by the plays that happened over the span, once its "
        "week has closed. Of two, the first is judged as if the second's ranking were the true one; what needs plays "
        "(NDCG, captured plays) is then the first's of what happened, as a share of the second's."
    )
    compare.add_argument(
        "runs", nargs="*", metavar="RUN", help="WEEK/REVISION/GROUP; the week is the one that the list is for"
    )
    span = compare.add_mutually_exclusive_group()
    span.add_argument(
        "--span",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help="rank, and judge, by the week to come and the N - 1 before it (HITPARADE_LIST_SPAN_WEEKS, as lists do); "
        "1 is the forecast alone",
    )
    span.add_argument(
        "--study",
        action="store_true",
        help="rank as the original study did: a neural run by its prediction and the last three weeks (as --span 4), a "
        "linear one by its prediction and all four (as --span 5); what happened is over the same weeks",
    )
    return compare


def _add_experiments(add: Add) -> argparse.ArgumentParser:
    experiments = add("experiments", "looking", "experiments", "the experiments of the file")
    more = experiments.add_subparsers(title="more", metavar="[assign USER | report NAME]")
    assign = add("assign", "looking", "assign", "the group of a user", more)
    assign.add_argument("user", type=an_id, metavar="USER", help="a user id")
    experiments.add_argument("--week", metavar="WEEK", help="how each stands in this week (that of stream time)")
    # A default would take the place of what was given before `assign`.
    assign.add_argument("--week", default=argparse.SUPPRESS, metavar="WEEK", help="in this week (that of stream time)")
    assign.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one object")
    _add_report(add, more)
    return experiments


def _add_report(add: Add, more: Any) -> None:
    report = add("report", "reporting", "report", "which group's list is better, as far as that can be told", more)
    report.epilog = (
        "Settle the primary metric, the weeks and how heavy users are treated before you look: chosen after the "
        "figures, they make them worthless. docs/experiments.md says how to read it."
    )
    report.add_argument("name", metavar="NAME", help="an experiment of the file")
    report.add_argument(
        "--weeks", metavar="FIRST..LAST", help="the weeks that are planned, whether or not they are over (the file's)"
    )
    report.add_argument("--control", metavar="GROUP", help="what the others are held against (the file's first)")
    report.add_argument(
        "--primary", default="plays_per_active_user", metavar="METRIC", help="what decides (plays_per_active_user)"
    )
    report.add_argument("--guardrail", default="skip_rate", metavar="METRIC", help="what must not be worse (skip_rate)")
    report.add_argument(
        "--correction", choices=("holm", "bh"), default="holm", help="of the other metrics, for their number (holm)"
    )
    report.add_argument(
        "--alpha", type=part, default=0.05, metavar="SHARE", help="so many of those without effect may err (0.05)"
    )
    report.add_argument(
        "--effect", type=part, default=0.02, metavar="SHARE", help="the relative effect that it is to see (0.02)"
    )
    heavy = report.add_mutually_exclusive_group()
    heavy.add_argument(
        "--winsorise", type=part, default=0.999, metavar="SHARE", help="cap users above this quantile (0.999); 1: none"
    )
    heavy.add_argument("--cap", type=positive, metavar="N", help="cap users at so many events a week, instead")
    report.add_argument("--leave-out", action="store_true", help="leave those users out, instead of capping them")
    report.add_argument(
        "--without-newcomers",
        dest="newcomers",
        action="store_false",
        help="leave out who was first seen after the first week",
    )
    report.add_argument(
        "--all-assigned",
        dest="exposed",
        action="store_const",
        const=False,
        help="of all assigned users, even where it is known who has seen a list",
    )
    report.add_argument(
        "--one-look", action="store_true", help="nobody has looked before and nobody will again: spend all error now"
    )
    report.add_argument(
        "--before", type=whole, default=4, metavar="N", help="weeks before the experiment that sharpen it (4); 0: none"
    )
    report.add_argument(
        "--kept", action="store_true", help="of the weeks' files that are kept: ask neither Kafka nor Redis"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="also draw NAME.png and NAME.svg here")
    report.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one object a metric, the conclusion as the last"
    )


def _add_sizing(add: Add) -> None:
    sizing = add("sizing", "sizing", "sizing", "how many partitions, consumers, Redis nodes and bytes a load needs")
    sizing.add_argument("--events-per-s", type=amount, required=True, metavar="N", help="on average in a busy hour")
    sizing.add_argument("--tracks", type=amount, required=True, metavar="N", help="that are played every week")
    sizing.add_argument("--weeks-kept", type=amount, metavar="N", help="weeks with counters (those of the settings)")
    sizing.add_argument("--array", type=amount, default=25, metavar="N", help="events a record (25)")
    sizing.add_argument("--groups", type=amount, default=2, metavar="N", help="groups of the experiment (2)")
    sizing.add_argument("--client", choices=CLIENTS, help="what reads Kafka (that of the settings)")
    sizing.add_argument("--json", action="store_true", help="one object")


def _add_models(add: Add, group: Callable[[str, str], Any]) -> None:
    train = add("train", "learning", "train", "train the neural model on the history and put it in use")
    train.add_argument("--until", metavar="WEEK", help="learn from weeks up to this one (the last)")
    train.add_argument("--seed", type=seed, default=0, metavar="N", help="of weights and order (0)")
    train.add_argument("--if-better", action="store_true", help=f"put it in use only {IF_BETTER}")
    _add_backtest(add)
    models = add("models", "learning", "models", "the versions of the neural model; which is in use")
    more = models.add_subparsers(title="more", metavar="[promote VERSION]")
    promote = add("promote", "learning", "promote", "put a version in use; an older one is a rollback", more)
    promote.add_argument(
        "version", nargs="?", metavar="VERSION", help="one that `hitparade models` lists (the newest, with --if-better)"
    )
    promote.add_argument("--if-better", action="store_true", help=f"only {IF_BETTER}")
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


def _add_backtest(add: Add) -> None:
    backtest = add(
        "backtest",
        "backtesting",
        "backtest",
        "what the models would have forecast of past weeks, each from the weeks before it, against what happened and "
        "against last week again; a track absent from a chart counts as without plays there, though it is only below "
        "the last rank",
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
    backtest.add_argument("--json", action="store_true", help="one object a model, one for the bound")
    _add_workers(backtest, "weeks")
