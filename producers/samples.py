"""One record and more of each topic, as the documents show them; a test sends and reads every one."""

from dataclasses import dataclass, field
from typing import Any

from producers.playlists import HEADERS, Entry, Evaluation, Playlist, Worth
from producers.triggers import Trigger


@dataclass(frozen=True, slots=True)
class Sample:
    """A record: value None takes the track of its key down; outcome says how its events end, where they are events."""

    name: str
    summary: str
    key: str
    value: Any
    headers: dict[str, str] = field(default_factory=dict)
    outcome: dict[str, int] = field(default_factory=dict)


_ORCHARD, _DIALTONE = "4p8QcNkaq2FQj8uGJ7HEDK", "2takcwOaAZWiXQijPHIx7B"
_PLAY = {"event_type": "play", "track_id": _ORCHARD, "user_id": 101, "timestamp": "2023-06-17T10:09:50.547Z"}
_SKIP = {"event_type": "skip", "track_id": _DIALTONE, "user_id": "101", "timestamp": "2023-06-17T12:11:02+02:00"}

SESSIONS = (
    Sample("one event", "One play.", _ORCHARD, _PLAY, outcome={"counted": 1}),
    Sample(
        "an array",
        "A play that was skipped is two events; advertisements are ignored. Other fields are kept out.",
        "101",
        [
            {**_PLAY, "session_id": 125},
            {**_SKIP, "event_type": "PLAY"},
            _SKIP,
            {"event_type": "advertisment", "user_id": 101, "timestamp": "2023-06-17T10:12:00Z"},
        ],
        outcome={"counted": 3, "ignored": 1},
    ),
    Sample(
        "sent again",
        "The producer did not hear that it was taken. With HITPARADE_DUPLICATE_HOURS the second is a duplicate.",
        _ORCHARD,
        [{**_PLAY, "event_id": "0189-7c1e"}, {**_PLAY, "event_id": "0189-7c1e"}],
        outcome={"counted": 1, "duplicate": 1},
    ),
    Sample(
        "exposure",
        "A user has seen a list. Ignored without HITPARADE_EXPOSURES.",
        "101",
        {
            "event_type": "exposure",
            "user_id": 101,
            "timestamp": "2023-06-19T07:30:00Z",
            "week": "2023-W25",
            "group": "treatment",
        },
        outcome={"exposure": 1},
    ),
)
TRACKS = (
    Sample(
        "a track",
        "What is not known is null, or left out.",
        _ORCHARD,
        {
            "id": _ORCHARD,
            "name": "The Borrowed Orchard",
            "release_date": "2019-07-05",
            "popularity": 63,
            "duration_ms": 214_000,
            "danceability": 0.673,
            "energy": 0.41,
            "tempo": 118.2,
        },
    ),
    Sample("taken down", "Nothing but its key, and no value.", _DIALTONE, None),
)
_RECORD_HEADERS = {name: value.decode() for name, value in HEADERS}
_CUT = {"sessions": {"0": 1331, "1": 1973}, "tracks": {"0": 661, "1": 687}}
_TRIGGER = Trigger(
    closed_week="2023-W24",
    reason="schedule",
    topic_ids={"sessions": "bWo5a1N0T2VRcGFtc2FQZw", "tracks": "Q0hBUlRXRUVLU0FSRTctZA"},
    cut=_CUT,
)
_PLACES = ((_ORCHARD, "The Borrowed Orchard", 3045.798), (_DIALTONE, "Amber Dialtone", 782.8))
_FIRST = Playlist(
    week="2023-W25",
    closed_week="2023-W24",
    group="treatment",
    experiment="neural-against-linear",
    model="neural",
    model_version="2023-W21-998b96f8",
    fallback=None,
    cut=_CUT,
    tracks=tuple(
        Entry(rank=rank, track_id=track_id, name=name, score=score, plays=(190, 201, 204, 210))
        for rank, (track_id, name, score) in enumerate(_PLACES, 1)
    ),
).following(None)
_SECOND = _FIRST.model_copy(
    update={
        "tracks": _FIRST.tracks[:1],
        "fallback": "no model is in use",
        "model": "naive",
        "model_version": "1",
    }
).following(_FIRST)
_WORTH = Worth(metrics={"precision@50": 0.84, "ndcg@50": 0.9}, naive={"precision@50": 0.82, "ndcg@50": 0.89})
_EVALUATION = Evaluation(
    week=_FIRST.week,
    group=_FIRST.group,
    experiment=_FIRST.experiment,
    model=_FIRST.model,
    model_version=_FIRST.model_version,
    playlist_id=_FIRST.id,
    revision=1,
    span_weeks=4,
    n_ranked=2000,
    metrics=_WORTH.metrics,
    naive=_WORTH.naive,
    own=_WORTH,
    forecast=_WORTH,
)


def _letter(cause: str, topic: str, index: int = 0) -> dict[str, str]:
    names = {"cause": cause, "topic": topic, "partition": "0", "offset": "1331", "index": str(index)}
    return {f"hitparade-{name}": text for name, text in names.items()}


def _of(name: str, summary: str, key: str, model: Any) -> Sample:
    return Sample(name, summary, key, model.model_dump(mode="json"), _RECORD_HEADERS)


def samples(topic: str, sessions: str, tracks: str) -> tuple[Sample, ...]:
    """The samples of a topic by its property of Topics; the names of the two topics stand in the headers of letters."""
    late = {**_SKIP, "timestamp": "2022-01-01T00:00:00Z"}
    found: dict[str, tuple[Sample, ...]] = {
        "sessions": SESSIONS,
        "tracks": TRACKS,
        "triggers": (_of("a closed week", "All before the cut counts.", "2023-W24", _TRIGGER),),
        "playlists": (
            _of("a list", "The first revision.", _FIRST.key, _FIRST),
            _of("a revision", "A late event has changed the list, and no model was there.", _SECOND.key, _SECOND),
        ),
        "evaluations": (_of("an evaluation", "Of a group's list.", _EVALUATION.key, _EVALUATION),),
        "late": (Sample("late", "Older than the weeks kept.", _DIALTONE, late, _letter("late", sessions)),),
        "dead_sessions": (
            Sample(
                "no track",
                "The second event of an array; the others of it count.",
                "101",
                {**_SKIP, "track_id": None},
                _letter("track_id", sessions, 1),
            ),
        ),
        "dead_tracks": (Sample("no id", "A track without an id.", "x", {"name": "?"}, _letter("track", tracks)),),
    }
    return found[topic]
