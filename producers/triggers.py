"""The trigger of a weekly run: which week has closed, and how far the counters must have come before it is scored."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from features.weeks import Calendar
from producers.playlists import HEADERS, canonical
from producers.publisher import Message

Reason = Literal["schedule", "manual"]
SOURCES = {"sessions", "tracks"}
Partition = Annotated[str, Field(pattern=r"^[0-9]+$")]
End = Annotated[int, Field(ge=0)]


Sources = TypeVar("Sources", bound=dict[str, Any])


def _existing(week: str) -> str:
    Calendar().parse(week)
    return week


def _of_both(sources: Sources) -> Sources:
    if sources.keys() != SOURCES:
        raise ValueError(f"expected {sorted(SOURCES)}, found {sorted(sources)}")
    return sources


class Trigger(BaseModel):
    """Score the week `closed_week`, once every partition has been counted up to the cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    closed_week: Annotated[str, AfterValidator(_existing)]
    reason: Reason
    topic_ids: Annotated[dict[str, str], AfterValidator(_of_both)]
    cut: Annotated[dict[str, dict[Partition, End]], AfterValidator(_of_both)]
    """end offset by partition"""

    def message(self, topic: str) -> Message:
        """The record to publish."""
        return Message(topic, self.closed_week.encode(), canonical(self.model_dump(mode="json")), HEADERS)
