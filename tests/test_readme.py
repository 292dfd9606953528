"""What the README shows is what happens."""

import re
import subprocess
import sys
import tomllib

import pytest

from features.weeks import Calendar
from hitparade.parser import build_parser
from hitparade.settings import settings_table
from models.experiments import load
from tests.servers import ROOT

README = (ROOT / "README.md").read_text()
DURATION = re.compile(r"in \d+ s\.")


def between(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", README, re.DOTALL)
    assert found, f"no {marker} in README.md"
    return found[1]


def test_the_settings_table_is_that_of_settings() -> None:
    assert between("settings") == settings_table()


@pytest.mark.timeout(120)
def test_the_demo_prints_what_the_readme_shows() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "hitparade", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert demo.returncode == 0, demo.stderr
    printed = {as_compared(line) for line in demo.stdout.splitlines()}
    shown = [line for line in between("demo").splitlines() if not line.startswith("```") and line != "…"]
    assert len(shown) > 12
    for line in shown:
        assert as_compared(line) in printed, line


def as_compared(line: str) -> str:
    """Without the seconds it took and the network's half of the table: its last bits are the processor's."""
    if line.startswith("│"):
        return " ".join(line.replace("* ", "").split("│")[1:4])
    return re.sub(r"^\d+ of 50 tracks", "n of 50 tracks", DURATION.sub("in n s.", line.rstrip()))


def test_every_command_that_the_readme_and_the_guarantees_name_exists(capsys: pytest.CaptureFixture[str]) -> None:
    pages = README + (ROOT / "docs" / "guarantees.md").read_text()
    commands = re.findall(
        r"(?:^|`)hitparade ([a-z][a-z-]+(?: (?:tracks|sessions|weekly|replay)\b)?)", pages, re.MULTILINE
    )
    assert len(commands) >= 20
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args([*command.split(), "--help"])
        assert ended.value.code == 0, command


def test_the_experiment_that_the_readme_shows_is_the_default() -> None:
    shown = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert shown
    default = load(None, Calendar()).experiments[0]
    entry = tomllib.loads(shown[1])["experiment"][0]
    assert (entry["name"], entry["salt"]) == (default.name, default.salt)
    assert entry["groups"] == {g.name: {"weight": g.weight, "model": g.model} for g in default.groups}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    table = README.split("## Dependencies")[1].split("## The house")[0]
    for requirement in wanted:
        name = re.split(r"[\[<>=]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", table), name
