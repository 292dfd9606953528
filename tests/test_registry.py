import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artefact import version_of
from models.registry import Registry
from models.scoring import ArtefactError

FIRST, SECOND = "2023-W09-a7937b64", "2023-W09-16367aac"
"""With the weights "first" and "second"."""


def registry_with(tmp_path: Path, *weights: str, last_week: str = "2023-W09") -> Registry:
    registry = Registry(tmp_path)
    for text in weights:
        registry.publish("neural", version_of(last_week, text.encode()), saving(text, last_week))
    return registry


def saving(text: str, last_week: str = "2023-W09") -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        card = {"version": version_of(last_week, text.encode()), "last_week": last_week, "what": "ever"}
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
        (folder / "weights.safetensors").write_text(text, encoding="utf-8")

    return save


def weights(folder: Path) -> str:
    return (folder / "weights.safetensors").read_text(encoding="utf-8")


def test_a_published_version_holds_what_was_saved(tmp_path: Path) -> None:
    path = Registry(tmp_path).publish("neural", FIRST, saving("first"))
    assert path == Registry(tmp_path).version("neural", FIRST) == tmp_path / "neural" / FIRST
    assert weights(path) == "first"


def test_versions_are_in_order_and_nothing_else_is_one(tmp_path: Path) -> None:
    assert Registry(tmp_path).versions("neural") == []
    registry = registry_with(tmp_path, "first", "second")
    registry.promote("neural", FIRST)
    (tmp_path / "neural" / ".2023-W11-c.0.tmp").mkdir()
    assert registry.versions("neural") == [SECOND, FIRST]


def test_publishing_a_version_again_saves_nothing(tmp_path: Path) -> None:
    called: list[Path] = []
    path = registry_with(tmp_path, "first").publish("neural", FIRST, called.append)
    assert called == []
    assert weights(path) == "first"


def test_a_version_published_by_another_process_meanwhile_stands(tmp_path: Path) -> None:
    def race(folder: Path) -> None:
        registry_with(tmp_path, "first")
        saving("second")(folder)

    path = Registry(tmp_path).publish("neural", FIRST, race)
    assert weights(path) == "first"
    assert [entry.name for entry in path.parent.iterdir()] == [FIRST]


def test_a_save_that_fails_leaves_no_version(tmp_path: Path) -> None:
    def power_cut(folder: Path) -> None:
        saving("first")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Registry(tmp_path).publish("neural", FIRST, power_cut)
    assert list((tmp_path / "neural").iterdir()) == []


