"""The command `evaluations`: tables, JSON and a picture of the series, from the topic and from disk."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.worth import means
from hitparade import wiring
from hitparade.embedded import Embedded
from hitparade.evaluating import COLUMNS
from hitparade.series import series
from producers.playlists import Evaluation, Worth
from producers.publisher import Message
from tests.builders_weekly import Stage, staged
from tests.commands import Ended, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def stage(embedded_stack: Embedded, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Topics with nothing in them."""
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        for name, value in stage.env.items():
            monkeypatch.setenv(name, value)
        yield stage


def worth(value: float, naive: float) -> Worth:
    """Every metric alike."""
    return Worth(metrics=dict.fromkeys(COLUMNS, value), naive=dict.fromkeys(COLUMNS, naive))


def evaluation(week: str, value: float, naive: float = 0.5, group: str = "treatment", **fields: Any) -> Evaluation:
    defaults: dict[str, Any] = {"experiment": "e", "model": "linear", "model_version": "1", "playlist_id": ""}
    defaults |= {"revision": 1, "span_weeks": 4, "n_ranked": 50} | worth(value, naive).model_dump()
    return Evaluation.model_validate({"week": week, "group": group} | defaults | fields)


def publish(stage: Stage, *evaluations: Evaluation) -> None:
    stage.publisher.publish([one.message(stage.settings.topics.evaluations) for one in evaluations])


def cells(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]


def test_after_two_weeks_the_means_stand_under_the_series_with_their_intervals(stage: Stage, capsys: Capture) -> None:
    more: dict[str, Any] = {"own": worth(0.5, 0.5), "forecast": worth(0.2, 0.5), "own_forecast": worth(0.9, 0.5)}
    publish(stage, evaluation("2023-W24", 0.5, **more), evaluation("2023-W25", 0.7))
    publish(stage, evaluation("2023-W23", 0.5, model="naive"))  # of which the means say nothing
    ended = run(capsys, "evaluations")
    assert (ended.code, ended.err) == (0, "")
    *rows, all_, own, forecast, own_forecast = cells(ended.out)
    assert [row[:3] for row in rows] == [
        ["2023-W23", "treatment", "naive"],
        ["2023-W23", "", "naive"],
        ["2023-W24", "treatment", "linear"],
        ["2023-W24", "", "naive"],
        ["2023-W25", "treatment", "linear"],
        ["2023-W25", "", "naive"],
    ]
    assert all_ == ["treatment", "linear", "list, 4 weeks, all", "2", *["+0.100 [+0.000, +0.200]"] * 3]
    assert own == ["treatment", "linear", "list, 4 weeks, own", "1", *["+0.000 [+0.000, +0.000]"] * 3]
    assert forecast == ["treatment", "linear", "forecast, 1 week, all", "1", *["-0.300 [-0.300, -0.300]"] * 3]
    assert own_forecast == ["treatment", "linear", "forecast, 1 week, own", "1", *["+0.400 [+0.400, +0.400]"] * 3]


def test_the_means_as_json_are_one_object_a_group_a_model_and_a_view(stage: Stage, capsys: Capture) -> None:
    publish(
        stage,
        evaluation("2023-W24", 0.4),
        evaluation("2023-W24", 0.5, group="control", model="naive"),
        evaluation("2023-W25", 0.6, naive=0.3),
        evaluation("2023-W26", 0.5, model="naive", naive=0.5),
        evaluation("2023-W27", 0.4, naive=0.5, span_weeks=1),
    )
    rows = run(capsys, "evaluations", "--means", "--json").rows()
    assert [(row["group"], row["model"], row["span_weeks"], row["weeks"]) for row in rows] == [
        ("control", "naive", 4, 1),
        ("treatment", "linear", 4, 2),
        ("treatment", "linear", 1, 1),
        ("treatment", "naive", 4, 1),
    ]
    assert rows[1] == {
        "group": "treatment",
        "model": "linear",
        "judged": "list",
        "span_weeks": 4,
        "listeners": "all",
        "weeks": 2,
        **dict.fromkeys(COLUMNS, 0.5),
        "naive": dict.fromkeys(COLUMNS, 0.4),
        "vs_naive": {name: [-0.1, 0.1, 0.3] for name in COLUMNS},
    }


def test_the_interval_is_that_of_the_differences_of_the_same_weeks() -> None:
    """Weeks that are good for both say nothing of either."""
    alike = [evaluation(f"2023-W{week}", week / 100 + 0.01, naive=week / 100) for week in range(10, 30)]
    assert means(alike)[0]["vs_naive"] == {name: [0.01, 0.01, 0.01] for name in COLUMNS}


def test_means_can_be_shown_alone_of_one_week_too(stage: Stage, capsys: Capture) -> None:
    publish(stage, evaluation("2023-W24", 0.5))
    assert len(cells(run(capsys, "evaluations", "--means").out)) == 1


def test_of_naives_own_lists_there_are_no_means_to_show(stage: Stage, capsys: Capture) -> None:
    publish(stage, *(evaluation(week, 0.5, model="naive") for week in ("2023-W24", "2023-W25")))
    ended = run(capsys, "evaluations")
    assert len(cells(ended.out)) == 4
    assert ended.out.endswith("All of them are naive's own lists, so there is nothing to compare.\n")


