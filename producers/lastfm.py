"""Scrobbles as files of last.fm's listeners have them, columns parted by tabs.

    user, time, artist's id, artist, track's id, track      the columns of the data set "Last.fm 1K users"
    user, time, artist, track

A time is ISO 8601, or seconds since 1970. Ids are of MusicBrainz, and may be empty.
"""

from features.events import BadRecord
from features.mapping import iso_time
from producers.heard import Heard, heard


def read_scrobble(line: bytes) -> Heard:
    """What was heard.

    Raises:
        BadRecord: the columns are not these, or name no track, no user or no time.
    """
    try:
        columns = [column.strip() for column in line.decode().split("\t")]
    except UnicodeDecodeError as cause:
        raise BadRecord("columns", f"expected UTF-8: {cause}") from cause
    if len(columns) == 4:
        user, time, artist, title = columns
        artist_id = track_id = ""
    elif len(columns) == 6:
        user, time, artist_id, artist, track_id, title = columns
    else:
        raise BadRecord("columns", f"expected 4 or 6 columns parted by tabs, found {len(columns)}")
    time = iso_time(time, 1) if time.isascii() and time.isdigit() else time
    return heard(user, time, artist, title, track_id or None, artist_id or None)
