"""Run a command that sends itself signals at chosen edges.

    python -m tests.faults.killed 'SIGSTOP before apply 2, SIGKILL after flush 1' consume sessions

The nth call of an edge is the nth that has work: a flush with letters to write; of polls, those that brought something.
"""

import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from consumers.group import GroupReader
from consumers.source import Source
from features.store import CounterStore
from hitparade.__main__ import main
from producers.letters import Letters
from producers.publisher import Publisher

EDGES: dict[str, tuple[Any, str]] = {
    "bucket": (CounterStore, "packed"),
    "poll": (Source, "poll"),
    "flush": (Letters, "send"),
    "apply": (CounterStore, "apply"),
    "commit": (Source, "commit"),
    "init": (CounterStore, "init"),
    "publish": (Publisher, "publish"),
    "done": (GroupReader, "commit"),
}
PLAN = re.compile(r"(SIG\w+) (before|after) (\w+) (\d+)")


@dataclass
class Plans:
    """What is still to be sent where, and how often each edge has had work."""

    plans: set[tuple[str, str, str, int]]
    n_calls: Counter[str] = field(default_factory=Counter)

    def wrap(self, edge: str) -> None:
        owner, name = EDGES[edge]
        inner = getattr(owner, name)

        @wraps(inner)
        def around(*arguments: Any) -> Any:
            if edge == "poll":
                self.strike("before", edge, "")
                found = inner(*arguments)
                self.n_calls[edge] += bool(found)
                if found:
                    self.strike("after", edge, f"{len(found)} batches")
                return found
            if edge == "flush" and not arguments[2]:
                return inner(*arguments)
            self.n_calls[edge] += 1
            self.strike("before", edge, said_of(arguments))
            answer = inner(*arguments)
            self.strike("after", edge, said_of(arguments))
            return answer

        setattr(owner, name, around)

    def strike(self, when: str, edge: str, what: str) -> None:
        """Say so, and send the signal, if this is the place."""
        nth = self.n_calls[edge]
        for plan in [plan for plan in self.plans if plan[1:] == (when, edge, nth)]:
            self.plans.remove(plan)
            os.write(2, f"{plan[0]} {when} {edge} {nth}: {what}\n".encode())
            # Aimed at this very thread, so that not one instruction more is run.
            signal.pthread_kill(threading.get_ident(), signal.Signals[plan[0]])


def said_of(arguments: Sequence[Any]) -> str:
    """The partition and the span of an apply."""
    if isinstance(arguments[0], CounterStore) and hasattr(arguments[-1], "end"):
        return f"partition {arguments[1]} [{arguments[-1].start}, {arguments[-1].end})"
    return ""


if __name__ == "__main__":
    plans = Plans({(name, when, edge, int(nth)) for name, when, edge, nth in PLAN.findall(sys.argv[1])})
    if "consume weekly" in " ".join(sys.argv[2:]):  # pandas and pyarrow, which only this one needs
        from consumers.runs import Run

        EDGES["add"] = (Run, "add")
    for edge in {edge for _, _, edge, _ in plans.plans}:
        plans.wrap(edge)
    sys.exit(main(sys.argv[2:]))
