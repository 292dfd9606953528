"""What the service is made of, open and ready: main() wires it, the routes are given it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.runs import Runs
from features.history import History
from features.weeks import Calendar, ChartWeek
from models.experiments import Experiments
from models.kept_reports import KeptReports
from models.registry import Registry
from service.figures import Figures, LiveChart
from service.judged import Judged
from service.lists import Lists
from service.tracks import TrackLookup


@dataclass(slots=True)
class Memory:
    """What is known without asking anybody; its threads replace the values, requests only read them."""

    figures: Figures
    lists: Lists = field(default_factory=Lists)
    judged: Judged = field(default_factory=Judged)
    live: LiveChart | None = None
    n_readers: int = 0
    """of /events"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a visitor may ask of the service; 0 is without limit where it says so."""

    max_tracks: int = 25_000
    max_body_bytes: int = 64 * 1024 * 1024
    timeout_s: float = 30.0
    """of one request, its body included"""
    rate: float = 0.0
    """requests a second of one address; 0: without limit"""
    hosts: tuple[str, ...] = ()
    """names by which the service may be called; empty: any"""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a route may use."""

    memory: Memory
    calendar: Calendar
    experiments: Experiments
    runs: Runs
    history: History
    registry: Registry
    reports: KeptReports
    tracks: TrackLookup
    limits: Limits = Limits()
    shows_data: bool = True
    """whether lists, tracks and the page are served, and not only predictions and probes"""
    token: str | None = None
    """what who fires a trigger must bear; None: nobody can"""
    fire: Callable[[str | None], ChartWeek] | None = None
    """fires a week by its name, or the last closed one, and returns it"""