def test_what_the_topic_has_lost_comes_from_disk_and_else_the_topic_is_right(stage: Stage, capsys: Capture) -> None:
    kept = [evaluation("2023-W23", 0.3), evaluation("2023-W24", 0.4), evaluation("2023-W24", 0.5, revision=2)]
    wiring.evaluations(stage.settings).keep([*kept, evaluation("2023-W25", 0.1)])
    publish(stage, evaluation("2023-W25", 0.6))
    rows = run(capsys, "evaluations", "--json").rows()
    assert rows == [e.model_dump(mode="json") for e in (kept[0], kept[2], evaluation("2023-W25", 0.6))]


@pytest.mark.usefixtures("leaky")
def test_without_kafka_what_is_on_disk_is_shown_and_nothing_else_is_taken_for_all(
    stage: Stage, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HITPARADE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    ended = run(capsys, "evaluations", "--json")
    assert (ended.code, ended.out) == (1, "")
    wiring.evaluations(stage.settings).keep([evaluation("2023-W24", 0.5)])
    ended = run(capsys, "evaluations", "--json")
    assert (ended.code, [row["week"] for row in ended.rows()]) == (0, ["2023-W24"])
    assert f"this is what is kept in {stage.settings.data_dir / 'history' / 'evaluations'}" in ended.err


def test_a_topic_that_is_not_there_costs_nothing_that_is_on_disk(
    stage: Stage, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring.evaluations(stage.settings).keep([evaluation("2023-W24", 0.5)])
    monkeypatch.setenv("HITPARADE_TOPIC_PREFIX", f"{stage.settings.topic_prefix}x")
    ended = run(capsys, "evaluations", "--json")
    assert (ended.code, len(ended.rows())) == (0, 1)
    assert "does not exist" in ended.err


@pytest.mark.parametrize("value", [b"junk", b'{"week": "2023-W24"}', b"\xff"])
def test_a_record_that_is_no_evaluation_is_told_and_left_out(value: bytes, stage: Stage, capsys: Capture) -> None:
    stage.publisher.publish([Message(stage.settings.topics.evaluations, b"2023-W24/x", value)])
    publish(stage, evaluation("2023-W25", 0.5), evaluation("2023-W26", 0.5, metrics={"rbo": 1.0}))
    ended = run(capsys, "evaluations")
    assert ended.code == 0
    assert [row[0] for row in cells(ended.out)] == ["2023-W25", "2023-W25"]
    assert "the record at offset 0 of" in ended.err
    assert "2023-W26/treatment is left out: it lacks captured_plays, criterion, exact_places, ndcg_at_50" in ended.err


def test_the_picture_is_a_png_beside_what_is_printed(stage: Stage, tmp_path: Path, capsys: Capture) -> None:
    publish(stage, evaluation("2023-W24", 0.5), evaluation("2023-W24", 0.4, group=r"$\x$", model="{\\"))
    picture = tmp_path / "new" / "series.png"
    ended = run(capsys, "evaluations", "--out", str(picture))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(f"{picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert len(run(capsys, "evaluations", "--json", "--out", str(picture)).rows()) == 2
    assert [path.name for path in picture.parent.iterdir()] == ["series.png"]


def test_the_picture_shows_each_groups_difference_to_naive_over_the_weeks() -> None:
    drawn = series(
        [
            evaluation("2023-W24", 0.75, group="control"),
            evaluation("2023-W24", 0.25, forecast=worth(0.5, 0.25)),
            evaluation("2023-W25", 1.0, model="naive", naive=0.25),
        ]
    )
    for n, axes in enumerate(drawn.axes):
        lines = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.get_lines()}
        is_of_lists = n % 2 == 0
        assert lines["control: linear"] == ([[0, 0.25]] if is_of_lists else [])
        assert lines["treatment: linear, naive"] == ([[0, -0.25], [1, 0.75]] if is_of_lists else [[0, 0.25]])
    assert [label.get_text() for label in drawn.axes[-1].get_xticklabels()] == ["2023-W24", "2023-W25"]


@pytest.mark.parametrize(
    ("out", "code", "message"),
    [
        ("{}/series.svg", 2, "expected a file that ends in .png after --out, found {}/series.svg"),
        ("{}/file/series.png", 1, "{}/file/series.png cannot be written: File exists"),
        ("{}/folder.png", 1, "{}/folder.png cannot be written: Is a directory"),
    ],
)
def test_a_picture_that_cannot_be_written_is_one_sentence(
    out: str, code: int, message: str, stage: Stage, tmp_path: Path, capsys: Capture
) -> None:
    publish(stage, evaluation("2023-W24", 0.5))
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    ended = run(capsys, "evaluations", "--out", out.format(tmp_path))
    assert ended == Ended(code, "", f"hitparade: {message.format(tmp_path)}\n")


def test_there_is_no_picture_of_nothing(stage: Stage, tmp_path: Path, capsys: Capture) -> None:
    ended = run(capsys, "evaluations", "--out", str(tmp_path / "x.png"))
    assert ended.code == 1
    assert ended.err.endswith(
        "x.png is not written: none yet: a list is evaluated when its week has closed and been run\n"
    )
    assert not (tmp_path / "x.png").exists()


def test_without_matplotlib_the_error_says_what_to_install(
    stage: Stage, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stage, evaluation("2023-W24", 0.5))
    monkeypatch.delitem(sys.modules, "hitparade.series")
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = run(capsys, "evaluations", "--out", str(tmp_path / "x.png"))
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(r"hitparade: matplotlib\S* is not installed: pip install -e '.\[neural\]'\n", ended.err)
