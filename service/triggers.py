"""Firing a trigger over HTTP, for who bears the token."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.reader import WeekError
from features.weeks import ChartWeek
from service.problems import MEDIA_TYPE, Problem, wrong


class Wanted(BaseModel):
    """The closed week to make lists after; without one the last."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    week: str | None = Field(None, max_length=16)


class Fired(BaseModel):
    """What was triggered."""

    week: str
    lists_for: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not the token", "content": {MEDIA_TYPE: {}}},
    422: {"description": "No such week, or not one that is closed and kept", "content": {MEDIA_TYPE: {}}},
    503: {"description": "Kafka or Redis does not answer now", "content": {MEDIA_TYPE: {}}},
}
BODY = {"content": {"application/json": {"schema": Wanted.model_json_schema()}}}


def routes(token: str, fire: Callable[[str | None], ChartWeek]) -> APIRouter:
    """POST /triggers."""
    router = APIRouter(tags=["triggers"])
    bearer = HTTPBearer(auto_error=False)

    def is_allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        said = given.credentials.encode("latin-1") if given else b""  # the bytes that came
        if not secrets.compare_digest(said, token.encode()):
            raise Problem(
                401, "expected a bearer token, that of HITPARADE_API_TOKEN", headers={"WWW-Authenticate": "Bearer"}
            )

    async def body(request: Request, allowed: Annotated[None, Depends(is_allowed)]) -> Wanted:
        """Read only once the token is known to be right."""
        try:
            return Wanted.model_validate_json(await request.body() or b"{}")
        except ValidationError as cause:
            errors = cause.errors(include_url=False, include_input=False, include_context=False)
            raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in errors]) from cause

    @router.post(
        "/triggers",
        status_code=202,
        summary="Make the lists after a closed week",
        openapi_extra={"requestBody": BODY},
        responses=REFUSALS,
    )
    def trigger(wanted: Annotated[Wanted, Depends(body)]) -> Fired:
        """As `hitparade trigger` does; `consume weekly` makes the lists."""
        try:
            week = fire(wanted.week)
        except (ValueError, WeekError) as cause:
            raise wrong("week", str(cause)) from cause
        return Fired(week=week.name, lists_for=week.after().name)

    return router
