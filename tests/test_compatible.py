"""A schema takes what it took before, of producers; and of subscribers, what is written is what they could read."""

import json
import subprocess
from typing import Any

import pytest

from producers.schemas import SCHEMAS, WRITTEN_BY_OTHERS
from tests.compatible import refused
from tests.servers import ROOT


def schema(name: str) -> Any:
    return json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())


def before(name: str) -> Any:
    """The schema of the last tag that has it, else of the last commit, else the one here."""
    tags = git("tag", "--merged", "HEAD", "--sort=-creatordate").split()[:1]
    for revision in (*tags, "HEAD"):
        text = git("show", f"{revision}:docs/schemas/{name}.json")
        if text:
            return json.loads(text)
    return schema(name)


def git(*arguments: str) -> str:
    """What git prints; nothing where it cannot."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
    except FileNotFoundError:
        return ""


def broken(name: str, old: Any, new: Any) -> list[str]:
    """What the new schema does to those who hold on to the old one."""
    return refused(new, old) if name in WRITTEN_BY_OTHERS else refused(old, new)


@pytest.mark.parametrize("name", SCHEMAS)
def test_nobody_who_goes_by_the_schema_of_the_last_release_is_let_down(name: str) -> None:
    assert broken(name, before(name), schema(name)) == []


def changed(name: str, *path: Any, to: Any = None, add: Any = None) -> Any:
    """The schema with the value at a path changed, or with more in the list or the mapping there."""
    made = schema(name)
    *way, last = path
    at = made
    for step in way:
        at = at[step]
    if add is None:
        at[last] = to
    else:
        at[last] = [*at[last], add] if isinstance(at[last], list) else {**at[last], **add}
    return made


COUNTED = ("anyOf", 0)


@pytest.mark.parametrize(
    ("name", "new", "where"),
    [
        ("session-event", changed("session-event", *COUNTED, "required", add="session_id"), "$: what none of 3 takes"),
        ("session-event", changed("session-event", *COUNTED, "properties", "user_id", "type", to="string"), "$"),
        ("session-event", changed("session-event", *COUNTED, "properties", "track_id", "minLength", to=2), "$"),
        ("session-event", changed("session-event", *COUNTED, "properties", "event_type", "pattern", to="^play$"), "$"),
        ("session-event", changed("session-event", *COUNTED, "properties", add={"ms": {"type": "integer"}}), "$"),
        ("session-event", changed("session-event", *COUNTED, "additionalProperties", to=False), "$"),
        (
            "session-event",
            changed("session-event", "anyOf", to=schema("session-event")["anyOf"][:2]),
            "$: what none of 2",
        ),
        ("sessions", changed("sessions", "anyOf", 1, "minItems", to=2), "$"),
        ("sessions", changed("sessions", "anyOf", 1, "maxItems", to=50), "$"),
        ("track", changed("track", "required", add="name"), "$: an object without name"),
        (
            "track",
            changed("track", "properties", "tempo", "type", to=["number", "null"]),
            "$.tempo: a value of type bool",
        ),
        (
            "track",
            changed("track", "properties", "tempo", "type", to=["integer", "null", "boolean"]),
            "$.tempo: a value of",
        ),
        ("track", changed("track", "properties", "tempo", "minimum", to=0), "$.tempo: a number below 0"),
        ("trigger", changed("trigger", "properties", "reason", "enum", to=["manual"]), "$.reason: 'schedule'"),
        ("trigger", changed("trigger", "properties", "cut", "properties", "tracks", to=False), "$.cut.tracks"),
        ("playlist", changed("playlist", "required", to=["id"]), "$: an object without changes"),
        ("playlist", changed("playlist", "properties", "revision", "minimum", to=0), "$.revision: a number below 1"),
        (
            "playlist",
            changed("playlist", "properties", "week", "type", to=["string", "integer"]),
            "$.week: a value of type",
        ),
        (
            "playlist",
            changed("playlist", "properties", "week", "pattern", to="^.*$"),
            "$.week: a text that is not like",
        ),
        ("playlist", changed("playlist", "properties", "changes", to={"type": "integer"}), "$.changes: what none of 2"),
        (
            "playlist",
            changed("playlist", "properties", "tracks", "items", "properties", "plays", "maxItems", to=5),
            "$.tracks[].plays: an array of more than 4",
        ),
        (
            "playlist",
            changed("playlist", "properties", "cut", "additionalProperties", "additionalProperties", to=True),
            "$.cut.*.*: a value of type",
        ),
        ("evaluation", changed("evaluation", "properties", "own", to=True), "$.own"),
        (
            "letter-headers",
            changed("letter-headers", "properties", "hitparade-cause", "enum", add="mood"),
            "$.hitparade-ca",
        ),
    ],
)
def test_a_change_that_lets_somebody_down_is_found(name: str, new: Any, where: str) -> None:
    found = broken(name, schema(name), new)
    assert found
    assert found[0].startswith(where), found


def without(name: str, *path: Any) -> Any:
    made = schema(name)
    at = made
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return made


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("session-event", changed("session-event", "anyOf", add={"type": "object", "required": ["kind"]})),
        ("session-event", changed("session-event", *COUNTED, "required", to=["event_type"])),
        ("track", without("track", "properties", "tempo")),
        ("track", changed("track", "properties", "tempo", to={"type": ["number", "boolean", "null", "string"]})),
        ("trigger", changed("trigger", "properties", "reason", "enum", add="mood")),
        ("trigger", changed("trigger", "properties", add={"note": {"type": "string"}})),
        ("playlist", changed("playlist", "properties", add={"mood": {"type": "string"}})),
        ("playlist", changed("playlist", "properties", "fallback", to={"type": "null"})),
        ("evaluation", changed("evaluation", "required", add="own")),
        ("letter-headers", changed("letter-headers", "properties", "hitparade-cause", "enum", to=["late"])),
    ],
)
def test_a_change_that_lets_nobody_down_may_be_made_and_not_taken_back(name: str, new: Any) -> None:
    assert broken(name, schema(name), new) == []
    assert broken(name, new, schema(name)) != []


def test_a_word_that_the_comparison_does_not_know_is_no_word_to_use() -> None:
    with pytest.raises(AssertionError, match="oneOf"):
        refused({"oneOf": [{}]}, {"type": "string"})
