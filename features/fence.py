"""The fence of a partition: where it stands, what it was counted under, and how its events have ended."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

OUTCOMES = ("counted", "late", "dead", "ignored")
DUPLICATE, CAPPED, EXPOSURE = "duplicate", "capped", "exposure"
OPTIONAL = (DUPLICATE, CAPPED, EXPOSURE)  # outcomes that are shown only where there is one
TALLIES = frozenset({*OUTCOMES, *OPTIONAL, "lost"})
SETTINGS = ("layout", "first_day", "zone", "slices", "plays_cap", "listeners", "rules")
OFF = {"plays_cap": "0", "listeners": "False"}  # of a fence that was made before there were such settings


def accounted(tallies: Collection[Mapping[str, int]]) -> dict[str, int]:
    """How many events ended in each outcome, over all partitions; an optional one is named only where there is one."""
    sums = {name: sum(tally.get(name, 0) for tally in tallies) for name in (*OUTCOMES, *OPTIONAL)}
    return {name: n for name, n in sums.items() if n or name in OUTCOMES}


def counted_as(topic_id: str, rebuilt: int) -> str:
    """What identifies a partition's counters: whoever has not read the fence since they were rebuilt is refused."""
    return f"{topic_id}#{rebuilt}" if rebuilt else topic_id


@dataclass(frozen=True, slots=True)
class Fence:
    """Where one partition stands: next_offset is the first one not yet applied.

    By week: the offset after the last record in it, the fingerprint of its experiment, and that one's groups.
    """

    next_offset: int
    topic_id: str
    stream_time: datetime | None
    settings: Mapping[str, str]
    tallies: Mapping[str, int]
    touched: Mapping[str, int]
    experiments: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]
    rebuilt: int = 0

    @property
    def identity(self) -> str:
        """What the partition's next part must be applied to."""
        return counted_as(self.topic_id, self.rebuilt)

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Fence":
        """Read the fields of a fence's hash."""
        stream_time = fields.get("stream_time")
        weekly = {name: _weekly(fields, name) for name in ("bucket", "experiment", "groups")}
        topic_id, _, rebuilt = fields["topic_id"].partition("#")
        return cls(
            next_offset=int(fields["next_offset"]),
            topic_id=topic_id,
            stream_time=datetime.fromisoformat(stream_time) if stream_time else None,
            settings=OFF | {name: fields[name] for name in SETTINGS if name in fields},
            tallies={name: int(fields[name]) for name in fields if name.split(":")[0] in TALLIES},
            touched={week: int(offset) for week, offset in weekly["bucket"].items()},
            experiments=weekly["experiment"],
            groups={week: tuple(names.split(",")) for week, names in weekly["groups"].items()},
            rebuilt=int(rebuilt or 0),
        )


def _weekly(fields: Mapping[str, str], name: str) -> dict[str, str]:
    return {field.partition(":")[2]: value for field, value in fields.items() if field.startswith(f"{name}:")}
