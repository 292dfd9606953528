"""The command `experiments decide`, on real servers: who wins makes everyone's list, from the next week on."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tea_tasting")

from features.weeks import Calendar
from hitparade import wiring
from hitparade.embedded import Embedded
from models import naive
from models.decisions import Decision, DecisionError, Decisions, Undone, refusal
from models.experiments import Experiments, load
from models.reports import Report, Touched
from models.scorers import NEURAL, Fitted, open_model
from tests.builders_weekly import Stage, chart_week, plays, staged
from tests.commands import Command

TWO_WEEKS = """
[[experiment]]
name = "e"
salt = "s"
first_week = "2023-W22"
last_week = "2023-W23"
groups.control = { weight = 1, model = "linear" }
groups.treatment = { weight = 1, model = "naive" }
"""
USERS = [str(n) for n in range(120)]


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """Two weeks of linear against naive."""
    file = tmp_path / "experiments.toml"
    file.write_text(TWO_WEEKS)
    with staged(
        embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path, HITPARADE_EXPERIMENT_FILE=str(file)
    ) as stage:
        stage.catalogue("a", "b", "c")
        yield stage


def rewrite(stage: Stage, text: str) -> None:
    Path(stage.env["HITPARADE_EXPERIMENT_FILE"]).write_text(text)


def listen(stage: Stage, lift: int = 0, weeks: range = range(19, 25), users: list[str] = USERS) -> None:
    """Whoever is in treatment plays more in every week by the lift; what is more varies by user and week alike."""
    (experiment,) = load(Path(stage.env["HITPARADE_EXPERIMENT_FILE"]), Calendar()).experiments[:1]
    values = []
    for week in weeks:
        for n, user in enumerate(users):
            more = lift if experiment.holds_in(chart_week(week)) and experiment.group_of(user) == "treatment" else 0
            values.append(plays(week, {"a": 12 + (n * week) % 5 + more, "b": 2 + n % 2, "c": week - 18}, user))
    stage.send(*values)
    stage.count()


def lists_of(stage: Stage, closed: int) -> dict[str, tuple[str, str, int]]:
    """The lists that follow a week: model, id and revision of each group's."""
    lists = stage.weekly_run().run(stage.triggers.fire(chart_week(closed), "manual"))
    return {one.group: (one.model, one.id, one.revision) for one in lists}


def kept(stage: Stage) -> dict[str, bytes]:
    folder = stage.settings.data_dir
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("decisions/**/*") if p.is_file()}


def test_the_winners_model_makes_everyones_list_from_the_next_week_on_and_until_it_is_taken_back(
    stage: Stage, command: Command
) -> None:
    listen(stage, lift=8)
    before = lists_of(stage, 23)
    assert before["all"][0] == "linear"
    dry = command(stage, "experiments", "decide", "e", "--dry-run")
    assert dry.code == 0
    would, why = dry.out.splitlines()[:2]
    assert would == "e would be decided: treatment's naive makes everyone's list from 2023-W25 on, in place of linear."
    assert why.startswith("Why: treatment's list is better than control's: plays per active user is ")
    assert kept(stage) == {}

    ended = command(stage, "experiments", "decide", "e", "--json")
    assert ended.code == 0
    (answer,) = ended.rows()
    assert (answer["winner"], answer["model"], answer["from_week"]) == ("treatment", "naive", "2023-W25")
    assert answer["is_decided"] is True
    assert lists_of(stage, 23) == before, "a week that has begun keeps its list, byte for byte"
    after = lists_of(stage, 24)
    assert after["all"][0] == "naive"
    rows = command(stage, "experiments", "--json").rows()
    assert [(row["group"], row["everyones"]) for row in rows] == [
        ("control", None),
        ("treatment", "from 2023-W25"),
        ("all", None),
    ]
    assert [row["model"] for row in rows] == ["linear", "naive", "linear"]
    assert command(stage, "experiments", "--week", "2023-W25", "--json").rows()[-1]["model"] == "naive"
    assert command(stage, "models").out.splitlines()[-1] == (
        "Outside experiments everyone's list is naive's from 2023-W25 on: e has decided it, by treatment's naive."
    )

    listen(stage, weeks=range(25, 27))
    undone = command(stage, "experiments", "decide", "e", "--undo")
    assert undone.out == "e is taken back: from 2023-W27 on everyone's list is linear's.\n"
    assert lists_of(stage, 24) == after
    assert (lists_of(stage, 25)["all"][0], lists_of(stage, 26)["all"][0]) == ("naive", "linear")
    rows = command(stage, "experiments", "--json").rows()
    assert [row["everyones"] for row in rows] == [None, "from 2023-W25 until before 2023-W27", None]
    assert "Outside experiments" not in command(stage, "models").out


