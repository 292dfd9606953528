"""docs/experiments.md shows commands that there are, the metrics that there are, and an experiment that loads."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from features.weeks import Calendar
from hitparade.commands.declaring import every
from hitparade.embedded import Embedded
from hitparade.parser import build_parser
from models.experiments import load
from models.measures import METRICS
from tests.commands import run
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "experiments.md").read_text()


def test_every_command_of_the_page_is_one() -> None:
    commands = re.findall(r"^hitparade (experiments (?:report|decide) .*)$", PAGE, flags=re.MULTILINE)
    commands += re.findall(r"^hitparade (forget .*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True))


def test_every_option_that_the_page_names_is_one() -> None:
    known = {option for parser in every(build_parser()) for option in parser._option_string_actions}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def test_the_metrics_of_the_page_are_those_that_are_measured() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` +\| .*? \| (more|less) ", PAGE, flags=re.MULTILINE)
    assert {name: better == "more" for name, better in rows} == {m.name: m.more_is_better for m in METRICS}


def test_the_experiment_of_the_page_loads(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "experiments.toml").write_text(example)
        (experiment,) = load(tmp_path / "experiments.toml", Calendar()).experiments
        assert [group.name for group in experiment.groups] == ["control", "treatment"]


ELSEWHERE = r"(?:.*\n)*?"


def as_shown(text: str) -> re.Pattern[str]:
    """What a command may print that is shown so; a line of … is as many lines as there are."""
    return re.compile("".join(ELSEWHERE if line == "…" else re.escape(line) + "\n" for line in text.splitlines()))


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What it prints, without blanks at the end of lines."""
    if not command.startswith("hitparade "):
        return subprocess.run(["bash", "-c", command], capture_output=True, check=True, text=True).stdout
    ended = run(capsys, *shlex.split(command)[1:])
    text = ended.out if ended.code == 0 else ended.out + ended.err
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@pytest.mark.usefixtures("leaky")
@pytest.mark.timeout(240)
def test_the_example_from_beginning_to_end_is_what_happens(
    embedded_stack: Embedded,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one process, with a prefix of its own."""
    pytest.importorskip("tea_tasting")
    (example,) = re.findall(r"<!-- example -->\n(.*?)<!-- /example -->", PAGE, flags=re.DOTALL)
    (experiments,) = re.findall(r"```toml\n(.*?)```", example, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("experiments.toml").write_text(experiments)
    for name, value in {**embedded_stack.environment, "HITPARADE_TOPIC_PREFIX": prefix}.items():
        monkeypatch.setenv(name, value)
    shown_steps = "".join(re.findall(r"```console\n(.*?)```", example, re.DOTALL))
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", shown_steps, re.MULTILINE)
    assert len(steps) > 20
    for command, shown in steps:
        if command.startswith("export "):
            monkeypatch.setenv(*command.removeprefix("export ").split("="))
        else:
            text = printed(command, capsys).replace(prefix, "hitparade")
            assert as_shown(shown).fullmatch(text), f"{command} printed\n{text}"
