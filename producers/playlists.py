"""A group's list for a week: the record, its id, its revision; and the evaluation of it once the week has closed."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict

from producers.publisher import Message

HEADERS = (("content-type", b"application/json"), ("schema-version", b"1"))
Ends = dict[str, int]
"""The end offset by partition (as text: JSON has no other keys)."""


class Entry(BaseModel):
    """One place of a list; plays are those of the four closed weeks, oldest first."""

    model_config = ConfigDict(frozen=True, extra="allow")

    rank: int
    track_id: str
    name: str
    score: float
    plays: tuple[int, int, int, int]


class Changes(BaseModel):
    """What a revision changed, in the order of the lists."""

    model_config = ConfigDict(frozen=True, extra="allow")

    entered: tuple[str, ...]
    left: tuple[str, ...]


class Playlist(BaseModel):
    """The list of one experiment group for one week; no clock is in it, so that the same inputs give the same id."""

    model_config = ConfigDict(frozen=True, extra="allow")  # a record of a later version is sent again as it stands

    id: str = ""
    week: str
    closed_week: str
    group: str
    experiment: str
    model: str
    model_version: str
    revision: int = 1
    fallback: str | None
    changes: Changes | None = None
    cut: dict[str, Ends]
    tracks: tuple[Entry, ...]

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{self.week}/{self.group}"

    def content_id(self) -> str:
        """The SHA-256 of what the list is, whatever cut and revision it came from."""
        content = self.model_dump(mode="json", exclude={"id", "revision", "changes", "cut"})
        return f"sha256:{hashlib.sha256(canonical(content)).hexdigest()}"

    def following(self, previous: "Playlist | None") -> "Playlist":
        """The record to send after `previous`: that one again where the content is the same, else the next revision."""
        content_id = self.content_id()
        if previous is None:
            return self.model_copy(update={"id": content_id})
        if previous.id == content_id:
            return previous
        before, now = [e.track_id for e in previous.tracks], [e.track_id for e in self.tracks]
        changes = Changes(
            entered=tuple(track_id for track_id in now if track_id not in before),
            left=tuple(track_id for track_id in before if track_id not in now),
        )
        return self.model_copy(update={"id": content_id, "revision": previous.revision + 1, "changes": changes})

    def message(self, topic: str) -> Message:
        """The record to publish."""
        return _message(topic, self.key, self)


class Worth(BaseModel):
    """What a ranking was worth, and naive's for the same week, by the same facts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: dict[str, float]
    naive: dict[str, float]


class Evaluation(BaseModel):
    """What a list was worth once its week had closed, beside `naive` for the same week.

    `metrics` and `naive` judge what a list promises: the ranking by the plays of all listeners over its span. n_ranked
    is the length of the ranking judged. Records of earlier versions have nothing but those.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    week: str
    group: str
    experiment: str
    model: str
    model_version: str
    playlist_id: str
    revision: int
    span_weeks: int
    n_ranked: int
    metrics: dict[str, float]
    naive: dict[str, float]
    own: Worth | None = None
    """By the plays of the group's own listeners over the span; None where they were not there in all of its weeks."""
    forecast: Worth | None = None
    """The ranking by the prediction alone, by the plays of the week alone; None where the run is not kept."""
    own_forecast: Worth | None = None
    """The forecast, by the plays of the group's own listeners."""

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{self.week}/{self.group}"

    def message(self, topic: str) -> Message:
        """The record to publish."""
        return _message(topic, self.key, self)


def _message(topic: str, key: str, record: BaseModel) -> Message:
    return Message(topic, key.encode(), canonical(record.model_dump(mode="json")), HEADERS)


def canonical(content: object) -> bytes:
    """JSON with sorted keys, no spaces and UTF-8: one value, one text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
