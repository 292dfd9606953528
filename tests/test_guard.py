"""The guard: which lists are refused, and what it says of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from consumers.guard import Guard, Neighbours
from hitparade.settings import Settings, SettingsError
from models.ranking import Best, Place
from models.scoring import Scores
from producers.playlists import Playlist
from tests.builders_history import table

PLAYS: Mapping[str, int] = {"a": 60, "b": 25, "c": 10, "d": 5, "e": 0, "f": 0, "g": 0, "h": 0}
"""Of the closed week; the four most played have 100."""


def made(*ids: str, plays: Mapping[str, int] = PLAYS) -> Best:
    return Best(4, [Place(i, "", 0.0, (9, 9, 9, plays[i])) for i in ids])


def published(*ids: str, revision: int = 1) -> Playlist:
    entries = [{"rank": 1, "track_id": i, "name": "", "score": 0.0, "plays": (0, 0, 0, 0)} for i in ids]
    fields = {"week": "2023-W24", "closed_week": "2023-W23", "group": "g", "experiment": "e", "model": "linear"}
    more: dict[str, object] = {"model_version": "v", "fallback": None, "cut": {}, "revision": revision}
    return Playlist.model_validate(fields | more | {"tracks": entries})


def refusal(
    guard: Guard,
    ids: str,
    naive: str = "abcd",
    last: Playlist | None = None,
    most_played: str = "abcd",
    plays: Mapping[str, int] = PLAYS,
) -> str | None:
    bests = (made(*some, plays=plays) for some in (ids, naive, most_played))
    list_, of_naive, most = bests
    return guard.refusal(list_, "linear", "v7", Neighbours(of_naive, most, last))


def test_a_list_with_too_little_of_naives_is_refused_with_the_figure_and_the_threshold() -> None:
    assert refusal(Guard(min_overlap_naive=0.5), "aefg") == (
        "the guard refused linear v7 (it expects 0.5 of naive's list): it has 1 of 4 tracks of naive's list"
    )


def test_a_list_with_too_little_of_last_weeks_is_refused_and_the_list_of_last_week_is_named() -> None:
    assert refusal(Guard(min_overlap_last_week=0.75), "abef", last=published(*"abcd", revision=3)) == (
        "the guard refused linear v7 (it expects 0.75 of the list for 2023-W24, revision 3): "
        "it has 2 of 4 of last week's"
    )


def test_a_list_with_too_few_plays_of_the_closed_week_is_refused() -> None:
    assert refusal(Guard(min_captured=0.2), "cefg") == (
        "the guard refused linear v7 (it expects 0.2 of the last week's plays): it has 10 of 100 plays of the last week"
    )


def test_every_figure_that_is_too_low_is_told() -> None:
    found = refusal(Guard(1.0, 1.0, 1.0), "abce", last=published(*"abcd"))
    assert found is not None
    assert found.endswith(
        "it has 3 of 4 tracks of naive's list; it has 3 of 4 of last week's; it has 95 of 100 plays of the last week"
    )


@pytest.mark.parametrize("guard", [Guard(0.5), Guard(min_overlap_last_week=0.5), Guard(min_captured=0.85)])
def test_a_list_that_has_just_the_threshold_may_be_published(guard: Guard) -> None:
    assert refusal(guard, "abef", last=published(*"abcd")) is None


def test_without_thresholds_any_list_may_be_published() -> None:
    assert refusal(Guard(), "efgh", last=published(*"abcd")) is None


def test_the_first_list_of_a_group_has_no_last_week_to_be_like() -> None:
    assert refusal(Guard(min_overlap_last_week=1.0), "efgh", last=None) is None
    assert refusal(Guard(min_overlap_last_week=1.0), "efgh", last=published()) is None


def test_a_week_without_plays_is_held_against_no_list() -> None:
    assert refusal(Guard(min_captured=1.0), "efgh", plays=dict.fromkeys(PLAYS, 0)) is None


def test_what_naives_list_does_not_have_either_is_not_held_against_another() -> None:
    """After an outage the few plays of the last week are anywhere; where all is new nobody has last week's tracks."""
    assert refusal(Guard(min_captured=0.5), "efgh", naive="bcde") is None
    assert refusal(Guard(min_overlap_last_week=0.5), "efgh", last=published(*"wxyz")) is None


