"""One list as players and spreadsheets read it.

A track here has no address that could be played: it goes by its URN, which is its identifier, and in M3U, which has
nothing but locations, stands where one would. What the URN names is for the player's own catalogue to find.

Sources: xspf.org, XSPF version 1 and JSPF; RFC 8216 for lines and encoding of M3U.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

from producers.playlists import Playlist
from service.texts import shown, table, urn

XMLNS = "http://xspf.org/ns/0/"
MAKER = "hitparade"
COLUMNS = (
    *("week", "group", "revision", "model", "rank", "track_id", "name", "score"),
    *(f"plays_week_{n}" for n in (1, 2, 3, 4)),
)


def csv(playlists: Iterable[Playlist]) -> bytes:
    """Lists as one table, a row a track; plays are those of the four closed weeks, oldest first."""
    return table(COLUMNS, (row for playlist in playlists for row in _rows(playlist)))


def _rows(playlist: Playlist) -> Iterator[list[object]]:
    about = [playlist.week, playlist.group, playlist.revision, playlist.model]
    for entry in playlist.tracks:
        yield [*about, entry.rank, entry.track_id, entry.name, entry.score, *entry.plays]


def jspf(playlist: Playlist) -> bytes:
    """The list as JSPF."""
    found = {**_about(playlist), "track": [_track(urn_, title) for urn_, title in _tracks(playlist)]}
    return json.dumps({"playlist": found}, ensure_ascii=False).encode()


def _track(identifier: str, title: str) -> dict[str, Any]:
    return {"identifier": [identifier], "title": title}


def xspf(playlist: Playlist) -> bytes:
    """The list as XSPF."""
    root = ElementTree.Element("playlist", {"version": "1", "xmlns": XMLNS})
    for name, text in _about(playlist).items():
        ElementTree.SubElement(root, name).text = text
    tracks = ElementTree.SubElement(root, "trackList")
    for identifier, title in _tracks(playlist):
        track = ElementTree.SubElement(tracks, "track")
        ElementTree.SubElement(track, "identifier").text = identifier
        ElementTree.SubElement(track, "title").text = title
    found: bytes = ElementTree.tostring(root, "UTF-8", xml_declaration=True)
    return found


def m3u(playlist: Playlist) -> bytes:
    """The list as extended M3U in UTF-8: a line about the whole, then two lines a track; -1 is a length unknown."""
    lines = ["#EXTM3U", f"#PLAYLIST:{_title(playlist)}"]
    for identifier, title in _tracks(playlist):
        lines += [f"#EXTINF:-1,{title}", identifier]
    return "".join(f"{line}\n" for line in lines).encode()


def _about(playlist: Playlist) -> dict[str, str]:
    identifier = urn("playlist", playlist.week, playlist.group, str(playlist.revision))
    return {"title": _title(playlist), "creator": MAKER, "identifier": identifier}


def _title(playlist: Playlist) -> str:
    return shown(f"Top {len(playlist.tracks)} for week {playlist.week} ({playlist.group})")


def _tracks(playlist: Playlist) -> Iterator[tuple[str, str]]:
    """URN and title of each track, the id where it has no name."""
    for entry in playlist.tracks:
        yield urn("track", entry.track_id), shown(entry.name or entry.track_id)
