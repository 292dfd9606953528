import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import (
    best,
    captured_plays,
    criterion,
    evaluate,
    exact_places,
    ndcg_at,
    precision_at,
    rbo,
)

IDS = [f"t{n:02}" for n in range(1, 61)]
FACTS = {track_id: 1000 - n for n, track_id in enumerate(IDS)}  # t01 is the most played
WORTHLESS = {"precision_at_50": 0, "ndcg_at_50": 0, "captured_plays": 0, "rbo": 0, "criterion": 0, "exact_places": 0}


def swapped(i: int, j: int) -> list[str]:
    """The perfect ranking but for two places, counted from 1."""
    ranking = list(IDS)
    ranking[i - 1], ranking[j - 1] = ranking[j - 1], ranking[i - 1]
    return ranking


def test_a_perfect_ranking_is_worth_all_there_is() -> None:
    assert evaluate(IDS, FACTS) == pytest.approx(
        {
            "precision_at_50": 1,
            "ndcg_at_50": 1,
            "captured_plays": 1,
            "rbo": 1,
            "criterion": 0,
            "exact_places": 50,
        }
    )


def test_two_tracks_swapped_cost_the_criterion_their_distances_over_their_true_places() -> None:
    # (1 - 3)² / 1 + (3 - 1)² / 3 = 4 + 4/3, and 48 exact places
    assert criterion(swapped(1, 3), FACTS) == pytest.approx(16 / 3)
    assert exact_places(swapped(1, 3), FACTS) == 48


def test_a_place_below_the_fiftieth_counts_with_its_rank_in_the_full_ranking() -> None:
    # t50 is ranked 60th: 10² / 50 = 2; t60 at place 50 is not in the true list
    assert criterion(swapped(50, 60), FACTS) == pytest.approx(2)
    assert precision_at(swapped(50, 60), FACTS) == 0.98


def test_a_track_that_was_not_ranked_counts_as_one_place_after_the_last() -> None:
    # t50 is missing of 49: it counts as ranked 50th
    assert criterion(IDS[:49], FACTS) == 0
    assert exact_places(IDS[:49], FACTS) == 50
    # t49 and t50 are missing of 48: both count as 49th
    assert criterion(IDS[:48], FACTS) == pytest.approx(1 / 50)


def test_the_criterion_is_tenfold_below_40_exact_places_and_not_at_40() -> None:
    forty, thirty_eight = list(IDS), list(IDS)
    for i in range(0, 10, 2):
        forty[i], forty[i + 1] = forty[i + 1], forty[i]
    for i in range(0, 12, 2):
        thirty_eight[i], thirty_eight[i + 1] = thirty_eight[i + 1], thirty_eight[i]
    assert exact_places(forty, FACTS) == 40
    assert criterion(forty, FACTS) == pytest.approx(sum(1 / i for i in range(1, 11)))
    assert exact_places(thirty_eight, FACTS) == 38
    assert criterion(thirty_eight, FACTS) == pytest.approx(10 * sum(1 / i for i in range(1, 13)))


def test_by_hand_for_three_tracks() -> None:
    facts = {"a": 6, "b": 3, "c": 1, "d": 0}
    ranking = ["c", "a", "d", "b"]  # true: a b c
    assert precision_at(ranking, facts, 3) == pytest.approx(2 / 3)
    assert captured_plays(ranking, facts, 3) == pytest.approx(7 / 10)
    assert ndcg_at(ranking, facts, 3) == pytest.approx((1 + 6 / math.log2(3)) / (6 + 3 / math.log2(3) + 1 / 2))
    # overlaps 0/1, 1/2, 2/3 at p = 0.5: 2/3 · 1/8 + 1 · (0 + 1/8 + 1/12)
    assert rbo(ranking, facts, 3, p=0.5) == pytest.approx(7 / 24)
    # ranks of a, b, c: 2, 4, 1 -> (1 + 4/2 + 4/3), nothing exact -> tenfold
    assert criterion(ranking, facts, 3) == pytest.approx(130 / 3)


