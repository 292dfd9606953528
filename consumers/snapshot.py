"""Counters and catalogue from Redis into history, each week as it stood at one instant."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import pyarrow as pa

from features.connect import StoreUnavailable
from features.history import History
from features.reader import CounterReader, Standing, catalogue_slices
from features.store import CounterStore
from features.weeks import ChartWeek
from producers.spans import UNTRACED, Spans

log = logging.getLogger(__name__)
MOST_READINGS = 5


class CutTimeout(StoreUnavailable):
    """The counters have not come as far as the trigger's cut; the trigger is tried again."""


class OldCounters(StoreUnavailable):
    """Redis still counts a topic that was created anew since; the trigger is tried again."""


class WrongTopic(Exception):
    """The trigger, or Redis, speaks of a topic that was created anew since."""


class _CountedOn(Exception):
    """The week was counted on, or fell out of the counters, while it was read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a weekly run reads: the session counters and the catalogue, and where they are kept for it."""

    counters: CounterReader
    tracks: CounterStore
    track_partitions: Sequence[int]
    history: History
    spans: Spans = UNTRACED

    def over(self, cuts: Mapping[str, Mapping[int, int]]) -> "Snapshot":
        """The same over the partitions of a cut: a topic may have been given more since this was opened."""
        counters = replace(self.counters, partitions=sorted(cuts["sessions"]))
        return replace(self, counters=counters, track_partitions=sorted(cuts["tracks"]))

    def passes(self, store: CounterStore, topic_id: str, cut: Mapping[int, int]) -> list[str]:
        """What is still behind the cut, by partition: want and have; empty when the counters have passed it.

        Raises:
            WrongTopic: the counters are of another topic than the cut.
        """
        fences = store.fences(sorted(cut))
        behind = []
        for partition, end in sorted(cut.items()):
            fence = fences.get(partition)
            if fence and fence.topic_id != topic_id:
                raise WrongTopic(f"the cut is of {store.topic} with id {topic_id}, Redis counts id {fence.topic_id}")
            have = fence.next_offset if fence else 0
            if have < end:
                behind.append(f"{store.topic} partition {partition}: want {end}, have {have}")
        return behind

    def wait_for(
        self, cuts: Sequence[tuple[CounterStore, str, Mapping[int, int]]], timeout_s: float, stop: threading.Event
    ) -> None:
        """Wait until sessions and catalogue have been counted up to the cuts.

        Raises:
            CutTimeout: time is up, or it was told to stop; names each partition that is behind, want and have.
            WrongTopic: the counters are of another topic than a cut.
        """
        began = time.monotonic()
        while behind := [text for store, topic_id, cut in cuts for text in self.passes(store, topic_id, cut)]:
            waited_s = time.monotonic() - began
            if waited_s > timeout_s or stop.wait(0.05):
                raise CutTimeout(f"the counters are behind the cut after {waited_s:.0f} s: {'; '.join(behind)}")

    def bring_up_to_date(self, until: ChartWeek) -> Standing:
        """Write the weeks up to `until` that history lacks or whose counts have changed, and the catalogue.

        All of them are in history as the fences that are returned have them.

        Raises:
            WeekError: the week has no counters.
        """
        self.history.remove_broken([week.name for week in self._kept(self.counters.standing(), until)])
        for _ in range(MOST_READINGS):
            standing = self.counters.standing()
            changed = self._changed(standing, until)
            if not changed:
                self._write_catalogue()
                return standing
            for week in changed:
                with contextlib.suppress(_CountedOn):
                    self._write_week(week, self._slices(week, standing), standing)
        names = ", ".join(map(str, changed))
        log.info("%s: counted on all the while they were read; reading copies", names, extra={"week": until.name})
        return self._write_from_copies(until, changed)

    def _write_from_copies(self, until: ChartWeek, changed: Sequence[ChartWeek]) -> Standing:
        """As bring_up_to_date, where late events never pause: the copies cost Redis 0.13 s for a million tracks.

        A week that changes while others are copied is copied with them the next time, so that this ends.
        """
        copied: set[ChartWeek] = set()
        while True:
            copied.update(changed)
            copies = f"copy:{uuid4().hex}:"
            standing = self.counters.freeze(copied, copies)
            try:
                changed = self._changed(standing, until)
                if copied.issuperset(changed):
                    for week in changed:
                        self._write_week(week, self._copied(week, standing, copies), standing)
                    self._write_catalogue()
                    return standing
            finally:
                for week in copied:
                    self.counters.remove_copies(week, standing, copies)

    def _kept(self, standing: Standing, until: ChartWeek) -> list[ChartWeek]:
        standing.check_kept(until)
        return [week for week in standing.kept() if week <= until]

    def _changed(self, standing: Standing, until: ChartWeek) -> list[ChartWeek]:
        kept = self._kept(standing, until)
        return [week for week in kept if self.history.stamp(week.name) != standing.stamp(week)]

    def _slices(self, week: ChartWeek, standing: Standing) -> Iterator[pa.Table]:
        """The week at one instant: an error at its end keeps what is torn out of history."""
        yield from self.counters.slices(week, standing)
        if self.counters.standing().stamp(week) != standing.stamp(week):
            raise _CountedOn

    def _copied(self, week: ChartWeek, standing: Standing, copies: str) -> Iterator[pa.Table]:
        yield from self.counters.slices(week, standing, copies)
        if not self.counters.remove_copies(week, standing, copies):
            raise StoreUnavailable(f"week {week}: Redis has lost the copy that was read")

    def catalogue_ends(self) -> dict[int, int]:
        """How far each partition of the catalogue's topic had been read when the catalogue was written."""
        stamp = self.history.catalogue_stamp() or {}
        return {int(source.rpartition(":")[2]): int(next_offset) for source, next_offset in stamp.items()}

    def _catalogue_stamp(self) -> dict[str, str]:
        fences = self.tracks.fences(self.track_partitions)
        return {f"{fence.topic_id}:{partition}": str(fence.next_offset) for partition, fence in sorted(fences.items())}

    def _write_week(self, week: ChartWeek, slices: Iterator[pa.Table], standing: Standing) -> None:
        with self.spans.span("history", week=week.name):
            self.history.write_week(week.name, slices, standing.stamp(week))

    def _write_catalogue(self) -> None:
        for _ in range(MOST_READINGS):
            stamp = self._catalogue_stamp()
            if self.history.catalogue_stamp() == stamp:
                return
            with self.spans.span("catalogue"):
                self.history.write_catalogue(catalogue_slices(self.tracks, self.track_partitions), stamp)
        # The catalogue may change while it is read: a track is its newest record either way.
