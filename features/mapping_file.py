"""The file of a mapping: TOML that says where the events of others have the fields of the contract.

    [fields]                          # ours = theirs: a path into objects, or several, of which the first counts
    user_id = ["payload.user.id", "payload.device"]
    track_id = "payload.song"
    timestamp = "payload.at"
    event_type = "payload.action"

    [event_types]                     # theirs, in any case = ours; "*" is whatever else there is
    started = "play"
    "*" = "ignored"

    [ids.track_id]                    # what is done to an id: cut a text off, hold it to be a UUID, put a text before
    strip = "spotify:track:"

    [timestamp]
    format = "unix_ms"                # iso (as ours), unix_s, unix_ms, unix_us or unix_ns

    [constants]                       # where no path leads to a value
    event_type = "play"

What it leaves out is as the contract has it.
"""

import json
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from features.events import IGNORED, KINDS, RawEvent
from features.mapping import IdRule, Mapping
from features.mapping import Path as Steps

UNITS = {"iso": 0, "unix_s": 1, "unix_ms": 1_000, "unix_us": 1_000_000, "unix_ns": 1_000_000_000}
OURS = {name: name for name in (*KINDS, *sorted(IGNORED))}
CALLED = {**OURS, "ignored": "advertisement"}  # which is ignored whatever else the event holds


class MappingError(ValueError):
    """A mapping file does not make sense; the message says where, what was expected, and what was found."""


def _path(path: str) -> str:
    if not all(path.split(".")):
        raise ValueError("expected names with a dot between them, such as payload.user.id")
    return path


def _event_type(name: str) -> str:
    if name not in CALLED:
        raise ValueError(f"expected one of {', '.join(CALLED)}")
    return CALLED[name]


Field_ = Literal["event_type", "track_id", "user_id", "timestamp", "event_id", "week", "group"]
IdField = Literal["track_id", "user_id", "event_id"]
FieldPath = Annotated[str, AfterValidator(_path)]
EventType = Annotated[str, AfterValidator(_event_type)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IdOptions(_Strict):
    """What is done to an id."""

    strip: str = ""
    kind: Literal["any", "uuid"] = "any"
    add: str = ""


class TimeOptions(_Strict):
    """How an event's time is written."""

    format: Literal["iso", "unix_s", "unix_ms", "unix_us", "unix_ns"] = "iso"


class Constants(_Strict):
    """What is the same in all of their events."""

    event_type: EventType | None = None
    track_id: StrictStr | StrictInt | None = None
    user_id: StrictStr | StrictInt | None = None
    timestamp: StrictStr | StrictInt | None = None


class MappingFile(_Strict):
    """The file, as it is checked."""

    fields: dict[Field_, FieldPath | Annotated[list[FieldPath], Field(min_length=1)]] = {}
    event_types: dict[str, EventType] = {}
    ids: dict[IdField, IdOptions] = {}
    timestamp: TimeOptions = TimeOptions()
    constants: Constants = Constants()


def parse_mapping(text: str) -> Mapping:
    """The mapping that a TOML text says.

    Raises:
        MappingError: it is no TOML, or names what there is not; all of that at once.
    """
    try:
        file = MappingFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as cause:
        raise MappingError(f"expected TOML: {cause}") from cause
    except ValidationError as cause:
        raise MappingError("; ".join(dict.fromkeys(map(_sentence, cause.errors())))) from cause
    event_types = {name.lower(): ours for name, ours in file.event_types.items()}
    if len(event_types) < len(file.event_types):
        raise MappingError("event_types: expected each name once in any case, found one twice")
    fields: dict[str, str | list[str]] = {name: name for name in RawEvent.__struct_fields__}
    return Mapping(
        {name: _paths(theirs) for name, theirs in (fields | file.fields).items()},
        {**OURS, **event_types} if event_types else {},
        {name: IdRule(options.strip, options.kind == "uuid", options.add) for name, options in file.ids.items()},
        UNITS[file.timestamp.format],
        file.constants.model_dump(exclude_none=True),
        sha256(json.dumps(file.model_dump(), sort_keys=True).encode()).hexdigest()[:16],
    )


def load_mapping(file: Path) -> Mapping:
    """The mapping of a file.

    Raises:
        MappingError: it cannot be read, or parse_mapping() refuses it.
    """
    try:
        return parse_mapping(file.read_text(encoding="utf-8"))
    except OSError as cause:
        raise MappingError(f"mapping file {file} cannot be read: {cause.strerror or cause}") from cause
    except ValueError as cause:  # MappingError too, and text that is no UTF-8
        raise MappingError(f"mapping file {file}: {cause}") from cause


def _paths(theirs: str | list[str]) -> tuple[Steps, ...]:
    """Where to look: a dot may also be part of a name, as Kafka Connect's Flatten writes it."""
    found: dict[Steps, None] = {}
    for path in [theirs] if isinstance(theirs, str) else theirs:
        found |= {tuple(path.split(".")): None, (path,): None}
    return tuple(found)


def _sentence(error: Any) -> str:
    where = ".".join(str(step) for step in error["loc"] if "[" not in str(step) and step not in ("str", "int"))
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such entry"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{where}: {message}, found {error['input']!r}"
