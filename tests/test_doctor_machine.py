"""What the doctor finds wrong on its own machine: disk, history, models, files; and how it tells all of it."""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hitparade.checks_machine
from hitparade.checking import CHECKS
from models.artefact import CARD, WEIGHTS, version_of
from models.registry import Registry
from tests.builders_history import listening
from tests.doctoring import OK, WARNING, WRONG, Found, look
from tests.servers import ROOT

EXPERIMENT = '[[experiment]]\nname = "e"\nsalt = "s"\n[experiment.groups.a]\nweight = 1.0\nmodel = "{}"\n'


def found(folder: Path, check: str, model: str = "neural") -> Found:
    file = folder / "experiments.toml"
    if folder.is_dir():
        file.write_text(EXPERIMENT.format(model))
    env = {"HITPARADE_DATA_DIR": str(folder), "HITPARADE_EXPERIMENT_FILE": str(file)}
    return look(env, check)


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """The kernel takes no byte more, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_takes_no_more(tmp_path: Path) -> None:
    with no_file_may_grow():
        level, text = look({"HITPARADE_DATA_DIR": str(tmp_path)}, "data folder")
    assert level == WRONG
    assert text == f"{tmp_path} takes no more: File too large. Make room, or set HITPARADE_DATA_DIR elsewhere"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hitparade.checks_machine, "LEAST_FREE", 2**60)  # what no disk has
    level, text = found(tmp_path, "data folder")
    assert level == WARNING
    assert text.endswith(" left, expected 1,024 PiB or more: make room before it is full")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert found(tmp_path / "file", "data folder") == (WRONG, f"{tmp_path / 'file'} cannot be used: File exists")


def test_a_history_in_a_row_is_well_and_one_with_a_gap_is_not(tmp_path: Path) -> None:
    assert found(tmp_path, "history")[0] == OK
    listening(tmp_path / "history", 7)
    assert found(tmp_path, "history") == (OK, "7 weeks, 2023-W01 to 2023-W07")
    (tmp_path / "history" / "weeks" / "2023-W05.parquet").unlink()
    level, text = found(tmp_path, "history")
    assert level == WARNING
    assert text.startswith("2023-W01 to 2023-W07 lacks 2023-W05, and models learn from weeks in a row: ")


def test_a_week_that_cannot_be_read(tmp_path: Path) -> None:
    listening(tmp_path / "history", 3)
    (tmp_path / "history" / "weeks" / "2023-W02.parquet").write_bytes(b"PAR1")
    level, text = found(tmp_path, "history")
    assert (level, text.startswith("the file of 2023-W02 is broken: `hitparade trigger WEEK` ")) == (WRONG, True)


@pytest.mark.parametrize(
    ("model", "n_weeks", "level", "said"),
    [
        ("naive", 0, OK, "naive is ready"),
        ("linear", 4, WARNING, "linear needs 5 closed weeks in a row, has 4 of history: until then"),
        ("linear", 5, OK, "linear is ready"),
        ("neural", 5, WARNING, "it needs 6 closed weeks in a row, has 5 of history, then run `hitparade train`"),
        ("neural", 6, WARNING, "neural is not trained, and naive takes its place: run `hitparade train`"),
        ("neural@2023-W01-nope", 6, WRONG, "neural has no version '2023-W01-nope': expected one of []"),
    ],
)
def test_a_model_without_the_history_that_it_needs(
    tmp_path: Path, model: str, n_weeks: int, level: object, said: str
) -> None:
    listening(tmp_path / "history", n_weeks)
    text = found(tmp_path, "models", model)
    assert (text[0], said in text[1]) == (level, True)


def test_the_model_of_an_experiment_that_is_over_is_not_asked_for(tmp_path: Path) -> None:
    listening(tmp_path / "history", 5)
    over = 'first_week = "2023-W01"\nlast_week = "2023-W05"\n[experiment.groups.a]'
    file = tmp_path / "experiments.toml"
    file.write_text(EXPERIMENT.format("neural").replace("[experiment.groups.a]", over))
    env = {"HITPARADE_DATA_DIR": str(tmp_path), "HITPARADE_EXPERIMENT_FILE": str(file)}
    assert look(env, "models") == (OK, "none is asked for")
    file.write_text(file.read_text().replace("W05", "W06"))
    assert look(env, "models")[0] == WARNING


def in_use(folder: Path, last_week: str) -> Path:
    """A network that is no more than a version of its name, put in use; its folder."""
    version, registry = version_of(last_week, b"weights"), Registry(folder / "models")

    def save(where: Path) -> None:
        (where / WEIGHTS).write_bytes(b"weights")
        (where / CARD).write_text(json.dumps({"version": version, "last_week": last_week}))

    registry.publish("neural", version, save)
    return registry.promote("neural", version)


def test_a_network_in_use_that_is_too_new_or_not_what_it_was(tmp_path: Path) -> None:
    listening(tmp_path / "history", 7)
    folder = in_use(tmp_path, "2023-W07")
    assert found(tmp_path, "models") == (OK, f"neural {folder.name} is in use")
    in_use(tmp_path, "2023-W08")
    level, text = found(tmp_path, "models")
    assert (level, "has learned from weeks after 2023-W07, the last of the history" in text) == (WARNING, True)
    (folder.parent / "champion").write_text(folder.name)
    (folder / WEIGHTS).write_bytes(b"others")
    level, text = found(tmp_path, "models")
    assert (level, f"is not the file that {CARD} describes as version {folder.name}" in text) == (WRONG, True)


def test_a_network_that_cannot_be_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_use(tmp_path, "2023-W07")
    monkeypatch.setattr(hitparade.checks_machine, "find_spec", lambda name: None)
    level, text = found(tmp_path, "models")
    assert (level, text.startswith("neural needs torch, which is not installed")) == (WARNING, True)


def test_an_experiment_file_that_cannot_be_read(tmp_path: Path) -> None:
    level, text = look({"HITPARADE_EXPERIMENT_FILE": str(tmp_path / "nowhere")}, "experiments")
    assert (level, text.endswith("nowhere cannot be read: No such file or directory")) == (WRONG, True)


def test_a_kafka_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look({}, "Kafka client") == (OK, "kafka-python")
    monkeypatch.delitem(sys.modules, "consumers.confluent", raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    level, text = look({"HITPARADE_KAFKA_CLIENT": "confluent-kafka"}, "Kafka client")
    assert (level, "pip install -e '.[confluent]'" in text) == (WRONG, True)


def test_object_storage_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"HITPARADE_DATA_DIR": str(tmp_path / "d"), "HITPARADE_DATA_URL": f"file://{tmp_path}/file"}
    assert look(env, "object storage")[0] == WRONG


def test_the_run_book_names_every_check_in_its_order() -> None:
    table = (ROOT / "docs" / "operations.md").read_text().split("<!-- checks -->")[1].split("<!-- /checks -->")[0]
    assert [row.split(" | ")[0].strip("| ") for row in table.strip().splitlines()[2:]] == [c.name for c in CHECKS]
