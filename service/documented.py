"""What the OpenAPI document says of the reading end points: examples that work when pressed, forms, and refusals."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel

from producers.playlists import Entry, Playlist
from service.formats import JSON, Format
from service.problems import MEDIA_TYPE

LATEST = "latest"
MOST_AT_ONCE = 500
AT_ONCE = 100
FURTHEST = 1_000_000

WEEK_TEXT = f"the week that the lists are for, such as 2025-W12, or `{LATEST}`"
_LATEST: Any = {"the last week that has lists": {"value": LATEST}}
WeekPart = Annotated[str, Path(description=WEEK_TEXT, openapi_examples=_LATEST)]
WeekQuery = Annotated[str | None, Query(max_length=16, description=WEEK_TEXT)]
_CONTROL: Any = {
    "of the experiment that is packaged": {"value": "control"},
    "where there is no experiment": {"value": "all"},
}
GroupPart = Annotated[
    str,
    Path(
        description="a group of the week's experiment; with a suffix (.json, .csv, .jspf, .xspf, .m3u) in that form",
        openapi_examples=_CONTROL,
    ),
]
_SEVEN: Any = {"anybody": {"value": "7"}}
UserPart = Annotated[
    str, Path(min_length=1, description="any user: who was never seen is in a group too", openapi_examples=_SEVEN)
]
RevisionQuery = Annotated[int | None, Query(ge=1, le=10**9, description="without it the last")]
LimitQuery = Annotated[int, Query(ge=1, le=MOST_AT_ONCE, description="how many at most")]
OffsetQuery = Annotated[int, Query(ge=0, le=FURTHEST, description="how many are passed over")]

REFUSALS = {
    404: "It is not there: what is",
    406: "Accept allows none of the forms that there are",
    422: "What is wrong, and where",
    503: "Not known yet, or nobody answers: what to do",
}
EXAMPLE = Playlist(
    id="sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    week="2025-W12",
    closed_week="2025-W11",
    group="control",
    experiment="neural-against-linear",
    model="linear",
    model_version="2025-W11-0a1b2c3d",
    fallback=None,
    cut={"sessions": {"0": 120_000, "1": 118_000}, "tracks": {"0": 4071}},
    tracks=(
        Entry(rank=1, track_id="4p8QcNkaq2FQj8uGJ7HEDK", name="Harbour", score=842.5, plays=(180, 190, 204, 210)),
        Entry(rank=2, track_id="0RiRZpuVRbi7oqRdSMwhQY", name="Nine Lanterns", score=801.1, plays=(320, 260, 221, 170)),
    ),
).model_dump(mode="json")


def documented(
    model: type[BaseModel], example: object, forms: Sequence[Format] = (JSON,), *more: int
) -> dict[str, Any]:
    """What a route is declared with.

    Args:
        model: of the answer in JSON.
        example: of it.
        forms: in which the answer comes.
        more: refusals other than 406 and 422.
    """
    content: dict[str, Any] = {
        form.media_types[0]: {"schema": {"type": "string"}} for form in forms if form is not JSON
    }
    content[JSON.media_types[0]] = {"example": example}
    refusals = {
        status: {"description": REFUSALS[status], "content": {MEDIA_TYPE: {}}} for status in sorted((406, 422, *more))
    }
    known = {304: {"description": "It is as the ETag of If-None-Match says"}}
    return {"response_model": model, "responses": {200: {"content": content}, **known, **refusals}}
