"""The command `experiments report`, on files that are kept."""

import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tea_tasting")

from features.weeks import Calendar
from hitparade import wiring
from hitparade.__main__ import main
from models.kept_reports import KeptReports
from models.listeners import Slice
from models.usage import SLICES, USAGE
from models.usage_files import UsageFiles, weeks_in
from tests.builders_counting import Counted
from tests.commands import Command, Ended, run
from tests.listeners import drawn

Capture = pytest.CaptureFixture[str]
BOUNDED = """
[[experiment]]
name = "two-lists"
salt = "s"
first_week = "2025-W03"
last_week = "2025-W06"
[experiment.groups.control]
weight = 1
model = "linear"
[experiment.groups.treatment]
weight = 1
model = "neural"
"""
ENDLESS = BOUNDED.replace('first_week = "2025-W03"\nlast_week = "2025-W06"\n', "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the weeks' files; the experiment is bounded."""
    write(tmp_path / "experiments.toml", BOUNDED)
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HITPARADE_EXPERIMENT_FILE", str(tmp_path / "experiments.toml"))
    return tmp_path / "experiments"


def write(path: Path, text: str) -> None:
    path.write_text(text)


def keep(folder: Path, weeks: dict[str, pa.Table]) -> None:
    """As the log's extraction writes them: a row group a slice of the users."""
    folder.mkdir(exist_ok=True)
    for name, table in weeks.items():
        slice_of = np.array([crc32(user.encode()) % SLICES for user in table["user_id"].to_pylist()])
        with pq.ParquetWriter(folder / f"{name}.parquet", USAGE) as file:
            for n in range(SLICES):
                file.write_table(table.filter(pa.array(slice_of == n)))


def report(capsys: Capture, *arguments: str) -> Ended:
    return run(capsys, "experiments", "report", "two-lists", "--kept", *arguments)


def names(first: int, n: int) -> list[str]:
    return [f"2025-W{week:02}" for week in range(first, first + n)]


def of(weeks: Sequence[pa.Table], first: int) -> dict[str, pa.Table]:
    return dict(zip(names(first, len(weeks)), weeks, strict=True))


def test_the_last_line_says_which_list_is_better(folder: Path, capsys: Capture) -> None:
    keep(folder, of(drawn(1, n_users=1_000, lift=0.5, weeks=4), 3))
    ended = report(capsys)
    assert (ended.code, ended.err) == (0, "")
    *lines, last = ended.out.splitlines()
    assert last.startswith("treatment's list is better than control's: plays per active user is ")
    assert lines[0].strip() == "two-lists, 2025-W03 to 2025-W06: control 500, treatment 500"
    assert any(line.startswith("│ treatment │ skips per play (guardrail)") for line in lines)
    assert "Ratio of users: control 500, treatment 500, p = 1." in lines
    assert "plays_per_active_user decides; the other metrics are corrected for their number (Holm)." in lines


def test_before_the_end_it_says_how_many_looks_there_are_and_what_counts_at_this_one(
    folder: Path, capsys: Capture
) -> None:
    keep(folder, of(drawn(2, weeks=2), 3))
    ended = report(capsys)
    assert "Look 2 of 4: p below 0.003 is significant now" in ended.out
    assert "It is too early to say which list is better" in ended.out.splitlines()[-1]
    assert ended.out.rstrip().endswith("2 weeks of the plan remain.")


def test_as_json_it_is_one_object_a_metric_and_the_conclusion_last(folder: Path, capsys: Capture) -> None:
    keep(folder, of(drawn(1, n_users=1_000, lift=0.5, weeks=4), 3))
    *metrics, conclusion = report(capsys, "--json").rows()
    assert [row["metric"] for row in metrics][:2] == ["plays_per_active_user", "active_days"]
    assert {row["experiment"] for row in (*metrics, conclusion)} == {"two-lists"}
    assert conclusion["winner"] == "treatment"
    assert conclusion["conclusions"][0]["verdict"] == "better"
    assert conclusion["sentence"] == conclusion["conclusions"][0]["sentence"]
    assert conclusion["weeks"] == names(3, 4)


def test_weeks_before_the_experiment_sharpen_it_and_no_later_ones_do(folder: Path, capsys: Capture) -> None:
    keep(folder, of(drawn(3, weeks=7), 1))
    assert "Sharpened by the 2 weeks before (CUPED): 7 of 7." in report(capsys).out
    assert "Sharpened by the week before (CUPED): 7 of 7." in report(capsys, "--before", "1").out
    assert "Without weeks before." in report(capsys, "--before", "0").out
    assert "Sharpened by the 2 weeks before" in report(capsys, "--weeks", "2025-W05..2025-W06").out
    conclusion = report(capsys, "--json").rows()[-1]
    assert conclusion["weeks"] == names(3, 4)


def test_weeks_before_are_those_before_the_users_first_felt_the_lists(folder: Path, capsys: Capture) -> None:
    """Also where an earlier experiment of the same salt had other weights."""
    keep(folder, of(drawn(3, weeks=7), 1))
    earlier = BOUNDED.replace("two-lists", "a-tenth").replace("W03", "W02").replace("W06", "W02")
    write(folder.parent / "experiments.toml", earlier + BOUNDED)
    assert "Sharpened by the week before (CUPED): 7 of 7." in report(capsys).out


def test_an_experiment_without_an_end_warns_that_its_p_values_are_of_one_look(folder: Path, capsys: Capture) -> None:
    keep(folder, of(drawn(4, weeks=2), 3))
    write(folder.parent / "experiments.toml", ENDLESS)
    ended = report(capsys)
    assert "Warning: The experiment has no last week, so no number of looks is planned" in ended.out
    assert "Look" not in ended.out
    bounded = report(capsys, "--weeks", "2025-W03..2025-W08")
    assert "Look 2 of 6" in bounded.out
    assert "Warning: The weeks were chosen by hand" in bounded.out


def test_a_week_in_between_without_a_file_is_told_of_and_still_a_look(folder: Path, capsys: Capture) -> None:
    first, second = drawn(5, weeks=2)
    keep(folder, {"2025-W03": first, "2025-W05": second})
    ended = report(capsys)
    assert "Warning: Nothing was counted of 2025-W04, which is left out." in ended.out
    assert "Look 3 of 4" in ended.out


def test_pictures_are_written_as_png_and_svg_and_are_the_same_each_time(folder: Path, capsys: Capture) -> None:
    keep(folder, of(drawn(6, weeks=1), 3))
    out = folder.parent / "pictures"
    ended = report(capsys, "--out", str(out))
    assert ended.out.splitlines()[-2:] == [str(out / "two-lists.png"), str(out / "two-lists.svg")]
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(written) == ["two-lists.png", "two-lists.svg"]
    assert written["two-lists.png"].startswith(b"\x89PNG")
    assert b"plays per active user (primary)" in written["two-lists.svg"]
    report(capsys, "--out", str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == written


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--weeks", "2025-W03"], 2, "--weeks: expected FIRST..LAST such as 2023-W24..2023-W27, found '2025-W03'"),
        (["--weeks", "2025-W05..2025-W03"], 2, "--weeks: expected weeks of two-lists, the first before the last"),
        (["--weeks", "2025-W05..2025-W07"], 2, "--weeks: expected weeks of two-lists, the first before the last"),
        (["--control", "other"], 2, "control: expected one of control, treatment, found 'other'"),
        (["--primary", "fame"], 2, "metric: expected one of plays_per_active_user, "),
        (["--alpha", "0"], 2, "expected a number above 0, at most 1, found '0'"),
        (["--winsorise", "nan"], 2, "expected a number above 0, at most 1, found 'nan'"),
        (["--winsorise", "0.9", "--cap", "9"], 2, "not allowed with"),
        (["--weeks", "2025-W05..2025-W06"], 1, "no closed week of two-lists is in "),
    ],
)
def test_what_cannot_be_reported_has_a_sentence(
    folder: Path, capsys: Capture, arguments: list[str], code: int, message: str
) -> None:
    keep(folder, of(drawn(7, n_users=50, weeks=1), 3))
    ended = report(capsys, *arguments)
    assert ended.code == code
    assert message in ended.err
    assert ended.out == ""


