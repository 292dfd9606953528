"""The three end points of predictions, in the formats of the original service."""

from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from features.table import N_WEEKS
from models.artefact import learned_until
from models.linear import LinearModel
from models.ranking import LENGTH, span_scores
from models.scorers import LINEAR, NEURAL
from models.scoring import Scores, top_tracks
from service import examples
from service.fitted import InUse
from service.line import Line, read
from service.parts import Parts
from service.problems import MEDIA_TYPE
from service.requests import (
    PLAYS,
    TRACKS,
    WEEKS,
    Plays,
    TrackPlays,
    TrackWeek,
    at,
    check_tracks,
    decoded,
    same_tracks,
    schema,
)
from service.tabled import check_releases, table_of, weeks_until

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"description": "What is wrong, and where", "content": {MEDIA_TYPE: {}}},
    503: {
        "description": "There is no such model yet, or too much is asked at once: what to do",
        "content": {MEDIA_TYPE: {}},
    },
}


class Prediction(BaseModel):
    """One track's plays of the week to come."""

    track_id: str | None
    prediction: float
    model: str
    model_version: str


class Predicted(BaseModel):
    """A track of the request."""

    track_id: str
    prediction: float


class Predictions(BaseModel):
    """In the order of the request; the ranking is by prediction plus the plays of the last three weeks."""

    model: str
    model_version: str
    predictions: list[Predicted]
    ranking: list[str]


Body = Annotated[bytes, Depends(read)]
Top = Annotated[int, Query(ge=1, description="how many tracks are ranked")]
ClosedWeek = Annotated[
    str | None,
    Query(
        max_length=16,
        description="the last of the four weeks, such as 2023-W24, for the season; without it the one before the "
        "latest lists, or the last that the network has learned from",
    ),
]


def routes(parts: Parts) -> APIRouter:
    """POST /base-model/predict, /base-model/predictions, /model/predictions."""
    router = APIRouter(tags=["predictions"], responses=REFUSALS)
    models, line, most = InUse(parts.registry), Line(), parts.limits.max_tracks

    @router.post(
        "/base-model/predict",
        summary="One track's plays of the week to come, by the linear model",
        response_model=Prediction,
        openapi_extra=_body(schema(Plays), examples.PLAYS),
    )
    def predict(body: Body) -> Response:
        """By the regression that was fitted last, from the plays of four weeks."""
        asked, model = decoded(PLAYS, body), models.linear()
        (prediction,) = model.predict(_plays([asked])).tolist()
        found = {"track_id": asked.track_id, "prediction": prediction}
        return _json(found | {"model": LINEAR, "model_version": model.version})

    @router.post(
        "/base-model/predictions",
        summary="Many tracks' plays of the week to come, by the linear model",
        response_model=Predictions,
        openapi_extra=_body(schema(TrackPlays, {"maxItems": most}), examples.TRACKS),
    )
    async def linear_predictions(request: Request, top: Top = LENGTH) -> Response:
        """By the regression that was fitted last, from the plays of four weeks."""
        return await line.answer(request, lambda body: _linear(decoded(TRACKS, body), models.linear(), most, top))

    @router.post(
        "/model/predictions",
        summary="Many tracks' plays of the week to come, by the network",
        response_model=Predictions,
        openapi_extra=_body(
            schema(TrackWeek, {"minItems": N_WEEKS, "maxItems": N_WEEKS}, {"maxItems": most}), examples.WEEKS
        ),
    )
    async def neural_predictions(request: Request, top: Top = LENGTH, closed_week: ClosedWeek = None) -> Response:
        """By the network in use, from four weeks of the same tracks, oldest first.

        What it does not hear is missing: the artists, and the weeks before the four.
        """
        return await line.answer(request, lambda body: _neural(parts, models, body, top, closed_week))

    return router


def _linear(tracks: list[TrackPlays], model: LinearModel, most: int, top: int) -> Response:
    check_tracks(tracks, most)
    plays = _plays(tracks)
    return _predictions(LINEAR, model.version, [track.track_id for track in tracks], plays, model.predict(plays), top)


def _neural(parts: Parts, models: InUse, body: bytes, top: int, closed_week: str | None) -> Response:
    asked = decoded(WEEKS, body)
    weeks = same_tracks(asked, parts.limits.max_tracks)
    check_releases(asked[-1], N_WEEKS - 1)
    if closed_week is not None:
        weeks_until(closed_week)
    plays = np.array([[track.play_count for track in week] for week in weeks], np.int64).T
    if plays.any() and not plays[:, -1].any():
        raise at([N_WEEKS - 1], "expected plays in the last week: the network says how the next one differs from it")
    network = models.network()
    past = weeks_until(closed_week or _last_closed(parts) or learned_until(network.version))
    table, rows = table_of(weeks, past)
    predictions = models.score(network, table)[rows]
    return _predictions(NEURAL, network.version, [track.track_id for track in weeks[0]], plays, predictions, top)


def _last_closed(parts: Parts) -> str | None:
    return max((playlist.closed_week for playlist in parts.memory.lists.latest()), default=None)


def _plays(tracks: list[Plays] | list[TrackPlays]) -> NDArray[np.int64]:
    rows = [(t.play_count_week_1, t.play_count_week_2, t.play_count_week_3, t.play_count_week_4) for t in tracks]
    return np.array(rows, np.int64).reshape(-1, N_WEEKS)


def _predictions(
    model: str, version: str, ids: list[str], plays: NDArray[np.int64], predictions: Scores, top: int
) -> Response:
    pairs = zip(ids, predictions.tolist(), strict=True)
    found = [{"track_id": track_id, "prediction": prediction} for track_id, prediction in pairs]
    ranking = top_tracks(ids, span_scores(plays, predictions, N_WEEKS), top)
    return _json({"model": model, "model_version": version, "predictions": found, "ranking": ranking})


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _body(schema: dict[str, Any], example: object) -> dict[str, Any]:
    """As the OpenAPI document has it: the body is decoded by hand."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}
