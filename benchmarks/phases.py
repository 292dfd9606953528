"""A command of hitparade with a stop-watch on the parts of its weekly run: python -m benchmarks.phases consume weekly.

The last line of standard output is JSON: for each phase [seconds, CPU seconds], and the peak of the process's memory.
Or, without servers: python -m benchmarks.phases rank FOLDER WEEK, which opens, scores, ranks and keeps from a history.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from hitparade import wiring
from hitparade.settings import Settings

BEGAN = time.perf_counter()
Spent = dict[str, list[float]]


def watched(spent: Spent, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, its time added to the phase's."""

    @wraps(call)
    def timed(*arguments: Any, **named: Any) -> Any:
        began, cpu_began = time.perf_counter(), time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            spent.setdefault(phase, [0.0, 0.0])
            spent[phase][0] += time.perf_counter() - began
            spent[phase][1] += time.process_time() - cpu_began

    return timed


def watch_all() -> Spent:
    """Put a stop-watch on every phase. A phase inside another counts in both."""
    import consumers.scoring
    import consumers.weekly
    from consumers.runs import Run
    from consumers.snapshot import Snapshot
    from models.ranking import Best

    spent: Spent = {}
    for owner, name, phase in (
        (Snapshot, "bring_up_to_date", "read"),
        (Snapshot, "_write_catalogue", "read catalogue"),
        (consumers.weekly, "evaluate_lists", "evaluate"),
        (consumers.weekly.WeeklyRun, "run", "run"),
        (consumers.weekly.WeeklyRun, "_open", "fit and load"),
        (consumers.scoring, "charted_part", "chart"),
        (consumers.scoring, "table_part", "build"),
        (consumers.scoring, "rows_of", "keep"),
        (Run, "add", "keep"),
        (Run, "keep", "keep"),
        (Best, "add", "rank"),
        (Best, "merge", "rank"),
    ):
        setattr(owner, name, watched(spent, phase, getattr(owner, name)))
    weekly: Any = consumers.weekly
    opened = weekly.open_model

    def open_watched(model: str, *arguments: Any) -> Any:
        fitted = opened(model, *arguments)
        return replace(fitted, score=watched(spent, f"score {model}", fitted.score))

    weekly.open_model = open_watched
    return spent


def rank(folder: Path, closed_week: str) -> None:
    """What a weekly run does between reading and publishing."""
    settings = Settings.from_env({**os.environ, "HITPARADE_DATA_DIR": str(folder)})
    from consumers.guard import Guard
    from consumers.snapshot import Snapshot
    from consumers.weekly import WeeklyRun

    nothing: Any = None
    run = WeeklyRun(
        Snapshot(nothing, nothing, (), wiring.history(settings)),
        wiring.registry(settings),
        wiring.experiments(settings),
        wiring.runs(settings),
        wiring.evaluations(settings),
        wiring.playlist_log(settings),
        nothing,
        settings.topics,
        guard=Guard(),
    )
    week = settings.calendar.parse(closed_week)
    experiment = run.experiments.in_force(week.after())
    opened = run._open({group.model for group in experiment.groups}, week)
    for playlist in run._score(week, experiment, opened, {}):
        print(playlist.model_dump_json(), file=sys.stderr)


def peak_mib() -> float:
    """Of this process alone: what getrusage says begins on Linux with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    """Run the command, and tell."""
    spent = watch_all()
    if sys.argv[1] == "rank":
        code = 0
        rank(Path(sys.argv[2]), sys.argv[3])
    else:
        from hitparade.__main__ import main as command

        code = command(sys.argv[1:])
    spent["everything"] = [time.perf_counter() - BEGAN, time.process_time()]
    print(json.dumps({"phases": spent, "peak_mib": peak_mib()}))
    return code


if __name__ == "__main__":
    sys.exit(main())
