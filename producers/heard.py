"""Somebody has heard a track, as other services tell it: made an event of the contract, and a track."""

import unicodedata
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import msgspec

from features.events import BadRecord, RawEvent, parse

_encode = msgspec.json.Encoder().encode


class Heard(NamedTuple):
    """The event and the track as JSON, and what they are sorted by."""

    event_time: datetime
    event: bytes
    track_id: str
    track: bytes


def heard(user: Any, time: Any, artist: str, title: str, track_id: str | None, artist_id: str | None) -> Heard:
    """A play, of a track that is known by its id, or else by the names of its artist and its own.

    The event has an id that depends on who heard what and when alone, so that it counts once, however often it is
    imported, where duplicates are looked for.

    Raises:
        BadRecord: naming the first of track_id, user_id and timestamp that no event can have.
    """
    track_id = track_id or id_of_names(artist, title)
    found = parse(RawEvent(event_type="play", track_id=track_id, user_id=user, timestamp=time))
    assert found, "a play is counted"
    instant = found.event_time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    event_id = blake2b("\n".join((found.user_id, instant, track_id)).encode(), digest_size=16).hexdigest()
    event = {"timestamp": instant, "user_id": found.user_id, "track_id": track_id, "event_type": "play"}
    track = encoded_track(track_id, title, artist_id or artist)
    return Heard(found.event_time, _encode({**event, "event_id": event_id}), track_id, track)


def encoded_track(track_id: str, title: str, artist: str | None) -> bytes:
    """A track of the catalogue, as far as it is known."""
    return _encode({"id": track_id, "name": _encodable(title), "id_artist": _encodable(artist or "") or None})


def id_of_names(artist: str, title: str) -> str:
    """An id for what has none: the same for the same names, whatever their case, blanks and Unicode form.

    >>> id_of_names("Björk", "Jóga") == id_of_names(" bjo\N{COMBINING DIAERESIS}rk", "JÓGA")
    True

    Raises:
        BadRecord: one of them is empty.
    """
    names = [" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in (artist, title)]
    if not all(names):
        raise BadRecord("track_id", f"expected an id, or artist and track, found artist {artist!r} and track {title!r}")
    return "names:" + sha256("\n".join(names).encode(errors="surrogatepass")).hexdigest()[:32]


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can have in it and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
