"""Listens of ListenBrainz, one JSON object a line, as its dumps, its exports and its API have them.

Source: ListenBrainz, "Data Dumps" and "JSON Documentation".
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from features.events import BadRecord, fields_of
from features.mapping import at, iso_time
from producers.heard import Heard, heard

RECORDINGS = (
    # What ListenBrainz itself found first: it is the same for all listeners.
    ("track_metadata", "mbid_mapping", "recording_mbid"),
    ("recording_mbid",),
    ("track_metadata", "additional_info", "recording_mbid"),
    ("recording_msid",),
    ("track_metadata", "additional_info", "recording_msid"),
)
ARTISTS = (
    ("track_metadata", "mbid_mapping", "artist_mbids"),
    ("track_metadata", "additional_info", "artist_mbids"),
)


def read_listen(line: bytes, user: str | None = None) -> Heard | None:
    """What was heard, or None for what is only being played; `user` is whose listens they are where none is named.

    Raises:
        BadRecord: it is no listen, or none of a track, a user and a time.
    """
    fields = fields_of(line)
    metadata = fields.get("track_metadata")
    if not isinstance(metadata, dict):
        raise BadRecord("json", f"expected a listen, with an object as track_metadata, found {type(metadata).__name__}")
    listened_at = fields.get("listened_at", fields.get("timestamp"))
    if listened_at is None or fields.get("playing_now") is True:
        return None
    artist, title = _text(metadata.get("artist_name")), _text(metadata.get("track_name"))
    listener = fields.get("user_name") or fields.get("user_id") or user
    return heard(listener, iso_time(listened_at, 1), artist, title, _first_id(fields, RECORDINGS), _artist(fields))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _first_id(fields: Mapping[str, Any], paths: Sequence[tuple[str, ...]]) -> str | None:
    """The first of them that is a UUID, in its one form."""
    return next((found for path in paths if (found := _uuid(at(fields, path)))), None)


def _artist(fields: Mapping[str, Any]) -> str | None:
    """The first artist's id; several in another order would be another artist."""
    found = (at(fields, path) for path in ARTISTS)
    return next((_uuid(ids[0]) for ids in found if isinstance(ids, list) and ids), None)


def _uuid(value: Any) -> str | None:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        return None