def test_a_catalogue_that_has_grown_from_less_than_a_list_is_compared_by_the_shorter_one() -> None:
    assert refusal(Guard(min_overlap_last_week=1.0), "abcd", last=published("a", "b")) is None
    assert refusal(Guard(min_overlap_last_week=1.0), "ab", naive="ab", last=published(*"abcd")) is None
    assert (
        refusal(Guard(min_overlap_last_week=0.4), "aefg", last=published("a", "b")) is None
    )  # one of two, not of four


def test_an_empty_catalogue_gives_lists_that_may_be_published() -> None:
    assert refusal(Guard(1.0, 1.0, 1.0), "", naive="", most_played="", last=published("a")) is None


def test_the_opening_differs_where_a_verdict_may() -> None:
    last = published("a")
    openings = [
        guard.opening(model, version, of_last)
        for guard, model, version, of_last in (
            (Guard(0.1, 0.1, 0.1), "linear", "1", last),
            (Guard(0.2, 0.1, 0.1), "linear", "1", last),
            (Guard(0.1, 0.2, 0.1), "linear", "1", last),
            (Guard(0.1, 0.1, 0.2), "linear", "1", last),
            (Guard(0.1, 0.1, 0.1), "neural", "1", last),
            (Guard(0.1, 0.1, 0.1), "linear", "2", last),
            (Guard(0.1, 0.1, 0.1), "linear", "1", None),
            (Guard(0.1, 0.1, 0.1), "linear", "1", published("a", revision=2)),
        )
    ]
    assert len(set(openings)) == len(openings)
    assert Guard(0.1, 0.0, 0.1).opening("linear", "1", last) == Guard(0.1, 0.0, 0.1).opening("linear", "1", None)


def scored(plays: Mapping[str, Sequence[int]], scores: Scores) -> Best:
    best, whole = Best(), table(plays)
    whole.listed[:] = True
    best.add(whole, scores.astype(np.float64))
    return best


def test_the_thresholds_that_are_set_without_settings_refuse_nonsense_and_no_forecast() -> None:
    """A thousand tracks in a steep order; nonsense is a score that has nothing to do with plays."""
    settings = Settings.from_env({})
    guard = Guard(settings.guard_min_overlap_naive, settings.guard_min_overlap_last_week, settings.guard_min_captured)
    assert guard == Guard(min_overlap_naive=0.05, min_overlap_last_week=0.0, min_captured=0.05)
    draw = np.random.default_rng(3)
    rates = 3000 / np.arange(1, 1001)
    plays = {f"t{n:04}": draw.poisson(rate, 4).tolist() for n, rate in enumerate(rates)}
    weeks = np.array([plays[i] for i in sorted(plays)], np.float64)
    naive, most_played = scored(plays, 2 * weeks[:, 3] + weeks[:, 1:3].sum(axis=1)), scored(plays, weeks[:, 3])
    others = Neighbours(naive, most_played, None)
    for forecast in (weeks.mean(axis=1), weeks[:, 0], np.zeros(1000), 2 * weeks[:, 3] - weeks[:, 2]):
        assert guard.refusal(scored(plays, forecast + weeks[:, 1:].sum(axis=1)), "m", "1", others) is None
    for nonsense in (1e6 * draw.random(1000), -1e6 * weeks[:, 3]):
        assert guard.refusal(scored(plays, nonsense), "m", "1", others) is not None


@pytest.mark.parametrize("name", ["MIN_OVERLAP_NAIVE", "MIN_OVERLAP_LAST_WEEK", "MIN_CAPTURED"])
@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "inf", "half"])
def test_a_threshold_that_is_no_share_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"HITPARADE_GUARD_{name}: expected to be .* found '{value}'"):
        Settings.from_env({f"HITPARADE_GUARD_{name}": value})
