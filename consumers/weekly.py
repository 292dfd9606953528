"""The weekly run: a closed week in, a playlist for each experiment group out."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.evaluations import Evaluations, evaluate_lists
from consumers.guard import Guard, Neighbours
from consumers.kafka import TopicWatch
from consumers.playlists import PlaylistLog
from consumers.runs import Run, Runs
from consumers.scoring import Charting, Failure, Scoring
from consumers.snapshot import OldCounters, Snapshot, WrongTopic
from features.context import N_PAST_WEEKS, merged, past_weeks
from features.reader import Standing
from features.runners import Runner, here
from features.topics import Topics
from features.weeks import ChartWeek
from models.experiments import Experiment, Experiments, Group
from models.ranking import Best
from models.registry import Registry
from models.scorers import NAIVE, Fitted, open_model
from producers.playlists import Entry, Evaluation, Playlist
from producers.publisher import NotAcknowledged, Publisher
from producers.spans import UNTRACED, Spans
from producers.triggers import Trigger

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Opened:
    """The models of one run for a closed week: those that are ready, and why the others are not."""

    closed_week: str
    ready: dict[str, Fitted]
    reasons: dict[str, str]

    def makes(self, model: str) -> tuple[Fitted, str | None]:
        """The model that makes the list of `model`, and the reason where it is another."""
        if model in self.reasons:
            return self.ready[NAIVE], self.reasons[model]
        return self.ready[model], None

    def fail(self, model: str, failure: Failure) -> None:
        """Let naive take over."""
        if model in self.reasons:
            return
        if failure.details:
            log.error("%s failed: %s", model, failure.details, extra={"week": self.closed_week})
        log.warning("%s falls back to naive: %s", model, failure.reason, extra={"week": self.closed_week})
        self.reasons[model] = failure.reason


@dataclass(frozen=True, slots=True)
class WeeklyRun:
    """Everything a run reads and writes, opened once."""

    snapshot: Snapshot
    registry: Registry
    experiments: Experiments
    runs: Runs
    evaluations: Evaluations
    playlists: PlaylistLog
    publisher: Publisher
    topics: Topics
    span_weeks: int = 4
    cut_timeout_s: float = 600
    stop: threading.Event = field(default_factory=threading.Event)
    """Set, it ends the wait for the cut."""
    guard: Guard = field(default_factory=Guard)
    """A change of it holds for every list that is computed; one that was published is not computed for it alone."""
    runner: Runner = here
    """Does the work of one part of the tracks after the other."""
    spans: Spans = UNTRACED

    def run(self, trigger: Trigger) -> list[Playlist]:
        """Publish the lists that follow the trigger's week, and what the lists for that week were worth.

        The same trigger gives the same records again, unless what they depend on has changed.

        Raises:
            CutTimeout: the counters are behind the cut; nothing was published, try again.
            OldCounters: the trigger is of a topic that was created anew, and Redis still counts the old one.
            HistoryError: what the list needs is broken, and too old to be written anew.
            WeekError: the week is not counted, or not any more.
            WrongTopic: the trigger is of a topic that is not there any more.
        """
        week = self.snapshot.counters.calendar.parse(trigger.closed_week)
        cuts = {name: {int(p): end for p, end in ends.items()} for name, ends in trigger.cut.items()}
        with self.spans.span("wait for the cut"):
            self._await(trigger, cuts)
        with self.spans.span("read"):
            standing = self.snapshot.over(cuts).bring_up_to_date(week)
            self.playlists.refresh()
        lists = self._lists(week, cuts, standing)
        with self.spans.span("evaluate"):
            evaluations = evaluate_lists(
                week, self.snapshot.history, self.runs, list(self.playlists.of_week(week.name)), self.span_weeks
            )
            self.evaluations.keep(evaluations)
        self._publish(lists, evaluations)
        return lists

    def _publish(self, lists: Sequence[Playlist], evaluations: Sequence[Evaluation]) -> None:
        with self.spans.span("publish", kind="producer", topic=self.topics.playlists, n_lists=len(lists)):
            messages = [playlist.message(self.topics.playlists) for playlist in lists]
            messages += [evaluation.message(self.topics.evaluations) for evaluation in evaluations]
            try:
                self.publisher.publish([message.with_headers(self.spans.headers()) for message in messages])
            except NotAcknowledged:
                self.playlists.forget()  # some may be there, and the next revision follows them
                raise
        self.playlists.note(lists)

    def _await(self, trigger: Trigger, cuts: Mapping[str, Mapping[int, int]]) -> None:
        stores = {"sessions": self.snapshot.counters.store, "tracks": self.snapshot.tracks}
        wanted = [(stores[name], trigger.topic_ids[name], cut) for name, cut in cuts.items()]
        try:
            self.snapshot.wait_for(wanted, self.cut_timeout_s, self.stop)
        except WrongTopic as cause:
            with contextlib.closing(TopicWatch(self.publisher.kafka)) as watch:
                there = {name: watch.facts(store.topic).topic_id for name, store in stores.items()}
            if trigger.topic_ids == there:
                raise OldCounters(
                    f"{cause}: count the new topic, after `hitparade drop` has removed the old"
                ) from cause
            raise

    def _lists(self, week: ChartWeek, cuts: Mapping[str, Mapping[int, int]], standing: Standing) -> list[Playlist]:
        experiment = self.experiments.in_force(week.after())
        opened = self._open({group.model for group in experiment.groups}, week)
        cut = self._cut(cuts, standing, week.span(N_PAST_WEEKS))
        unmoved = [
            previous
            for group in experiment.groups
            if (previous := self._published(week, group)) is not None
            and _is_unmoved(previous, experiment, cut)
            and self._would_be_made_again(previous, group, opened, self.playlists.latest(week.name, group.name))
        ]
        if len(unmoved) == len(experiment.groups):
            return unmoved
        return self._score(week, experiment, opened, cut)

    def _published(self, week: ChartWeek, group: Group) -> Playlist | None:
        return self.playlists.latest(week.after().name, group.name)

    def _would_be_made_again(
        self, previous: Playlist, group: Group, opened: Opened, last_week: Playlist | None
    ) -> bool:
        """Whether the published list is by the same model, or was refused it, as it would be now."""
        fitted, reason = opened.makes(group.model)
        made_by = (previous.model, previous.model_version)
        if (*made_by, previous.fallback) == (fitted.model, fitted.version, reason):
            ids = [entry.track_id for entry in previous.tracks]
            return fitted.model == NAIVE or self.guard.is_like_last_week(ids, last_week)
        naive = opened.ready[NAIVE]
        opening = self.guard.opening(fitted.model, fitted.version, last_week)
        return made_by == (naive.model, naive.version) and (previous.fallback or "").startswith(opening)

    def _open(self, models: set[str], week: ChartWeek) -> Opened:
        opened = Opened(week.name, {}, {})
        for model in sorted(models | {NAIVE}):
            try:
                with self.spans.span("open model", model=model):
                    opened.ready[model] = open_model(model, self.snapshot.history, self.registry, week.name)
            except Exception as cause:  # whatever a model does, the list is made
                if model == NAIVE:
                    raise
                opened.fail(model, Failure.of(cause))
        return opened

    def _cut(
        self, cuts: Mapping[str, Mapping[int, int]], standing: Standing, weeks: Sequence[ChartWeek]
    ) -> dict[str, dict[str, int]]:
        """The larger of the trigger's cut and the last touch of what is used: replaying so far gives the same list."""
        touches: dict[str, list[Mapping[int, int]]] = {
            "sessions": [standing.touched(week) for week in weeks],
            "tracks": [self.snapshot.catalogue_ends()],
        }
        cut = {
            name: {
                str(partition): max(end, *(touched.get(partition, 0) for touched in touches[name]))
                for partition, end in sorted(ends.items())
            }
            for name, ends in cuts.items()
        }
        if rebuilt := {str(p): fence.rebuilt for p, fence in sorted(standing.fences.items()) if fence.rebuilt}:
            cut["rebuilt"] = rebuilt  # how often; the same offsets may come to other counts since
        return cut

    def _score(
        self, week: ChartWeek, experiment: Experiment, opened: Opened, cut: dict[str, dict[str, int]]
    ) -> list[Playlist]:
        run = self.runs.start(week.after().name)
        try:
            best, most_played = self._rank(week, opened, run)
            lists = []
            for group in experiment.groups:
                with self.spans.span("list", group=group.name):
                    made_by, reason = self._maker(week, group, opened, best, most_played)
                    playlist = Playlist(
                        week=week.after().name,
                        closed_week=week.name,
                        group=group.name,
                        experiment=experiment.name,
                        model=made_by.model,
                        model_version=made_by.version,
                        fallback=reason,
                        cut=cut,
                        tracks=tuple(_entries(best[made_by.name])),
                    ).following(self._published(week, group))
                    self.spans.note(model=made_by.name, model_version=made_by.version, revision=playlist.revision)
                    lists.append(playlist)
            records = {playlist.group: playlist.message(self.topics.playlists).value or b"" for playlist in lists}
            run.keep(max(playlist.revision for playlist in lists), records)
            return lists
        finally:
            run.discard()

    def _maker(
        self, week: ChartWeek, group: Group, opened: Opened, best: Mapping[str, Best], most_played: Best
    ) -> tuple[Fitted, str | None]:
        """Who makes the group's list, and the reason where it is not the group's model."""
        made_by, reason = opened.makes(group.model)
        if made_by.model == NAIVE:
            return made_by, reason
        others = Neighbours(best[NAIVE], most_played, self.playlists.latest(week.name, group.name))
        reason = self.guard.refusal(best[made_by.name], made_by.model, made_by.version, others)
        if reason is None:
            return made_by, None
        log.warning("group %s: %s", group.name, reason, extra={"week": week.name, "group": group.name})
        return opened.ready[NAIVE], reason

    def _rank(self, week: ChartWeek, opened: Opened, run: Run) -> tuple[dict[str, Best], Best]:
        """The best tracks by model and by the closed week's plays, part by part.

        A model that fails on one part is out, and naive is always in.
        """
        history = self.snapshot.history
        parts = history.parts(past_weeks(week.name))
        with self.spans.span("build"):
            chart = merged(self.runner(Charting(history, week.name), parts, _untold))
        best, most_played = {model: Best() for model in opened.ready}, Best()
        scoring = Scoring(history, week.name, chart, dict(opened.ready), self.span_weeks)
        with self.spans.span("score", models=", ".join(opened.ready)):
            for scored in self.runner(scoring, parts, _untold):
                for model, failure in scored.failures.items():
                    opened.fail(model, failure)
                for model, places in scored.best.items():
                    best[model].merge(places)
                most_played.merge(scored.most_played)
                run.add(scored.rows)
        return best, most_played


def _untold(n_parts: int) -> None:
    """Nobody watches a weekly run's progress."""


def _entries(best: Best) -> Iterator[Entry]:
    for rank, place in enumerate(best.places, 1):
        w1, w2, w3, w4 = place.plays
        yield Entry(rank=rank, track_id=place.track_id, name=place.name, score=place.score, plays=(w1, w2, w3, w4))


def _is_unmoved(previous: Playlist, experiment: Experiment, cut: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether no count that the published list depends on has changed since."""
    return previous.experiment == experiment.name and all(
        end <= previous.cut.get(name, {}).get(partition, -1)
        for name, ends in cut.items()
        for partition, end in ends.items()
    )
