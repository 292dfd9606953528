"""Where benchmarks keep what they found: latest.jsonl, one JSON object a line, and pages and pictures beside it.

HITPARADE_BENCH_RESULTS names another folder than benchmarks/results, for trying out.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
RESULTS = Path(os.environ.get("HITPARADE_BENCH_RESULTS", Path(__file__).parent / "results"))
LATEST = "latest.jsonl"
PEERS = "peers"


def keep(name: str, rows: Iterable[Row], folder: Path = RESULTS) -> None:
    """Put the rows in the place of those that a benchmark of this name left."""
    latest = folder / LATEST
    kept = [json.loads(line) for line in latest.read_text().splitlines()] if latest.exists() else []
    others = [row for row in kept if owner(row["name"]) != name]
    folder.mkdir(parents=True, exist_ok=True)
    latest.write_text("".join(json.dumps(row) + "\n" for row in [*others, *rows]))


def owner(row_name: str) -> str:
    """The benchmark whose row it is.

    >>> owner("latency:10000"), owner("quix")
    ('latency', 'peers')
    """
    before, colon, _ = row_name.partition(":")
    return before if colon else PEERS
