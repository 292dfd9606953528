"""From predictions to a list."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.table import FeatureTable
from models.ranking import Best, Place, list_scores, ranked
from tests.builders_history import rows_of, table

FOUR_WEEKS = {"a": (1, 20, 300, 4000), "b": (0, 0, 0, 7)}


def listed(plays: dict[str, tuple[int, ...]], *, without: str = "") -> FeatureTable:
    """A table of tracks that are in the catalogue, but for those in `without`."""
    whole = table(plays)
    return replace(whole, listed=np.array([track_id not in without for track_id in whole.track_ids]))


@pytest.mark.parametrize(
    ("span_weeks", "scores"),
    [(4, [4320.5, 9.0]), (3, [4300.5, 9.0]), (2, [4000.5, 9.0]), (1, [0.5, 2.0])],
)
def test_a_list_ranks_by_the_prediction_and_the_plays_of_the_known_weeks_of_its_span(
    span_weeks: int, scores: list[float]
) -> None:
    assert list_scores(table(FOUR_WEEKS), np.array([0.5, 2.0]), span_weeks).tolist() == scores


def test_scores_have_three_decimals() -> None:
    assert list_scores(table(FOUR_WEEKS), np.array([0.12349, -1.0006]), 4).tolist() == [4320.123, 5.999]


def test_no_score_is_minus_zero() -> None:
    (score, _) = list_scores(table(FOUR_WEEKS), np.array([-0.0001, 0.0]), 1).tolist()
    assert math.copysign(1, score) == 1


def test_equal_scores_go_by_track_id_and_a_place_tells_the_plays_of_four_weeks() -> None:
    whole = listed({"b": (1, 2, 3, 4), "c": (0, 0, 0, 9), "a": (4, 3, 2, 1)})
    best = Best()
    best.add(whole, np.array([5.0, 5.0, 6.0]))
    assert best.places == [
        Place("c", "", 6.0, (0, 0, 0, 9)),
        Place("a", "", 5.0, (4, 3, 2, 1)),
        Place("b", "", 5.0, (1, 2, 3, 4)),
    ]


def test_only_tracks_of_the_catalogue_are_listed_however_high_they_score() -> None:
    best = Best()
    best.add(listed(dict.fromkeys("abc", (0, 0, 0, 0)), without="b"), np.array([1.0, 9.0, 2.0]))
    assert [place.track_id for place in best.places] == ["c", "a"]


def test_a_list_has_fifty_places_and_fewer_where_there_are_fewer_tracks() -> None:
    best = Best()
    ids = [f"t{n:02}" for n in range(60)]
    first = listed(dict.fromkeys(ids[:20], (0, 0, 0, 0)))
    best.add(first, np.arange(20.0))
    assert [place.track_id for place in best.places] == ids[19::-1]
    best.add(listed(dict.fromkeys(ids[20:], (0, 0, 0, 0))), np.arange(20.0, 60.0))
    assert [place.track_id for place in best.places] == ids[59:9:-1]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=40),
    st.integers(1, 8),
)
@example([(1, True, 0)] * 3, 2)
def test_however_the_tracks_are_sliced_into_tables_the_best_are_the_same(
    tracks: list[tuple[int, bool, int]], length: int
) -> None:
    ids = [f"t{n:02}" for n in range(len(tracks))]
    scores = np.array([float(score) for score, _, _ in tracks])
    whole = replace(
        table(dict.fromkeys(ids, (0, 0, 0, 0))), listed=np.array([is_listed for _, is_listed, _ in tracks], bool)
    )
    best = Best(length)
    for table_n in range(4):
        rows = np.array([n for n, (_, _, where) in enumerate(tracks) if where == table_n], int)
        best.add(rows_of(whole, rows), scores[rows])
    truth = sorted((-score, track_id) for track_id, (score, is_listed, _) in zip(ids, tracks, strict=True) if is_listed)
    assert [(-place.score, place.track_id) for place in best.places] == truth[:length]


def test_a_full_ranking_goes_by_score_and_then_by_track_id() -> None:
    assert ranked(np.array(["b", "d", "a", "c"], object), np.array([1.0, -2.0, 1.0, 3.5])) == ["c", "a", "b", "d"]
    assert ranked(np.array([], object), np.array([])) == []
