"""What goes wrong between listeners and the log: bots, lost users, events sent twice, and events that come late."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from producers.catalogue import HiddenTrack
from producers.chance import between, pick, stream
from producers.listening import DAY_S, Happening

MOST_LATE = timedelta(days=14)
SOON = timedelta(minutes=1)  # within which a client that had no answer sends again
WEEK_DAYS = 7

TimedLine = tuple[datetime, bytes]


@dataclass(frozen=True, slots=True)
class Damage:
    """How many users are bots, and which shares are lost (of a group's users), sent twice and late (of all events)."""

    bots: int = 0
    lost: float = 0.0
    lost_group: str = "treatment"
    duplicates: float = 0.0
    late: float = 0.0

    def __post_init__(self) -> None:
        if self.bots < 0:
            raise ValueError(f"bots is {self.bots}; expected 0 or more")
        for name, share in (("lost users", self.lost), ("duplicates", self.duplicates), ("late events", self.late)):
            if not 0 <= share < 1:
                raise ValueError(f"the share of {name} is {share:g}; expected 0 to less than 1")

    @property
    def is_any(self) -> bool:
        """Whether anything goes wrong."""
        return bool(self.bots or self.lost or self.is_in_transit)

    @property
    def is_in_transit(self) -> bool:
        """Whether events come in another order, or more often, than they happened."""
        return self.duplicates > 0 or self.late > 0

    def loses(self, seed: int, user_id: int, group: str) -> bool:
        """Whether all events of a user of this group are lost."""
        return self.lost > 0 and group == self.lost_group and stream(seed, "lost", user_id).random() < self.lost


def bots_listening(
    seed: int, users: Iterable[int], catalogue: list[HiddenTrack], playable: list[int], first_session: int
) -> Iterator[Happening]:
    """Each bot plays one track from each midnight to the next, a session a day, the same track in every week."""
    session = first_session
    for user in users if playable else ():
        track = pick(stream(seed, "bot", user), playable)
        length = catalogue[track].record["duration_ms"] / 1000
        for day in range(WEEK_DAYS):
            for n in range(int(DAY_S // length)):
                yield Happening(day * DAY_S + n * length, session, user, track, "play")
            session += 1


def in_transit(lines: Iterable[TimedLine], damage: Damage, rng: Random) -> Iterator[TimedLine]:
    """Lines by the time at which they arrive: some twice, some up to two weeks late.

    Where there are duplicates, every event has an event_id, and a duplicate that of its event.
    """
    under_way: list[tuple[datetime, int, bytes]] = []
    for n, (event_time, line) in enumerate(lines):
        while under_way and under_way[0][0] <= event_time:
            arrival, _, earlier = heapq.heappop(under_way)
            yield arrival, earlier
        if damage.duplicates:
            line = line[:-1] + f', "event_id": "{n}"}}'.encode()
        arrival = event_time + (between(rng, 0.0, 1.0) * MOST_LATE if rng.random() < damage.late else timedelta())
        heapq.heappush(under_way, (arrival, 2 * n, line))
        if rng.random() < damage.duplicates:
            heapq.heappush(under_way, (arrival + between(rng, 0.0, 1.0) * SOON, 2 * n + 1, line))
    while under_way:
        arrival, _, earlier = heapq.heappop(under_way)
        yield arrival, earlier
