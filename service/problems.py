"""Answers that say what is wrong: problem documents (RFC 9457)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from consumers.kafka import KafkaUnavailable
from features.connect import StoreUnavailable
from models.scoring import ModelError
from producers.kafka import KafkaUnreachable
from producers.publisher import NotAcknowledged

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 20
AWAY = (StoreUnavailable, KafkaUnavailable, KafkaUnreachable, NotAcknowledged)
"""Who does not answer; what they say names addresses, and stays here."""
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Place:
    """What is wrong with one part of a request: `pointer` into the body (RFC 6901), or the name of a `parameter`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@dataclass(slots=True)
class Problem(Exception):
    """What a request is answered with instead."""

    status: int
    detail: str
    places: Sequence[Place] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.places:
            document["errors"] = [_shown(place) for place in self.places[:MOST_ERRORS]]
        return JSONResponse(document, self.status, dict(self.headers), MEDIA_TYPE)


def _shown(place: Place) -> dict[str, str]:
    found = {"detail": place.detail, "pointer": place.pointer, "parameter": place.parameter}
    return {name: value for name, value in found.items() if value is not None}


def unknown(detail: str) -> Problem:
    """What is asked for is not there."""
    return Problem(404, detail)


def wrong(parameter: str, detail: str) -> Problem:
    """A parameter makes no sense."""
    return Problem(422, detail, [Place(detail, parameter=parameter)])


def not_now(detail: str) -> Problem:
    """It may work later; `detail` says what to do."""
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def pointer(place: Sequence[str | int]) -> str:
    """A place in a body as RFC 6901 has it, in a fragment.

    >>> pointer(["0", 3, "a/b"])
    '#/0/3/a~1b'
    """
    return "".join(["#", *("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)])


def register(app: FastAPI) -> None:
    """Answer every error with a problem document."""

    async def problem(request: Request, cause: Exception) -> Response:
        return _problem_of(cause).response()

    async def ours(request: Request, cause: Exception) -> Response:
        return Problem(500, "the service has failed; its log says why").response()

    for kind in (Problem, RequestValidationError, HTTPException, ClientDisconnect, *AWAY, ModelError):
        app.add_exception_handler(kind, problem)
    app.add_exception_handler(Exception, ours)


def _problem_of(cause: Exception) -> Problem:
    match cause:
        case Problem():
            return cause
        case RequestValidationError():
            places = [_place(error) for error in cause.errors()]
            return Problem(422, places[0].detail if len(places) == 1 else f"{len(places)} errors", places)
        case HTTPException():
            return Problem(cause.status_code, str(cause.detail), headers=cause.headers or {})
        case ClientDisconnect():
            return Problem(400, "the request ended before its body did")
        case StoreUnavailable():
            return not_now("Redis does not answer now; lists are served from memory")
        case KafkaUnavailable() | KafkaUnreachable() | NotAcknowledged():
            return not_now("Kafka does not answer now; lists are served from memory")
        case _:
            return not_now(str(cause))


def _place(error: Mapping[str, Any]) -> Place:
    """Nothing of the input is repeated: it may be large, or a secret."""
    where, *rest = error["loc"]
    if where == "body":
        return Place(error["msg"], pointer=pointer(rest))
    return Place(error["msg"], parameter=str(rest[-1] if rest else where))
