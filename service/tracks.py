"""One track, looked up in Redis while somebody waits: few short questions, each with a time limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from features.reader import CounterReader, catalogue_of
from features.store import CounterStore

Row = tuple[str, str, int, int, int]
"""Week, group, plays, skips, likes."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Where the tracks are."""

    store: CounterStore
    partitions: Sequence[int]

    def of(self, track_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of these tracks that are in the catalogue, by id."""
        found = catalogue_of(self.store, self.partitions, track_ids)
        return {track_id: msgspec.json.decode(value) for track_id, value in found.items()}


@dataclass(slots=True)
class TrackLookup:
    """The counters and the catalogue, opened once Kafka has said what partitions they have."""

    counters: CounterReader | None = None
    catalogue: Catalogue | None = None
