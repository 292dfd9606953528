"""What nobody sees of a simulated service: its listeners, how often each track is played, and what lists do."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from features.weeks import Calendar, ChartWeek
from models.experiments import Experiment, Experiments
from producers.catalogue import HiddenTrack, make_catalogue
from producers.choices import Charts, expected_plays, make_charts
from producers.climates import CLIMATES, Climate
from producers.damage import Damage
from producers.drift import hidden_rates
from producers.listeners import FIRST_USER, Listener, make_listeners, skewed
from producers.treatment import Response, Treatment

LIST_LENGTH = 50


@dataclass(frozen=True)
class World:
    """So many users listening to so many tracks for so many chart weeks.

    With a treatment, those who get its list take the list's tracks otherwise. `skew` says how much more unlike users
    are in how often they listen than they are anyway. Damage comes last: nothing that is hidden knows of it.
    """

    weeks: int
    users: int
    tracks: int
    seed: int
    start: ChartWeek
    calendar: Calendar = field(default_factory=Calendar)
    climate: Climate = CLIMATES["mixed"]
    experiments: Experiments = field(default_factory=Experiments)
    treatment: Treatment = field(default_factory=Treatment)
    damage: Damage = field(default_factory=Damage)
    skew: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("weeks", self.weeks), ("users", self.users), ("tracks", self.tracks)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if not 1900 <= self.start.first_day.year <= 9000:
            raise ValueError(f"start is {self.start}; expected a week of the years 1900 to 9000")
        if not 0 <= self.skew <= 3:
            raise ValueError(f"skew is {self.skew:g}; expected 0 to 3")
        if self.treatment.is_felt:
            self._expect_lists(self._expect_group(self.treatment.group))
        if self.damage.lost:
            self._expect_group(self.damage.lost_group)

    def _expect_group(self, group: str) -> list[ChartWeek]:
        weeks = [week for week in self.chart_weeks() if group in self.experiment(week).group_names]
        if not weeks:
            first, last = self.start, self.start.after(self.weeks - 1)
            raise ValueError(f"no experiment has a group {group!r} in any of the weeks {first} to {last}")
        return weeks

    def _expect_lists(self, weeks: Sequence[ChartWeek]) -> None:
        lists, group = self.treatment.lists, self.treatment.group
        without = [week.name for week in weeks if lists and not lists(week, group)]
        if without:
            raise ValueError(
                f"expected a list of group {group!r} for each week, found none for {', '.join(without[:5])}"
            )

    def chart_weeks(self) -> list[ChartWeek]:
        """The simulated weeks, oldest first."""
        return [self.start.after(n) for n in range(self.weeks)]

    def catalogue(self) -> list[dict[str, Any]]:
        """Every track as the topic has it, those that come out in later weeks included."""
        return [dict(track.record) for track in self.hidden_tracks]

    def rates(self, week: ChartWeek) -> dict[str, float]:
        """How many plays each track gets in a week, in the mean over chance: all that can be known before it.

        It is of the sessions that begin in the week; less than one play in a thousand comes after the week's end.

        Raises:
            ValueError: the week is not simulated.
        """
        n, responses = self.place(week), self.responses(week)
        rates = self._expected(n, [listener for listener in self.listeners if listener.user_id not in responses])
        if responses:
            reached = self._expected(n, [listener for listener in self.listeners if listener.user_id in responses])
            listed, factor, _, _ = next(iter(responses.values()))
            rates = [
                rate + more * (factor if place in listed else 1.0)
                for place, (rate, more) in enumerate(zip(rates, reached, strict=True))
            ]
        return {track.record["id"]: rate for track, rate in zip(self.hidden_tracks, rates, strict=True)}

    def place(self, week: ChartWeek) -> int:
        """How many simulated weeks come before it.

        Raises:
            ValueError: the week is not simulated.
        """
        weeks = self.chart_weeks()
        if week not in weeks:
            raise ValueError(f"week {week} is not simulated; expected {weeks[0]} to {weeks[-1]}")
        return weeks.index(week)

    def experiment(self, week: ChartWeek) -> Experiment:
        """The one that the week is counted under."""
        return self.experiments.in_force(week)

    def listed(self, week: ChartWeek, group: str) -> Collection[str]:
        """The tracks of the week's list for a group; without lists, those expected to be played most the week before.

        What is expected is without any effect; the first week's list is of that week itself.
        """
        if self.treatment.lists:
            return self.treatment.lists(week, group)
        return self._most_expected[max(0, self.place(week) - 1)]

    def responses(self, week: ChartWeek) -> dict[int, Response]:
        """By user id, what those whom the treatment reaches make of the week's list; all make the same of it."""
        experiment, treatment = self.experiment(week), self.treatment
        if not treatment.is_felt or treatment.group not in experiment.group_names:
            return {}
        response = self.response(week)
        return {
            listener.user_id: response
            for listener in self.listeners
            if treatment.reaches(self.seed, listener.user_id, experiment)
        }

    @property
    def is_plain(self) -> bool:
        """Whether nothing was done to it: no lists, effect, damage or skew."""
        return not (self.treatment.lists or self.treatment.is_felt or self.damage.is_any or self.skew)

    def response(self, week: ChartWeek) -> Response:
        """What whoever gets the treatment's list in the week makes of it."""
        first = self.experiment(week).first_week or self.start
        age = (week.first_day - max(first, self.start).first_day).days // 7
        return self.treatment.response(self.places(self.listed(week, self.treatment.group)), age)

    def places(self, track_ids: Collection[str]) -> frozenset[int]:
        """The places in the catalogue of those that are in it."""
        return frozenset(self._places[track_id] for track_id in track_ids if track_id in self._places)

    @property
    def bots(self) -> range:
        """The user ids of the bots, after those of the listeners."""
        return range(FIRST_USER + self.users, FIRST_USER + self.users + self.damage.bots)

    def charts(self, n: int) -> Charts:
        """What there is to choose from in a simulated week."""
        return make_charts(self.hidden_tracks, self._rates[n], n)

    def _expected(self, n: int, listeners: Sequence[Listener]) -> list[float]:
        return expected_plays(listeners, self.hidden_tracks, self._rates[n], self.charts(n))

    @cached_property
    def _most_expected(self) -> list[frozenset[str]]:
        """By week the tracks that are expected to be played most, if nothing has any effect."""
        return [self._top(self._expected(n, self.listeners)) for n in range(self.weeks)]

    def _top(self, rates: Sequence[float]) -> frozenset[str]:
        ids = [track.record["id"] for track in self.hidden_tracks]
        order = sorted((-rate, track_id) for rate, track_id in zip(rates, ids, strict=True) if rate > 0)
        return frozenset(track_id for _, track_id in order[:LIST_LENGTH])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {track.record["id"]: place for place, track in enumerate(self.hidden_tracks)}

    @cached_property
    def hidden_tracks(self) -> list[HiddenTrack]:
        """The catalogue with what nobody sees."""
        return make_catalogue(self.seed, self.tracks, self.weeks, self.start.first_day, self.climate)

    @cached_property
    def listeners(self) -> list[Listener]:
        """Everyone who listens; bots are none."""
        listeners = make_listeners(self.seed, self.users, self.hidden_tracks, self.climate.loyalty)
        return skewed(self.seed, listeners, self.skew) if self.skew else listeners

    @cached_property
    def _rates(self) -> list[list[float]]:
        return hidden_rates(self.seed, self.hidden_tracks, self.chart_weeks(), self.climate)
