"""The playlist record, and reading lists back from their topic."""

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from consumers.playlists import PlaylistLog
from producers.playlists import Playlist
from producers.publisher import Message, Publisher
from producers.topics import TopicSpec, ensure_topics

HASH_LEAVES_OUT = ("id", "revision", "changes", "cut")


def entry(rank: int, track_id: str, score: float = 1.5) -> dict[str, Any]:
    return {"rank": rank, "track_id": track_id, "name": f"Lied für {track_id}", "score": score, "plays": [1, 2, 3, 4]}


def playlist(*ids: str, **changes: Any) -> Playlist:
    fields = {
        "week": "2023-W25",
        "closed_week": "2023-W24",
        "group": "control",
        "experiment": "e",
        "model": "linear",
        "model_version": "v",
        "fallback": None,
        "cut": {"sessions": {"0": 7}, "tracks": {"0": 3}},
        "tracks": [entry(rank, track_id) for rank, track_id in enumerate(ids, 1)],
    }
    return Playlist.model_validate(fields | changes)


def wire(playlist: Playlist) -> bytes:
    return playlist.message("t").value or b""


def independent_id(record: bytes) -> str:
    content = {name: value for name, value in json.loads(record).items() if name not in HASH_LEAVES_OUT}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_an_id_is_the_hash_of_the_canonical_record_without_id_revision_changes_and_cut() -> None:
    first = playlist("a", "ö").following(None)
    assert first.id == independent_id(wire(first)) != ""
    second = playlist("ö", "b").following(first)
    assert second.id == independent_id(wire(second)) != first.id
    assert playlist("a", cut={"sessions": {}, "tracks": {}}).content_id() == playlist("a").content_id()


@pytest.mark.parametrize(
    "change",
    [
        {"week": "2023-W26"},
        {"closed_week": "2023-W23"},
        {"group": "treatment"},
        {"experiment": "f"},
        {"model": "naive"},
        {"model_version": "w"},
        {"fallback": "no model"},
        {"tracks": [entry(1, "a", score=1.501)]},
        {"mood": "of a later version"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_else_differs_makes_another_id(change: dict[str, Any]) -> None:
    assert playlist("a", **change).content_id() != playlist("a").content_id()


def test_a_record_is_canonical_json_under_its_week_and_group() -> None:
    message = playlist("ö").following(None).message("lists")
    assert (message.topic, message.key) == ("lists", b"2023-W25/control")
    assert message.headers == (("content-type", b"application/json"), ("schema-version", b"1"))
    assert message.value == json.dumps(
        json.loads(message.value or b""), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode("utf-8")
    assert "Lied für ö".encode() in message.value


def test_a_first_record_is_revision_1_and_changes_nothing() -> None:
    first = playlist("a").following(None)
    assert (first.revision, first.changes) == (1, None)


def test_the_same_content_is_the_stored_record_again_with_its_own_cut() -> None:
    stored = playlist("a", "b").following(playlist("a").following(None))
    assert stored.revision == 2
    again = playlist("a", "b", cut={"sessions": {"0": 99}, "tracks": {"0": 9}}).following(stored)
    assert wire(again) == wire(stored)


def test_other_content_is_the_next_revision_and_says_who_entered_and_who_left() -> None:
    first = playlist("a", "b", "c", "d").following(None)
    second = playlist("e", "b", "f", "a").following(first)
    third = playlist("b", "e", "f", "a").following(second)
    assert [p.revision for p in (first, second, third)] == [1, 2, 3]
    assert second.changes is not None
    assert second.changes.model_dump() == {"entered": ("e", "f"), "left": ("c", "d")}
    assert third.changes is not None
    assert third.changes.model_dump() == {"entered": (), "left": ()}


def later_version() -> bytes:
    """A record as a later version may write it: more fields, on every level."""
    record = json.loads(wire(playlist("a", "b").following(playlist("c").following(None))))
    record |= {"mood": {"blue": 1, "a": [None, 0.5]}}
    record["tracks"][0]["artist"] = "Ä"
    record["changes"]["moved"] = ["b"]
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_a_record_of_a_later_version_is_read_and_sent_again_byte_for_byte() -> None:
    assert wire(Playlist.model_validate_json(later_version())) == later_version()


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_never_written(score: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        wire(playlist(tracks=[entry(1, "a", score)]))


@pytest.fixture
def topic(kafka: str, prefix: str) -> str:
    ensure_topics({"bootstrap_servers": kafka}, [TopicSpec(prefix, 1, {"cleanup.policy": "compact"})])
    return prefix


@pytest.fixture
def publisher(kafka: str) -> Iterator[Publisher]:
    publisher = Publisher({"bootstrap_servers": kafka})
    yield publisher
    publisher.close()


def test_the_last_record_of_each_week_and_group_is_read_back_and_more_only_once_told_that_there_may_be(
    kafka: str, topic: str, publisher: Publisher
) -> None:
    log = PlaylistLog({"bootstrap_servers": kafka}, topic)
    log.refresh()
    assert log.weeks() == []
    first, other = playlist("a").following(None), playlist("a", group="treatment").following(None)
    publisher.publish([first.message(topic), other.message(topic)])
    log.refresh()
    assert log.weeks() == []
    log.forget()
    log.refresh()
    assert log.latest("2023-W25", "control") == first

    second = playlist("b").following(first)
    next_week = playlist("c", week="2023-W26").following(None)
    publisher.publish([second.message(topic), next_week.message(topic)])
    log.forget()
    log.refresh()
    assert log.latest("2023-W25", "control") == second
    assert list(log.of_week("2023-W25")) == [second, other]
    assert log.weeks() == ["2023-W25", "2023-W26"]
    assert log.latest("2023-W27", "control") is None


def test_a_record_that_is_no_playlist_is_told_of_and_hides_no_other(
    kafka: str, topic: str, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    first = playlist("a").following(None)
    publisher.publish([first.message(topic), Message(topic, b"junk", b"{}"), Message(topic, b"gone", None)])
    log = PlaylistLog({"bootstrap_servers": kafka}, topic)
    with caplog.at_level(logging.ERROR):
        log.refresh()
    assert log.latest("2023-W25", "control") == first
    assert f"the record at offset 1 of {topic} is no playlist" in caplog.text
