"""Python environments of the peers' own, under build/peers: what they install is never a dependency of ours."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers"


class Missing(Exception):
    """What a benchmark needs is not to be had here; the message says what, and why."""


def python_of(name: str, *packages: str) -> Path:
    """The interpreter of an environment with these packages, installed once; those unpinned are as in constraints.txt.

    Raises:
        Missing: they cannot be installed.
    """
    folder, wanted = PEERS / name, "\n".join(packages)
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if installed.exists() and installed.read_text() == wanted:
        return python
    print(f"installing {', '.join(packages)} into {folder.relative_to(ROOT)}", file=sys.stderr)
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not all("==" in package for package in packages):
        pip += ["--constraint", str(ROOT / "constraints.txt")]
    answer = subprocess.run([*pip, *packages], check=False, capture_output=True, text=True)
    if answer.returncode:
        raise Missing(f"{packages[0]} cannot be installed: {' '.join(answer.stderr.split()[-30:])}")
    installed.write_text(wanted)
    return python


def versions(python: Path, *names: str) -> dict[str, str]:
    """The versions of packages that an environment has."""
    code = "import sys, importlib.metadata as m; [print(m.version(n)) for n in sys.argv[1:]]"
    answer = subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, answer.stdout.split(), strict=True))
