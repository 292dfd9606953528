"""docs/forecasts.md says what the benchmark has found, and shows commands and pictures that there are."""

import json
import re
import shlex
from typing import Any

import pytest

from benchmarks.listeners import SERVICES
from hitparade.parser import build_parser
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "forecasts.md").read_text()
MODELS = ("naive", "linear", "neural", "lightgbm", "bound")
METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays")
NAMES = {"neural": "**neural**", "lightgbm": "LightGBM"}


def measured() -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (ROOT / "benchmarks" / "results" / "latest.jsonl").read_text().splitlines())
    return {row["name"]: row for row in rows}


def between(marker: str) -> str:
    return PAGE.split(f"<!-- {marker} -->\n")[1].split(f"<!-- /{marker} -->")[0]


def difference(low: float, mean: float, high: float) -> str:
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def chart_table() -> str:
    lines = [
        "| | precision@50 | NDCG@50 | captured | less naive's: precision@50 | NDCG@50 | captured |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model in MODELS:
        row = measured()[f"forecast:{model}"]
        differences = ["" if model == "naive" else difference(*row["vs_naive"][metric]) for metric in METRICS]
        cells = [NAMES.get(model, model), *(f"{row[metric]:.3f}" for metric in METRICS), *differences]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_table_on_charts_is_what_the_benchmark_has_found() -> None:
    assert between("charts") == chart_table()


def test_the_row_of_the_seed_that_the_benchmark_uses_is_the_same_as_its_own() -> None:
    row = measured()["forecast:neural"]
    told = next(line for line in between("seeds").splitlines() if line.startswith("| 0 "))
    assert told.split(" | ")[1:4] == [f"{row[metric]:.3f}" for metric in METRICS]


def listeners_table() -> str:
    lines = ["| climate, seed | precision@50 | NDCG@50 | captured |", "| --- | --- | --- | --- |"]
    for climate, seed in SERVICES:
        found = measured()[f"listeners:{climate}-{seed}"]["difference"]
        cells = [f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]" for low, mean, high in map(found.get, METRICS)]
        lines.append("| " + " | ".join([f"{climate}, {seed}", *cells]) + " |")
    return "\n".join(lines) + "\n"


def test_what_is_told_of_listeners_is_what_the_benchmark_has_found() -> None:
    """They are no input, since no metric is better by what a list could show: a tenth of a place of 50."""
    assert between("listeners") == listeners_table()
    rows = [measured()[f"listeners:{climate}-{seed}"]["difference"] for climate, seed in SERVICES]
    assert all(row["captured_plays"][0] <= 0 <= row["captured_plays"][2] for row in rows)
    assert all(row["precision_at_50"][0] <= 0 for row in rows)


def test_what_it_costs_is_what_was_measured() -> None:
    rows = measured()
    told = re.findall(r"([\d.]+) s", between("costs"))
    assert told == [
        str(rows["forecast:neural-training"]["cpu_s"]),
        str(rows["forecast:neural-scoring"]["cpu_s"]),
        str(rows["forecast:neural-scoring"]["with_reading_cpu_s"]),
    ]


def test_every_target_that_is_told_of_as_reached_was_reached() -> None:
    targets = {name: row["holds"] for name, row in measured().items() if name.startswith("forecast:") and row["target"]}
    assert targets == dict.fromkeys(
        (
            "forecast:linear",
            "forecast:neural",
            "forecast:backtest",
            "forecast:neural-training",
            "forecast:neural-scoring",
        ),
        True,
    )


def test_every_command_of_the_page_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^hitparade (.+)$", PAGE, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True))
    for name in set(re.findall(r"`hitparade ([a-z-]+)`", PAGE)):
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args([name, "--help"])
        assert ended.value.code == 0, name


def test_every_option_of_the_page_is_one_of_backtest() -> None:
    options = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert options
    for option in options:
        assert build_parser().parse_args(["backtest", option, "1"])


def test_every_picture_of_the_page_is_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) == 2
    for picture in pictures:
        content = (ROOT / "docs" / picture).read_bytes()
        assert content.startswith(b"\x89PNG"), picture
        assert len(content) < 100_000, picture
