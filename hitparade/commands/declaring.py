"""How a command is declared: its name, what runs it, what it does, and examples; all else follows from that."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from hitparade.arguments import positive, ray_address

MOST_NAMED = 10
"""Commands that an error names; more than that nobody reads."""


class Parser(argparse.ArgumentParser):
    """A parser that takes only whole options, since a shortened one may mean another in the next version.

    What is wrong is one sentence, not a page of usage.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **more)

    def error(self, message: str) -> NoReturn:
        """End with 2, and say what is wrong and where to read more."""
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What this parser does not know, nobody above it does."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_guess(unknown[0], self._option_string_actions)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        is_command = isinstance(action, argparse._SubParsersAction)
        expected = "a command" if is_command and len(known) > MOST_NAMED else _either(known)
        message = f"expected {expected}, found {value!r}{_guess(str(value), known)}"
        raise argparse.ArgumentError(None if is_command else action, message)


def _either(known: Sequence[str]) -> str:
    """The choices in words.

    >>> _either(["a"]), _either(["a", "b", "c"])
    ('a', 'a, b or c')
    """
    *most, last = known
    return f"{', '.join(most)} or {last}" if most else last


def _guess(found: str, known: Iterable[str]) -> str:
    near = get_close_matches(found, known, n=1)
    return f", did you mean {near[0]}?" if near else ""


class Formatter(argparse.HelpFormatter):
    """Help in which commands stand under headings, and lines that begin with blanks stay as they are."""

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):  # its commands, without a line for their placeholder
            return "".join(map(self._format_action, action._get_subactions()))
        heading = getattr(action, "heading", None)
        return (f"\n{heading}:\n" if heading else "") + super()._format_action(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            p if "\n  " in p else super(Formatter, self)._fill_text(p, width, indent) for p in paragraphs
        )


class Commands:
    """The commands below a parser, in the order in which they are shown."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        metavar: str | None = None,
        title: str = "commands",
        required: bool = True,
    ) -> None:
        self._parsers = parser.add_subparsers(title=title, metavar=metavar, required=required, parser_class=Parser)
        self.heading: str | None = None
        """what stands above the next one"""

    def add(
        self,
        name: str,
        runs: str,
        text: str,
        *,
        json: str | None = None,
        examples: Sequence[str] = (),
        more: str | None = None,
    ) -> argparse.ArgumentParser:
        """A command.

        Args:
            name: what people type.
            runs: "module.function" of this package, which takes the settings and the arguments, and gives the exit
                code. It is imported when the command runs, so that the counter consumer starts without pandas.
            text: what it does.
            json: what --json prints; without it there is no such option.
            examples: as people type them after "hitparade ", a comment behind # where one is of use.
            more: what else is to be said of it.
        """
        command = self._parser(name, text, examples, more)
        command.set_defaults(command=_later(runs))
        if json:  # a default would take the place of what was given before the name of a command below another
            command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=json)
        return command

    def group(self, name: str, text: str) -> "Commands":
        """Commands below a name that is none by itself."""
        return Commands(self._parser(name, text))

    def _parser(
        self, name: str, text: str, examples: Sequence[str] = (), more: str | None = None
    ) -> argparse.ArgumentParser:
        shown = "\n".join(["examples:", *(f"  hitparade {example}" for example in examples)]) if examples else None
        epilog = "\n\n".join(part for part in (more, shown) if part)
        parser: argparse.ArgumentParser = self._parsers.add_parser(name, help=text, description=text, epilog=epilog)
        self._parsers._choices_actions[-1].heading, self.heading = self.heading, None  # type: ignore[attr-defined]
        return parser


def every(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and all below it, in the order of their declaration."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from every(below)


def _later(runs: str) -> Callable[[Any, argparse.Namespace], int]:
    module, _, name = runs.rpartition(".")

    def run(settings: Any, arguments: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"hitparade.{module}"), name)(settings, arguments)
        return code

    return run


def add_workers(command: argparse.ArgumentParser, slices: str) -> None:
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
