"""What the page shows of lists: movement against the week before, each track's weeks, where the groups disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.weeks import ChartWeek
from producers.playlists import Entry, Playlist
from service.lists import Lists

N_WEEKS = 12
Weeks = tuple[int | None, ...]
"""Plays a week, oldest first; None where no list in memory tells of it."""
Known = Mapping[str, Mapping[str, int]]
"""Plays by track and week."""


@dataclass(frozen=True, slots=True)
class Row:
    """A place of a list; moved is None where the track was not in the list of the week before."""

    entry: Entry
    moved: int | None
    weeks: Weeks


@dataclass(frozen=True, slots=True)
class Standing:
    """One group's list; is_first is whether there is none for the week before to hold it against."""

    playlist: Playlist
    rows: tuple[Row, ...]
    is_first: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A track that the groups place differently; ranks are in the order of the groups, None where it is not listed."""

    track_id: str
    name: str
    ranks: tuple[int | None, ...]
    size: int
    """places between the highest and the lowest, a list that does not have it counting as the place after its last"""

    @property
    def is_shared(self) -> bool:
        """Whether every list has it."""
        return None not in self.ranks


def standings(lists: Lists, week: ChartWeek, shown: Sequence[Playlist]) -> list[Standing]:
    """These lists of a week, each held against the same group's list of the week before."""
    before = {playlist.group: playlist for playlist in lists.of_week(week.before().name)}
    names = [of_span.name for of_span in week.before().span(N_WEEKS)]
    known = plays(lists, week)
    return [_standing(playlist, before.get(playlist.group), names, known) for playlist in shown]


def _standing(playlist: Playlist, before: Playlist | None, names: Sequence[str], known: Known) -> Standing:
    was = {entry.track_id: entry.rank for entry in before.tracks} if before else {}
    rows = tuple(
        Row(
            entry,
            was[entry.track_id] - entry.rank if entry.track_id in was else None,
            tuple(map(known.get(entry.track_id, {}).get, names)),
        )
        for entry in playlist.tracks
    )
    return Standing(playlist, rows, before is None)


def plays(lists: Lists, week: ChartWeek) -> Known:
    """What the lists up to that week tell of the weeks before it; where two differ, the later one is right."""
    found: dict[str, dict[str, int]] = {}
    for listed in week.span(N_WEEKS):
        closed = [of_span.name for of_span in listed.before().span(4)]
        for playlist in lists.of_week(listed.name):
            for entry in playlist.tracks:
                found.setdefault(entry.track_id, {}).update(zip(closed, entry.plays, strict=True))
    return found


def differences(shown: Sequence[Playlist]) -> list[Difference]:
    """The tracks that are not at the same place in all of these lists, the largest difference first."""
    names = {entry.track_id: entry.name for playlist in shown for entry in playlist.tracks}
    ranks = [{entry.track_id: entry.rank for entry in playlist.tracks} for playlist in shown]
    found = [_difference(track_id, name, ranks) for track_id, name in names.items()]
    return sorted(
        (one for one in found if one.size), key=lambda one: (-one.size, min(filter(None, one.ranks)), one.track_id)
    )


def _difference(track_id: str, name: str, ranks: Sequence[Mapping[str, int]]) -> Difference:
    places = [of_list.get(track_id, len(of_list) + 1) for of_list in ranks]
    return Difference(track_id, name, tuple(of_list.get(track_id) for of_list in ranks), max(places) - min(places))
