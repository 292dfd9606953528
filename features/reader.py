"""Reading the counters: sums over partitions and groups, slice by slice, each week as it stood at one instant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from features.connect import StoreUnavailable
from features.fence import Fence
from features.store import CounterStore
from features.tally import CatalogueEntry
from features.tracks import Track
from features.weeks import WEEKDAYS, Calendar, ChartWeek

if TYPE_CHECKING:
    from features.history import CountRow  # pandas and pyarrow take half a second to import


class CountedOtherwise(StoreUnavailable):
    """A partition was counted under other settings than the reader's; a rebuild switches one after the other."""


class WeekError(ValueError):
    """The week asked for is not one that is counted: still open, too old, or never seen."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The fences of a topic at one look, and the weeks they speak of."""

    fences: Mapping[int, Fence]
    calendar: Calendar
    weeks_kept: int

    def newest(self) -> ChartWeek:
        """The week of the highest stream time of any partition; it is still open.

        Raises:
            WeekError: nothing has been counted yet.
        """
        times = [fence.stream_time for fence in self.fences.values() if fence.stream_time]
        if not times:
            raise WeekError("nothing has been counted yet: send events, and run `hitparade consume sessions`")
        return self.calendar.week_of(max(times))

    def kept(self) -> list[ChartWeek]:
        """The weeks that have counters, the open one included, oldest first; they begin with the first one counted."""
        weeks = self.newest().span(self.weeks_kept)
        counted = [week for fence in self.fences.values() for week, _ in fence.touched]
        return [week for week in weeks if week.name >= min(counted)]

    def closed(self) -> list[ChartWeek]:
        """The kept weeks that stream time has passed, oldest first."""
        return self.kept()[:-1]

    def check_kept(self, week: ChartWeek) -> None:
        """Refuse a week that has no counters.

        Raises:
            WeekError: naming the weeks that have.
        """
        kept = self.kept()
        if week not in kept:
            raise WeekError(f"week {week} is not counted: expected one of {kept[0]} to {kept[-1]}")

    def stamp(self, week: ChartWeek) -> dict[str, str]:
        """What identifies the counts of a week: by partition and group, the last record in it and rebuilds."""
        return {
            f"{fence.identity}:{partition}:{group}": str(touched)
            for partition, fence in sorted(self.fences.items())
            for (name, group), touched in sorted(fence.touched.items())
            if name == week.name
        }

    def buckets(self, week: ChartWeek) -> list[tuple[int, str]]:
        """The partitions and groups that have counters of the week."""
        return [
            (partition, group)
            for partition, fence in self.fences.items()
            for name, group in fence.touched
            if name == week.name
        ]

    def touched(self, week: ChartWeek) -> dict[int, int]:
        """The offset after the last record in the week, by partition."""
        found: dict[int, int] = {}
        for partition, fence in self.fences.items():
            offsets = [touched for (name, _), touched in fence.touched.items() if name == week.name]
            if offsets:
                found[partition] = max(offsets)
        return found


@dataclass(frozen=True, slots=True)
class CounterReader:
    """The counters of a session topic's partitions, which are those of the topic, never found by scanning keys."""

    store: CounterStore
    partitions: Sequence[int]
    calendar: Calendar
    weeks_kept: int

    def standing(self) -> Standing:
        """Look at every fence.

        Raises:
            CountedOtherwise: naming the setting that differs.
        """
        return self._standing(self.store.fences(self.partitions))

    def _standing(self, fences: Mapping[int, Fence]) -> Standing:
        weekday, zone = WEEKDAYS[self.calendar.first_weekday], str(self.calendar.zone)
        ours = {"first_day": weekday, "zone": zone, "slices": str(self.store.slices)}
        for partition, fence in fences.items():
            for name, value in ours.items():
                if fence.settings.get(name, value) != value:
                    raise CountedOtherwise(
                        f"{self.store.topic} partition {partition} was counted with {name} {fence.settings[name]}, "
                        f"these settings have {value}: set it back, or wait until `hitparade rebuild` has ended"
                    )
        return Standing(fences, self.calendar, self.weeks_kept)

    def slices(self, week: ChartWeek, standing: Standing, copies: str = "") -> Iterator[list["CountRow"]]:
        """Rows of (track id, group, plays, skips, likes), sorted; one slice of all partitions at a time.

        The rows are the week as it stood if, and only if, its stamp is the same afterwards, or copies are read.
        """
        buckets = standing.buckets(week)
        for slice_ in range(self.store.slices):
            yield self._slice(week, slice_, buckets, copies)

    def _slice(self, week: ChartWeek, slice_: int, buckets: Sequence[tuple[int, str]], copies: str) -> list["CountRow"]:
        sums: dict[tuple[str, str], tuple[int, int, int]] = {}
        for partition, group in buckets:
            found = self.store.bucket(partition, week.name, group, slice_, copies)
            for track_id, (plays, skips, likes) in found.items():
                before = sums.get((track_id, group), (0, 0, 0))
                sums[track_id, group] = (before[0] + plays, before[1] + skips, before[2] + likes)
        return [(track_id, group, *counts) for (track_id, group), counts in sorted(sums.items())]

    def at_one_instant(self, week: ChartWeek) -> list["CountRow"]:
        """Every row of a week that is kept; where others count on meanwhile, read from copies."""
        standing = self.standing()
        rows = [row for rows in self.slices(week, standing) for row in rows]
        if self.standing().stamp(week) == standing.stamp(week):
            return rows
        copies = f"copy:{uuid4().hex}:"
        standing = self.freeze([week], copies)
        rows = [row for rows in self.slices(week, standing, copies) for row in rows]
        if not self.remove_copies(week, standing, copies):
            raise StoreUnavailable(f"week {week}: Redis has lost the copy that was read")
        return rows

    def freeze(self, weeks: Iterable[ChartWeek], copies: str) -> Standing:
        """Copy these weeks, each partition at one instant; return the fences of that instant.

        Raises:
            CountedOtherwise: naming the setting that differs.
        """
        names = [week.name for week in weeks]
        found = {partition: self.store.freeze(partition, names, copies) for partition in self.partitions}
        return self._standing({partition: fence for partition, fence in found.items() if fence is not None})

    def remove_copies(self, week: ChartWeek, standing: Standing, copies: str) -> bool:
        """Remove what freeze() has copied of a week; False where some of it was not there any more."""
        removed = [self.store.remove_copies(p, week.name, group, copies) for p, group in standing.buckets(week)]
        return all(removed)


def catalogue_slices(store: CounterStore, partitions: Sequence[int]) -> Iterator[list[Track]]:
    """The tracks of the catalogue by slice, sorted by id; where two partitions know a track, its newest record."""
    for slice_ in range(store.slices):
        newest: dict[str, CatalogueEntry] = {}
        for partition in partitions:
            for entry in store.entries(partition, slice_):
                other = newest.get(entry.track_id)
                if other is None or (entry.timestamp, entry.offset) > (other.timestamp, other.offset):
                    newest[entry.track_id] = entry
        yield [Track.model_validate_json(entry.value) for _, entry in sorted(newest.items()) if entry.value]
