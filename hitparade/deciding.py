"""The command `experiments decide`: the winner of an experiment makes everyone's list, from the next week on."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from features.weeks import ChartWeek
from hitparade import data_folder, output, wiring
from hitparade.errors import NotDecided, UsageError
from hitparade.reporting import analysed, named, planned
from hitparade.settings import Settings
from models.decisions import Decided, Decision, Decisions, Undone, refusal
from models.experiments import EVERYONE_NAME, PAST, Experiment, Experiments
from models.plans import Plan
from models.reports import Report
from models.scorers import NEURAL, load

NO_END = "it has no last week: give it one in the file, and the report then reckons with it"
Answer = Mapping[str, Any]
MadeBy = dict[str, str | None]


def decide(settings: Settings, arguments: argparse.Namespace) -> int:
    """Decide, say what would be decided, or take it back."""
    decisions, week = wiring.decisions(settings), wiring.counter_reader(settings).standing().newest()
    if arguments.undo:
        answer = _undo(settings, decisions, arguments.name, week)
    else:
        answer = _decide(settings, decisions, week, arguments)
    if arguments.json:
        output.print_json([{key: value for key, value in answer.items() if key != "text"}])
    else:
        print(answer["text"])
    return 0


def _decide(settings: Settings, decisions: Decisions, week: ChartWeek, arguments: argparse.Namespace) -> Answer:
    experiments = wiring.experiments(settings)
    experiment = named(experiments.experiments, arguments.name)
    if earlier := decisions.of(experiment.name):
        raise NotDecided(f"{experiment.name} is decided already: {_standing(earlier)}")
    _check_has_ended(experiment, week)
    found, plan = analysed(*planned(settings, experiment, arguments))
    if reason := refusal(found, plan.planned):
        raise NotDecided(f"{experiment.name} is not decided: {reason}")
    decision = _decision(settings, experiments, experiment, week, found, plan)
    if not arguments.dry_run:
        _put_in_force(settings, decisions, decision, week)
    return _told(decision, experiments.in_force(week.after()), arguments.dry_run)


def _check_has_ended(experiment: Experiment, week: ChartWeek) -> None:
    """Before the log is read: of an experiment that goes on nothing is decided, whatever the report says."""
    if experiment.state(week) == PAST:
        return
    ends = f"its last week is {experiment.last_week}, and {week} is still open" if experiment.last_week else NO_END
    raise NotDecided(
        f"{experiment.name} is not decided: it has not finished: {ends}. `hitparade experiments report "
        f"{experiment.name}` says how it stands"
    )


def _decision(
    settings: Settings, experiments: Experiments, experiment: Experiment, week: ChartWeek, found: Report, plan: Plan
) -> Decision:
    """What follows from the report.

    Raises:
        NotDecided: some of the winner's lists were not its model's.
        ArtefactError: its model is a version that is not there, or cannot be used.
    """
    winner = next(group for group in experiment.groups if group.name == found.winner)
    registry, version = wiring.registry(settings), winner.model.partition("@")[2]
    if version:
        load(registry.version(NEURAL, version))
    in_use = registry.champion(NEURAL) if version else None
    return Decision(
        experiment=experiment.name,
        winner=winner.name,
        model=winner.model,
        from_week=week.after().name,
        decided_at=datetime.now(UTC),
        replaces=_everyones(experiments, week.after()),
        replaces_version=in_use.name if in_use else None,
        sentence=found.sentence,
        definition={
            "salt": experiment.salt,
            "first_week": experiment.first_week and experiment.first_week.name,
            "last_week": experiment.last_week and experiment.last_week.name,
            "groups": {group.name: {"weight": group.weight, "model": group.model} for group in experiment.groups},
        },
        plan=asdict(plan),
        made_by=_made_by(settings, winner.name, found.weeks),
        report=found,
    )


def _made_by(settings: Settings, group: str, weeks: list[str]) -> MadeBy:
    """What made the group's lists.

    Raises:
        NotDecided: for some naive had to stand in, so that they say nothing of the group's model.
    """
    published = wiring.playlist_log(settings)
    published.refresh()
    lists = {week: published.latest(week, group) for week in weeks}
    if others := {week: one.fallback for week, one in lists.items() if one and one.fallback}:
        raise NotDecided(
            f"{group} won, but not by its own model: naive's list took its place in "
            + "; ".join(f"{week} ({reason})" for week, reason in others.items())
        )
    return {week: f"{one.model} {one.model_version}" if one else None for week, one in lists.items()}


def _everyones(experiments: Experiments, week: ChartWeek) -> str:
    """The model that makes everyone's list in a week, where no experiment holds."""
    return Experiments(decisions=experiments.decisions).in_force(week).groups[0].model


def _put_in_force(settings: Settings, decisions: Decisions, decision: Decision, week: ChartWeek) -> None:
    """The version first: whoever is interrupted here has decided nothing, and may decide again."""
    if decision.pinned:
        wiring.registry(settings).promote(NEURAL, decision.pinned, after=week.name)
    decisions.keep(decision)
    data_folder.send(settings)


def _told(decision: Decision, then: Experiment, is_dry: bool) -> Answer:
    makes = f"{decision.winner}'s {decision.model} makes everyone's list from {decision.from_week} on"
    same = decision.replaces == decision.everyones and not decision.pinned
    lines = [
        f"{decision.experiment} {'would be' if is_dry else 'is'} decided: {makes}"
        + (", as it did before." if same else f", in place of {decision.replaces}."),
        f"Why: {decision.sentence}",
    ]
    if then.name != EVERYONE_NAME:
        lines.append(f"{then.name} holds in {decision.from_week}: everyone's list comes after it.")
    if without := [week for week, by in decision.made_by.items() if by is None]:
        lines.append(f"Warning: no list of {decision.winner} was published for {', '.join(without)}.")
    lines += [f"Warning: {warning}" for warning in decision.report.warnings]
    if not is_dry:
        lines.append(f"`hitparade experiments decide {decision.experiment} --undo` takes it back.")
    answer = decision.model_dump(mode="json")
    return {**answer, "is_decided": not is_dry, "text": "\n".join(lines)}


def _standing(earlier: Decided) -> str:
    """What was decided, and whether it still holds."""
    decision, undone = earlier.decision, earlier.undone
    text = f"{decision.winner}'s {decision.model} makes everyone's list from {decision.from_week} on"
    return f"{text}, until it was taken back from {undone.from_week} on" if undone else text


def _undo(settings: Settings, decisions: Decisions, name: str, week: ChartWeek) -> Answer:
    """Take a decision back: from the next week on what was in use before is again, unless something newer is."""
    found = decisions.of(name)
    if found is None:
        known = ", ".join(one.decision.experiment for one in decisions.all()) or "none"
        raise UsageError(f"experiment {name!r}: expected one that is decided ({known})")
    if found.undone:
        raise NotDecided(f"{name} is taken back already: {_standing(found)}")
    decision, registry = found.decision, wiring.registry(settings)
    in_use = registry.champion(NEURAL) if decision.pinned else None
    if in_use and in_use.name == decision.pinned and decision.replaces_version:
        registry.promote(NEURAL, decision.replaces_version, after=week.name)
    undone = Undone(from_week=week.after().name, undone_at=datetime.now(UTC))
    decisions.undo(name, undone)
    data_folder.send(settings)
    model = _everyones(wiring.experiments(settings), week.after())
    text = f"{name} is taken back: from {undone.from_week} on everyone's list is {model}'s."
    return {"experiment": name, **undone.model_dump(mode="json"), "model": model, "text": text}
