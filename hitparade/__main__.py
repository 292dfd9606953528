"""The command line: read the settings, run one command, and end with its exit code."""

import io
import os
import signal
import sys
from collections.abc import Sequence

from hitparade.signals import INTERRUPTED, was_interrupted

NOBODY_READS = 128 + signal.SIGPIPE
"""The exit code that shells give to what ended because nobody reads its pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; never a traceback, but for a mistake of ours.

    Returns:
        0 on success, 1 for what failed, 2 for wrong usage or settings, 130 for Ctrl-C, 141 where nobody reads any more.
    """
    _open_streams()
    try:
        code = _run(arguments)
        print(end="", flush=True)  # here, where a full disk or a closed pipe still finds its sentence
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        code = NOBODY_READS
    except OSError as cause:
        code = _say(f"the output cannot be used: {cause.strerror or cause}", 1)
    if was_interrupted():
        code = INTERRUPTED
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one, while the interpreter ends, would be a traceback
    _let_go()
    return code


def _open_streams() -> None:
    """Give what is closed something to be: the next file or socket would get its number, and its text."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # it takes the least number that is free
            setattr(sys, name, open(number, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name may hold what the terminal's encoding lacks


def _run(arguments: Sequence[str] | None) -> int:
    from hitparade.parser import FIRST_STEPS, build_parser

    try:
        parsed = build_parser().parse_args(arguments)
    except SystemExit as ended:  # --help has been shown, or what is wrong
        return int(ended.code or 0)
    if not parsed.command:
        print(FIRST_STEPS)
        return 0
    from hitparade.errors import USAGE, is_expected, sentence
    from hitparade.logs import start_logging
    from hitparade.settings import Settings

    try:
        settings = Settings.from_env(os.environ)
        start_logging(settings.log_format, settings.log_level, settings.secrets)
        code: int = parsed.command(settings, parsed)
        return code
    except BrokenPipeError:
        raise
    except USAGE as cause:
        return _say(str(cause), 2)
    except Exception as cause:
        if not is_expected(cause):
            raise
        return _say(sentence(cause, settings), 1)


def _say(text: str, code: int) -> int:
    print(f"hitparade: {text}", file=sys.stderr)
    return code


def _let_go() -> None:
    """Drop what standard output does not take; else the interpreter fails on it once more at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
