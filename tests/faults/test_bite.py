"""The suite bites: a product that breaks a promise makes it red."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.servers import Broker, environment
from tests.servers import ROOT

NOTHING = "tests/faults/test_process.py::test_nothing_happens[kafka-python]"
EDGES = "tests/faults/test_process.py::test_consumers_are_killed_at_every_edge_of_the_loop[kafka-python-1]"
ZOMBIE = (
    "tests/faults/test_process.py::"
    "test_a_consumer_hangs_past_its_session_and_wakes_up_with_a_batch_in_hand[kafka-python]"
)
BEHIND = "tests/faults/test_process_weekly.py::test_weeks_are_triggered_while_a_consumer_hangs_in_the_middle_of_the_log"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
WRONG = r"difference: [1-9]"


@dataclass(frozen=True)
class Patch:
    """A text that stands once in a file, and what replaces it."""

    file: str
    text: str
    replacement: str


@dataclass(frozen=True)
class Mutant:
    """A product that breaks a promise, the scenario that must see it, and what it must say."""

    patches: tuple[Patch, ...]
    scenario: str
    verdict: str = WRONG


NO_FENCE = Patch(
    "features/apply.lua",
    "if have[1] ~= span.start then return {'FENCED', have[1]} end\n"
    "if (have[3] or '') ~= span.since then return {'SINCE', have[3] or ''} end",
    "",
)
# Alone, the two that follow break nothing: no consumer begins at Kafka's offset, and where one does, the fence refuses
# its first span. So each comes with what makes a consumer the classical one, which trusts Kafka's offset alone.
KAFKAS_OFFSET = Patch(
    "consumers/loop.py",
    "start = fence.next_offset",
    "start = self.source.committed(partition) or 0",
)
COMMIT_FIRST = (
    Patch(
        "consumers/writer.py",
        "        done = self.submit(",
        "        self.source.commit({partition: part.end})\n        done = self.submit(",
    ),
    Patch("consumers/kafka_python.py", "self.consumer.commit_async(", "self.consumer.commit("),
)
LATE_DROPPED = (
    Patch("features/counting.py", "tallies[outcome] += 1", 'tallies[outcome] += outcome != "late"'),
    Patch("features/counting.py", 'if outcome == "late":', "if False:"),
)
CUT_IGNORED = Patch("consumers/snapshot.py", "if have < end:", "if False:")

MUTANTS = {
    "the fence is ignored": Mutant((NO_FENCE,), ZOMBIE),
    "offsets are committed before they are applied": Mutant((*COMMIT_FIRST, KAFKAS_OFFSET, NO_FENCE), EDGES),
    "consumers begin at the offset that Kafka has": Mutant((KAFKAS_OFFSET, NO_FENCE), EDGES),
    "late events are dropped silently": Mutant(LATE_DROPPED, NOTHING, "events read, the tallies add up to"),
    "the cut is ignored": Mutant((CUT_IGNORED,), BEHIND, "other lists than without faults"),
}
QUICK = ("the fence is ignored", "late events are dropped silently")


def copy_of_the_product(folder: Path, *patches: Patch) -> Path:
    """The source tree in a folder of its own, changed; what is imported there is the copy, not what is installed."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for patch in patches:
        path = folder / patch.file
        text = path.read_text()
        assert text.count(patch.text) == 1, f"{patch.file} has {text.count(patch.text)} times: {patch.text}"
        path.write_text(text.replace(patch.text, patch.replacement))
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{package}.__file__' for package in PACKAGES)}, sep='\\n')"
    imported = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert imported.stdout.split() == [str(folder / package / "__init__.py") for package in PACKAGES]
    return folder


def run_in(copy: Path, broker: Broker, seed: int, *scenarios: str) -> subprocess.CompletedProcess[str]:
    """Run scenarios in a copy, on the broker that is there."""
    options = ["-n0", "-q", "--no-header", f"--basetemp={copy / 'scenarios'}", f"--seed={seed}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--broker", broker.address, *scenarios],
        cwd=copy,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.full
@pytest.mark.timeout(360)
def test_a_copy_of_the_product_passes_what_its_mutants_fail(tmp_path: Path, broker: Broker, seed: int) -> None:
    copy = copy_of_the_product(tmp_path / "copy")
    run = run_in(copy, broker, seed, *{mutant.scenario for mutant in MUTANTS.values()})
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in MUTANTS]
)
def test_the_suite_is_red_where(name: str, tmp_path: Path, broker: Broker, seed: int) -> None:
    mutant = MUTANTS[name]
    run = run_in(copy_of_the_product(tmp_path / "copy", *mutant.patches), broker, seed, mutant.scenario)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert re.search(mutant.verdict, run.stdout), run.stdout