def test_what_a_killed_training_has_left_is_removed_by_the_next_one_but_not_what_a_living_one_writes(
    tmp_path: Path,
) -> None:
    left, living = tmp_path / "neural" / ".v.1.tmp", tmp_path / "neural" / ".v.2.tmp"
    for folder in (left, living):
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").touch()
    descriptor = os.open(living, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        Registry(tmp_path).publish("neural", FIRST, saving("first"))
        assert sorted(path.name for path in (tmp_path / "neural").iterdir()) == [".v.2.tmp", FIRST]
    finally:
        os.close(descriptor)


def test_what_is_being_saved_is_not_removed_by_another_training(tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        saving("first")(folder)
        registry_with(tmp_path, "second")

    Registry(tmp_path).publish("neural", FIRST, save)
    assert Registry(tmp_path).versions("neural") == [SECOND, FIRST]


def test_the_champion_is_the_version_promoted_last_and_rollback_moves_it(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, "first", "second")
    assert registry.champion("neural") is None
    registry.promote("neural", SECOND)
    assert Registry(tmp_path).champion("neural") == tmp_path / "neural" / SECOND
    registry.promote("neural", FIRST)
    assert registry.champion("neural") == tmp_path / "neural" / FIRST


def test_the_newest_version_has_learned_from_the_latest_week_and_of_several_was_published_last(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, "first", "second")
    for name, seconds in ((FIRST, 2), (SECOND, 1)):
        os.utime(tmp_path / "neural" / name, (seconds, seconds))
    assert registry.newest("neural") == FIRST
    os.utime(tmp_path / "neural" / SECOND, (3, 3))
    assert registry.newest("neural") == SECOND
    registry_with(tmp_path, "first", last_week="2023-W10")
    os.utime(tmp_path / "neural" / "2023-W10-a7937b64", (0, 0))
    assert registry.newest("neural") == "2023-W10-a7937b64"
    with pytest.raises(ArtefactError, match=r"^linear has no version yet$"):
        registry.newest("linear")


@pytest.mark.parametrize("version", ["v9", "", ".", "../other", "champion"])
def test_an_unknown_version_is_refused_and_those_there_are_are_named(tmp_path: Path, version: str) -> None:
    registry = registry_with(tmp_path, "first", "second")
    registry.promote("neural", FIRST)
    with pytest.raises(ArtefactError) as error:
        registry.promote("neural", version)
    assert str(error.value) == f"neural has no version {version!r}: expected one of ['{SECOND}', '{FIRST}']"
    assert registry.champion("neural") == tmp_path / "neural" / FIRST


def change_card(**fields: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(card | fields))

    return change


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (
            lambda folder: (folder / "weights.safetensors").write_text("firsT"),
            f"weights.safetensors is not the file that card.json describes as version {FIRST}",
        ),
        (
            lambda folder: (folder / "weights.safetensors").write_text("fir"),
            f"weights.safetensors is not the file that card.json describes as version {FIRST}",
        ),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (lambda folder: (folder / "card.json").unlink(), "card.json is missing"),
        (
            lambda folder: (folder / "card.json").write_bytes(b"\xff"),
            "card.json is not a Name: the whole: ",
        ),
        (change_card(version=SECOND), f"card.json is of version '{SECOND}', not of '{FIRST}'"),
        (
            change_card(last_week="2023-W08"),
            f"weights.safetensors is not the file that card.json describes as version {FIRST}",
        ),
        (
            lambda folder: (saving("second")(folder), change_card(version=FIRST)(folder)),
            f"weights.safetensors is not the file that card.json describes as version {FIRST}",
        ),
    ],
    ids=["flipped", "cut", "no weights", "no card", "broken card", "another's card", "another week", "another's"],
)
def test_a_version_that_is_not_what_its_name_says_is_not_put_in_use(
    tmp_path: Path, harm: Callable[[Path], object], reason: str
) -> None:
    registry = registry_with(tmp_path, "first", "second")
    registry.promote("neural", SECOND)
    harm(tmp_path / "neural" / FIRST)
    with pytest.raises(ArtefactError) as error:
        registry.promote("neural", FIRST)
    assert str(error.value).startswith(f"neural {FIRST} is not what it was when it was published: {reason}")
    assert str(tmp_path) not in str(error.value)
    assert registry.champion("neural") == tmp_path / "neural" / SECOND


def test_a_copy_under_a_name_of_an_earlier_week_is_not_put_in_use(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, "first")
    (tmp_path / "neural" / FIRST).rename(tmp_path / "neural" / "2023-W01-a7937b64")
    with pytest.raises(ArtefactError, match=f"card.json is of version '{FIRST}', not of '2023-W01-a7937b64'"):
        registry.promote("neural", "2023-W01-a7937b64")


@pytest.mark.parametrize("content", [b"", b"v7\n", b"../..", b"\xff"])
def test_an_alias_of_no_version_is_refused(tmp_path: Path, content: bytes) -> None:
    registry = registry_with(tmp_path, "first")
    (tmp_path / "neural" / "champion").write_bytes(content)
    with pytest.raises(ArtefactError, match=rf"neural has no version .*: expected one of \['{FIRST}'\]"):
        registry.champion("neural")


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "champion"])
def test_a_name_that_is_no_folders_name_cannot_be_published(tmp_path: Path, version: str) -> None:
    with pytest.raises(ArtefactError, match="cannot name a version of neural"):
        Registry(tmp_path).publish("neural", version, lambda folder: None)
    assert list(tmp_path.iterdir()) == []
