"""The guard: a list that has too little in common with its neighbours is not published; naive's takes its place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from models.ranking import Best
from producers.playlists import Playlist

Share = tuple[int, int]
"""How many, of how many."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a list is held against."""

    naive: Best
    """naive's list for the same week"""
    most_played: Best
    """the best by the plays of the last closed week"""
    last: Playlist | None
    """the group's list for that week, where one has been published"""


@dataclass(frozen=True, slots=True)
class Guard:
    """The least that a list must share, from 0 to 1; 0 is not looked at.

    Overlaps are shares of the tracks of the shorter list; captured are the plays of the last closed week, as a share of
    those of the 50 most played tracks. Where naive's own list falls short as well, as it may after an outage or where
    all is new, nothing is held against the model: another list would be no better.
    """

    min_overlap_naive: float = 0.0
    min_overlap_last_week: float = 0.0
    min_captured: float = 0.0

    def refusal(self, made: Best, model: str, version: str, others: Neighbours) -> str | None:
        """Why a list is not published, with each figure that is too low; None where it may be."""
        found = "; ".join(self._faults(made, others))
        return f"{self.opening(model, version, others.last)}{found}" if found else None

    def opening(self, model: str, version: str, last: Playlist | None) -> str:
        """How every refusal begins, and no other reason: it names all that a verdict depends on beside the plays."""
        wants = [f"{self.min_overlap_naive} of naive's list"] if self.min_overlap_naive else []
        if self.min_overlap_last_week and last:
            wants.append(f"{self.min_overlap_last_week} of the list for {last.week}, revision {last.revision}")
        if self.min_captured:
            wants.append(f"{self.min_captured} of the last week's plays")
        return f"the guard refused {model} {version} (it expects {', '.join(wants)}): "

    def is_like_last_week(self, track_ids: Sequence[str], last: Playlist | None) -> bool:
        """Whether a list has enough tracks of last week's, as far as that is looked at."""
        return not _is_below(self.min_overlap_last_week, _overlap(track_ids, _listed(last)))

    def _faults(self, made: Best, others: Neighbours) -> Iterator[str]:
        checks: list[tuple[float, Callable[[Best], Share], str]] = [
            (self.min_overlap_naive, lambda best: _overlap(_ids(best), _ids(others.naive)), "tracks of naive's list"),
            (self.min_overlap_last_week, lambda best: _overlap(_ids(best), _listed(others.last)), "of last week's"),
            (self.min_captured, lambda best: _captured(best, others.most_played), "plays of the last week"),
        ]
        for least, share, what in checks:
            part, whole = share(made)
            if _is_below(least, share(made)) and not _is_below(least, share(others.naive)):
                yield f"it has {part} of {whole} {what}"


def _is_below(least: float, share: Share) -> bool:
    part, whole = share
    return whole > 0 and part / whole < least


def _overlap(one: Sequence[str], other: Sequence[str]) -> Share:
    return len(set(one).intersection(other)), min(len(one), len(other))


def _captured(best: Best, most_played: Best) -> Share:
    of_best, of_most_played = (sum(place.plays[-1] for place in which.places) for which in (best, most_played))
    return of_best, of_most_played


def _ids(best: Best) -> list[str]:
    return [place.track_id for place in best.places]


def _listed(playlist: Playlist | None) -> list[str]:
    return [entry.track_id for entry in playlist.tracks] if playlist else []
