"""Files that are there whole or not at all, and what writers that died have left."""

import subprocess
import sys
from pathlib import Path

from consumers.runs import Run
from features.files import remove_abandoned, replacing
from tests.servers import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from consumers.runs import Run
from features.files import replacing
folder = Path(sys.argv[1])
Run(folder / "2023-W25").folder.joinpath("tracks.parquet").write_bytes(b"half")
with replacing(folder / "week.parquet") as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_what_a_killed_writer_has_left_is_removed_and_what_a_living_one_is_writing_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert len(names(tmp_path)) == 2
    living = Run(tmp_path / "2023-W25")
    with replacing(tmp_path / "week.parquet") as temporary:
        temporary.write_bytes(b"whole")
        remove_abandoned(tmp_path)
        assert sorted(names(tmp_path)) == sorted([living.folder.name, temporary.name])
    living.discard()
    assert names(tmp_path) == []
    assert (tmp_path / "week.parquet").read_bytes() == b"whole"
