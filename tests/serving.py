"""The service over parts that a test makes: no server, no broker, no Redis."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from consumers.runs import Runs
from features.history import History
from features.weeks import Calendar
from models.experiments import load
from models.kept_reports import KeptReports
from models.registry import Registry
from producers.playlists import Entry, Playlist, canonical
from service.app import build
from service.figures import Reach
from service.parts import Memory, Parts
from service.tracks import TrackLookup
from service.watcher import nothing_seen

NOW = datetime(2025, 3, 24, 12, tzinfo=UTC)


def a_list(
    week: str = "2025-W12", group: str = "control", ids: Sequence[str] = ("a", "b", "c"), **changes: Any
) -> Playlist:
    """A list for a week; its tracks have names in capitals and fewer plays the lower they are."""
    made = Playlist(
        week=week,
        closed_week=Calendar().parse(week).before().name,
        group=group,
        experiment="neural-against-linear",
        model="linear",
        model_version="2025-W11-0a1b2c3d",
        fallback=None,
        cut={"sessions": {"0": 10}, "tracks": {"0": 3}},
        tracks=tuple(
            Entry(rank=n, track_id=i, name=i.upper(), score=100.0 - n, plays=(40 - n, 30 - n, 20 - n, 30 - n))
            for n, i in enumerate(ids, 1)
        ),
    ).model_copy(update=changes)
    return made.model_copy(update={"id": made.content_id()})


def parts(folder: Path, *lists: Playlist, **changes: Any) -> Parts:
    """Parts that have taken these lists, over an empty data folder, with everything reachable."""
    ok = Reach(ok=True, since=NOW)
    memory = Memory(nothing_seen(NOW).model_copy(update={"kafka": ok, "redis": ok, "lists": ok}))
    for made in lists:
        memory.lists.take(canonical(made.model_dump(mode="json")))
    found = Parts(
        memory,
        Calendar(),
        load(None, Calendar()),
        Runs(folder / "runs"),
        History(folder / "history"),
        Registry(folder / "models"),
        KeptReports(folder / "experiments" / "reports"),
        TrackLookup(),
    )
    return replace(found, **changes)


def client(made: Parts) -> TestClient:
    """A client of the application over these parts; what fails in it is answered, not raised."""
    return TestClient(build(made), raise_server_exceptions=False)
