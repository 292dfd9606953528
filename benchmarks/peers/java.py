"""Peers in Java: compiled here, with jars that lie on this machine or come from packages."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.environments import PEERS, ROOT, Missing

SOURCES = ROOT / "benchmarks" / "peer_scripts"
JAVA = ["java", "-XX:+UseParallelGC", "-Dlog4j2.level=WARN"]
"""The parallel collector takes a fifth less processor time than the default one."""


def compiled(name: str, class_path: str) -> str:
    """Compile a program with these jars; the class path to run it by.

    Raises:
        Missing: there is no compiler, or program and jars do not fit.
    """
    if shutil.which("javac") is None:
        raise Missing("no javac on the PATH")
    classes = PEERS / name
    classes.mkdir(parents=True, exist_ok=True)
    command = ["javac", "-d", str(classes), "-cp", class_path, str(SOURCES / f"{name}.java")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise Missing(f"{name}.java does not compile with its jars: {answer.stderr.splitlines()[0]}")
    return f"{classes}:{class_path}"


def jar_version(folder: Path, name: str) -> str:
    """The version in the name of a jar.

    Raises:
        Missing: the folder has none of that name.
    """
    for jar in folder.glob(f"{name}-[0-9]*.jar"):
        return jar.stem.removeprefix(f"{name}-")
    raise Missing(f"no {name} in {folder}")
