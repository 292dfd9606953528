"""What a ranking was worth, once the plays are known.

Everywhere: a ranking holds track ids, best first, none twice (or an array of the tracks' numbers, which stand for their
ids); plays are the facts, of every track that can be in the true list, a track without an entry having none. The true
list is the k most played, equal plays by track id; with fewer than k tracks in the facts, k is their number. A share of
nothing (no plays, no facts at all) is 0.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 50
Ranking = Sequence[str] | NDArray[np.int64]
PERSISTENCE = 0.98  # the first 50 places have 85 % of the weight


def best(plays: Mapping[Any, int], k: int = K) -> list[Any]:
    """The k most played tracks, most played first, equal plays by track id."""
    return heapq.nsmallest(k, plays, key=lambda track_id: (-plays[track_id], track_id))


def precision_at(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> float:
    """The share of the true list that the first k of the ranking hold, in whatever order."""
    truth = best(plays, k)
    return _share(len(set(truth).intersection(ranking[: len(truth)])), len(truth))


def ndcg_at(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> float:
    """Plays discounted by log2(place + 1), as a share of what the true list would have.

    Source: Järvelin & Kekäläinen 2002, with the plays as gain.
    """
    truth = best(plays, k)
    gained, ideal = _plays(ranking[: len(truth)], plays), _plays(truth, plays)
    discounts = 1 / np.log2(np.arange(len(truth)) + 2)
    return _share((gained * discounts[: len(gained)]).sum(), (ideal * discounts).sum())


def captured_plays(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> float:
    """Plays of the first k of the ranking, as a share of the plays of the true list."""
    truth = best(plays, k)
    return _share(_plays(ranking[: len(truth)], plays).sum(), _plays(truth, plays).sum())


def rbo(ranking: Ranking, plays: Mapping[Any, int], k: int = K, p: float = PERSISTENCE) -> float:
    """Rank-biased overlap of the ranking's first k and the true list, extrapolated beyond k; 1 for equal lists.

    A ranking shorter than k agrees with nothing below its end.
    Source: RBO_ext of Webber, Moffat & Zobel 2010, eq. 32, for two lists of one length.
    """
    truth = best(plays, k)
    if not truth:
        return 0.0
    head = ranking[: len(truth)]
    places = ranks(head, truth)
    places[places > len(head)] = len(truth) + 1
    depth = np.arange(1, len(truth) + 1)
    seen_by_both = np.maximum(places, depth)  # the depth at which both lists have shown the track
    agreement = np.searchsorted(np.sort(seen_by_both), depth, side="right") / depth
    return float(agreement[-1] * p ** len(truth) + (1 - p) / p * (agreement * p**depth).sum())


def ranks(ranking: Ranking, track_ids: Sequence[Any]) -> NDArray[np.int64]:
    """The place of each track in the ranking, from 1; the number ranked plus one for a track that is not there."""
    place: dict[Any, int]
    if isinstance(ranking, np.ndarray):
        place = {ranking[n]: n + 1 for n in np.flatnonzero(np.isin(ranking, track_ids)).tolist()}
    else:
        wanted = set(track_ids)
        place = {track_id: n for n, track_id in enumerate(ranking, 1) if track_id in wanted}
    return np.array([place.get(track_id, len(ranking) + 1) for track_id in track_ids], np.int64)


def exact_places(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> int:
    """How many tracks of the true list have their true place, as `ranks` tells it."""
    places = ranks(ranking, best(plays, k))
    return int((places == np.arange(1, len(places) + 1)).sum())


def criterion(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> float:
    """The original study's: the sum of (i - rank)² / i over the true list, 0 for a perfect ranking.

    Ten times that where fewer than 40 of 50 places are exact (four fifths of a shorter list). Needs the full ranking.
    """
    places = ranks(ranking, best(plays, k))
    i = np.arange(1, len(places) + 1)
    distance = float(((i - places) ** 2 / i).sum())
    return distance if 5 * (places == i).sum() >= 4 * len(i) else 10 * distance


def evaluate(ranking: Ranking, plays: Mapping[Any, int], k: int = K) -> dict[str, float]:
    """Every metric by its name; a second for a million tracks.

    Raises:
        ValueError: the ranking holds a track twice.
    """
    if n_twice := _n_twice(ranking):
        raise ValueError(f"expected a ranking without duplicates, found {n_twice} of them")
    matter = {*best(plays, k), *ranking[:k]} & plays.keys()  # all that decides, so that the facts are sorted once
    plays = {track_id: plays[track_id] for track_id in matter}
    return {
        f"precision_at_{k}": precision_at(ranking, plays, k),
        f"ndcg_at_{k}": ndcg_at(ranking, plays, k),
        "captured_plays": captured_plays(ranking, plays, k),
        "rbo": rbo(ranking, plays, k),
        "criterion": criterion(ranking, plays, k),
        "exact_places": exact_places(ranking, plays, k),
    }


def _n_twice(ranking: Ranking) -> int:
    if isinstance(ranking, np.ndarray):
        return int((np.diff(np.sort(ranking)) == 0).sum())
    return len(ranking) - len(set(ranking))


def _plays(tracks: Ranking, plays: Mapping[Any, int]) -> NDArray[np.float64]:
    return np.array([plays.get(track_id, 0) for track_id in tracks], np.float64)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
