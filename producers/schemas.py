"""What may stand in a record of each topic, as JSON Schema (draft 7); what others write, as our readers take it."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from features.events import EXPOSURE, IGNORED, KINDS
from features.tracks import AUDIO_FEATURES, Track
from producers.published import END, WEEK, Schema, evaluation, json_object, letter_headers, playlist
from producers.triggers import SOURCES, Reason

_RFC_3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?"
_DATE = r"[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|[0-9]{4}|-?W[0-9]{2}|-W[0-9]{2}-[0-9]|W[0-9]{3})"
_CLOCK = r"[0-9]{2}(?::?[0-9]{2}|:[0-9]{2}:[0-9]{2}|[0-9]{4})?(?:[.,][0-9]+)?"
TIMESTAMP = rf"^(?:{_RFC_3339}|{_DATE}(?:[^0-9]{_CLOCK}(?:Z|[+-]{_CLOCK})?)?){END}"

ID: Schema = {
    "type": ["string", "integer"],
    "minLength": 1,
    "description": "text that is not empty, or an integer, written without fraction or exponent, which is its decimal "
    'text: 101 and "101" are the same. No half of a surrogate pair.',
}


def _timestamp() -> Schema:
    return {
        "type": "string",
        "pattern": TIMESTAMP,
        "description": "ISO 8601, such as 2023-06-17T10:09:50.547Z, of a day and an hour that exist; without a zone it "
        "is in HITPARADE_EVENT_TIME_ZONE (UTC)",
    }


def in_any_case(words: Mapping[str, Any] | frozenset[str]) -> str:
    """A pattern of these words as the decoder knows them: whatever is one of them in lower case."""
    return f"^(?:{'|'.join(''.join(map(_letter, word)) for word in sorted(words))}){END}"


def _letter(letter: str) -> str:
    """The letter, its capital, and the kelvin sign, whose small letter is k."""
    kelvin = r"\u212a" if "\u212a".lower() == letter else ""
    return letter if letter == letter.upper() else f"[{letter}{letter.upper()}{kelvin}]"


def counted_event() -> Schema:
    """An event that counts."""
    return json_object(
        "An event that counts, unless it is late, future or a duplicate. Other fields are allowed, and kept out.",
        {
            "event_type": {
                "type": "string",
                "pattern": in_any_case(KINDS),
                "description": f"{', '.join(KINDS)}, in any case; a skipped play is two events",
            },
            "track_id": ID,
            "user_id": ID,
            "timestamp": _timestamp(),
            "event_id": {
                "description": "Text or an integer that no other event has; where duplicates are looked for "
                "(HITPARADE_DUPLICATE_HOURS) it counts once. What cannot be an id counts as none.",
            },
        },
        ["event_type", "track_id", "user_id", "timestamp"],
    )


def exposure_event() -> Schema:
    """An event that says who has seen which list."""
    return json_object(
        "A user has seen the list of a week and group. Ignored unless HITPARADE_EXPOSURES is on.",
        {
            "event_type": {"type": "string", "pattern": in_any_case(frozenset({EXPOSURE}))},
            "user_id": ID,
            "timestamp": _timestamp(),
            "week": {"type": "string", "pattern": WEEK, "description": "the week that the list is for"},
            "group": {"type": "string", "minLength": 1, "description": "the group that the list is for"},
        },
        ["event_type", "user_id", "timestamp", "week", "group"],
    )


def ignored_event() -> Schema:
    """An event of a kind that is known and not counted."""
    return json_object(
        f"An event that is known and not counted: {', '.join(sorted(IGNORED - {EXPOSURE}))}, in any case.",
        {"event_type": {"type": "string", "pattern": in_any_case(IGNORED - {EXPOSURE})}},
        ["event_type"],
    )


def event() -> Schema:
    """One event of a session."""
    return {"anyOf": [counted_event(), exposure_event(), ignored_event()]}


def sessions() -> Schema:
    """The value of a record of the session topic."""
    return {
        "description": "One event, or an array of events, each of which counts or does not for itself.",
        "anyOf": [event(), {"type": "array", "minItems": 1, "items": event()}],
    }


def track() -> Schema:
    """The value of a record of the catalogue."""
    date = Track.model_json_schema()["properties"]["release_date"]["anyOf"][0]["pattern"]
    text = {"type": ["string", "null"]}
    fields: Schema = {
        "id": ID,
        "name": text,
        "id_artist": {"type": ["string", "integer", "null"]},
        "release_date": {**text, "pattern": date.replace("$", END), "description": "YYYY, YYYY-MM or YYYY-MM-DD"},
        **{name: {"type": ["number", "boolean", "null"], "description": "finite"} for name in AUDIO_FEATURES},
    }
    return json_object(
        "A track of the catalogue, under its id as the key. The last record of an id is what holds; one without a "
        "value takes the track down. Other fields are allowed, and kept out.",
        fields,
        ["id"],
    )


def trigger() -> Schema:
    """The value of a record of the trigger topic."""
    end = {"type": "integer", "minimum": 0}
    ends = {"type": "object", "propertyNames": {"pattern": f"^[0-9]+{END}"}, "additionalProperties": end}
    return json_object(
        "Make the lists of the week after closed_week, once what lies before the cut is counted.",
        {
            "closed_week": {"type": "string", "pattern": WEEK, "description": "the last week that is over"},
            "reason": {"enum": sorted(get_args(Reason))},
            "topic_ids": _of_both({"type": "string"}, "the id that Kafka gave each topic"),
            "cut": _of_both(ends, "the end offset of each partition"),
        },
        ["closed_week", "reason", "topic_ids", "cut"],
        additionalProperties=False,
    )


def _of_both(schema: Schema, text: str) -> Schema:
    names = sorted(SOURCES)
    return json_object(text, dict.fromkeys(names, schema), names, additionalProperties=False)


SCHEMAS: Mapping[str, Callable[[], Schema]] = {
    "session-event": event,
    "sessions": sessions,
    "exposure": exposure_event,
    "track": track,
    "trigger": trigger,
    "playlist": playlist,
    "evaluation": evaluation,
    "letter-headers": letter_headers,
}
WRITTEN_BY_OTHERS = ("session-event", "sessions", "exposure", "track", "trigger")
"""Old producers go on: a new schema of these takes what the old one takes. Of the others, old readers read what is
written by the new one."""


def schema(name: str) -> Schema:
    """The schema of that name, ready to be written."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": name, **SCHEMAS[name]()}
