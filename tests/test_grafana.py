"""Grafana's dashboard, against the types that Grafana publishes of its dashboards, by TypeScript's own compiler."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.composed import DEPLOY, SERVICES
from tests.node import node_modules

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "hitparade.json"
# An enumeration's values are texts in JSON. What the panels' own plug-ins read has no type there.
PROGRAM = """
import type {{ Dashboard }} from "@grafana/schema";
type Plain<T> = T extends string ? `${{T}}` : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
export const dashboard: Plain<Dashboard> = {dashboard};
"""
OPTIONS = "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022".split()


def compiled(dashboard: dict[str, Any], folder: Path) -> list[str]:
    """What the compiler finds wrong."""
    modules = node_modules("@grafana/schema", "typescript")
    (folder / "node_modules").symlink_to(modules)
    program = folder / "dashboard.ts"
    program.write_text(PROGRAM.format(dashboard=json.dumps(dashboard)))
    command = ["node", str(modules / "typescript" / "bin" / "tsc"), *OPTIONS, program.name]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return [line for line in run.stdout.splitlines() if line]


def test_the_dashboard_is_one_by_grafanas_own_types_of_the_version_that_is_started(tmp_path: Path) -> None:
    assert compiled(json.loads(DASHBOARD.read_text()), tmp_path) == []
    found = json.loads((node_modules("@grafana/schema") / "@grafana/schema/package.json").read_text())["version"]
    assert SERVICES["grafana"]["image"] == f"grafana/grafana:{found}"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('"mode": "absolute"', '"mode": "absolutely"'), ('"gridPos"', '"gridpos"')],
)
def test_the_types_refuse_what_is_wrong(right: str, wrong: str, tmp_path: Path) -> None:
    text = DASHBOARD.read_text()
    assert re.search(re.escape(right), text)
    assert compiled(json.loads(text.replace(right, wrong, 1)), tmp_path)
