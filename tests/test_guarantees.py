"""docs/guarantees.md names every scenario of the fault suite, and no other."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.caps import CAPS, LISTENERS
from consumers.recount import Recount
from consumers.source import Batch
from hitparade.parser import build_parser
from tests.builders import Record, array, rules
from tests.commands import run
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()
PROOF = re.compile(r"`(test_\w+)`")


def test_every_scenario_is_told_of_and_every_promise_has_one() -> None:
    scenarios = {
        node.name
        for path in (ROOT / "tests" / "faults").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    told_of = set(PROOF.findall(PAGE))
    assert told_of == scenarios


def measured() -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (ROOT / "benchmarks" / "results" / "latest.jsonl").read_text().splitlines())
    return {row["name"]: row for row in rows}


def between(marker: str) -> str:
    return PAGE.split(f"<!-- {marker} -->")[1].split(f"<!-- /{marker} -->")[0].strip()


def test_what_remembering_ids_costs_is_what_was_measured() -> None:
    sizes = [measured()[f"duplicates:memory-{n}"]["bytes_per_id"] for n in (100_000, 1_000_000)]
    assert re.findall(r"(\d+) bytes", between("bytes")) == [f"{size:.0f}" for size in sizes]
    assert between("ratio") == str(measured()["duplicates:on"]["ratio"])


def list_table() -> str:
    lines = [
        "| cap | plays that count | capped | of listeners' own plays | bots' tracks listed | precision@50 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    every = measured()["caps:list-0"]["listeners_plays"]
    for cap in CAPS:
        row = measured()[f"caps:list-{cap}"]
        lost = (every - row["listeners_plays"]) / every
        lines.append(
            f"| {cap or 'none'} | {row['plays']:,} | {row['capped']:,} | {100 * lost:.1f} % capped "
            f"| {row['bots_tracks_listed']} | {row['precision_at_50']:.2f} |"
        )
    return "\n".join(lines)


def sketch_table() -> str:
    lines = ["| listeners | bytes | off by |", "| --- | --- | --- |"]
    for n_listeners, _ in LISTENERS:
        row = measured()[f"caps:listeners-{n_listeners}"]
        lines.append(f"| {n_listeners:,} | {row['bytes_per_track']:,} | {100 * row['error']:.1f} % |")
    return "\n".join(lines)


def test_what_a_cap_does_to_a_list_with_bots_is_what_was_measured() -> None:
    assert between("list") == list_table()
    assert {str(measured()[f"caps:list-{cap}"]["bots_tracks_belong"]) for cap in CAPS} == {between("belong")}


def test_the_commands_that_show_a_cap_end_as_the_page_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    simulate, demo = re.findall(r"^(?:HITPARADE_PLAYS_CAP=10 )?hitparade (.*bots.*)$", PAGE, re.MULTILINE)
    build_parser().parse_args(demo.split())
    assert run(capsys, *simulate.replace("--out bots", f"--out {tmp_path}").split()).code == 0
    lines = (tmp_path / "sessions.jsonl").read_bytes().splitlines()
    log = [Record(n, array(*lines[25 * n : 25 * n + 25])) for n in range(-(-len(lines) // 25))]
    recount = Recount(rules(plays_cap=10), 0, len)
    recount.add(Batch(0, 0, len(log), log))
    assert f"{sum(recount.tallies.values()):,} events read" in PAGE
    assert between("capped") == f"{recount.tallies['capped']:,}"


def test_what_caps_and_listeners_cost_is_what_was_measured() -> None:
    rows = measured()
    few, many = (rows[f"caps:memory-{n}"]["bytes_per_pair"] for n in (100_000, 1_000_000))
    assert between("pair") == (
        f"{few:.0f} bytes of Redis where there are 100,000 of them, and {many:.0f} bytes where there are a million"
    )
    assert between("sketches") == sketch_table()
    cap, listeners = (rows[f"caps:cost-{name}"]["ratio"] for name in ("cap", "listeners"))
    assert between("times") == f"{cap} times the processor time with a cap, and {listeners} times with listeners"
    assert round(30e6 * many / 1e9, 1) == 1.6
    assert f"{30e6 * many * 12 / 1e9:.0f} GB where twelve" in PAGE
