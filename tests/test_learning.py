"""The commands about models: train, versions, and the original study's formats."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from features.history import History
from models.artefact import version_of
from models.study import linear_format, neural_format
from tests.builders import play
from tests.builders_history import listening, track, weeks, write_catalogue, write_week
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
    assert {tuple(row) for row in rows} == {("model", "version", "in_use", "after", "card", "fault")}
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
    (trained,) = run(capsys, "train", "--json").rows()
    later = trained["version"]
    assert (trained["model"], trained["in_use"], trained["card"]["version"]) == ("neural", True, later)
    assert in_use(capsys) == {version: False, later: True}

    promoted = run(capsys, "models", "promote", version, "--json")
    assert (promoted.code, promoted.rows()) == (0, [{"model": "neural", "version": version, "in_use": True}])
    assert in_use(capsys) == {version: True, later: False}
    ended = run(capsys, "models", "promote", "nope")
    assert ended == Ended(1, "", f"hitparade: neural has no version 'nope': expected one of {[version, later]}\n")
    assert in_use(capsys) == {version: True, later: False}


def train(capsys: Capture, *arguments: str) -> str:
    """Train, and give the version."""
    return run(capsys, "train", *arguments).out.split()[1]


def test_models_lists_each_version_with_what_its_card_says_and_which_is_in_use(history: Path, capsys: Capture) -> None:
    version = train(capsys)
    (row,) = run(capsys, "models", "--json").rows()
    card = json.loads((history / "models" / "neural" / version / "card.json").read_text())
    assert row == {"model": "neural", "version": version, "in_use": True, "after": None, "card": card, "fault": None}
    (line,) = [line for line in run(capsys, "models").out.splitlines() if version in line]
    low, mean, high = (f"{value:+.3f}" for value in card["vs_naive"]["precision_at_50"])
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "neural",
        version,
        "in use",
        "2023-W05 to 2023-W08",
        "1",
        f"{card['metrics']['neural']['precision_at_50']:.3f}",
        f"{mean} [{low}, {high}]",
        "",
    ]
    text = (history / "models" / "neural" / version / "card.md").read_text()
    assert text.startswith(f"# neural {version}\n")


def cut(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:100])


def rewritten(**fields: object) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(card | fields))

    return rewrite


def foreign(folder: Path) -> None:
    """Weights of another network, and a card that describes them."""
    weights = safetensors.numpy.save({"layer": np.zeros(3)})
    (folder / "weights.safetensors").write_bytes(weights)
    rewritten(version=version_of("2023-W08", weights))(folder)
    folder.rename(folder.with_name(version_of("2023-W08", weights)))


@pytest.mark.parametrize(
    ("harm", "fault", "refusal"),
    [
        (cut, "weights.safetensors is not the file that", "weights.safetensors is not a safetensors file: "),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing", None),
        (lambda folder: (folder / "card.json").unlink(), "card.json is missing", None),
        (lambda folder: (folder / "card.json").write_bytes(b"{"), "card.json is not a Card: the whole: ", None),
        (rewritten(form=1), "card.json is not a Card: form: ", None),
        (rewritten(version="2023-W08-00000000"), "card.json is of version '2023-W08-00000000', not of", ""),
        (foreign, None, "weights.safetensors is of another form: expected "),
    ],
    ids=["cut", "no weights", "no card", "broken card", "another form", "another's card", "foreign"],
)
@pytest.mark.parametrize("promote", [("models", "promote"), ("models", "promote", "--if-better")])
def test_a_broken_cut_or_foreign_version_is_listed_with_its_fault_and_refused_by_name_and_reason(
    history: Path,
    capsys: Capture,
    harm: Callable[[Path], None],
    fault: str | None,
    refusal: str | None,
    promote: tuple[str, ...],
) -> None:
    folder = history / "models" / "neural"
    train(capsys)
    (folder / "champion").unlink()
    harm(next(folder.iterdir()))
    (row,) = run(capsys, "models", "--json").rows()
    assert (row["fault"] or "None").startswith(fault or "None")
    assert run(capsys, "models").code == 0
    ended = run(capsys, *promote, row["version"])
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"hitparade: neural {row['version']}: {fault if refusal is None else refusal}")
    assert in_use(capsys) == {row["version"]: False}


def test_without_a_version_promote_asks_for_one(history: Path, capsys: Capture) -> None:
    ended = run(capsys, "models", "promote")
    assert ended.code == 2
    assert ended.err.startswith("hitparade: expected a version, or --if-better, found neither: ")
    ended = run(capsys, "models", "promote", "--if-better")
    assert ended == Ended(1, "", f"hitparade: there is no version to promote: {UNTRAINED}\n")


@pytest.fixture
def steady(data: Path) -> Path:
    """The data folder with weeks that are all alike, of which naive knows all."""
    history = History(data / "history")
    write_catalogue(history, [track(f"t{n:02}") for n in range(60)])
    for week in weeks(N_WEEKS):
        write_week(history, week, {f"t{n:02}": 1000 // (n + 1) for n in range(60)})
    return data


def test_what_is_not_better_is_not_put_in_use_unless_it_is_told_to_and_the_exit_code_says_so(
    steady: Path, capsys: Capture
) -> None:
    ended = run(capsys, "train", "--if-better")
    (version,) = in_use(capsys)
    assert (ended.code, ended.err) == (1, "")
    sentence = ended.out.splitlines()[0]
    assert sentence.startswith(f"neural {version} is not better than naive; of 1 week that it was not fitted to, 2023-")
    assert sentence.endswith("(naive 1.0000). It is not put in use.")
    assert run(capsys, "models", "promote", "--if-better") == Ended(1, f"{sentence}\n", "")
    assert in_use(capsys) == {version: False}
    assert run(capsys, "models", "promote", version).code == 0
    assert in_use(capsys) == {version: True}
    ended = run(capsys, "models", "promote", "--if-better")
    assert ended == Ended(1, "", f"hitparade: neural {version} is in use already\n")


@pytest.fixture
def misled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path, capsys: Capture) -> Path:
    """The data folder, where a version is in use that has learned elsewhere: there the first will be the last."""
    elsewhere = tmp_path / "elsewhere"
    history = History(elsewhere / "history")
    write_catalogue(history, [track(f"t{n:03}") for n in range(80)])
    for place, week in enumerate(weeks(9)):
        write_week(history, week, {f"t{n:03}": 300 // (1 + (n if place % 2 else 79 - n)) for n in range(80)})
    with monkeypatch.context() as there:
        there.setenv("HITPARADE_DATA_DIR", str(elsewhere))
        train(capsys)
    shutil.copytree(elsewhere / "models", data / "models")
    return data


def test_what_is_better_than_naive_and_the_version_in_use_is_put_in_use(misled: Path, capsys: Capture) -> None:
    listening(misled / "history", 14, n_tracks=80)
    (first,) = in_use(capsys)
    ended = run(capsys, "train", "--if-better")
    second = ended.out.split()[1]
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(
        f"neural {second} is better than naive and {first}; of 2 weeks that it was not fitted to, 2023-W13 to 2023-W14:"
    )
    assert ended.out.splitlines()[0].endswith(". It is in use.")
    assert in_use(capsys) == {first: False, second: True}
    run(capsys, "models", "promote", first)
    assert in_use(capsys) == {first: True, second: False}
    assert run(capsys, "models", "promote", "--if-better").code == 0
    assert in_use(capsys) == {first: False, second: True}
    ended = run(capsys, "models", "promote", "--if-better", first)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith(f"neural {first} is not better than naive or {second}; of 6 weeks that it was not")
    assert in_use(capsys) == {first: False, second: True}


def test_a_version_in_use_that_is_broken_is_no_reason_to_keep_it(data: Path, capsys: Capture) -> None:
    listening(data / "history", 14, n_tracks=80)
    first, folder = train(capsys, "--until", "2023-W13"), data / "models" / "neural"
    cut(folder / first)
    ended = run(capsys, "train", "--if-better")
    second = ended.out.split()[1]
    assert ended.code == 0
    assert " is better than naive; of 2 weeks that it was not fitted to, 2023-W13 to 2023-W14: " in ended.out
    assert f"; the version in use cannot be compared: neural {first}: weights.safetensors is not a" in ended.out
    assert in_use(capsys) == {first: False, second: True}
    shutil.rmtree(folder / first)
    (folder / "champion").write_text(first)
    assert run(capsys, "models", "promote", "--if-better").code == 0
    assert in_use(capsys) == {second: True}


def test_a_history_without_a_week_that_was_not_fitted_cannot_judge(history: Path, capsys: Capture) -> None:
    version = train(capsys)
    (history / "models" / "neural" / "champion").unlink()
    for week in weeks(N_WEEKS)[-2:]:
        (history / "history" / "weeks" / f"{week}.parquet").unlink()
    ended = run(capsys, "models", "promote", "--if-better")
    reason = f"the history has no week, with the four before it, that {version} was not fitted to"
    assert ended == Ended(1, "", f"hitparade: {reason}\n")


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
