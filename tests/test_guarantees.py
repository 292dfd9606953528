"""docs/guarantees.md names every scenario of the fault suite, and no other."""

import ast
import json
import re

from tests.servers import ROOT

PROOF = re.compile(r"`(test_\w+)`")


def test_every_scenario_is_told_of_and_every_promise_has_one() -> None:
    scenarios = {
        node.name
        for path in (ROOT / "tests" / "faults").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    told_of = set(PROOF.findall((ROOT / "docs" / "guarantees.md").read_text()))
    assert told_of == scenarios


def test_what_remembering_ids_costs_is_what_was_measured() -> None:
    rows = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "latest.jsonl").read_text().splitlines()]
    measured = {row["name"]: row for row in rows}
    page = (ROOT / "docs" / "guarantees.md").read_text()
    told = re.findall(r"(\d+) bytes", page.split("<!-- bytes -->")[1].split("<!-- /bytes -->")[0])
    sizes = [measured[f"duplicates:memory-{n}"]["bytes_per_id"] for n in (100_000, 1_000_000)]
    assert told == [f"{size:.0f}" for size in sizes]
    assert page.split("<!-- ratio -->")[1].split("<!-- /ratio -->")[0] == str(measured["duplicates:on"]["ratio"])
