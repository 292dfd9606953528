"""The session event as pydantic has it: what documents and schemas are made from.

The hot path decodes with features.events; a property test holds the two equal.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from features.tracks import Id


def _lower(text: object) -> object:
    return text.lower() if isinstance(text, str) else text


def _instant(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("expected ISO 8601 text")
    time = datetime.fromisoformat(text)
    try:
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as cause:
        raise ValueError("expected an instant in the years 1 to 9999") from cause


def _or_none(value: object, check: ValidatorFunctionWrapHandler) -> object:
    try:
        return check(value)
    except ValidationError:
        return None


class SessionEventContract(BaseModel):
    """An event that is counted; a time without a zone is in UTC, and unknown fields are kept out.

    An event_id that cannot be one counts as none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: Annotated[Literal["play", "skip", "like"], BeforeValidator(_lower)]
    track_id: Id
    user_id: Id
    timestamp: Annotated[datetime, BeforeValidator(_instant)]
    event_id: Annotated[Id | None, WrapValidator(_or_none)] = None
