"""Run benchmarks by name, and keep their rows in results/latest.jsonl, one JSON object a line.

python -m benchmarks duplicates
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import duplicates, forecast

Row = dict[str, Any]
BENCHMARKS: dict[str, Callable[[], Iterable[Row]]] = {"duplicates": duplicates.run, "forecast": forecast.run}
LATEST = Path(__file__).parent / "results" / "latest.jsonl"


def keep(name: str, rows: Iterable[Row]) -> None:
    """Put the rows in the place of those that a benchmark of this name left."""
    kept = [json.loads(line) for line in LATEST.read_text().splitlines()] if LATEST.exists() else []
    others = [row for row in kept if row["name"].split(":")[0] != name]
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text("".join(json.dumps(row) + "\n" for row in [*others, *rows]))


def main() -> int:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all unless given")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - {*BENCHMARKS, "all"}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: expected {', '.join(BENCHMARKS)}")
    for name in BENCHMARKS if "all" in names else names:
        rows = list(BENCHMARKS[name]())
        for row in rows:
            print(json.dumps(row))
        if rows:  # one that was skipped leaves what it once found
            keep(name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
