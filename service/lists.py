"""The published lists as their topic tells of them: every revision seen, by week and group."""

from collections import deque
from collections.abc import Mapping

from features.weeks import Calendar
from producers.playlists import Playlist

MOST_REVISIONS = 20  # kept of one week and group
MOST_NEWS = 256

Revisions = tuple[Playlist, ...]
"""Of one week and group, as they were published."""


class Lists:
    """Written by one thread, read by all: what is read is replaced, never changed."""

    def __init__(self) -> None:
        self._known: Mapping[str, Mapping[str, Revisions]] = {}
        self._n_published = 0
        self._news: deque[tuple[int, Playlist]] = deque(maxlen=MOST_NEWS)

    def take(self, value: bytes) -> None:
        """Read a record of the topic; one that is there already, sent again, is no news.

        Raises:
            ValueError: it is no playlist, or of a week that is none.
        """
        playlist = Playlist.model_validate_json(value)
        Calendar().parse(playlist.week)
        of_week = self._known.get(playlist.week, {})
        revisions = of_week.get(playlist.group, ())
        if revisions and revisions[-1] == playlist:
            return
        kept = (*revisions, playlist)[-MOST_REVISIONS:]
        self._known = {**self._known, playlist.week: {**of_week, playlist.group: kept}}
        self._n_published += 1
        self._news.append((self._n_published, playlist))

    def weeks(self) -> list[str]:
        """The weeks that have lists, oldest first."""
        return sorted(self._known)

    def of_week(self, week: str) -> list[Playlist]:
        """The last list of each group for a week, by group; none where the week has none."""
        of_week = self._known.get(week, {})
        return [of_week[group][-1] for group in sorted(of_week)]

    def latest(self) -> list[Playlist]:
        """The lists of the last week that has any, by group."""
        known = self._known
        return self.of_week(max(known)) if known else []

    def latest_of_each_group(self) -> list[Playlist]:
        """The last list of every group there ever was, by group."""
        found = {playlist.group: playlist for week in self.weeks() for playlist in self.of_week(week)}
        return [found[group] for group in sorted(found)]

    def revisions(self, week: str, group: str) -> Revisions:
        """What was published for a week and group, oldest first; empty where nothing was."""
        return self._known.get(week, {}).get(group, ())

    def n_published(self) -> int:
        """How many have been taken so far: the number of the last."""
        return self._n_published

    def since(self, number: int) -> list[tuple[int, Playlist]]:
        """Those taken after that one, each with its number, as far as they are remembered."""
        return [(n, playlist) for n, playlist in list(self._news) if n > number]