def test_the_report_is_kept_unless_its_weeks_were_picked_and_one_that_cannot_be_is_shown_all_the_same(
    folder: Path, capsys: Capture
) -> None:
    keep(folder, of(drawn(1, n_users=200, weeks=4), 3))
    kept = KeptReports(folder / "reports")
    report(capsys, "--weeks", "2025-W03..2025-W04")
    assert kept.read() == []
    assert report(capsys).err == ""
    report(capsys, "--weeks", "2025-W03..2025-W04")
    ((found, _),) = kept.read()
    assert found.weeks == names(3, 4)
    assert (found.name, [ratio.what for ratio in found.ratios]) == ("two-lists", ["users"])
    (folder / "reports" / "two-lists.json").unlink()
    (folder / "reports").rmdir()
    (folder / "reports").touch()
    ended = report(capsys)
    assert (ended.code, "the report is not kept for `hitparade serve`" in ended.err) == (0, True)
    assert "Ratio of users" in ended.out


def test_an_experiment_that_is_not_in_the_file_and_a_week_that_is_not_there_have_a_sentence(
    folder: Path, capsys: Capture
) -> None:
    ended = run(capsys, "experiments", "report", "other", "--kept")
    assert ended.code == 2
    assert "experiment 'other': expected one of the file (two-lists)" in ended.err
    assert "there is none yet" in report(capsys).err


