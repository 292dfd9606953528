"""Put what the benchmarks have found where it is used: python -m benchmarks.scaling_doc.

hitparade/costs.toml is what `hitparade sizing` calculates with; the marked blocks of docs/scaling.md are tables.
"""

import sys
from pathlib import Path

from benchmarks.scaling_tables import BLOCKS, MissingRow, Rows, costs, latest
from hitparade.capacity import Costs

ROOT = Path(__file__).resolve().parents[1]
PAGE, COSTS = ROOT / "docs" / "scaling.md", ROOT / "hitparade" / "costs.toml"


def toml(found: Costs) -> str:
    """The file of costs."""
    lines = ["# What things cost, by the benchmarks' rows; `python -m benchmarks.scaling_doc` writes this file."]
    for name, figures in found.items():
        lines += ["", f'["{name}"]', *(f"{field} = {figure}" for field, figure in figures.items())]
    return "\n".join(lines) + "\n"


def rewritten(page: str, rows: Rows) -> str:
    """The page with every marked block as the rows have it; whatever stands between the marks is replaced."""
    for name, block in BLOCKS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if not (page.count(start) == page.count(end) == 1):
            raise ValueError(f"{PAGE.name}: expected one block {name}, found {page.count(start)}")
        before, _, rest = page.partition(start)
        page = before + start + block(rows) + end + rest.partition(end)[2]
    return page


def main() -> int:
    """Write both files; 1 where a row is missing."""
    try:
        rows = latest()
        page, figures = rewritten(PAGE.read_text(), rows), toml(costs(rows))
    except MissingRow as cause:
        print(cause, file=sys.stderr)
        return 1
    PAGE.write_text(page)
    COSTS.write_text(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
