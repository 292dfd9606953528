"""The options of `hitparade simulate` for an experiment whose truth is known, and for what goes wrong in one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hitparade import wiring
from hitparade.arguments import change, positive, rate, share
from hitparade.errors import UsageError
from hitparade.settings import Settings

if TYPE_CHECKING:
    from producers.treatment import Treatment


def add_options(simulate: argparse.ArgumentParser) -> None:
    """Two groups of options; without them the same seed gives the same bytes as if there were none."""
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


def fields_of(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options make of a simulation; nothing where none is given.

    Raises:
        UsageError: some do not fit together, or the lists cannot be read.
        ExperimentError: the experiment file is wrong.
    """
    from producers.damage import Damage

    treatment, group = _treatment(arguments), arguments.treatment_group
    for name in ("novelty", "contamination"):
        if getattr(arguments, name) and not treatment.is_felt:
            raise UsageError(f"--{name} changes an effect: expected --treatment-plays, -skips or -likes with it")
    damage = Damage(arguments.bots, arguments.lost_users, group, arguments.duplicates, arguments.late)
    if not (treatment.is_felt or treatment.lists or arguments.truth or arguments.skew or damage.is_any):
        return {}
    experiments = wiring.experiments(settings)
    return {"experiments": experiments, "treatment": treatment, "damage": damage, "skew": arguments.skew}


def _treatment(arguments: argparse.Namespace) -> "Treatment":
    from producers.treatment import ListsError, Treatment, read_lists

    try:
        return Treatment(
            arguments.treatment_group,
            arguments.treatment_plays,
            arguments.treatment_skips,
            arguments.treatment_likes,
            arguments.novelty,
            arguments.contamination,
            read_lists(arguments.lists) if arguments.lists else None,
        )
    except ListsError as cause:
        raise UsageError(f"--lists: {cause}") from cause
