from pathlib import Path

import pytest

from models.registry import Registry
from models.scoring import ArtefactError


def registry_with(tmp_path: Path, *versions: str) -> Registry:
    registry = Registry(tmp_path)
    for version in versions:
        registry.publish("neural", version, lambda folder: _save(folder, "first"))
    return registry


def _save(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text, encoding="utf-8")


def test_a_published_version_holds_what_was_saved(tmp_path: Path) -> None:
    path = Registry(tmp_path).publish("neural", "2023-W08-1a2b", lambda folder: _save(folder, "first"))
    assert path == tmp_path / "neural" / "2023-W08-1a2b"
    assert (path / "card.json").read_text(encoding="utf-8") == "first"


def test_versions_are_in_order_and_nothing_else_is_one(tmp_path: Path) -> None:
    assert Registry(tmp_path).versions("neural") == []
    registry = registry_with(tmp_path, "2023-W10-b", "2023-W09-a")
    registry.promote("neural", "2023-W09-a")
    (tmp_path / "neural" / ".2023-W11-c.0.tmp").mkdir()
    assert registry.versions("neural") == ["2023-W09-a", "2023-W10-b"]


def test_publishing_a_version_again_saves_nothing(tmp_path: Path) -> None:
    called: list[Path] = []
    path = registry_with(tmp_path, "v1").publish("neural", "v1", called.append)
    assert called == []
    assert (path / "card.json").read_text(encoding="utf-8") == "first"


def test_a_version_published_by_another_process_meanwhile_stands(tmp_path: Path) -> None:
    def race(folder: Path) -> None:
        registry_with(tmp_path, "v1")
        _save(folder, "second")

    path = Registry(tmp_path).publish("neural", "v1", race)
    assert (path / "card.json").read_text(encoding="utf-8") == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["v1"]


def test_a_save_that_fails_leaves_no_version(tmp_path: Path) -> None:
    def power_cut(folder: Path) -> None:
        _save(folder, "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Registry(tmp_path).publish("neural", "v1", power_cut)
    assert list((tmp_path / "neural").iterdir()) == []


def test_the_champion_is_the_version_promoted_last_and_rollback_moves_it(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, "v1", "v2")
    assert registry.champion("neural") is None
    registry.promote("neural", "v2")
    assert Registry(tmp_path).champion("neural") == tmp_path / "neural" / "v2"
    registry.promote("neural", "v1")
    assert registry.champion("neural") == tmp_path / "neural" / "v1"


@pytest.mark.parametrize("version", ["v9", "", ".", "../other", "champion"])
def test_an_unknown_version_is_refused_and_those_there_are_are_named(tmp_path: Path, version: str) -> None:
    registry = registry_with(tmp_path, "v1", "v2")
    registry.promote("neural", "v1")
    with pytest.raises(ArtefactError) as error:
        registry.promote("neural", version)
    assert str(error.value) == f"neural has no version {version!r}: expected one of ['v1', 'v2']"
    assert registry.champion("neural") == tmp_path / "neural" / "v1"


@pytest.mark.parametrize("content", [b"", b"v7\n", b"../..", b"\xff"])
def test_an_alias_of_no_version_is_refused(tmp_path: Path, content: bytes) -> None:
    registry = registry_with(tmp_path, "v1")
    (tmp_path / "neural" / "champion").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"neural has no version .*: expected one of \['v1'\]"):
        registry.champion("neural")


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "champion"])
def test_a_name_that_is_no_folders_name_cannot_be_published(tmp_path: Path, version: str) -> None:
    with pytest.raises(ArtefactError, match="cannot name a version of neural"):
        Registry(tmp_path).publish("neural", version, lambda folder: None)
    assert list(tmp_path.iterdir()) == []
