"""What we write and others read, as JSON Schema (draft 7), made from the models of it; open: fields may be added."""

from typing import Any

from pydantic import BaseModel

from features.events import CAUSES
from producers.playlists import Evaluation, Playlist

Schema = dict[str, Any]

END = r"$(?!\n)"
"""The end of a text, to those engines too whose $ is also before a last line feed."""
WEEK = rf"^[0-9]{{4}}-W[0-9]{{2}}{END}"
PLAYLIST: Schema = {
    "id": {"description": "hash of what the list is: the same id is the same list", "pattern": "^sha256:[0-9a-f]{64}$"},
    "week": {"description": "the week that the list is for", "pattern": WEEK},
    "closed_week": {"description": "the last week that was counted for it, the one before", "pattern": WEEK},
    "group": {"description": "the group of the experiment whose users are shown it"},
    "experiment": {"description": "the experiment that held in the week"},
    "model": {"description": "what made the list: the group's model, or naive where that could not"},
    "model_version": {"description": "the version of the model"},
    "revision": {"description": "1, and one more whenever the list of this key has become another", "minimum": 1},
    "fallback": {"description": "why another model than the group's made the list; null where it did not"},
    "changes": {"description": "what this revision changed in the one before; null for the first"},
    "cut": {
        "description": "by topic and partition, the end offset that was counted; under `rebuilt`, how often a "
        "partition was counted anew"
    },
    "tracks": {"description": "the list, best first; up to 50"},
}
EVALUATION: Schema = {
    "week": {"description": "the week that the list was for", "pattern": WEEK},
    "group": PLAYLIST["group"],
    "experiment": PLAYLIST["experiment"],
    "model": PLAYLIST["model"],
    "model_version": PLAYLIST["model_version"],
    "playlist_id": {"description": "the id of the list that is judged", "pattern": PLAYLIST["id"]["pattern"]},
    "revision": {"description": "the revision of that list", "minimum": 1},
    "span_weeks": {"description": "how many weeks the list ranks by", "minimum": 1},
    "n_ranked": {"description": "the length of the ranking judged"},
    "metrics": {"description": "by name, what the list was worth by the plays of all listeners"},
    "naive": {"description": "the same of the list `last week again`"},
    "own": {"description": "the same by the plays of the group's own listeners"},
    "forecast": {"description": "the forecast of the week alone, by the plays of the week alone"},
    "own_forecast": {"description": "the same by the plays of the group's own listeners"},
}


def playlist() -> Schema:
    """The value of a record of the playlist topic; what is published has all of its fields."""
    return _written(Playlist, PLAYLIST) | {"required": list(PLAYLIST)}


def evaluation() -> Schema:
    """The value of a record of the evaluation topic; old records lack what has a default."""
    return _written(Evaluation, EVALUATION)


def _written(model: type[BaseModel], more: Schema) -> Schema:
    """The schema of what we write, without what only binds our own readers."""
    made = model.model_json_schema(mode="serialization")
    schema: Schema = _plain(made, made.get("$defs", {}))
    for name, field in schema["properties"].items():
        field.update(more[name])
    return schema


def _plain(schema: Any, parts: Schema) -> Any:
    """Without references, in draft 7, and open."""
    if isinstance(schema, list):
        return [_plain(part, parts) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(parts[schema["$ref"].rpartition("/")[2]], parts)
    made = {name: _plain(part, parts) for name, part in schema.items() if name not in ("title", "default", "$defs")}
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")[0]
    if isinstance(made.get("additionalProperties"), bool):
        del made["additionalProperties"]
    return made


def letter_headers() -> Schema:
    """The headers of a dead letter and of a late event, whose value is what it was, whatever that is."""
    number = {"type": "string", "pattern": f"^[0-9]{{1,19}}{END}"}
    fields: Schema = {
        "hitparade-cause": {"enum": sorted({*CAUSES, "late", "track"}), "description": "why it was not counted"},
        "hitparade-topic": {"type": "string", "description": "where it was first read"},
        "hitparade-partition": number,
        "hitparade-offset": number,
        "hitparade-index": {**number, "description": "its place in its array, from 0"},
    }
    return json_object("Why an event was set aside, and where it came from; all of it is text.", fields, list(fields))


def json_object(text: str, properties: Schema, required: list[str], **more: Any) -> Schema:
    """An object with these fields, and others unless `more` says otherwise."""
    return {"description": text, "type": "object", "required": required, "properties": properties, **more}
