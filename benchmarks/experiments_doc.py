"""Put what the proof of experiments has found between the marks of its page: python -m benchmarks.experiments_doc."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.kept import LATEST, RESULTS, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "experiments.md"
START, END = "<!-- proof -->\n", "<!-- /proof -->"
QUESTIONS = {
    "null": "no effect, one look: an alarm",
    "sequential": "no effect, a look every week: an alarm at any",
    "bots": "no effect, three bots, winsorised: an alarm",
    "ratio": "nobody lost: the ratio is called broken",
    "ratio-damaged": "5 % of one group's users lost: it is called broken",
    "coverage": "an effect: the interval holds it",
    "coverage-sequential": "an effect, a look every week: all intervals hold it",
    "events": "events written and read again: the same report",
}
MARKS = {"at most": "≤ ", "at least": "≥ "}


def proof(rows: dict[str, Row]) -> str:
    """Shares with their intervals beside what is stated, and then what novelty and contamination do."""
    lines = [
        "| simulated experiments | how many | stated | found | 95 % interval | holds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, question in QUESTIONS.items():
        row = rows[f"experiments:{name}"]
        side = next((mark for words, mark in MARKS.items() if words in row["target"]), "")
        interval = f"{_percent(row['interval'][0])} to {_percent(row['interval'][1])}" if "interval" in row else ""
        stated = side + _percent(row["stated"])
        cells = [question, f"{row['experiments']:,}", stated, _percent(row["share"]), interval, _word(row["holds"])]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| relative effects on plays per active user | of the list | as the groups differ | reported | by week |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, what in (
        ("novelty", "halves every week"),
        ("contamination", "a tenth of each group gets the other list"),
    ):
        row = rows[f"experiments:{name}"]
        weeks = ", ".join(map(_percent, row["reported_by_week"]))
        reported = f"{_percent(row['reported'])} ± {_percent(row['error'])}"
        lines.append(f"| {name}: {what} | {_percent(row['true'])} | {_percent(row['seen'])} | {reported} | {weeks} |")
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


def latest() -> dict[str, Row]:
    """The rows of the proof that are kept."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in (RESULTS / LATEST).read_text().splitlines()]
    return {row["name"]: row for row in rows if row["name"].startswith("experiments:")}


def main() -> int:
    """Write the page; 1 where there is no proof, or no place for it."""
    page, rows = PAGE.read_text(), latest()
    if missing := {f"experiments:{name}" for name in QUESTIONS} - rows.keys():
        print(f"expected rows {', '.join(sorted(missing))}: run the benchmark `experiments` first", file=sys.stderr)
        return 1
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        print(f"{PAGE.name}: expected a block {START.strip()} … {END}, found none", file=sys.stderr)
        return 1
    PAGE.write_text(before + start + proof(rows) + end + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