def test_why_is_kept_whole_and_never_changed(stage: Stage, command: Command) -> None:
    listen(stage, lift=8)
    lists_of(stage, 21)
    *_, conclusion = command(stage, "experiments", "report", "e", "--json").rows()
    assert command(stage, "experiments", "decide", "e").code == 0
    files = kept(stage)
    assert list(files) == ["decisions/e/decision.json"]
    decision = json.loads(files["decisions/e/decision.json"])
    assert decision["sentence"] == conclusion["sentence"]
    assert decision["report"]["conclusions"] == conclusion["conclusions"]
    assert (decision["report"]["look"], decision["report"]["looks"], decision["plan"]["planned"]) == (2, 2, 2)
    assert decision["plan"]["primary"] == "plays_per_active_user"
    assert [effect["metric"] for effect in decision["report"]["effects"]][:1] == ["plays_per_active_user"]
    assert decision["definition"]["groups"]["treatment"] == {"weight": 1.0, "model": "naive"}
    assert decision["made_by"] == {"2023-W22": "naive 1", "2023-W23": None}

    again = command(stage, "experiments", "decide", "e")
    assert (again.code, again.out) == (1, "")
    assert "e is decided already: treatment's naive makes everyone's list from 2023-W25 on" in again.err
    rewrite(stage, TWO_WEEKS.replace("W22", "W19").replace("W23", "W20"))
    assert command(stage, "experiments", "decide", "e", "--dry-run").code == 1
    assert kept(stage) == files
    assert command(stage, "experiments", "decide", "e", "--undo").code == 0
    twice = command(stage, "experiments", "decide", "e", "--undo")
    assert (twice.code, "e is taken back already" in twice.err) == (1, True)
    assert "until it was taken back from 2023-W25 on" in command(stage, "experiments", "decide", "e").err
    assert kept(stage)["decisions/e/decision.json"] == files["decisions/e/decision.json"]


def test_where_control_is_better_its_model_is_everyones(stage: Stage, command: Command) -> None:
    listen(stage, lift=-6)
    (answer,) = command(stage, "experiments", "decide", "e", "--json").rows()
    assert (answer["winner"], answer["model"], answer["replaces"]) == ("control", "linear", "linear")
    assert lists_of(stage, 24)["all"][0] == "linear"


def test_what_is_not_finished_or_says_nothing_is_refused_with_the_reason(stage: Stage, command: Command) -> None:
    listen(stage, weeks=range(20, 24))
    refused = {}

    def refuse(name: str, *arguments: str, code: int = 1) -> None:
        ended = command(stage, "experiments", "decide", "e", *arguments, "--json")
        assert (ended.code, ended.out) == (code, "")
        refused[name] = ended.err

    refuse("open")
    assert (
        "e is not decided: it has not finished: its last week is 2023-W23, and 2023-W23 is still open"
        in (refused["open"])
    )
    listen(stage, weeks=range(24, 25))
    refuse("nothing")
    assert "e is not decided: No difference between the lists of treatment and control was found" in refused["nothing"]
    refuse("undo", "--undo", code=2)
    assert "experiment 'e': expected one that is decided (none)" in refused["undo"]
    rewrite(stage, TWO_WEEKS.replace('last_week = "2023-W23"\n', ""))
    refuse("endless")
    assert "it has not finished: it has no last week" in refused["endless"]
    ended = command(stage, "experiments", "decide", "other")
    assert (ended.code, "expected one of the file (e)" in ended.err) == (2, True)
    assert kept(stage) == {}


def test_too_few_users_or_groups_that_are_not_as_their_weights_are_refused(stage: Stage, command: Command) -> None:
    listen(stage, lift=8, users=USERS[:40])
    assert "below 30 an interval means nothing" in command(stage, "experiments", "decide", "e").err
    (experiment,) = load(Path(stage.env["HITPARADE_EXPERIMENT_FILE"]), Calendar()).experiments
    listen(stage, lift=8, users=[user for user in USERS[40:] if experiment.group_of(user) == "treatment"])
    ended = command(stage, "experiments", "decide", "e")
    assert (ended.code, "The experiment is broken" in ended.err) == (1, True)
    assert kept(stage) == {}


