"""Reading the counters: sums over partitions and groups, slice by slice, each week as it stood at one instant."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING
from uuid import uuid4

from features.connect import StoreUnavailable
from features.fence import Fence
from features.parts import N_KINDS, CatalogueEntry
from features.store import LAYOUT, CounterStore
from features.weeks import WEEKDAYS, Calendar, ChartWeek

if TYPE_CHECKING:
    import pyarrow as pa

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
        counted = [week for fence in self.fences.values() for week in fence.touched]
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
        """What identifies the counts of a week: by partition, the last record in it and rebuilds."""
        touched = self.touched(week)
        return {f"{self.fences[p].identity}:{p}": str(offset) for p, offset in sorted(touched.items())}

    def groups(self, week: ChartWeek) -> dict[int, tuple[str, ...]]:
        """The groups that each partition has counted the week for, in the order of their counts."""
        return {p: fence.groups[week.name] for p, fence in self.fences.items() if week.name in fence.touched}

    def touched(self, week: ChartWeek) -> dict[int, int]:
        """The offset after the last record in the week, by partition."""
        return {p: fence.touched[week.name] for p, fence in self.fences.items() if week.name in fence.touched}


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
        ours = {"layout": LAYOUT, "first_day": weekday, "zone": zone, "slices": str(self.store.slices)}
        for partition, fence in fences.items():
            for name, value in ours.items():
                if fence.settings.get(name, value) != value:
                    raise CountedOtherwise(
                        f"{self.store.topic} partition {partition} was counted with {name} {fence.settings[name]}, "
                        f"these settings have {value}: set it back, or wait until `hitparade rebuild` has ended"
                    )
        return Standing(fences, self.calendar, self.weeks_kept)

    def slices(self, week: ChartWeek, standing: Standing, copies: str = "") -> Iterator["pa.Table"]:
        """Columns track_id, group, plays, skips, likes, sorted by the first two; a slice of all partitions at a time.

        They are the week as it stood if, and only if, its stamp is the same afterwards, or copies are read.
        """
        from features.columns import counts_table

        groups = standing.groups(week)
        for slice_ in range(self.store.slices):
            packed = {p: self.store.packed(p, week.name, slice_, copies) for p in groups}
            yield counts_table([(names, packed[partition]) for partition, names in groups.items()])

    def at_one_instant(self, week: ChartWeek) -> list["CountRow"]:
        """Every row of a week that is kept; where others count on meanwhile, read from copies."""
        standing = self.standing()
        rows = [row for table in self.slices(week, standing) for row in _rows(table)]
        if self.standing().stamp(week) == standing.stamp(week):
            return rows
        copies = f"copy:{uuid4().hex}:"
        standing = self.freeze([week], copies)
        rows = [row for table in self.slices(week, standing, copies) for row in _rows(table)]
        if not self.remove_copies(week, standing, copies):
            raise StoreUnavailable(f"week {week}: Redis has lost the copy that was read")
        return rows

    def of_track(self, track_id: str) -> list[tuple[object, ...]]:
        """Week, group, plays, skips and likes of one track in the weeks that are kept, oldest first."""
        standing = self.standing()
        sums: dict[tuple[str, str], tuple[int, ...]] = {}
        for partition, fence in standing.fences.items():
            weeks = [week.name for week in standing.kept() if week.name in fence.touched] if fence.touched else []
            for week, counts in self.store.counts_of(partition, weeks, track_id).items():
                for n, group in enumerate(fence.groups[week]):
                    so_far = sums.get((week, group), (0,) * N_KINDS)
                    added = counts[N_KINDS * n : N_KINDS * (n + 1)]
                    sums[week, group] = tuple(map(add, so_far, added))
        return [(*place, *sums[place]) for place in sorted(sums) if any(sums[place])]

    def listeners_of(self, track_id: str) -> dict[str, int] | None:
        """About how many have played a track, by week of those kept, oldest first; None where that is not looked at.

        Who has plays in two partitions is two: there are none in a topic that is keyed one way throughout.
        """
        standing, sums = self.standing(), Counter[str]()
        if not any(fence.settings["listeners"] == "True" for fence in standing.fences.values()):
            return None
        for partition, fence in standing.fences.items():
            weeks = [week.name for week in standing.kept() if week.name in fence.touched] if fence.touched else []
            sums.update(self.store.listeners_of(partition, weeks, track_id))
        return dict(sorted(sums.items()))

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
        removed = [self.store.remove_copies(partition, week.name, copies) for partition in standing.touched(week)]
        return all(removed)


def _rows(table: "pa.Table") -> Iterator["CountRow"]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def catalogue_of(store: CounterStore, partitions: Sequence[int], track_ids: Sequence[str]) -> dict[str, str]:
    """Those of these tracks that are in the catalogue, as JSON, by id; of two partitions the newer record."""
    return _in_catalogue(entry for partition in partitions for entry in store.entries_of(partition, track_ids))


def catalogue_slices(store: CounterStore, partitions: Sequence[int]) -> Iterator[list[str]]:
    """The tracks of the catalogue as JSON, a slice at a time, sorted by id; of two partitions the newer record."""
    for slice_ in range(store.slices):
        found = _in_catalogue(entry for partition in partitions for entry in store.entries(partition, slice_))
        yield [found[track_id] for track_id in sorted(found)]


def _in_catalogue(entries: Iterable[CatalogueEntry]) -> dict[str, str]:
    newest: dict[str, CatalogueEntry] = {}
    for entry in entries:
        other = newest.get(entry.track_id)
        if other is None or (entry.timestamp, entry.offset) > (other.timestamp, other.offset):
            newest[entry.track_id] = entry
    return {track_id: entry.value for track_id, entry in newest.items() if entry.value}
