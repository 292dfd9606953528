"""The trigger of a weekly run: which week has closed, and how far the counters must have come before it is scored."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from producers.playlists import HEADERS, Ends, canonical
from producers.publisher import Message

Reason = Literal["schedule", "manual"]


class Trigger(BaseModel):
    """Score the week `closed_week`, once every partition has been counted up to the cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    closed_week: str
    reason: Reason
    topic_ids: dict[str, str]
    """of `sessions` and `tracks`"""
    cut: dict[str, Ends]
    """end offset by partition, of `sessions` and `tracks`"""

    def message(self, topic: str) -> Message:
        """The record to publish."""
        return Message(topic, self.closed_week.encode(), canonical(self.model_dump(mode="json")), HEADERS)
