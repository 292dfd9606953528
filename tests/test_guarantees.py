"""docs/guarantees.md names every scenario of the fault suite, and no other."""

import ast
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
