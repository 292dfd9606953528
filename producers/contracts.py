"""`python -m producers.contracts [DIR]`: writes docs/asyncapi.yaml and docs/schemas/*.json, or both into DIR."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.topics import Topics
from producers.published import Schema
from producers.samples import Sample, samples
from producers.schemas import SCHEMAS, schema
from producers.topics import TopicSpec, topic_specs

DRAFT_7 = "application/schema+json;version=draft-07"
PREFIX = Topics("{prefix}")
DEFAULT = Topics()
WEEKS_KEPT, PARTITIONS = 12, 6  # as the settings have them; a test holds them equal
PLAIN = re.compile(r"[A-Za-z$_/][A-Za-z0-9$_./-]*")
WRITTEN_WITH = {"content-type": {"const": "application/json"}, "schema-version": {"const": "1"}}
TRACE = {"type": "string", "description": "W3C trace context, where HITPARADE_TRACING is on"}


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic, by its property of Topics: what the key is, the schema of its values, and who writes it."""

    topic: str
    text: str
    key: str
    schema: str | None
    takes: bool = False
    """whether it is ours to read"""
    gives: bool = True
    """whether it is ours to write"""


LETTER = "The record as it was, byte for byte, with the reason and its origin in the headers; it may come twice."
LETTER_KEY = "the key that it came with"
CHANNELS = (
    Channel(
        "sessions",
        "What listeners did. Any key counts right. The broker sets the time of the record; what counts is the event's.",
        "anything, or none; the track or the user spreads the load evenly",
        "sessions",
        takes=True,
        gives=False,
    ),
    Channel(
        "tracks",
        "The catalogue, compacted. The record with the latest time holds; one without a value takes the track down.",
        "the track's id as text, always by the same partitioner",
        "track",
        takes=True,
        gives=False,
    ),
    Channel("triggers", "A week has closed: make lists.", "the closed week", "trigger", takes=True),
    Channel("playlists", "The lists; of a key the last record holds.", "WEEK/GROUP", "playlist"),
    Channel("evaluations", "What each list was worth, once its week had closed.", "WEEK/GROUP", "evaluation"),
    Channel("late", f"Events older than the weeks kept. {LETTER}", LETTER_KEY, None),
    Channel("dead_sessions", f"Events that can never be counted. {LETTER}", LETTER_KEY, None),
    Channel("dead_tracks", f"Catalogue records that cannot be read. {LETTER}", LETTER_KEY, None),
)


def asyncapi() -> Schema:
    """The whole document."""
    specs = topic_specs(DEFAULT, PARTITIONS, WEEKS_KEPT)
    by_name = {spec.name: spec for spec in specs}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hitparade",
            "version": "1.0.0",
            "description": "A weekly top 50 from a stream of listening sessions. producing.md and subscribing.md show "
            "clients. Written by `python -m producers.contracts`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "your brokers"}},
        "channels": {channel.topic: _channel(channel, by_name[_name(DEFAULT, channel)]) for channel in CHANNELS},
        "operations": dict(_operations()),
    }


def _name(topics: Topics, channel: Channel) -> str:
    name: str = getattr(topics, channel.topic)
    return name


def _channel(channel: Channel, spec: TopicSpec) -> Schema:
    shown = samples(channel.topic, DEFAULT.sessions, DEFAULT.tracks)
    message: Schema = {
        "description": channel.text,
        "headers": _headers(channel, shown),
        "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}}},
        "examples": [_example(sample) for sample in shown if sample.value is not None],
    }
    messages = {"record": _without_nothing(message | _payload(channel))}
    tombstones = [sample for sample in shown if sample.value is None]
    if tombstones:
        messages["tombstone"] = {
            "description": tombstones[0].summary,
            "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}}},
            "payload": {"type": "null"},
        }
    return {
        "address": _name(PREFIX, channel),
        "description": channel.text,
        "parameters": {"prefix": {"default": DEFAULT.prefix, "description": "HITPARADE_TOPIC_PREFIX"}},
        "messages": messages,
        "bindings": {"kafka": _binding(spec)},
    }


def _payload(channel: Channel) -> Schema:
    if channel.schema is None:
        return {"contentType": "application/octet-stream", "payload": {"schemaFormat": DRAFT_7, "schema": True}}
    payload = {"schemaFormat": DRAFT_7, "schema": {"$ref": f"schemas/{channel.schema}.json"}}
    return {"contentType": "application/json", "payload": payload}


def _headers(channel: Channel, shown: tuple[Sample, ...]) -> Schema | None:
    if channel.schema is None:
        return {"schemaFormat": DRAFT_7, "schema": {"$ref": "schemas/letter-headers.json"}}
    if not shown[0].headers:
        return None
    return {"type": "object", "required": list(WRITTEN_WITH), "properties": {**WRITTEN_WITH, "traceparent": TRACE}}


def _example(sample: Sample) -> Schema:
    outcome = ", ".join(f"{n} {name}" for name, n in sample.outcome.items())
    parts = [f"Key: {sample.key}.", sample.summary, *([f"Ends as: {outcome}."] if outcome else [])]
    example = {"name": sample.name, "summary": " ".join(parts), "headers": sample.headers, "payload": sample.value}
    return _without_nothing(example)


def _without_nothing(fields: Schema) -> Schema:
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _binding(spec: TopicSpec) -> Schema:
    """The topic as `hitparade topics` makes it."""
    configs: Schema = {k: int(v) if v.lstrip("-").isdigit() else v for k, v in spec.configs.items()}
    configs["cleanup.policy"] = [configs["cleanup.policy"]]
    return {"topic": spec.name, "partitions": spec.partitions, "topicConfiguration": configs, "bindingVersion": "0.5.0"}


def _operations() -> Iterator[tuple[str, Schema]]:
    """What hitparade does: others do the opposite."""
    for channel in CHANNELS:
        does = [("receive", channel.takes), ("send", channel.gives)]
        for action in [action for action, is_done in does if is_done]:
            yield f"{action}_{channel.topic}", {"action": action, "channel": {"$ref": f"#/channels/{channel.topic}"}}


def yaml(value: Any) -> str:
    """The value as YAML: mappings and lists by indentation, all else as JSON has it."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            key = name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)
            yield from _entry(f"{key}:", part)
    elif isinstance(value, list | tuple) and value:
        for part in value:
            yield from _entry("-", part)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _entry(mark: str, part: Any) -> Iterator[str]:
    lines = _lines(part)
    if isinstance(part, Mapping | list | tuple) and part:
        yield mark
        yield from (f"  {line}" for line in lines)
    else:
        yield f"{mark} {next(lines)}"


def documents() -> dict[str, str]:
    """The text of each file, by its path."""
    found = {"asyncapi.yaml": yaml(asyncapi())}
    for name in SCHEMAS:
        found[f"schemas/{name}.json"] = json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"
    return found


def write(folder: Path) -> None:
    """Write every file."""
    for path, text in documents().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
