"""Commands whose work several processes share: what they print and write is what one process does."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from consumers.kafka import TopicWatch
from consumers.rebuild import Rebuild, RebuildRefused
from consumers.sessions import session_letters
from features.connect import StoreUnavailable
from features.history import HistoryError
from features.runners import here, in_processes
from features.store import Fenced
from hitparade import auditing, wiring
from hitparade.backtesting import Rolling
from hitparade.embedded import Embedded
from models.backtest import Judged, backtest, stretches
from models.forecasters import neural, open_linear, open_naive
from models.training import train
from tests.builders_counting import PARTITIONS, Counted, letters_of
from tests.builders_history import listening, weeks
from tests.builders_weekly import chart_week, plays, staged
from tests.commands import Command, Ended, end, nothing_left_running, run, start
from tests.servers import wait_until
from tests.stored import stored

__all__ = ["nothing_left_running"]
pytestmark = pytest.mark.usefixtures("nothing_left_running")

TWO = ("--workers", "2")
BACKTEST = ("backtest", "--models", "linear,neural", "--last", "3", "--refit-every", "2", "--json", "--history")


def nobody(n: int) -> None:
    """Tells nobody how far it has come."""


# Audit


def test_an_audit_by_two_processes_prints_what_one_does(counted: Counted, command: Command) -> None:
    right = command(counted, "audit", "--json")
    assert (right.code, len(right.rows())) == (0, PARTITIONS)
    assert command(counted, "audit", "--json", *TWO) == right
    week = counted.change(1)[0]
    for arguments in ((), ("--json",), (week,)):
        wrong = command(counted, "audit", *arguments)
        assert (wrong.code, week in wrong.out) == (1, True)
        assert command(counted, "audit", *arguments, *TWO) == wrong


def test_what_a_worker_cannot_reach_is_the_error_that_it_is_here(counted: Counted) -> None:
    rules = wiring.rules(counted.settings)
    subjects = auditing._audit(counted.settings, rules, ()).survey(range(PARTITIONS), counted.topic_id())
    away = counted.other(REDIS_URL="redis://127.0.0.1:1/0").settings
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        list(in_processes(2)(partial(auditing._partition, away, rules, ()), subjects, nobody))


# Rebuild


def test_a_rebuild_by_two_processes_counts_and_tells_what_one_does(counted: Counted, command: Command) -> None:
    """Fewer weeks are kept than before, so that other events are late: letters are sent, and that is told."""
    kept = counted.other(WEEKS_KEPT="12")
    assert command(kept, "rebuild").code == 0
    told = command(counted, "rebuild").out
    right = [stored(counted.store, partition) for partition in range(PARTITIONS)]
    n_letters = Counter(record.partition for record in letters_of(counted, counted.settings.topics.late))
    assert told.count("counting once more, with letters") == PARTITIONS
    assert command(kept, "rebuild").code == 0
    counted.change(7)
    assert command(counted, "rebuild", *TWO).out == told
    assert [stored(counted.store, partition) for partition in range(PARTITIONS)] == right
    again = Counter(record.partition for record in letters_of(counted, counted.settings.topics.late))
    assert again == {partition: 2 * n for partition, n in n_letters.items()}
    assert command(counted, "audit").code == 0


def test_a_worker_that_is_overtaken_by_another_rebuild_refuses_as_one_process_does(counted: Counted) -> None:
    def overtaken(partitions: Sequence[int]) -> Iterator[list[str]]:
        yield ["partition 0: as it should be"]
        raise Fenced("partition 1: what was rebuilt is gone")

    settings, told = counted.settings, list[str]()
    letters, watch = session_letters(settings.kafka, settings.topics), TopicWatch(settings.kafka)
    work = Rebuild(settings.kafka, counted.store, letters, wiring.rules(settings), watch, tell=told.append)
    with pytest.raises(RebuildRefused, match="Another rebuild is at work"):
        work.run(overtaken)
    assert told == ["partition 0: as it should be"]
    letters.close()
    watch.close()


# Backtest


def rolling(folder: Path) -> Rolling:
    return Rolling(listening(folder, 12, n_tracks=30), ("linear", "neural"), 1, 0, 2, ("popularity",), None)


def flat(parts: Iterator[list[Judged]]) -> list[Judged]:
    return [judged for part in parts for judged in part]


def test_stretches_of_weeks_judged_by_processes_are_equal_to_the_bit_to_the_weeks_in_a_row(tmp_path: Path) -> None:
    work, judged = rolling(tmp_path), weeks(12)[9:]
    in_a_row = backtest(
        work.history, judged, {"naive": open_naive, "linear": open_linear, "neural": neural(0, 2, ("popularity",))}
    )
    parts = stretches(judged, 2)
    assert [len(part) for part in parts] == [2, 1]
    assert flat(in_processes(2)(work, parts, nobody)) == in_a_row
    assert {result.fallback for result in in_a_row} == {None}


def test_a_backtest_by_two_processes_prints_what_one_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    listening(tmp_path, 12, n_tracks=30)
    command = (*BACKTEST, str(tmp_path), "--models", "linear")
    ended = run(capsys, *command)
    assert (ended.code, [row["model"] for row in ended.rows()]) == (0, ["linear", "bound"])
    assert run(capsys, *command, *TWO) == ended


def test_a_worker_that_has_another_history_judges_nothing(tmp_path: Path) -> None:
    work = rolling(tmp_path / "here")
    elsewhere = replace(work, history=listening(tmp_path / "there", 9, n_tracks=30))
    with pytest.raises(HistoryError, match="a worker finds no week 2023-W10: the history must be where all"):
        list(in_processes(1)(elsewhere, [weeks(12)[8:]], nobody))


# The weekly run


def test_a_weekly_run_by_two_processes_publishes_and_keeps_what_one_does(
    embedded_stack: Embedded, prefix: str, tmp_path: Path
) -> None:
    trained = train(listening(tmp_path / "history", 10, n_tracks=30), weeks(10)[-1], 0)
    runs = []
    for name, runner in (("one", here), ("two", in_processes(2))):
        with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix + name, tmp_path / name) as stage:
            registry = wiring.registry(stage.settings)
            registry.publish("neural", trained.model.version, trained.save)
            registry.promote("neural", trained.model.version)
            stage.catalogue(*"abcdefgh")
            for week in range(18, 25):
                stage.send(plays(week, {track: week * n % 7 + 1 for n, track in enumerate("abcdefgh", 3)}))
            stage.count()
            replace(stage.weekly_run(), runner=runner).run(stage.triggers.fire(chart_week(24), "manual"))
            lists = [json.loads(value) for group in ("control", "treatment") for value in stage.published(group)]
            runs.append((lists, wiring.runs(stage.settings).tracks("2023-W25", 1)))
    (lists, kept), (others, kept_by_others) = runs
    assert [(one["model"], one["fallback"]) for one in lists] == [("linear", None), ("neural", None)]
    assert others == lists
    assert kept is not None
    assert kept_by_others is not None
    pd.testing.assert_frame_equal(kept_by_others, kept, check_exact=True)


# Arguments, and Ctrl-C


def children(pid: int) -> list[str]:
    return subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()


def test_ctrl_c_ends_a_command_and_its_workers_without_a_word(tmp_path: Path) -> None:
    """The terminal sends it to the whole process group, and so to workers that are just being born."""
    history = tmp_path / "history"
    listening(history, 30, n_tracks=400)
    command = start(*BACKTEST, str(history), "--last", "20", *TWO, env={}, start_new_session=True)
    wait_until(lambda: len(children(command.pid)) >= 3, "two workers and the tracker of their locks")
    os.killpg(command.pid, signal.SIGINT)
    assert end(command) == Ended(130, "", "")
    wait_until(lambda: not in_group(command.pid), "the workers to end")


def in_group(group: int) -> list[str]:
    return subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "0"], "expected a whole number from 1 on, found '0'"),
        (["--workers", "2", "--ray"], "not allowed with argument"),
        (["--ray", "2023-W24"], "expected HOST:PORT, auto or local, found '2023-W24'"),
    ],
)
def test_workers_that_cannot_be_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    for name in ("audit", "rebuild", "backtest"):
        ended = run(capsys, name, *arguments)
        assert (ended.code, sentence in ended.err) == (2, True)


def test_without_ray_installed_the_error_says_what_to_install(tmp_path: Path) -> None:
    listening(tmp_path, 9, n_tracks=30)
    code = f"""
import sys
sys.modules["ray"] = None
from hitparade.__main__ import main
sys.exit(main({["backtest", "--models", "naive", "--history", str(tmp_path), "--ray"]}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "hitparade: ray is not installed: pip install -e '.[ray]'\n")
    assert json.dumps(ended.stdout) == '""'
