"""What is installed, listed and asked after; and the workflow that runs .ci/run."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.servers import ROOT

yaml: Any = import_module("yaml")  # it has no types
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def bills() -> Path:
    made = subprocess.run(["make", "sbom"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / "build" / "sbom"


def pinned(file: Path) -> dict[tuple[str, str], set[str]]:
    """Names and versions of a requirements file, with their hashes."""
    found = {}
    for line in re.sub(r"\\\n", " ", file.read_text()).splitlines():
        if line and not line.startswith(("#", "-")):
            text, *hashes = line.split(" --hash=sha256:")
            requirement = Requirement(text.strip())
            (version,) = requirement.specifier
            found[requirement.name, version.version] = set(map(str.strip, hashes))
    return found


@pytest.mark.parametrize("image", ["counting", "scoring"])
def test_the_bill_of_materials_has_what_the_image_installs_with_every_hash(bills: Path, image: str) -> None:
    bill = json.loads((bills / f"{image}.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "hitparade")
    found = {
        (part["name"], part["version"]): {
            each["content"] for where in part["externalReferences"] for each in where.get("hashes", ())
        }
        for part in bill["components"]
    }
    expected = pinned(ROOT / "deploy" / f"requirements-{image}.txt")
    assert len(expected) > 20
    assert all(expected.values())
    assert found == expected


def test_what_is_audited_is_everything_that_is_pinned_and_nothing_is_passed_over() -> None:
    target = re.search(r"^audit:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target
    assert target[1].count("pip-audit --strict") == 2
    audited = re.findall(r"--requirement (\S+)", target[1])
    assert audited == ["constraints.txt", "deploy/requirements-scoring.txt"]
    counting, scoring = (
        set(pinned(ROOT / "deploy" / f"requirements-{image}.txt")) for image in ("counting", "scoring")
    )
    assert counting <= scoring


def test_the_workflow_is_valid_by_githubs_schema() -> None:
    check = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.github-workflows"]
    run = subprocess.run([*check, str(WORKFLOW)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_workflow_calls_what_is_here_by_actions_that_cannot_change() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    commands = [step["run"] for step in steps if "run" in step]
    assert "hitparade/.ci/run" in commands
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert {command.removeprefix("make ") for command in commands if command.startswith("make ")} <= TARGETS
    assert workflow["permissions"] == {"contents": "read"}
