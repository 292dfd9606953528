"""docs/experiments.md shows commands that there are, the metrics that there are, and an experiment that loads."""

import re
import shlex
from pathlib import Path

from features.weeks import Calendar
from hitparade.commands.declaring import every
from hitparade.parser import build_parser
from models.experiments import load
from models.measures import METRICS
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
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "experiments.toml").write_text(example)
    (experiment,) = load(tmp_path / "experiments.toml", Calendar()).experiments
    assert [group.name for group in experiment.groups] == ["control", "treatment"]
