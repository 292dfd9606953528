"""Whether a version is worth being put in use: beside naive and the version in use, over weeks it was not fitted to.

Those are the weeks that it held out, of which its trial speaks, and all that came after. The holdout chose when its
training stopped, which flatters it a little. The version in use is asked in the same way; of weeks before its own
holdout it is asked nevertheless, though it was fitted to them, which flatters that one more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from features.history import History
from features.weeks import Calendar
from models.artefact import CARD, read_json
from models.backtest import NAIVE, Judged, by_model, forecast, judge
from models.cards import METRICS, Card
from models.examples import targets
from models.forecasters import Forecaster, open_naive
from models.registry import Registry
from models.scorers import NEURAL, load, load_trial
from models.scoring import ArtefactError, ModelError, NotEnoughHistory

HIGHER, NOT_LOWER = ("ndcg_at_50", "captured_plays"), ("precision_at_50",)
Means = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a version was worth; means are those of the metrics over the weeks."""

    version: str
    weeks: Sequence[str]
    own: Means
    others: Mapping[str, Means]
    """by the name of each that it must beat: naive, and the version in use"""
    note: str = ""
    """why the version in use is not one of them"""

    @property
    def unbeaten(self) -> list[str]:
        """Those that it does not beat."""
        return [name for name, means in self.others.items() if not is_better(self.own, means)]

    def __str__(self) -> str:
        better = f"not better than {' or '.join(self.unbeaten)}"
        if not self.unbeaten:
            better = f"better than {' and '.join(self.others)}"
        n_weeks = f"{len(self.weeks)} week{'s' if len(self.weeks) > 1 else ''}"
        over = f"{n_weeks} that it was not fitted to, {self.weeks[0]} to {self.weeks[-1]}"
        figures = ", ".join(self._figures(metric) for metric in (*NOT_LOWER, *HIGHER))
        return f"{NEURAL} {self.version} is {better}; of {over}: {figures}{self.note}"

    def _figures(self, metric: str) -> str:
        others = ", ".join(f"{name} {means[metric]:.4f}" for name, means in self.others.items())
        return f"{METRICS[metric]} {self.own[metric]:.4f} ({others})"


def is_better(one: Means, other: Means) -> bool:
    """Whether NDCG@50 and captured plays are higher and precision@50 is not lower."""
    return all(one[m] > other[m] for m in HIGHER) and all(one[m] >= other[m] for m in NOT_LOWER)


def promote_if_better(history: History, registry: Registry, version: str) -> Verdict:
    """Put a version in use if it beats naive and the version in use; see compare for what is raised."""
    verdict = compare(history, registry, version)
    if not verdict.unbeaten:
        registry.promote(NEURAL, version)
    return verdict


def compare(history: History, registry: Registry, version: str) -> Verdict:
    """Hold a version against naive and the version in use, over the same tables of the same weeks.

    A version in use that cannot be loaded, or not score a week, makes no list but naive's, and is judged as that.

    Raises:
        ArtefactError: there is no such version, or it cannot be loaded.
        NotEnoughHistory: the history has no week that it was not fitted to.
        ModelError: it is in use already, or cannot score one of the weeks.
    """
    folder = registry.version(NEURAL, version)
    candidate = as_judged(folder)
    weeks = unfitted_weeks(history.weeks(), read_json(folder / CARD, Card))
    if not weeks:
        raise NotEnoughHistory(f"the history has no week, with the four before it, that {version} was not fitted to")
    champion, note = _champion(registry)
    if version in champion:
        raise ModelError(f"{NEURAL} {version} is in use already")
    return replace(verdict(history, weeks, version, candidate, champion), note=note)


def verdict(
    history: History, weeks: Sequence[str], version: str, candidate: Forecaster, others: Mapping[str, Forecaster]
) -> Verdict:
    """Judge a candidate, naive and others by next week's plays, each week from the four before it.

    Raises:
        ModelError: the candidate cannot score one of the weeks.
        HistoryError: a file is broken.
    """
    models = {NAIVE: open_naive, **others, version: candidate}
    judged = by_model([result for week in weeks for result in judge(history, forecast(history, week, models))])
    for result in judged[version]:
        if result.fallback is not None:
            raise ModelError(f"{NEURAL} {version} cannot be judged: week {result.week}: {result.fallback}")
    means = {model: _means(own) for model, own in judged.items()}
    return Verdict(version, weeks, means[version], {name: means[name] for name in (NAIVE, *others)})


def unfitted_weeks(weeks: Sequence[str], card: Card) -> list[str]:
    """Of the weeks there are, those with the four before them that the version, or its trial, was not fitted to."""
    possible = [weeks[place] for place in targets(weeks)]
    return [week for week in possible if week in card.holdout_weeks or week > card.last_week]


def _means(judged: Sequence[Judged]) -> Means:
    return {metric: fmean(result.metrics[metric] for result in judged) for metric in judged[0].metrics}


def as_judged(folder: Path) -> Forecaster:
    """A version as it forecasts a week without having seen it, where it can.

    Raises:
        ArtefactError: it cannot be loaded.
    """
    used, trial = load(folder).score, load_trial(folder).score
    holdout = set(read_json(folder / CARD, Card).holdout_weeks)
    return lambda history, closed_week: trial if Calendar().parse(closed_week).after().name in holdout else used


def _champion(registry: Registry) -> tuple[dict[str, Forecaster], str]:
    """The version in use, by its name; or none, and why."""
    try:
        folder = registry.champion(NEURAL)
        return ({folder.name: as_judged(folder)}, "") if folder else ({}, "")
    except ArtefactError as cause:
        return {}, f"; the version in use cannot be compared: {cause}"
