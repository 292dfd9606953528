"""docs/scaling.md and the calculator say what the benchmarks have found, and show commands and pictures there are."""

import re
import shlex
import tomllib

import pytest

from benchmarks.scaling_doc import COSTS, PAGE, rewritten, toml
from benchmarks.scaling_tables import MissingRow, costs, latest
from hitparade.capacity import Costs, Load, capacity, measured
from hitparade.parser import build_parser
from tests.servers import ROOT

TEXT = PAGE.read_text()


def test_every_table_is_what_the_benchmarks_have_found() -> None:
    assert rewritten(TEXT, latest()) == TEXT


def test_the_calculator_calculates_with_what_the_benchmarks_have_found() -> None:
    assert COSTS.read_text() == toml(costs(latest()))
    assert measured() == costs(latest())


def test_what_is_written_for_the_calculator_is_read_back_as_it_was() -> None:
    found: Costs = {"a:b": {"x": 1.5, "y": 2}, "c": {"z": 10_000_000}}
    assert tomllib.loads(toml(found)) == found


def test_a_figure_that_was_changed_by_hand_is_put_right() -> None:
    wrong = re.sub(r"\d+ ms", "3 ms", TEXT)
    assert wrong != TEXT
    assert rewritten(wrong, latest()) == TEXT


def test_a_page_without_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one block latency, found 0"):
        rewritten(TEXT.replace("<!-- latency -->", ""), latest())


def test_a_row_that_is_missing_or_failed_names_the_benchmark_to_run() -> None:
    rows = dict(latest())
    failed = rows | {"count-confluent-single": {"name": "count-confluent-single", "failed": "it hung"}}
    with pytest.raises(MissingRow, match="no row count-confluent-single: run `make bench`"):
        costs(failed)
    del rows["lines:log-bytes"]
    with pytest.raises(MissingRow, match="no row lines:log-bytes: run `make bench ONLY=lines`"):
        costs(rows)


def test_the_table_of_loads_is_what_the_calculator_says() -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("| 1,000,000 | kafka-python | 25 |"))
    found = capacity(Load(1_000_000, 1_000_000), measured())
    assert line.split(" | ")[3:5] == [str(found.consumers), str(found.partitions)]


def test_every_command_of_the_page_is_one() -> None:
    commands = re.findall(r"^hitparade (.+)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        build_parser().parse_args(shlex.split(command))


def test_every_picture_of_the_page_is_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) == 2
    for picture in pictures:
        content = (ROOT / "docs" / picture).resolve().read_bytes()
        assert content.startswith(b"\x89PNG"), picture
        assert len(content) < 200_000, picture
