"""The Dockerfile read, and its steps replayed in a root of Debian with Python, where there is no engine.

As root:  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm ROOT
          python -m tests.dockerfile scoring ROOT

The root's `python` is this machine's, copied into /usr/local, since Debian's 3.11.2 needs other packages than the base
image's; that of Debian brings the libraries. All stages share the root, so a COPY from another stage is nothing to do,
and must keep its path. Settings of pip are those of this environment.
"""

import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

Step = tuple[str, str]
"""An instruction and what follows it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, what it begins with, and its steps."""

    name: str
    parent: str
    steps: tuple[Step, ...]

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def stages(text: str) -> dict[str, Stage]:
    """Every stage by its name."""
    found: dict[str, Stage] = {}
    name, parent, steps = "", "", list[Step]()
    for instruction, value in _instructions(text):
        if instruction != "FROM":
            steps.append((instruction, value))
            found[name] = Stage(name, parent, tuple(steps))
            continue
        parent, _, name = value.partition(" AS ")
        steps = []
        found[name] = Stage(name, parent, ())
    return found


def _instructions(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, value = line.partition(" ")
        yield instruction, " ".join(value.split())


def chain(found: dict[str, Stage], target: str) -> list[Stage]:
    """What a target is built of, first things first: its parents, and the stages that it copies from."""
    stage = found[target]
    sources = [value.split()[0].removeprefix("--from=") for value in stage.values("COPY") if "--from=" in value]
    needed = [*([stage.parent] if stage.parent in found else []), *sources]
    earlier = [part for name in needed for part in chain(found, name)]
    return [*dict.fromkeys([*earlier, stage])]


def context(root: Path = ROOT) -> list[Path]:
    """The files that .dockerignore lets through, relative to the root; of its syntax what ours uses."""
    rules = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    refused = [rule for rule in rules[1:] if not rule.startswith("!")]
    files = [path.relative_to(root) for name in allowed for path in sorted((root / name).rglob("*")) if path.is_file()]
    return [file for file in files if not any(_is_under(file, rule) for rule in refused)]


def _is_under(file: Path, rule: str) -> bool:
    places = [file, *file.parents]
    return any(fnmatch.fnmatch(str(p), rule) or fnmatch.fnmatch(p.name, rule.removeprefix("**/")) for p in places)


def copy(value: str, root: Path, workdir: str) -> None:
    """COPY from the context into a root."""
    *sources, destination = value.split()
    files = context()
    for source in sources:
        found = [file for file in files if file == Path(source) or Path(source) in file.parents]
        assert found, f"COPY {value}: {source} is not in the context"
        for file in found:
            inside = str(file.relative_to(source)) if (ROOT / source).is_dir() else file.name
            target = root / os.path.join(workdir, destination).lstrip("/") / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, target)


@dataclass(slots=True)
class Replay:
    """Steps done in a root, one after the other."""

    root: Path
    environment: dict[str, str]
    workdir: str = "/"
    user: str = "0:0"
    entry: str = ""

    def step(self, instruction: str, value: str) -> None:
        """Do one; an instruction that nobody knows is an error."""
        getattr(self, f"_{instruction.lower()}")(value)

    def _env(self, value: str) -> None:
        for part in shlex.split(value):
            name, _, text = part.partition("=")
            self.environment[name] = text.replace("$PATH", self.environment["PATH"])

    def _run(self, value: str) -> None:
        self.inside("0:0", ["sh", "-ec", value])

    def _workdir(self, value: str) -> None:
        self.workdir = value
        (self.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _copy(self, value: str) -> None:
        if not value.startswith("--from="):
            copy(value, self.root, self.workdir)
            return
        _, source, destination = value.split()
        assert source == destination, value

    def _user(self, value: str) -> None:
        self.user = value

    def _entrypoint(self, value: str) -> None:
        self.entry = value

    def _cmd(self, value: str) -> None:
        """Given when it is run."""

    def inside(self, user: str, command: list[str]) -> None:
        """Run a command in the root as a user."""
        words = ["sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command]
        call = ["chroot", f"--userspec={user}", str(self.root), *words]
        subprocess.run(call, env=self.environment, check=True)


def replay(target: str, root: Path) -> None:
    """Every step of a target in a root, then its command as its user, who may write nothing but the data folder."""
    if not (root / "usr/local/bin/python").exists():
        shutil.copytree(sys.base_prefix, root / "usr/local", symlinks=True, dirs_exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment["LD_LIBRARY_PATH"] = "/usr/local/lib"
    environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    found, replayed = stages((ROOT / "Dockerfile").read_text()), Replay(root, environment)
    for stage in chain(found, target):
        replayed.workdir = "/"
        for instruction, value in stage.steps:
            print(f"{stage.name}: {instruction} {value[:100]}", flush=True)
            replayed.step(instruction, value)
    replayed.workdir = "/app"
    replayed.inside(replayed.user, [*json.loads(replayed.entry), "config"])
    replayed.inside(replayed.user, ["sh", "-ec", "for f in /app/x /venv/x; do ! touch $f 2>&-; done; touch /data/x"])


if __name__ == "__main__":
    replay(sys.argv[1], Path(sys.argv[2]))
