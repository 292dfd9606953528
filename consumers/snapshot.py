"""Counters and catalogue from Redis into history, each week as it stood at one instant."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.history import History
from features.reader import CounterReader, Standing, catalogue_slices
from features.store import CounterStore, Fence, StoreUnavailable
from features.weeks import ChartWeek

log = logging.getLogger(__name__)
MOST_READINGS = 5


class CutTimeout(StoreUnavailable):
    """The counters have not come as far as the trigger's cut; the trigger is tried again."""


class WrongTopic(Exception):
    """The trigger, or Redis, speaks of a topic that was created anew since."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a weekly run reads: the session counters and the catalogue, and where they are kept for it."""

    counters: CounterReader
    tracks: CounterStore
    track_partitions: Sequence[int]
    history: History

    def passes(self, store: CounterStore, topic_id: str, cut: Mapping[int, int]) -> list[str]:
        """What is still behind the cut, by partition: want and have; empty when the counters have passed it.

        Raises:
            WrongTopic: the counters are of another topic than the cut.
        """
        fences = store.fences([partition for partition, end in cut.items() if end > 0])
        behind = []
        for partition, end in sorted(cut.items()):
            fence = fences.get(partition)
            if fence and fence.topic_id != topic_id:
                raise WrongTopic(f"the cut is of {store.topic} with id {topic_id}, Redis counts id {fence.topic_id}")
            have = fence.next_offset if fence else 0
            if have < end:
                behind.append(f"{store.topic} partition {partition}: want {end}, have {have}")
        return behind

    def wait_for(self, cuts: Sequence[tuple[CounterStore, str, Mapping[int, int]]], timeout_s: float) -> None:
        """Wait until sessions and catalogue have been counted up to the cuts.

        Raises:
            CutTimeout: naming each partition that is behind, what was wanted and what is there.
            WrongTopic: the counters are of another topic than a cut.
        """
        deadline = time.monotonic() + timeout_s
        while behind := [text for store, topic_id, cut in cuts for text in self.passes(store, topic_id, cut)]:
            if time.monotonic() > deadline:
                raise CutTimeout(f"the counters are behind the cut after {timeout_s:.0f} s: {'; '.join(behind)}")
            time.sleep(0.05)

    def bring_up_to_date(self, until: ChartWeek) -> Standing:
        """Write the weeks up to `until` that history lacks or whose counts have changed, and the catalogue.

        Raises:
            WeekError: the week has no counters.
            StoreUnavailable: a week was written to all the time while it was read.
        """
        standing = self.counters.standing()
        standing.check_kept(until)
        for week in standing.kept():
            if week <= until:
                standing = self._write_week(week, standing)
        self._write_catalogue()
        return standing

    def _write_week(self, week: ChartWeek, standing: Standing) -> Standing:
        for _ in range(MOST_READINGS):
            stamp = standing.stamp(week)
            if self.history.stamp(week.name) == stamp:
                return standing
            self.history.write_week(week.name, self.counters.slices(week, standing), stamp)
            standing = self.counters.standing()
            if standing.stamp(week) == stamp:
                return standing
        raise StoreUnavailable(f"week {week} was counted on all the while it was read, {MOST_READINGS} times")

    def catalogue_stamp(self) -> dict[str, str]:
        """What identifies the catalogue: how far its topic has been read."""
        fences = self.track_fences()
        return {f"{fence.topic_id}:{partition}": str(fence.next_offset) for partition, fence in sorted(fences.items())}

    def track_fences(self) -> dict[int, Fence]:
        """How far each partition of the catalogue has been read."""
        return self.tracks.fences(self.track_partitions)

    def _write_catalogue(self) -> None:
        for _ in range(MOST_READINGS):
            stamp = self.catalogue_stamp()
            if self.history.catalogue_stamp() == stamp:
                return
            self.history.write_catalogue(catalogue_slices(self.tracks, self.track_partitions), stamp)
        # The catalogue may change while it is read: a track is its newest record either way.
