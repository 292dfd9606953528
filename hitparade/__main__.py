"""The command line: read the settings, run one command, and end with its exit code."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from hitparade.errors import USAGE, is_expected, sentence
from hitparade.logs import start_logging
from hitparade.parser import build_parser
from hitparade.settings import Settings

Command = Callable[[Settings, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 on success, 1 for what failed, 2 for wrong usage or settings; never a traceback for those."""
    parsed = build_parser().parse_args(arguments)
    command: Command = parsed.command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name may hold what the terminal's encoding lacks
    try:
        settings = Settings.from_env(os.environ)
        start_logging(settings.log_format, settings.log_level)
        code = command(settings, parsed)
        print(end="", flush=True)  # here, where a full disk or a closed pipe still finds its sentence
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _let_go()
        return 0
    except USAGE as cause:
        print(f"hitparade: {cause}", file=sys.stderr)
        return 2
    except Exception as cause:
        if not is_expected(cause):
            raise
        print(f"hitparade: {sentence(cause, settings)}", file=sys.stderr)
        _let_go()
        return 1


def _let_go() -> None:
    """Drop what standard output does not take; else the interpreter fails on it once more at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
