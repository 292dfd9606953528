"""Other people's events, read as ours: where their JSON has the fields of the contract, and how it writes them."""

import json
from collections.abc import Mapping as Lookup
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from features.events import BadRecord, RawEvent, elements, fields_of

OTHERS = "*"
FRAME_BYTES = 5  # a null byte and the schema's id. Source: Confluent, "Wire format" of Schema Registry
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdRule:
    """What is done to an id, in this order: the text before it is cut off, it must be a UUID, a text is put before."""

    strip: str = ""
    is_uuid: bool = False
    add: str = ""

    def apply(self, value: Any) -> Any:
        """The id as it is to be read; what is none is left, or made, to be refused."""
        if type(value) is not int and type(value) is not str:
            return value
        text = str(value).removeprefix(self.strip)
        if self.is_uuid:
            try:
                text = str(UUID(text))
            except ValueError:
                return _refused(value)
        return self.add + text if text else ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Reads events of others as those of the contract, purely.

    paths has where each of RawEvent's fields may be: the first that leads to a value counts. event_types has their
    names in lower case, and OTHERS for any other. per_second is of a number that is a time; where it is 0, times are
    text. fingerprint is a hash of all that the mapping says.
    """

    paths: Lookup[str, Sequence[Path]]
    event_types: Lookup[str, str]
    ids: Lookup[str, IdRule]
    per_second: int
    constants: Lookup[str, str | int]
    fingerprint: str

    def decode(self, value: bytes | None) -> list[RawEvent | BadRecord]:
        """The events of one Kafka value, as features.events.decode() has them."""
        if value is None:
            return [BadRecord("json", "the value is null")]
        return [self._event(element) for element in self.elements(value)]

    def elements(self, value: bytes) -> list[bytes]:
        """The bytes of each event of a value; where that has a schema's id, each bears it."""
        frame, body = unframed(value)
        found = elements(body)
        return [value] if found == [body] else [frame + element for element in found]

    def rewrite(self, value: bytes) -> list[bytes]:
        """Each event as the JSON of the contract, which ends as the event itself does; what is no object stays so."""
        return [self._rewritten(element) for element in self.elements(value)]

    def _rewritten(self, element: bytes) -> bytes:
        raw = self._event(element)
        if isinstance(raw, BadRecord):  # an array in an array is one event, and not several
            return element if elements(element) == [element] else b"[" + element + b"]"
        found = {name: getattr(raw, name) for name in RawEvent.__struct_fields__}
        kept = {name: _writable(value) for name, value in found.items() if value is not None}
        return json.dumps(kept, separators=(",", ":")).encode()

    def _event(self, element: bytes) -> RawEvent | BadRecord:
        try:
            fields = fields_of(unframed(element)[1])
        except BadRecord as cause:
            return cause
        found = {name: self._found(name, fields) for name in self.paths}
        if self.event_types:
            found["event_type"] = self._event_type(found["event_type"])
        if self.per_second:
            found["timestamp"] = iso_time(found["timestamp"], self.per_second)
        for name, rule in self.ids.items():
            found[name] = rule.apply(found[name])
        return RawEvent(**found)

    def _found(self, name: str, fields: Lookup[str, Any]) -> Any:
        for path in self.paths[name]:
            value = at(fields, path)
            if value is not None and value != "":
                return value
        return self.constants.get(name)

    def _event_type(self, value: Any) -> Any:
        """Our name of theirs, which may be a number or a boolean."""
        if value is None or isinstance(value, dict | list | float):
            return value
        text = value if isinstance(value, str) else json.dumps(value)
        return self.event_types.get(text.lower(), self.event_types.get(OTHERS, text))


def unframed(value: bytes) -> tuple[bytes, bytes]:
    r"""A value in two: the schema's id that Confluent's serializers put before JSON, if it has one, and the rest.

    >>> unframed(b"\0\0\0\0\7{}"), unframed(b"{}")
    ((b'\x00\x00\x00\x00\x07', b'{}'), (b'', b'{}'))
    """
    return (value[:FRAME_BYTES], value[FRAME_BYTES:]) if value.startswith(b"\0") else (b"", value)


def at(fields: Any, path: Path) -> Any:
    """What a path leads to; None where it ends before."""
    for name in path:
        if not isinstance(fields, dict):
            return None
        fields = fields.get(name)
    return fields


def iso_time(value: Any, per_second: int) -> Any:
    """A number as ISO 8601; a text that is none is left to be read as such."""
    if value is None or isinstance(value, bool):
        return value
    try:
        number = value if isinstance(value, int | float) else float(value)
        seconds, rest = divmod(number, per_second)
        return (EPOCH + timedelta(seconds=seconds, microseconds=rest * 1_000_000 / per_second)).isoformat()
    except ValueError:  # not a number, which a text can also say
        return value
    except (TypeError, OverflowError):
        return _refused(value)


def _writable(value: Any) -> Any:
    """What an event can have, as it is: JSON has no word for some of what has been read from it."""
    return value if isinstance(value, str | int) else _refused(value)


def _refused(value: Any) -> dict[str, str]:
    """What no event can have in any field, for whatever reason."""
    return {"refused": type(value).__name__}
