"""The commands about models: train, versions, and the original study's formats."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from models.study import linear_format, neural_format
from tests.builders import play
from tests.builders_history import listening, track, weeks
from tests.commands import Ended, run

Capture = pytest.CaptureFixture[str]
N_WEEKS = 8


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, in settings that name no server."""
    for name in [name for name in os.environ if name.startswith("HITPARADE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HITPARADE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def history(data: Path) -> Path:
    """The data folder with eight weeks of history."""
    listening(data / "history", N_WEEKS, n_tracks=20)
    return data


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Session events of five weeks from 2023-W24 on: as many plays of a as weeks have gone by, one of b."""
    lines = [play(week, "a") for week in range(5) for _ in range(week + 1)] + [play(week, "b") for week in range(5)]
    (tmp_path / "sessions.jsonl").write_bytes(b"\n".join([*lines, b"nonsense"]))
    return tmp_path / "sessions.jsonl"


NO_HISTORY = "there is no history yet: `hitparade consume weekly` writes it, a file a closed week"
UNTRAINED = "no model has been trained yet: run `hitparade train`"


def test_without_history_there_is_nothing_to_learn_from_or_to_export(data: Path, capsys: Capture) -> None:
    for command in ("train", "export training --format linear", "export training --format neural"):
        assert run(capsys, *command.split()) == Ended(1, "", f"hitparade: {NO_HISTORY}\n")


def test_too_little_history_to_train_on_ends_with_1_and_leaves_nothing_behind(history: Path, capsys: Capture) -> None:
    ended = run(capsys, "train", "--until", weeks(N_WEEKS)[1])
    assert ended == Ended(1, "", "hitparade: needs 6 closed weeks in a row, has 2\n")
    assert not (history / "models").exists()


def test_before_a_model_is_trained_there_is_none_and_a_hint(data: Path, capsys: Capture) -> None:
    assert run(capsys, "models") == Ended(0, f"{UNTRAINED}\n", "")
    assert run(capsys, "models", "--json") == Ended(0, "", "")
    assert run(capsys, "models", "promote", "x") == Ended(1, "", f"hitparade: there is no version x: {UNTRAINED}\n")


def in_use(capsys: Capture) -> dict[str, bool]:
    rows = run(capsys, "models", "--json").rows()
    assert {tuple(row) for row in rows} == {("model", "version", "in_use")}
    assert {row["model"] for row in rows} == {"neural"}
    return {row["version"]: row["in_use"] for row in rows}


def test_train_puts_a_version_in_use_and_an_older_one_can_be_promoted_again(history: Path, capsys: Capture) -> None:
    ended = run(capsys, "train", "--until", weeks(N_WEEKS)[-2])
    first, *metrics = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    version = first.split()[1]
    assert first == f"neural {version} is in use: {history / 'models' / 'neural' / version}"
    assert version.startswith(weeks(N_WEEKS)[-2])
    assert [line.split(":")[0].strip() for line in metrics] == ["neural", "naive"]
    assert run(capsys, "train").code == 0
    later = next(name for name in in_use(capsys) if name != version)
    assert in_use(capsys) == {version: False, later: True}

    assert run(capsys, "models", "promote", version).code == 0
    assert in_use(capsys) == {version: True, later: False}
    table = run(capsys, "models").out.splitlines()
    assert [line.split("│")[2:4] for line in table if version in line] == [[f" {version} ", " in use "]]
    ended = run(capsys, "models", "promote", "nope")
    assert ended == Ended(1, "", f"hitparade: neural has no version 'nope': expected one of {[version, later]}\n")
    assert in_use(capsys) == {version: True, later: False}


def test_without_torch_train_says_what_to_install(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delitem(sys.modules, "models.training", raising=False)
    monkeypatch.delitem(sys.modules, "models.neural", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    ended = run(capsys, "train")
    assert ended == Ended(1, "", "hitparade: torch is not installed: pip install -e '.[neural]'\n")


@pytest.mark.parametrize("name", ["linear", "neural"])
def test_an_export_is_the_studys_format_of_the_last_week_or_of_the_one_given(
    name: str, data: Path, capsys: Capture
) -> None:
    expected = {"linear": linear_format, "neural": neural_format}[name]
    history = listening(data / "history", N_WEEKS, n_tracks=20)
    for arguments, week in (([], weeks(N_WEEKS)[-1]), (["--week", weeks(N_WEEKS)[5]], weeks(N_WEEKS)[5])):
        ended = run(capsys, "export", "training", "--format", name, *arguments)
        assert (ended.code, ended.err) == (0, "")
        assert json.loads(ended.out) == expected(history, week)


def test_a_week_without_the_four_before_it_cannot_be_exported(history: Path, capsys: Capture) -> None:
    ended = run(capsys, "export", "training", "--format", "linear", "--week", weeks(N_WEEKS)[3])
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("hitparade: needs the weeks 2022-W52 to 2023-W04, has no 2022-W52")


def test_an_export_into_a_folder_is_a_file_named_by_format_and_week(
    history: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder, printed = tmp_path / "a" / "b", run(capsys, "export", "training", "--format", "linear").out
    path = folder / f"linear-{weeks(N_WEEKS)[-1]}.json"
    assert run(capsys, "export", "training", "--format", "linear", "--out", str(folder)) == Ended(0, f"{path}\n", "")
    assert path.read_text() == printed
    (tmp_path / "file").touch()
    ended = run(capsys, "export", "training", "--format", "linear", "--out", str(tmp_path / "file"))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"hitparade: {tmp_path / 'file' / path.name} cannot be written: File exists\n"


def test_session_files_are_counted_for_an_export_and_no_server_or_history_is_needed(
    data: Path, sessions: Path, tmp_path: Path, capsys: Capture
) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(sessions.read_bytes()))
    (tmp_path / "tracks").write_text(track("a", energy=0.25).model_dump_json())
    for files, times in (([sessions], 1), ([packed, sessions], 2)):
        ended = run(capsys, "export", "training", "--format", "linear", "--sessions", *map(str, files))
        assert (ended.code, ended.err) == (0, "")
        assert [list(row.values()) for row in json.loads(ended.out)] == [
            ["a", 5 * times, 1 * times, 2 * times, 3 * times, 4 * times],
            ["b", *[1 * times] * 5],
        ]
    more = ("--sessions", str(sessions), "--tracks", str(tmp_path / "tracks"))
    ended = run(capsys, "export", "training", "--format", "neural", *more)
    newest = json.loads(ended.out)[-1]
    assert [(row["track_id"], row["energy"], row["play_count"]) for row in newest] == [("a", 0.25, 4), ("b", None, 1)]
    assert not data.exists()


def test_a_session_file_that_cannot_be_counted_is_named(
    data: Path, sessions: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "torn").write_bytes(gzip.compress(os.urandom(5000))[:2000])
    export = ("export", "training", "--format", "linear", "--sessions")
    for name, reason in (("nowhere", "No such file or directory"), ("torn", "Compressed file ended")):
        path = str(tmp_path / name)
        for arguments in ((*export, path), (*export, str(sessions), "--tracks", path)):
            ended = run(capsys, *arguments)
            assert (ended.code, ended.out) == (1, "")
            assert f"{path} cannot be read: {reason}" in ended.err
            assert ended.err.count("\n") == 1
    ended = run(capsys, *export, str(tmp_path / "empty"))
    assert ended == Ended(1, "", f"hitparade: no event that counts in {tmp_path / 'empty'}\n")
