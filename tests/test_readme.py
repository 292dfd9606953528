"""What the README shows is what happens."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from features.weeks import Calendar
from hitparade.parser import build_parser
from hitparade.settings import settings_table
from models.experiments import load
from tests.servers import ROOT, wait_until

README = (ROOT / "README.md").read_text()
DURATION = re.compile(r"in \d+ s\.")


def between(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", README, re.DOTALL)
    assert found, f"no {marker} in README.md"
    return found[1]


def test_the_settings_table_is_that_of_settings() -> None:
    assert between("settings") == settings_table()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the demo prints; the last line says where it serves its lists."""
    with (tmp_path_factory.mktemp("demo") / "log").open("w+") as log:
        command = [sys.executable, "-m", "hitparade", "demo", "--serve"]
        env = {**os.environ, "HITPARADE_HTTP_PORT": "0"}
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("serving on "):
                    break
            try:
                assert lines[-1].startswith("serving on "), Path(log.name).read_text()
                wait_until(lambda: is_ready(lines[-1].split()[-1]), "the lists to be read")
                yield lines
            finally:
                process.terminate()
                assert process.wait(60) == 0


def is_ready(address: str) -> bool:
    with suppress(HTTPError):
        return bool(urlopen(f"{address}/readyz").status == 200)
    return False


@pytest.mark.timeout(120)
def test_the_demo_prints_what_the_readme_shows(demo: list[str]) -> None:
    printed = {as_compared(line) for line in demo}
    shown = [line for line in between("demo").splitlines() if not line.startswith("```") and line != "…"]
    assert len(shown) > 12
    for line in shown:
        assert as_compared(line) in printed, line


@pytest.mark.timeout(120)
def test_the_service_answers_what_the_readme_shows(demo: list[str]) -> None:
    shown = re.findall(r"^\$ curl -s (.*)\n((?:.+\n)+)", between("curl"), re.MULTILINE)
    assert len(shown) == 5
    for command, answer in shown:
        assert answered(demo[-1].split()[-1], command) == answer.removesuffix("```\n").rstrip("\n"), command


@pytest.mark.timeout(120)
def test_the_demos_service_shows_what_its_experiment_came_to(demo: list[str]) -> None:
    pytest.importorskip("tea_tasting")
    (experiment,) = json.load(urlopen(f"{demo[-1].split()[-1]}/experiments"))["experiments"]
    assert len(experiment["report"]["weeks"]) == 11
    assert {effect["group"] for effect in experiment["report"]["effects"]} == {"treatment"}


def answered(address: str, command: str) -> str:
    """What curl would print, and head keep of it."""
    curl, _, head = command.partition(" | head -")
    url, *options = shlex.split(curl)
    data = options[1].encode() if options[:1] == ["-d"] else None
    try:
        with urlopen(url.replace("localhost:8080", address), data) as found:
            text = found.read().decode()
    except HTTPError as refused:
        text = refused.read().decode()
    return "\n".join(text.splitlines()[: int(head) if head else None])


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
