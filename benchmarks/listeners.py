"""Whether the network would forecast better, did it know how many listeners a track had: simulated, with bots.

The network sees skips a play and likes a play of four weeks. Here it sees listeners a play in the place of skips, and
then, to tell what that is worth, nothing in their place.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from features.events import KINDS, Kind
from features.history import History, counts_of
from features.weeks import ChartWeek
from models import forecasters
from models.backtest import NAIVE, Judged, backtest, by_model, weeks_to_judge
from models.intervals import interval
from producers.climates import CLIMATES
from producers.damage import Damage
from producers.simulator import Simulation, track_lines

METRICS = ("precision_at_50", "ndcg_at_50", "captured_plays")
WEEKS, USERS, TRACKS, BOTS = 40, 800, 800, 10
SERVICES = (("fast", 1), ("mixed", 2), ("fast", 3))
"""Climates and seeds."""
SEED, REFIT_EVERY = 0, 8
DECIMALS = 5
Week = tuple[str, dict[str, list[int]], dict[str, set[int]]]
"""Its name, and by track plays, skips and likes, and who has played it."""


def run() -> Iterator[dict[str, Any]]:
    """A row a service: the paired differences of the network with listeners to the same without, by metric."""
    for climate, seed in SERVICES:
        simulation = Simulation(
            *(WEEKS, USERS, TRACKS, seed, ChartWeek(date(2024, 1, 1))),
            climate=CLIMATES[climate],
            damage=Damage(bots=BOTS),
        )
        weeks = list(counted(simulation))
        known, unknown = judged(simulation, weeks, is_known=True), judged(simulation, weeks, is_known=False)
        pairs = list(zip(known, unknown, strict=True))
        differences = {name: interval([a.metrics[name] - b.metrics[name] for a, b in pairs]) for name in METRICS}
        yield {
            "name": f"listeners:{climate}-{seed}",
            "bots": BOTS,
            "weeks": len(pairs),
            "difference": {
                name: [round(value, DECIMALS) + 0.0 for value in found] for name, found in differences.items()
            },
        }


def counted(simulation: Simulation) -> Iterator[Week]:
    """What happens in each week."""
    ids = [track.record["id"] for track in simulation.hidden_tracks]
    for week, happenings in simulation.happenings():
        counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(KINDS))
        heard: dict[str, set[int]] = defaultdict(set)
        for happening in happenings:
            kind = KINDS.get(happening.event_type)
            if kind is not None:
                counts[ids[happening.track]][kind] += 1
            if kind is Kind.PLAY:
                heard[ids[happening.track]].add(happening.user)
        yield week.name, counts, heard


def judged(simulation: Simulation, weeks: Sequence[Week], is_known: bool) -> list[Judged]:
    """The network's forecasts of the last weeks, each from those before it, by the code of `hitparade backtest`."""
    with TemporaryDirectory() as folder:
        history = History(Path(folder))
        history.write_catalogue([[line.decode() for line in track_lines(simulation)]], {})
        for week, counts, heard in weeks:
            rows = [(i, "all", counts[i][0], is_known * len(heard[i]), counts[i][2]) for i in sorted(counts)]
            history.write_week(week, [counts_of(rows)], {})
        models = {NAIVE: forecasters.open_naive, "neural": forecasters.neural(SEED, REFIT_EVERY)}
        return by_model(backtest(history, weeks_to_judge(history.weeks())[0], models))["neural"]
