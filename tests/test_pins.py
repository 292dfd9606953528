"""Versions of the network that a group asks for by name, in one run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.runs import RunName, model_in
from hitparade import wiring
from hitparade.__main__ import main
from hitparade.embedded import Embedded
from models.training import train
from tests.builders_history import listening
from tests.builders_weekly import Stage, chart_week, plays, staged

PINNED = """
[[experiment]]
name = "e"
salt = "s"
groups.newest = {{ weight = 1, model = "neural" }}
groups.older = {{ weight = 1, model = "neural@{older}" }}
groups.gone = {{ weight = 1, model = "neural@2023-W01-00000000" }}
groups.naive = {{ weight = 1, model = "naive" }}
"""


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """Two versions, of which one is in use and the other one asked for."""
    history = listening(tmp_path / "learned", 9, n_tracks=20)
    trained = [train(history, week) for week in ("2023-W08", "2023-W09")]
    file = tmp_path / "experiments.toml"
    file.write_text(PINNED.format(older=trained[0].model.version))
    with staged(
        embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path / "data", HITPARADE_EXPERIMENT_FILE=str(file)
    ) as stage:
        registry = wiring.registry(stage.settings)
        for found in trained:
            registry.publish("neural", found.model.version, found.save)
        registry.promote("neural", trained[1].model.version)
        stage.catalogue(*(f"t{n}" for n in range(30)))
        for week in range(20, 27):
            stage.send(plays(week, {f"t{n}": 1 + (n * 7 + week * 5) % 30 for n in range(30)}))
        stage.count()
        yield stage


def test_each_group_has_the_version_it_asks_for_and_is_judged_by_its_own_forecast(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newest = wiring.registry(stage.settings).versions("neural")
    run = stage.weekly_run()
    lists = {p.group: p for p in run.run(stage.triggers.fire(chart_week(24), "manual"))}
    found = {group: (p.model, p.model_version, p.fallback) for group, p in lists.items()}
    assert found == {
        "newest": ("neural", newest, None),
        "older": ("neural", older, None),
        "gone": ("naive", "1", "there is no neural 2023-W01-00000000"),
        "naive": ("naive", "1", None),
    }
    assert lists["newest"].tracks != lists["older"].tracks
    again = {p.group: p for p in run.run(stage.triggers.fire(chart_week(24), "manual"))}
    assert again == lists
    tracks = wiring.runs(stage.settings).latest("2023-W25")
    assert tracks is not None
    for group, name in (("newest", "neural"), ("older", f"neural@{older}"), ("naive", "naive")):
        assert model_in(set(tracks), lists[group]) == name
        scores = tracks.set_index("track_id")[f"score_{name}"]
        assert [entry.score for entry in lists[group].tracks] == [scores[e.track_id] for e in lists[group].tracks]
    assert wiring.runs(stage.settings).model(RunName("2023-W25", 1, "older"), lists["older"]) == f"neural@{older}"

    run.run(stage.triggers.fire(chart_week(25), "manual"))
    evaluations = {e.group: e for e in stage.evaluations() if e.week == "2023-W25"}
    assert {group: (e.model, e.model_version) for group, e in evaluations.items()} == {
        group: (model, version) for group, (model, version, _) in found.items()
    }
    assert all(evaluation.forecast is not None for evaluation in evaluations.values())
    assert evaluations["newest"].forecast != evaluations["older"].forecast

    for name, value in stage.env.items():
        monkeypatch.setenv(name, value)
    for arguments in (["compare", "2023-W25/1/older", "2023-W25/1/newest"], ["compare", "--study", "2023-W25/1/older"]):
        capsys.readouterr()
        assert main(arguments) == 0, capsys.readouterr().err
