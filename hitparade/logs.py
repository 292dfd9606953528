"""Logs on standard error: a line of text, or of JSON; what is said over and over is cut short."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

FIELDS = ("week", "group", "topic", "partition", "offset", "trace_id")
"""What a line of JSON has beside its message where it applies; callers give it as `extra`."""
MOST_LINES = 5
PER_S = 60.0
MOST_SPELLS = 1000


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Give time, level, logger, message, the fields that apply, and the traceback where there is one."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() + getattr(record, "more", ""),
            **{name: record.__dict__[name] for name in FIELDS if name in record.__dict__},
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


@dataclass(slots=True)
class _Spell:
    """How often one thing has been said since a moment."""

    since: float
    n_lines: int = 0
    n_left_out: int = 0


@dataclass(slots=True)
class Sparing:
    """A filter of lines: of the same thing no more than MOST_LINES in PER_S seconds.

    The same thing is the same words, before they are filled in, of the same week, group, topic and partition. The last
    line that is let through says that more are left out, the first of the next spell how many. Only warnings and errors
    are filtered: what is below tells of a change, each time.
    """

    clock: Callable[[], float] = time.monotonic
    _spells: dict[tuple[object, ...], _Spell] = field(default_factory=dict)

    def __call__(self, record: logging.LogRecord) -> bool:
        """Let the line through, with a word in `more` on those that were or will be left out, or not."""
        if record.levelno < logging.WARNING:
            return True
        spell, n_left_out = self._spell(record)
        spell.n_lines += 1
        if spell.n_lines > MOST_LINES:
            spell.n_left_out += 1
            return False
        told = f" ({n_left_out:,} more like this were left out)" if n_left_out else ""
        if spell.n_lines == MOST_LINES:
            told += f" (more like this are left out for up to {PER_S:.0f} s)"
        record.more = told
        return True

    def _spell(self, record: logging.LogRecord) -> tuple[_Spell, int]:
        """The spell that the line is of, and how many were left out in the one before it, where it begins a new one."""
        now, where = self.clock(), (record.__dict__.get(name) for name in FIELDS[:4])
        words = record.getMessage() if record.msg == "%s" else record.msg
        key = (record.name, words, *where)
        found = self._spells.get(key)
        if found and now < found.since + PER_S:
            return found, 0
        if len(self._spells) >= MOST_SPELLS:
            self._spells = {name: spell for name, spell in self._spells.items() if now < spell.since + PER_S}
        self._spells[key] = _Spell(now)
        return self._spells[key], found.n_left_out if found else 0


class Masked(logging.Formatter):
    """Another formatter's lines without the secrets: at DEBUG libraries tell what they were opened with, and send."""

    def __init__(self, formatter: logging.Formatter, secrets: Iterable[str]) -> None:
        self.formatter = formatter
        self.written = sorted({text for secret in secrets for text in _as_written(secret)}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Give the line with stars for every secret."""
        line = self.formatter.format(record)
        for text in self.written:
            line = line.replace(text, "***")
        return line


def _as_written(secret: str) -> Iterator[str]:
    """A text as it is, as Python shows it and its bytes, and as it is in JSON."""
    yield from (secret, repr(secret)[1:-1], repr(secret.encode())[2:-1], json.dumps(secret, ensure_ascii=False)[1:-1])


def start_logging(log_format: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Log to standard error; what the Kafka client logs as an error, it also raises, or meant to do."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(more)s", defaults={"more": ""})
    handler.setFormatter(Masked(JsonFormatter() if log_format == "json" else text, secrets))
    handler.addFilter(Sparing())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("torch").setLevel(logging.WARNING)  # it has statistics to tell when it is interrupted
    logging.getLogger("kafka").setLevel(logging.DEBUG if level == "DEBUG" else logging.CRITICAL)
