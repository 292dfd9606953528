"""`python -m hitparade.commands.page [FILE]`: writes docs/cli.md from what the commands declare."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hitparade.commands.declaring import every
from hitparade.parser import PURPOSES, build_parser

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
OPENING = """\
# The command line

`make cli` writes this page from what `--help` says; a test holds the two equal.

`hitparade` alone says what to do first. Settings come from the environment ([README](../README.md#settings)).
Results go to standard output, logs and progress to standard error. With `--json` standard output has one JSON object a
line, and nothing else. Colours and progress bars are for terminals; where `NO_COLOR` is set, there are no colours.

| exit code | means |
| --- | --- |
| 0 | done; of what runs until it is told to end: SIGTERM has told it |
| 1 | it failed, or found what is wrong; standard error says what, and what to do |
| 2 | wrong usage, or wrong settings |
| 130 | Ctrl-C. What is in hand is finished or undone first; a second Ctrl-C does not wait for that |
| 141 | nobody reads the pipe that it writes to any more |

`hitparade completion bash` (or `zsh`, `fish`) prints what lets your shell complete all of this.
"""


def page() -> str:
    """The whole of it."""
    parser = build_parser()
    return "\n".join([OPENING, *_contents(parser), *_commands(parser)])


def _contents(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The commands by purpose, each with a link."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for n, command in enumerate(action._get_subactions()):
                if heading := getattr(command, "heading", None) if n else next(iter(PURPOSES)):
                    yield f"\n**{heading[0].upper()}{heading[1:]}**\n\n| command | does |\n| --- | --- |"
                yield f"| [`{command.dest}`](#hitparade-{command.dest}) | {_cell(command.help)} |"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for command in list(every(parser))[1:]:
        more, _, examples = (command.epilog or "").rpartition("examples:\n")
        yield f"\n## {command.prog}\n\n{_sentence(command.description or '')}"
        if more := more.strip():
            yield f"\n{more}"
        yield f"\n```\n{_usage(command)}\n```"
        if rows := list(_arguments(command)):
            yield "\n".join(["\n| argument | means |", "| --- | --- |", *rows])
        if examples:
            yield "\n```\n" + re.sub("^  ", "", examples, flags=re.MULTILINE) + "\n```"


def _usage(command: argparse.ArgumentParser) -> str:
    """One line, whatever the width of a terminal and the version of Python."""
    parts = [_named(action) for action in _shown(command) if action.required]
    return " ".join([command.prog, *parts, "[OPTION …]"])


def _arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _shown(command):
        if isinstance(action, argparse._SubParsersAction):
            for below in action._get_subactions():
                anchor = f"{command.prog} {below.dest}".replace(" ", "-")
                yield f"| [`{below.dest} …`](#{anchor}) | {_cell(below.help)} |"
        else:
            yield f"| `{_named(action)}` | {_cell(action.help)} |"


def _shown(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All but --help, which every command has."""
    return (action for action in command._actions if not isinstance(action, argparse._HelpAction))


def _named(action: argparse.Action) -> str:
    """An argument as people type it."""
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    value = "" if action.nargs == 0 else str(action.metavar or choices)
    value = {"*": f"[{value} …]", "+": f"{value} …", "?": f"[{value}]"}.get(str(action.nargs), value)
    return " ".join([*action.option_strings[-1:], value]).strip()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _cell(text: str | None) -> str:
    return (text or "").replace("%%", "%").replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else PAGE).write_text(page(), encoding="utf-8")
