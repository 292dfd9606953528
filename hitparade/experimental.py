"""What the options of `hitparade simulate` make of an experiment with a known truth, and of what goes wrong."""

import argparse
from typing import TYPE_CHECKING, Any

from hitparade import wiring
from hitparade.errors import UsageError
from hitparade.settings import Settings

if TYPE_CHECKING:
    from producers.treatment import Treatment


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