def test_equal_plays_stand_by_track_id() -> None:
    assert best({"b": 1, "a": 1, "c": 2, "d": 0}, 3) == ["c", "a", "b"]


def test_fewer_tracks_than_fifty_are_judged_by_as_many_as_there_are() -> None:
    facts = {"a": 3, "b": 2, "c": 1}
    assert precision_at(["a", "b", "x", "c"], facts) == pytest.approx(2 / 3)
    assert criterion(["a", "b", "c"], facts) == 0
    assert criterion(["b", "a", "c"], facts) == pytest.approx(10 * (1 + 1 / 2))


def test_without_plays_the_shares_of_plays_are_0_and_without_facts_everything_is() -> None:
    assert evaluate(["a", "b"], {}) == WORTHLESS
    assert evaluate([], {"a": 0, "b": 0}) == WORTHLESS | {"criterion": 10 * 1 / 2, "exact_places": 1}
    worth = evaluate(["a", "b"], {"a": 0, "b": 0})
    assert (worth["ndcg_at_50"], worth["captured_plays"]) == (0, 0)


def test_a_ranking_with_a_track_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="without duplicates, found 1"):
        evaluate(["a", "b", "a"], FACTS)
    with pytest.raises(ValueError, match="without duplicates, found 1"):
        evaluate(np.array([2, 1, 2]), {1: 5})


def slow(ranking: list[str], plays: dict[str, int], k: int) -> dict[str, float]:
    """The metrics as the definitions read, in loops."""
    truth = sorted(plays, key=lambda t: (-plays[t], t))[:k]
    k = len(truth)
    head = list(ranking[:k])
    rank = [ranking.index(t) + 1 if t in ranking else len(ranking) + 1 for t in truth]

    def gain(tracks: list[str]) -> float:
        return sum(plays.get(t, 0) / math.log2(n + 1) for n, t in enumerate(tracks, 1))

    overlap = [len(set(head[:d]) & set(truth[:d])) / d for d in range(1, k + 1)]
    exact = sum(r == i for i, r in enumerate(rank, 1))
    distance = sum((i - r) ** 2 / i for i, r in enumerate(rank, 1))
    total = sum(plays[t] for t in truth)
    p = 0.98
    return {
        f"precision_at_{k}": sum(t in truth for t in head) / k,
        "ndcg": gain(head) / gain(truth) if total else 0,
        "captured_plays": sum(plays.get(t, 0) for t in head) / total if total else 0,
        "rbo": overlap[-1] * p**k + (1 - p) / p * sum(a * p**d for d, a in enumerate(overlap, 1)),
        "criterion": distance * (1 if exact >= 0.8 * k else 10),
        "exact_places": exact,
    }


TRACK_IDS = st.integers(0, 80).map(lambda n: f"t{n}")


@given(
    st.lists(TRACK_IDS, unique=True, max_size=80),
    st.dictionaries(TRACK_IDS, st.integers(0, 9) | st.integers(0, 10**9), min_size=1, max_size=80),
    st.sampled_from([1, 2, 5, 10, 50]),
)
def test_every_metric_equals_the_slow_one(ranking: list[str], plays: dict[str, int], k: int) -> None:
    found = evaluate(ranking, plays, k)
    assert list(found.values()) == pytest.approx(list(slow(ranking, plays, k).values()))
    number = {track_id: n for n, track_id in enumerate(sorted({*ranking, *plays}))}
    numbered = np.array([number[track_id] for track_id in ranking], np.int64)
    assert evaluate(numbered, {number[track_id]: n for track_id, n in plays.items()}, k) == found


@given(st.permutations(IDS))
def test_the_order_of_the_facts_changes_nothing(order: list[str]) -> None:
    shuffled = {track_id: FACTS[track_id] for track_id in order}
    assert evaluate(order, shuffled) == evaluate(order, FACTS)
