"""Run the table of peers, or benchmarks by name, and keep their rows in results/latest.jsonl, one JSON object a line.

python -m benchmarks duplicates
"""

import argparse
import json
import sys
from importlib import import_module

from benchmarks.kept import PEERS, Row, keep

BENCHMARKS = (
    PEERS,
    "weekly",
    "latency",
    "lines",
    "scale",
    "recovery",
    "forecast",
    "duplicates",
    "caps",
    "listeners",
    "experiments",
    "http",
)
"""Each is a module of this folder with run(), which gives rows; it is imported when it runs."""


def rows_of(name: str) -> list[Row]:
    """Run one benchmark; a row is printed as it comes."""
    rows = []
    for row in import_module(f"benchmarks.{name}").run():
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main() -> int:
    """Run those that are named, or all; 1 where one has failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}, or all; {PEERS} unless given")
    wanted = parser.parse_args().names or [PEERS]
    if unknown := set(wanted) - {*BENCHMARKS, "all"}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: expected {names}, or all")
    failed = False
    for name in BENCHMARKS if "all" in wanted else wanted:
        rows = rows_of(name)
        if rows:  # one that was skipped leaves what it once found
            keep(name, rows)
        failed |= any("failed" in row for row in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
