"""The pipeline as it stands: what the page, the probes and the stream of events show of it."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Reach(BaseModel):
    """Whether something answers, and since when it does or does not."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    since: datetime
    reason: str = ""


class PartitionFigures(BaseModel):
    """One partition: lag in records, None while its end is not known."""

    model_config = ConfigDict(frozen=True)

    partition: int
    next_offset: int
    lag: int | None
    stream_time: datetime | None


class TopicFigures(BaseModel):
    """A topic that is counted; tallies are those of all its partitions, causes of death as `dead:<cause>`."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partitions: tuple[PartitionFigures, ...]
    tallies: Mapping[str, int]
    events_per_s: float | None
    """over the last looks; None before the second"""

    @property
    def lag(self) -> int | None:
        """Records not yet counted; None while an end is not known."""
        lags = [partition.lag for partition in self.partitions]
        return None if None in lags else sum(lag for lag in lags if lag)

    @property
    def stream_time(self) -> datetime | None:
        """The highest of any partition."""
        return max((p.stream_time for p in self.partitions if p.stream_time), default=None)


class Figures(BaseModel):
    """One look; a topic is None until it was seen once, and stays as it was seen last while nobody answers."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    kafka: Reach
    redis: Reach
    lists: Reach
    """whether all that was published when the service started has been read"""
    sessions: TopicFigures | None = None
    tracks: TopicFigures | None = None
    last_run: datetime | None = None
    """when the last list was published, or published again; None before the first"""


class ChartEntry(BaseModel):
    """One place of the open week so far."""

    model_config = ConfigDict(frozen=True)

    rank: int
    track_id: str
    name: str
    plays: int
    skips: int
    likes: int


class LiveChart(BaseModel):
    """The open week so far, by plays, of all listeners: provisional, for it is still being counted."""

    model_config = ConfigDict(frozen=True)

    week: str
    provisional: bool = True
    at: datetime
    stream_time: datetime | None
    n_tracks: int
    """tracks with plays, skips or likes"""
    tracks: tuple[ChartEntry, ...]
