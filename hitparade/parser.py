"""The whole command line: commands by purpose, each declared in hitparade/commands."""

import argparse

from hitparade import __version__
from hitparade.commands import (
    beginning,
    comparing,
    experimenting,
    feeding,
    importing,
    learning,
    looking,
    mending,
    running,
)
from hitparade.commands.declaring import Commands, Parser

PURPOSES = {
    "begin here": (beginning.declare,),
    "run the pipeline": (feeding.declare, importing.declare, running.declare),
    "look at what came of it": (looking.declare,),
    "models and experiments": (learning.declare, comparing.declare, experimenting.declare),
    "check and mend": (mending.declare,),
}
"""What stands under which heading; what is needed by a command is imported when it runs."""

FIRST_STEPS = """\
hitparade makes a weekly top 50 from a stream of listening sessions.

See it work, on a broker and a Redis of its own, with simulated listening:
  hitparade demo --serve              a minute later its lists are on http://127.0.0.1:8080

Use it on your Kafka and Redis; `hitparade embedded` starts both here, if you have none:
  export HITPARADE_KAFKA_BOOTSTRAP_SERVERS=HOST:9092 HITPARADE_REDIS_URL=redis://HOST:6379/0
  hitparade topics                    create the topics
  hitparade doctor                    what is reachable, what is wrong, and what to do
  hitparade produce sessions FILE     send your events; `hitparade simulate` sends invented ones
  hitparade consume sessions          count them; then `consume tracks`, `consume weekly` and `schedule`
  hitparade playlists --follow        read the lists as they are published

`hitparade --help` names every command, `hitparade COMMAND --help` explains one, with examples.
`hitparade completion --help` says how your shell completes them."""


def build_parser() -> argparse.ArgumentParser:
    """Every command, with its arguments."""
    parser = Parser(
        prog="hitparade",
        description="A weekly top 50 from a stream of listening sessions: Kafka in, Redis counters, "
        "one playlist per experiment group out.",
        epilog="Settings come from the environment (HITPARADE_…): `hitparade config` shows them. "
        "`hitparade COMMAND --help` has examples. Begin with `hitparade demo`.",
    )
    parser.add_argument("--version", action="version", version=f"hitparade {__version__}", help="show the version")
    parser.set_defaults(command=None, json=False)
    first, *_ = PURPOSES
    commands = Commands(parser, "COMMAND", title=first, required=False)
    for purpose, declarations in PURPOSES.items():
        commands.heading = None if purpose == first else purpose
        for declare in declarations:
            declare(commands)
    return parser