def test_a_winner_whose_lists_naive_had_to_make_is_refused(stage: Stage, command: Command) -> None:
    rewrite(stage, TWO_WEEKS.replace('"naive"', '"neural"'))
    listen(stage, lift=8)
    lists_of(stage, 21)
    ended = command(stage, "experiments", "decide", "e")
    assert ended.code == 1
    assert "treatment won, but not by its own model: naive's list took its place in 2023-W22 (no neural" in ended.err
    assert kept(stage) == {}


@pytest.fixture
def versions(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two versions of the network, the first in use; what is in them is not looked at."""
    registry = wiring.registry(stage.settings)
    monkeypatch.setattr("models.registry.check_content", lambda path: None)
    monkeypatch.setattr("hitparade.deciding.load", lambda folder: None)
    for version in ("2023-W20-old", "2023-W20-won"):
        registry.publish(NEURAL, version, lambda folder: (folder / "card.json").touch())
    registry.promote(NEURAL, "2023-W20-old")
    return registry.versions(NEURAL)


def in_use(stage: Stage, closed_week: str | None) -> str | None:
    folder = wiring.registry(stage.settings).champion(NEURAL, closed_week)
    return folder.name if folder else None


def test_a_pinned_network_that_wins_is_the_one_in_use_from_that_week_on(
    stage: Stage, command: Command, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(stage, TWO_WEEKS.replace('"naive"', f'"neural@{versions[1]}"'))
    listen(stage, lift=8)
    assert command(stage, "experiments", "decide", "e", "--dry-run").code == 0
    assert in_use(stage, None) == versions[0]
    assert command(stage, "experiments", "decide", "e").code == 0
    assert [in_use(stage, week) for week in ("2023-W23", "2023-W24", "2023-W30")] == [*versions, versions[1]]
    monkeypatch.setattr("models.scorers.load", lambda folder: Fitted(NEURAL, folder.name, naive.score))
    history, registry = wiring.history(stage.settings), wiring.registry(stage.settings)
    opened = [open_model(NEURAL, history, registry, week).version for week in ("2023-W23", "2023-W24")]
    assert opened == versions, "by the week that has closed, for the list of the next"
    then = wiring.experiments(stage.settings)
    assert [then.in_force(chart_week(week)).groups[0].model for week in (24, 25)] == ["linear", "neural"]
    rows = command(stage, "models", "--json").rows()
    assert [(row["in_use"], row["after"]) for row in rows] == [(False, None), (True, "2023-W24")]
    assert command(stage, "experiments", "decide", "e", "--undo").code == 0
    assert {in_use(stage, week) for week in ("2023-W23", "2023-W24", "2023-W30")} == {versions[0]}


def test_taking_back_leaves_a_network_alone_that_was_promoted_since(
    stage: Stage, command: Command, versions: list[str]
) -> None:
    rewrite(stage, TWO_WEEKS.replace('"naive"', f'"neural@{versions[0]}"'))
    listen(stage, lift=8)
    assert command(stage, "experiments", "decide", "e").code == 0
    wiring.registry(stage.settings).promote(NEURAL, versions[1])
    assert command(stage, "experiments", "decide", "e", "--undo").code == 0
    assert in_use(stage, None) == versions[1]


def test_a_pinned_version_that_is_not_there_decides_nothing(stage: Stage, command: Command) -> None:
    rewrite(stage, TWO_WEEKS.replace('"naive"', '"neural@2023-W20-gone"'))
    listen(stage, lift=8)
    ended = command(stage, "experiments", "decide", "e")
    assert (ended.code, "neural has no version '2023-W20-gone'" in ended.err) == (1, True)
    assert kept(stage) == {}


def test_an_interrupted_decision_is_none_and_may_be_taken_again(
    stage: Stage, command: Command, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(stage, TWO_WEEKS.replace('"naive"', f'"neural@{versions[1]}"'))
    listen(stage, lift=8)

    def power_cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(Decisions, "keep", power_cut)
        assert command(stage, "experiments", "decide", "e").code == 130
    assert kept(stage) == {}
    assert wiring.experiments(stage.settings).in_force(chart_week(25)).groups[0].model == "linear"
    assert command(stage, "experiments", "decide", "e").code == 0
    alias = (stage.settings.data_dir / "models" / NEURAL / "champion").read_text()
    assert alias == f"{versions[0]}\n{versions[1]} after 2023-W24\n"


def test_machines_share_what_was_decided_by_object_storage(stage: Stage, command: Command, tmp_path: Path) -> None:
    listen(stage, lift=8)
    shared = {**stage.env, "HITPARADE_DATA_URL": f"file://{tmp_path}/shared"}
    here = Stage(shared, stage.settings, stage.publisher)
    assert command(here, "experiments", "decide", "e").code == 0
    elsewhere = Stage({**shared, "HITPARADE_DATA_DIR": str(tmp_path / "elsewhere")}, stage.settings, stage.publisher)
    rows = command(elsewhere, "experiments", "--week", "2023-W25", "--json").rows()
    assert rows[-1]["model"] == "naive"
    assert command(elsewhere, "experiments", "decide", "e").code == 1


# The decisions themselves


def report(**fields: Any) -> Report:
    known: dict[str, Any] = {
        **{"name": "e", "control": "control", "weeks": ["2023-W22", "2023-W23"], "weeks_before": 0, "look": 2},
        **{"looks": 2, "alpha": 0.05, "level": 0.05, "correction": "holm", "population": "all assigned users"},
        **{"users": {}, "ratios": [], "touched": Touched(how="nothing", events=None, users={}), "effects": []},
        **{"warnings": [], "conclusions": []},
    }
    return Report(**known | fields)


def conclusion(verdict: str, group: str = "treatment") -> dict[str, Any]:
    sentence = f"{group}: {verdict}."
    return {"group": group, "verdict": verdict, "sentence": sentence, "more_weeks": None, "is_least": False}


@pytest.mark.parametrize("verdict", ["broken", "too early", "mixed", "no difference"])
def test_a_report_without_a_winner_is_refused_with_its_own_sentence(verdict: str) -> None:
    assert refusal(report(conclusions=[conclusion(verdict)]), 2) == f"treatment: {verdict}."


def test_control_wins_only_against_all_groups() -> None:
    both = [conclusion("worse"), conclusion("worse", "other")]
    assert refusal(report(conclusions=both), 2) is None
    assert refusal(report(conclusions=[both[0], conclusion("no difference", "other")]), 2)


def test_a_winner_at_a_look_before_the_last_is_refused() -> None:
    found = report(conclusions=[conclusion("better")], effects=[])
    assert refusal(report(conclusions=[conclusion("worse")]), 3) == (
        "it has not finished: the report ends with 2023-W23, look 2 of 3"
    )
    assert refusal(found, None)


def decision(experiment: str, from_week: str, model: str = "naive", at: int = 0) -> Decision:
    fields: dict[str, Any] = {"replaces": "linear", "replaces_version": None, "sentence": "", "definition": {}}
    fields |= {"winner": "treatment", "plan": {}, "made_by": {}, "report": report()}
    decided_at = datetime(2023, 6, 1, at, tzinfo=UTC)
    return Decision(experiment=experiment, from_week=from_week, model=model, decided_at=decided_at, **fields)


def model_in(decisions: Decisions, week: int) -> str:
    return Experiments(decisions=decisions).in_force(chart_week(week)).groups[0].model


def test_of_decisions_the_last_one_that_holds_counts(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    assert [model_in(decisions, week) for week in (20, 30)] == ["linear", "linear"]
    decisions.keep(decision("first", "2023-W22", "naive"))
    decisions.keep(decision("second", "2023-W24", "neural@v1", at=1))
    assert [model_in(decisions, week) for week in (21, 22, 23, 24, 30)] == [
        *("linear", "naive", "naive", "neural", "neural")
    ]
    decisions.undo("second", Undone(from_week="2023-W26", undone_at=datetime(2023, 6, 2, tzinfo=UTC)))
    assert [model_in(decisions, week) for week in (25, 26)] == ["neural", "naive"]
    with pytest.raises(DecisionError, match=r"second/decision\.json is there already, and is never changed"):
        decisions.keep(decision("second", "2023-W30"))


def test_a_decision_that_is_broken_is_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    path = decisions.keep(decision("first", "2023-W22"))
    path.write_text(path.read_text()[:40])
    with pytest.raises(DecisionError, match=r"first/decision\.json cannot be read"):
        model_in(decisions, 22)


def _keep(folder: Path, at: int, tell: Callable[[bool], None]) -> None:
    try:
        Decisions(folder).keep(decision("e", "2023-W22", at=at))
        tell(True)
    except DecisionError:
        tell(False)


def test_of_two_who_decide_at_once_one_does(tmp_path: Path) -> None:
    told: Any = multiprocessing.get_context("fork").SimpleQueue()
    both = [multiprocessing.get_context("fork").Process(target=_keep, args=(tmp_path, n, told.put)) for n in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(told.get() for _ in both) == [False, True]