@pytest.mark.parametrize("content", [b"", b"PAR1 not at all"])
def test_a_broken_file_is_named(folder: Path, capsys: Capture, content: bytes) -> None:
    folder.mkdir()
    (folder / "2025-W03.parquet").write_bytes(content)
    ended = report(capsys)
    assert ended.code == 1
    assert "2025-W03.parquet cannot be read" in ended.err


def test_a_file_of_another_form_is_named(folder: Path, capsys: Capture) -> None:
    folder.mkdir()
    pq.write_table(drawn(8)[0].drop_columns(["exposed"]), folder / "2025-W03.parquet")
    assert "2025-W03.parquet lacks exposed: remove it" in report(capsys).err


def test_without_the_library_it_says_what_to_install(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(folder, of(drawn(9, weeks=1), 3))
    for name in [name for name in sys.modules if name.split(".")[0] == "tea_tasting"]:
        monkeypatch.setitem(sys.modules, name, None)
    ended = report(capsys)
    assert ended.code == 1
    assert "tea-tasting is not installed: pip install -e '.[experiments]'" in ended.err


def test_files_are_gone_through_slice_by_slice_as_often_as_one_likes(tmp_path: Path) -> None:
    first, second = drawn(10, weeks=2)
    keep(tmp_path, {"2025-W03": first, "2025-W04": second})
    (tmp_path / "2025-W99.parquet").touch()
    weeks = weeks_in(tmp_path, Calendar())
    assert [week.name for week in weeks] == ["2025-W03", "2025-W04"]
    files = UsageFiles(tmp_path, weeks[1:], weeks[:1])
    for _ in range(2):
        slices: list[Slice] = list(files)
        assert len(slices) == SLICES
        for part in slices:
            users = {user for table in (*part.weeks, *part.before) for user in table["user_id"].to_pylist()}
            assert len({crc32(user.encode()) % SLICES for user in users}) == 1
        assert sum(len(part.weeks[0]) for part in slices) == 400


def test_files_that_are_not_parted_are_read_whole(tmp_path: Path) -> None:
    (table,) = drawn(11)
    pq.write_table(table, tmp_path / "2025-W03.parquet")
    (part,) = UsageFiles(tmp_path, weeks_in(tmp_path, Calendar()))
    assert part.weeks[0].equals(table)


def test_help_says_that_choices_come_before_figures(capsys: Capture) -> None:
    assert main(["experiments", "report", "--help"]) == 0
    assert "before you look" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("leaky")
def test_a_report_of_a_log_makes_the_files_that_the_next_one_finds(counted: Counted, command: Command) -> None:
    counted.fill(20_000)
    counted.count()
    first = command(counted, "experiments", "report", "neural-against-linear", "--json")
    assert first.code == 0
    conclusion = first.rows()[-1]
    closed = wiring.counter_reader(counted.settings).standing().closed()
    assert conclusion["weeks"] == [week.name for week in closed]
    kept = command(counted, "experiments", "report", "neural-against-linear", "--json", "--kept")
    assert kept.rows() == first.rows()
    unreachable = counted.other(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    without = command(unreachable, "experiments", "report", "neural-against-linear", "--json")
    assert without.rows() == first.rows()
    assert "this is what is kept" in without.err
