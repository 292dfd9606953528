"""Packages of npm that tests need."""

import os
import shutil
from pathlib import Path

from tests.servers import ROOT, missing

FOLDER = Path(os.environ.get("HITPARADE_TEST_NODE", ROOT / "build" / "node")).absolute()


def node_modules(*packages: str) -> Path:
    """The folder that has these packages; else it skips, or fails in CI."""
    if shutil.which("node") is None:
        missing("this needs node 20 or newer, and there is none on the PATH")
    folder = FOLDER / "node_modules"
    for package in packages:
        if not (folder / package / "package.json").is_file():
            missing(f"no {package} in {folder}: make it with `npm install --prefix {FOLDER} {package}`")
    return folder
