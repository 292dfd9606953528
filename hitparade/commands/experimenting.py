"""What is known of experiments."""

import argparse
from pathlib import Path

from hitparade.arguments import an_id, part, positive, whole
from hitparade.commands.declaring import Commands


def declare(commands: Commands) -> None:
    """Those of the file, who is in which group, which group's list is better; and who is to be forgotten."""
    experiments = commands.add(
        "experiments",
        "looking.experiments",
        "the experiments of the file",
        json="one object a group",
        examples=(
            "experiments",
            "experiments assign 101",
            "experiments report neural-against-linear --out pictures",
            "experiments decide neural-against-linear --dry-run",
        ),
    )
    experiments.add_argument("--week", metavar="WEEK", help="how each stands in this week (that of stream time)")
    more = Commands(experiments, "[assign USER | report NAME | decide NAME]", "more", required=False)
    assign = more.add(
        "assign",
        "looking.assign",
        "the group of a user",
        json="one object",
        examples=("experiments assign 101 --week 2025-W12",),
    )
    assign.add_argument("user", type=an_id, metavar="USER", help="a user id")
    # A default would take the place of what was given before `assign`.
    assign.add_argument("--week", default=argparse.SUPPRESS, metavar="WEEK", help="in this week (that of stream time)")
    _report(more)
    _decide(more)
    forget = commands.add(
        "forget",
        "forgetting.forget",
        "erase a listener from what is kept of each",
        json="one object",
        more="docs/experiments.md says what is kept about whom, where, for how long. Interrupted, begin it again.",
        examples=("forget 101 --dry-run", "forget 101"),
    )
    forget.add_argument("user", type=an_id, metavar="USER", help="a user id")
    forget.add_argument("--dry-run", action="store_true", help="only say of which weeks there is something of them")


def _report(more: Commands) -> None:
    report = more.add(
        "report",
        "reporting.report",
        "which group's list is better, as far as that can be told",
        json="one object a metric, the conclusion as the last",
        more="Settle the primary metric, the weeks and how heavy users are treated before you look: chosen after the "
        "figures, they make them worthless. docs/experiments.md says how to read it.",
        examples=("experiments report neural-against-linear --out pictures",),
    )
    report.add_argument("name", metavar="NAME", help="an experiment of the file")
    report.add_argument(
        "--weeks", metavar="FIRST..LAST", help="the weeks that are planned, whether or not they are over (the file's)"
    )
    _plan(report)
    report.add_argument(
        "--kept", action="store_true", help="of the weeks' files that are kept: ask neither Kafka nor Redis"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="also draw NAME.png and NAME.svg here")


def _decide(more: Commands) -> None:
    decide = more.add(
        "decide",
        "deciding.decide",
        "let the winner of an experiment that has ended make everyone's list, and keep why",
        json="one object",
        more="It decides by the report: give it the options that the report is read with. The winner's model makes "
        "everyone's list, outside experiments, from the next week on; nothing changes for weeks that have begun. Exit "
        "code 1 where nothing can be decided.",
        examples=("experiments decide neural-against-linear --dry-run", "experiments decide neural-against-linear"),
    )
    decide.add_argument("name", metavar="NAME", help="an experiment of the file")
    what = decide.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="only say what would be decided")
    what.add_argument("--undo", action="store_true", help="take the decision back, from the next week on")
    _plan(decide)
    decide.set_defaults(weeks=None, kept=False)


def _plan(report: argparse.ArgumentParser) -> None:
    """What is compared, and how."""
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
