"""What sends events and tracks: files, and the simulator."""

import argparse
from pathlib import Path

from hitparade.arguments import change, positive, rate, share
from hitparade.commands.declaring import Commands
from producers.climates import CLIMATES


def declare(commands: Commands) -> None:
    """Simulated listening, and files."""
    _simulate(commands)
    produce = commands.group("produce", "send files into Kafka")
    sessions = produce.add(
        "sessions",
        "sending.produce_sessions",
        "session events, one JSON object a line, gzip too",
        json="one object: what was sent",
        examples=(
            "produce sessions sessions.jsonl.gz",
            "produce sessions week1.jsonl week2.jsonl --rate 1000",
        ),
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
    sessions.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="rewrite events of others as this TOML file says (docs/integrating.md)",
    )
    tracks = produce.add(
        "tracks",
        "sending.produce_tracks",
        "the catalogue, one JSON object a line, gzip too",
        json="one object: what was sent",
        examples=("produce tracks tracks.jsonl",),
    )
    tracks.add_argument("file", type=Path, metavar="FILE", help="a track needs an id; the rest may be missing")


def _simulate(commands: Commands) -> None:
    simulate = commands.add(
        "simulate",
        "sending.simulate",
        "a listening service with known truth, into Kafka or into files",
        json="one object: what was written; into Kafka two, for tracks and events",
        examples=(
            "simulate --weeks 4                    # into the topics",
            "simulate --live                       # at the pace of the clock, until Ctrl-C",
            "simulate --catalogue fast --weeks 104 --out simulated",
            "simulate --treatment-plays 0.05 --weeks 8 --out simulated",
        ),
    )
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
    _experiment(simulate)
    _damage(simulate)


def _experiment(simulate: argparse.ArgumentParser) -> None:
    """Without these options and those of damage the same seed gives the same bytes as if there were none."""
    effect = simulate.add_argument_group(
        "an experiment",
        "by the experiment file: what one group does otherwise with the tracks of its list. What is true of it by "
        "expectation is written beside the events, as experiment.json, with the lists, as lists.jsonl",
    )
    for kind, of in (("plays", "how often they are played"), ("skips", "the chance that a play is skipped, then")):
        effect.add_argument(
            f"--treatment-{kind}", type=change, default=0.0, metavar="X", help=f"relative change of {of} (0)"
        )
    effect.add_argument(
        "--treatment-likes", type=change, default=0.0, metavar="X", help="relative change of the chance of a like (0)"
    )
    effect.add_argument("--treatment-group", default="treatment", metavar="GROUP", help="whose list it is (treatment)")
    effect.add_argument(
        "--novelty", type=rate, metavar="WEEKS", help="the changes halve in so many weeks (they last unless given)"
    )
    effect.add_argument(
        "--contamination",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="of the users, who get the list of another group than theirs (0)",
    )
    effect.add_argument(
        "--lists",
        type=Path,
        metavar="FILE",
        help="the lists, as `hitparade playlists --json` or an earlier lists.jsonl has them, of every week of the "
        "experiment (the 50 tracks expected to be played most in the week before, for every group)",
    )
    effect.add_argument("--truth", type=Path, metavar="FILE", help="write what is true here (DIR/experiment.json)")


def _damage(simulate: argparse.ArgumentParser) -> None:
    damage = simulate.add_argument_group("what goes wrong", "none of it changes what is true of the listeners")
    damage.add_argument(
        "--skew",
        type=rate,
        default=0.0,
        metavar="X",
        help="users differ more in how often they listen: by a log-normal factor of this deviation, up to 3 (0)",
    )
    damage.add_argument(
        "--bots", type=positive, default=0, metavar="N", help="so many more users play one track all day (0)"
    )
    for name, of in (
        ("lost-users", "of the treatment's group, whose events are lost"),
        ("duplicates", "of the events, that are sent twice; all of them then have an event_id"),
        ("late", "of the events, that come up to two weeks late; a file keeps their order: produce it --unsorted"),
    ):
        damage.add_argument(f"--{name}", type=share, default=0.0, metavar="SHARE", help=f"{of} (0)")
