"""Ways to break the product: each a change of its text, which a simulation must notice."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

import consumers.loop
import consumers.sessions
from consumers.beginning import Beginning
from consumers.loop import Consumer
from consumers.source import Source
from consumers.watchdog import Watchdog
from consumers.writer import Writer
from features.caps import Cap
from features.counting import Counting
from tests.simulation.memory import MemoryStore


class Edit(NamedTuple):
    """Text of a function, and what to put in its place."""

    owner: Any
    function: str
    old: str
    new: str


SEND = "self.letters.send(partition, part.set_aside)"
APPLY = "writer.apply(partition, part)"
BEGUN = "self.writer.fences[partition] = fence"
DONE = "applying.done.result()"
TALLY = "tally(*span, rules, most_tracks, known, played=played, going_on=going_on)"
SWALLOWED = f"try:\n        {DONE}\n    except {{}}:\n        pass"
TALLIED_FIRST = """before, tallies = counted, Counter(counted.fence.tallies) + part.tallies
    self.partitions[partition] = counted = replace(counted, fence=replace(counted.fence, tallies=tallies))
    self.refuse(counted.fence, topic_id, part)
    counted = before"""
NOBODY_COMPARES = Edit(Consumer, "_compare", "if found != ours", "if False")

MUTANTS: dict[str, list[Edit]] = {
    "the fence is ignored": [Edit(MemoryStore, "refuse", "if fence.next_offset != part.start", "if False")],
    "tallies are added before the fence is looked at": [
        Edit(MemoryStore, "apply", "self.refuse(counted.fence, topic_id, part)", TALLIED_FIRST)
    ],
    "consumers begin at the committed offset": [
        Edit(Consumer, "begin", "start = fence.next_offset", "start = self.source.committed(partition) or 0")
    ],
    "stream time is not taken from the fence": [
        Edit(Consumer, "begin", BEGUN, f"{BEGUN[:-5]}replace(fence, stream_time=None)")
    ],
    "a rebuild goes unnoticed": [Edit(Consumer, "begin", BEGUN, f"{BEGUN[:-5]}replace(fence, rebuilt=0)")],
    "a topic created anew is counted on": [
        Edit(Beginning, "_agrees", "if fence.topic_id != topic_id", "if False"),
        Edit(MemoryStore, "refuse", "if fence.identity != topic_id:", "if False:"),
    ],
    "a loss is not told": [Edit(Beginning, "_lost", "and not self.accept_loss", "and False")],
    "an emptied Redis is taken for a new one": [
        Edit(Beginning, "_first_offset", "if log_start > 0 and committed is not None", "if False"),
        Edit(Beginning, "_first_offset", "log_start if committed is None else 0", "log_start"),
    ],
    "a Redis that went back is noticed only by what it refuses": [NOBODY_COMPARES],
    "letters are sent after the counters": [
        Edit(Consumer, "drain", SEND, "pass"),
        Edit(Consumer, "drain", APPLY, f"{APPLY}; writer.settle(); {SEND}"),
    ],
    "late letters are not sent": [
        Edit(
            Consumer, "drain", SEND, SEND.replace("part.set_aside", "[e for e in part.set_aside if e.topic != 'late']")
        )
    ],
    "a time-out is taken for success, and nobody compares": [
        Edit(Writer, "_finish", DONE, SWALLOWED.format("StoreUnavailable")),
        NOBODY_COMPARES,
    ],
    "a refused part is dropped, and nobody compares": [
        Edit(Writer, "_finish", DONE, SWALLOWED.format("Fenced")),
        NOBODY_COMPARES,
    ],
    "late is decided by the latest event of the batch": [
        Edit(
            consumers.sessions,
            "deciding",
            f"return {TALLY}",
            f"*_, last = {TALLY.replace('going_on)', 'None)')}; span = *span[:3], last.stream_time; return {TALLY}",
        )
    ],
    "nobody looks up what has been played": [
        Edit(consumers.sessions, "deciding", "if rules.plays_cap", "if False"),
    ],
    "what was played is not remembered": [Edit(Cap, "take", "if pairs and week >= oldest_week", "if False")],
    "what is capped moves stream time": [
        Edit(Counting, "_refused", "return CAPPED", "self._pass(event.event_time, week); return CAPPED"),
    ],
    "a part is held whatever is in it": [Edit(Writer, "keep", "part.has_only_counts and", "")],
    "what was not applied is not read again": [Edit(Source, "rewind", "self.start(partition, offset)", "pass")],
    "the fence moves to the last record": [
        Edit(
            Source,
            "poll",
            "for partition, start, end, records in spans if",
            "for partition, start, _, records in spans for end in [max([r.offset + 1 for r in records] or [start])] if",
        )
    ],
    "nobody watches for partitions that stand still": [Edit(Watchdog, "suspects", "return suspects", "return []")],
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break the product while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumers.loop, "replace", replace, raising=False)
        texts: dict[tuple[Any, str], str] = {}
        for owner, function, old, new in MUTANTS[name]:
            original = getattr(owner, function)
            text = texts.get((owner, function)) or textwrap.dedent(inspect.getsource(original))
            assert text.count(old) == 1, f"{function} has not {old!r} once"
            texts[owner, function] = text.replace(old, new)
        for (owner, function), text in texts.items():
            scope: dict[str, Any] = {}
            exec(text, vars(sys.modules[getattr(owner, function).__module__]), scope)
            patch.setattr(owner, function, scope[function])
        yield
