"""The names of the topics: the one place that knows them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic and consumer group names under one prefix."""

    prefix: str = "hitparade"

    @property
    def sessions(self) -> str:
        """Session events, single or in arrays."""
        return f"{self.prefix}.sessions.v1"

    @property
    def tracks(self) -> str:
        """The catalogue, compacted."""
        return f"{self.prefix}.tracks.v1"

    @property
    def triggers(self) -> str:
        """One trigger a closed week."""
        return f"{self.prefix}.triggers.v1"

    @property
    def playlists(self) -> str:
        """The lists, by week and group."""
        return f"{self.prefix}.playlists.v1"

    @property
    def evaluations(self) -> str:
        """What each list was worth once its week had closed."""
        return f"{self.prefix}.evaluations.v1"

    @property
    def late(self) -> str:
        """Session events older than the weeks kept."""
        return f"{self.prefix}.sessions.late.v1"

    @property
    def dead_sessions(self) -> str:
        """Session events that can never be counted."""
        return f"{self.prefix}.sessions.dlq.v1"

    @property
    def dead_tracks(self) -> str:
        """Catalogue records that can never be read."""
        return f"{self.prefix}.tracks.dlq.v1"

    def all(self) -> list[str]:
        """Every topic."""
        names = [self.sessions, self.tracks, self.triggers, self.playlists, self.evaluations]
        return [*names, self.late, self.dead_sessions, self.dead_tracks]

    def group(self, consumer: str) -> str:
        """The consumer group of `sessions`, `tracks` or `weekly`."""
        return f"{self.prefix}.{consumer}"
