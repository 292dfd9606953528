"""What lists are made with: the experiments, and the models."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from features.weeks import ChartWeek
from models.artefact import CARD, read_json
from models.cards import Card
from models.experiments import Experiment
from models.registry import Registry
from models.reports import Report
from models.scorers import LINEAR, NEURAL
from models.scoring import ArtefactError
from service.answers import add_with_suffixes, next_page, send, suffix_of, told
from service.documented import AT_ONCE, LimitQuery, OffsetQuery, documented
from service.formats import TABLES
from service.parts import Parts

PRECISION = "precision_at_50"
EXPERIMENT_COLUMNS = ("experiment", "first_week", "last_week", "state", "group", "weight", "model")
State = Literal["past", "in force", "to come"]
MODEL_COLUMNS = (
    *("model", "version", "in_use", "first_week", "last_week", "n_weeks_held_out"),
    *("precision_at_50", "less_naives_low", "less_naives", "less_naives_high", "fault"),
)


class GroupOf(BaseModel):
    """A group; its share of the listeners is weight over the sum of weights."""

    model_config = ConfigDict(frozen=True)

    group: str
    weight: float
    model: str


class ExperimentOf(BaseModel):
    """An experiment of the file; its weeks are included, null is without bound; its state is null while no week is.

    `report` is the last that `hitparade experiments report` has made without `--weeks`.
    """

    model_config = ConfigDict(frozen=True)

    experiment: str
    first_week: str | None
    last_week: str | None
    state: State | None
    groups: tuple[GroupOf, ...]
    report: Report | None


class ExperimentsOf(BaseModel):
    """The experiments, and which is in force in the week of stream time; `none`: everyone is in the group `all`."""

    model_config = ConfigDict(frozen=True)

    week: str | None
    in_force: str | None
    experiments: tuple[ExperimentOf, ...]


class ModelOf(BaseModel):
    """A version of a model; `card` is what is known of a trained one, `fault` why that cannot be read."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    in_use: bool
    card: Card | None
    fault: str | None


class Models(BaseModel):
    """The versions that are on disk, of each model the newest first."""

    model_config = ConfigDict(frozen=True)

    total: int
    models: tuple[ModelOf, ...]


EXPERIMENTS = {
    "week": "2025-W12",
    "in_force": "neural-against-linear",
    "experiments": [
        {
            "experiment": "neural-against-linear",
            "first_week": None,
            "last_week": None,
            "state": "in force",
            "groups": [
                {"group": "control", "weight": 0.5, "model": "linear"},
                {"group": "treatment", "weight": 0.5, "model": "neural"},
            ],
            "report": None,
        }
    ],
}
MODEL = {"model": "linear", "version": "2025-W11-0a1b2c3d", "in_use": True, "card": None, "fault": None}


def routes(parts: Parts) -> APIRouter:
    """GET /experiments, /models."""
    router = APIRouter(tags=["makers"])
    _add_experiments(router, parts)
    _add_models(router, parts)
    return router


def _add_experiments(router: APIRouter, parts: Parts) -> None:
    def experiments(request: Request) -> Response:
        """Those of the file, which is in force in the week of stream time, and what their last reports say."""
        week = _open_week(parts)
        found = ExperimentsOf(
            week=week.name if week else None,
            in_force=parts.experiments.in_force(week).name if week else None,
            experiments=tuple(_experiment(parts, each, week) for each in parts.experiments.experiments),
        )
        rows = (_columns_of(each, arm) for each in found.experiments for arm in each.groups)
        return send(request, told("experiments", found, EXPERIMENT_COLUMNS, rows), suffix_of(request))

    about = documented(ExperimentsOf, EXPERIMENTS, TABLES)
    add_with_suffixes(router, "/experiments", experiments, **about, summary="The experiments")


def _columns_of(experiment: ExperimentOf, group: GroupOf) -> list[object]:
    about = [experiment.experiment, experiment.first_week, experiment.last_week, experiment.state]
    return [*about, group.group, group.weight, group.model]


def _open_week(parts: Parts) -> ChartWeek | None:
    """The week of stream time; while that is not known, the one that the last lists are for."""
    sessions, weeks = parts.memory.figures.sessions, parts.memory.lists.weeks()
    if sessions and sessions.stream_time:
        return parts.calendar.week_of(sessions.stream_time)
    return parts.calendar.parse(weeks[-1]) if weeks else None


def _experiment(parts: Parts, experiment: Experiment, week: ChartWeek | None) -> ExperimentOf:
    first, last = experiment.first_week, experiment.last_week
    return ExperimentOf(
        experiment=experiment.name,
        first_week=first.name if first else None,
        last_week=last.name if last else None,
        state=_state(experiment, week) if week else None,
        groups=tuple(GroupOf(group=arm.name, weight=arm.weight, model=arm.model) for arm in experiment.groups),
        report=parts.reports.of(experiment),
    )


def _state(experiment: Experiment, week: ChartWeek) -> State:
    if experiment.holds_in(week):
        return "in force"
    return "past" if experiment.last_week and experiment.last_week < week else "to come"


def _add_models(router: APIRouter, parts: Parts) -> None:
    def models(request: Request, limit: LimitQuery = AT_ONCE, offset: OffsetQuery = 0) -> Response:
        """In use are the linear model last fitted, and the network that was promoted."""
        versions = list(_versions(parts.registry))
        shown = tuple(_model(parts.registry, *version) for version in versions[offset : offset + limit])
        found = Models(total=len(versions), models=shown)
        more = next_page(request, offset, limit, len(versions))
        rows = (_model_row(each) for each in shown)
        return send(request, told("models", found, MODEL_COLUMNS, rows, more), suffix_of(request))

    about = documented(Models, {"total": 1, "models": [MODEL]}, TABLES)
    add_with_suffixes(router, "/models", models, **about, summary="The fitted models")


def _versions(registry: Registry) -> Iterator[tuple[str, str, bool]]:
    """Model, version, whether it is in use."""
    for model in (LINEAR, NEURAL):
        in_use = _in_use(registry, model)
        for version in reversed(registry.versions(model)):
            yield model, version, version == in_use


def _in_use(registry: Registry, model: str) -> str | None:
    try:
        champion = registry.newest(model) if model == LINEAR else getattr(registry.champion(model), "name", None)
    except ArtefactError:  # there is none, or the alias names one that is gone
        return None
    return champion


def _model(registry: Registry, model: str, version: str, in_use: bool) -> ModelOf:
    card, fault = None, None
    if model == NEURAL:
        try:
            card = read_json(registry.version(model, version) / CARD, Card)
        except ArtefactError as cause:
            fault = str(cause)
    return ModelOf(model=model, version=version, in_use=in_use, card=card, fault=fault)


def _model_row(found: ModelOf) -> list[object]:
    card = found.card
    if card is None:
        return [found.model, found.version, found.in_use, *[None] * 7, found.fault]
    about = [card.first_week, card.last_week, len(card.holdout_weeks)]
    worth = [card.metrics.get(found.model, {}).get(PRECISION), *card.vs_naive.get(PRECISION, (None, None, None))]
    return [found.model, found.version, found.in_use, *about, *worth, found.fault]
