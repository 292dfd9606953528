"""The command that prints what a shell needs to complete the others: a script, so that completing starts no Python."""

import argparse
from pathlib import Path

import shtab

from hitparade.commands.declaring import every
from hitparade.parser import build_parser
from hitparade.settings import Settings


def completion(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print the script of a shell."""
    parser = build_parser()
    for command in every(parser):
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))
    return 0
