"""Bodies that work when pressed in /docs; without nulls, which FastAPI leaves out of the document."""

from typing import Any

COUNTS = {
    "4p8QcNkaq2FQj8uGJ7HEDK": [(180, 41, 12), (190, 40, 15), (204, 43, 11), (210, 47, 16)],
    "0RiRZpuVRbi7oqRdSMwhQY": [(320, 90, 31), (260, 77, 20), (221, 61, 19), (170, 50, 12)],
    "6NMtzpDQBTOfJwMzgMX0zl": [(0, 0, 0), (0, 0, 0), (4, 1, 1), (95, 12, 22)],
}
"""Plays, skips and likes of each week, oldest first."""

FEATURES: dict[str, dict[str, Any]] = {
    "4p8QcNkaq2FQj8uGJ7HEDK": {
        **{"popularity": 71, "duration_ms": 214_373, "explicit": 0, "danceability": 0.68, "energy": 0.74, "key": 5},
        **{"loudness": -5.9, "speechiness": 0.05, "acousticness": 0.12, "instrumentalness": 0.0, "liveness": 0.1},
        **{"valence": 0.55, "tempo": 118.02, "release_date_year": 2019, "release_date_week": 27},
    },
    "0RiRZpuVRbi7oqRdSMwhQY": {
        **{"popularity": 58, "duration_ms": 187_000, "explicit": 1, "danceability": 0.81, "energy": 0.6, "key": 1},
        **{"loudness": -7.2, "speechiness": 0.21, "acousticness": 0.3, "instrumentalness": 0.0, "liveness": 0.15},
        **{"valence": 0.4, "tempo": 92.5, "release_date_year": 2016, "release_date_week": 31},
    },
    "6NMtzpDQBTOfJwMzgMX0zl": {
        **{"popularity": 12, "duration_ms": 241_506, "explicit": 0, "danceability": 0.52, "energy": 0.33, "key": 9},
        **{"loudness": -11.4, "speechiness": 0.04, "acousticness": 0.8, "instrumentalness": 0.1, "liveness": 0.11},
        **{"valence": 0.2, "tempo": 76.9, "release_date_year": 2025, "release_date_week": 9},
    },
}


def _week(n: int) -> list[dict[str, Any]]:
    found = []
    for track_id, weeks in COUNTS.items():
        plays, skips, likes = weeks[n]
        counts = {"play_count": plays, "likes": likes, "number_of_skips": skips}
        found.append({"track_id": track_id, **FEATURES[track_id], **counts})
    return found


def _plays(track_id: str) -> dict[str, int]:
    return {f"play_count_week_{n}": plays for n, (plays, *_) in enumerate(COUNTS[track_id], 1)}


PLAYS = _plays("4p8QcNkaq2FQj8uGJ7HEDK")
TRACKS: list[dict[str, Any]] = [{"track_id": track_id, **_plays(track_id)} for track_id in COUNTS]
WEEKS = [_week(n) for n in range(4)]
