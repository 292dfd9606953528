"""Whether one JSON Schema takes all that another takes, for the words that ours use; no where it cannot be told."""

from importlib import import_module
from typing import Any

Draft7Validator: Any = import_module("jsonschema").Draft7Validator  # neither has types of its own
yaml: Any = import_module("yaml")

Schema = Any
NOTES = {"$schema", "title", "description", "format"}
WORDS = {
    *("type", "enum", "const", "anyOf", "minLength", "pattern", "minimum", "items", "minItems", "maxItems"),
    *("properties", "required", "additionalProperties", "propertyNames"),
}
ANY = ("array", "boolean", "integer", "null", "number", "object", "string")


def refused(wide: Schema, narrow: Schema, at: str = "$") -> list[str]:
    """What `wide` may refuse of what `narrow` takes, a line each; nothing where it takes all of it.

    Two patterns are the same or they are not: to take more texts, add an anyOf.
    """
    wide, narrow = _plain(wide), _plain(narrow)
    if not wide or wide == narrow:
        return []
    if "anyOf" in narrow:
        return [line for part in narrow["anyOf"] for line in refused(wide, part, at)]
    if isinstance(narrow.get("type"), list):
        return [line for kind in narrow["type"] for line in refused(wide, {**narrow, "type": kind}, at)]
    if "enum" in narrow:
        return [f"{at}: {value!r}" for value in narrow["enum"] if not Draft7Validator(wide).is_valid(value)]
    own = {word: value for word, value in wide.items() if word != "anyOf"}
    found = _of_type(own, narrow, at) + _of_text(own, narrow, at) + _of_array(own, narrow, at)
    found += _of_object(own, narrow, at) if _may_be(narrow, "object") else []
    if "anyOf" in wide and all(refused(part, narrow, at) for part in wide["anyOf"]):
        found.append(f"{at}: what none of {len(wide['anyOf'])} takes: {refused(wide['anyOf'][0], narrow, at)[0]}")
    return found


def _plain(schema: Schema) -> dict[str, Any]:
    """A schema as a mapping, without notes; a false one takes nothing."""
    if isinstance(schema, bool):
        return {} if schema else {"enum": []}
    assert schema.keys() <= NOTES | WORDS, f"of {schema.keys() - NOTES - WORDS} this cannot tell"
    made = {word: value for word, value in schema.items() if word not in NOTES}
    if "const" in made:
        made["enum"] = [made.pop("const")]
    return made


def _types(schema: dict[str, Any]) -> set[str]:
    found = schema.get("type", ANY)
    types = {found} if isinstance(found, str) else set(found)
    return types | {"integer"} if "number" in types else types


def _may_be(schema: dict[str, Any], kind: str) -> bool:
    return kind in _types(schema)


def _of_type(wide: dict[str, Any], narrow: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}: a value of type {kind}" for kind in sorted(_types(narrow) - _types(wide))]
    if "enum" in wide:
        found.append(f"{at}: a value that is none of {wide['enum']}")
    if "minimum" in wide and _may_be(narrow, "integer") and narrow.get("minimum", float("-inf")) < wide["minimum"]:
        found.append(f"{at}: a number below {wide['minimum']}")
    return found


def _of_text(wide: dict[str, Any], narrow: dict[str, Any], at: str) -> list[str]:
    if not _may_be(narrow, "string"):
        return []
    found = []
    if narrow.get("minLength", 0) < wide.get("minLength", 0):
        found.append(f"{at}: a text shorter than {wide['minLength']}")
    if wide.get("pattern", narrow.get("pattern")) != narrow.get("pattern"):
        found.append(f"{at}: a text that is not like {wide['pattern']}")
    return found


def _of_array(wide: dict[str, Any], narrow: dict[str, Any], at: str) -> list[str]:
    if not _may_be(narrow, "array"):
        return []
    found = refused(wide.get("items", True), narrow.get("items", True), f"{at}[]")
    if narrow.get("minItems", 0) < wide.get("minItems", 0):
        found.append(f"{at}: an array of less than {wide['minItems']}")
    if narrow.get("maxItems", float("inf")) > wide.get("maxItems", float("inf")):
        found.append(f"{at}: an array of more than {wide['maxItems']}")
    return found


def _of_object(wide: dict[str, Any], narrow: dict[str, Any], at: str) -> list[str]:
    missing = sorted(set(wide.get("required", [])) - set(narrow.get("required", [])))
    found = [f"{at}: an object without {name}" for name in missing]
    ours, theirs = wide.get("properties", {}), narrow.get("properties", {})
    others, their_others = wide.get("additionalProperties", True), narrow.get("additionalProperties", True)
    for name in sorted({*ours, *theirs}):
        found += refused(ours.get(name, others), theirs.get(name, their_others), f"{at}.{name}")
    found += refused(others, their_others, f"{at}.*")
    return found + refused(wide.get("propertyNames", True), narrow.get("propertyNames", True), f"{at} names")
