"""The whole command line: commands by purpose, each declared in hitparade/commands."""

import argparse

from hitparade.commands import beginning, comparing, experimenting, feeding, learning, looking, mending, running
from hitparade.commands.declaring import Commands, Parser

PURPOSES = {
    "begin here": (beginning.declare,),
    "run the pipeline": (feeding.declare, running.declare),
    "look at what came of it": (looking.declare,),
    "models and experiments": (learning.declare, comparing.declare, experimenting.declare),
    "check and mend": (mending.declare,),
}
"""What stands under which heading; what is needed by a command is imported when it runs."""


def build_parser() -> argparse.ArgumentParser:
    """Every command, with its arguments."""
    parser = Parser(
        prog="hitparade",
        description="A weekly top 50 from a stream of listening sessions: Kafka in, Redis counters, "
        "one playlist per experiment group out.",
        epilog="Settings come from the environment (HITPARADE_…): `hitparade config` shows them. "
        "`hitparade COMMAND --help` has examples. Begin with `hitparade demo`.",
    )
    parser.set_defaults(json=False)
    first, *_ = PURPOSES
    commands = Commands(parser, "COMMAND", title=first)
    for purpose, declarations in PURPOSES.items():
        commands.heading = None if purpose == first else purpose
        for declare in declarations:
            declare(commands)
    return parser
