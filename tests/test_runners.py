"""Work shared by processes: the same results as here, errors as themselves, and nothing left behind."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from features import runners
from features.runners import AHEAD, Advance, Runner, RunnerError, here, in_processes
from tests.servers import ROOT, wait_until

RUNNERS = {"here": here, "one process": in_processes(1), "two processes": in_processes(2)}


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> Runner:
    return RUNNERS[request.param]


def nobody(n: int) -> None:
    """Tells nobody how far it has come."""


# What workers do


def squared(number: int, advance: Advance) -> tuple[int, int]:
    advance(number)
    advance(1)
    return number * number, os.getpid()


def inverse(number: int, advance: Advance) -> float:
    return 1 / number


class Odd(Exception):
    """One that says more than it is made of, as pickle cannot know."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} is not {other}")


def odd(number: int, advance: Advance) -> None:
    raise Odd(number, 7)


def killed(number: int, advance: Advance) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def meet(folder: Path, number: int, advance: Advance) -> int:
    """Come back when the other has come too."""
    (folder / str(number)).touch()
    wait_until(lambda: (folder / str(1 - number)).exists(), "the other")
    return number


def wait_for_ever(folder: Path, number: int, advance: Advance) -> None:
    """Hold a lock; number 0 fails when another holds its own."""
    if number == 0:
        wait_until(lambda: any(folder.iterdir()), "another to wait")
        raise ValueError("enough")
    with (folder / str(number)).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("held")
        file.flush()
        wait_until(lambda: False, "ever", 120)


def threads_of(number: int, advance: Advance) -> tuple[set[int], bool]:
    """How many threads its libraries take for sums, and whether it hears a Ctrl-C."""
    np.ones((2, 2)) @ np.ones((2, 2))
    hears = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {pool["num_threads"] for pool in threadpool_info()}, hears


# What must hold


def test_results_come_in_the_order_of_the_items(runner: Runner) -> None:
    told: list[int] = []
    results = list(runner(squared, range(20), told.append))
    assert [square for square, _ in results] == [number * number for number in range(20)]
    assert sum(told) == sum(range(20)) + 20
    assert ({pid for _, pid in results} == {os.getpid()}) == (runner is here)


def test_nothing_to_do_is_done(runner: Runner) -> None:
    assert list(runner(squared, [], nobody)) == []


def test_two_processes_work_at_the_same_time(tmp_path: Path) -> None:
    assert list(in_processes(2)(partial(meet, tmp_path), [0, 1], nobody)) == [0, 1]


def test_an_error_of_the_work_comes_out_as_itself_after_the_results_before_it(runner: Runner) -> None:
    results = runner(inverse, [1, 2, 0, 4], nobody)
    assert list(islice(results, 2)) == [1, 0.5]
    with pytest.raises(ZeroDivisionError, match="division by zero") as raised:
        next(results)
    assert active_children() == []
    if runner is not here:
        assert "in inverse" in raised.value.__notes__[0]


def test_an_error_that_cannot_be_sent_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="Odd: 3 is not 7"):
        list(in_processes(1)(odd, [3], nobody))


def test_a_worker_that_is_killed_is_an_error_and_no_hang() -> None:
    with pytest.raises(RunnerError, match="a worker was killed"):
        list(in_processes(2)(killed, range(5), nobody))


def test_what_others_do_is_given_up_when_one_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="enough"):
        list(in_processes(2)(partial(wait_for_ever, tmp_path), [0, 1], nobody))
    assert active_children() == []
    take_lock(tmp_path / "1")


def test_whoever_wants_no_more_results_leaves_no_process_behind() -> None:
    results = in_processes(2)(squared, range(100), nobody)
    assert next(results)[0] == 0
    assert len(active_children()) == 2
    results.close()  # type: ignore[attr-defined]
    assert active_children() == []


def test_only_a_few_items_are_begun_ahead_of_the_results() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    results = in_processes(2)(squared, items(), nobody)
    for n in range(100):
        next(results)
        assert len(begun) <= n + 1 + 2 * AHEAD
    assert list(results) == []


def test_a_worker_sums_on_one_thread_and_hears_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    before = dict(os.environ)
    assert list(in_processes(1)(threads_of, [0], nobody)) == [({1}, False)]
    assert dict(os.environ) == before
    assert threads_of(0, nobody)[1]


KILLED = """
import sys
from functools import partial
from pathlib import Path
from features.runners import in_processes
from tests.test_runners import wait_for_ever
if __name__ == "__main__":
    list(in_processes(2)(partial(wait_for_ever, Path(sys.argv[1])), [1, 2], print))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "locks"
    script.write_text(KILLED)
    folder.mkdir()
    env: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script, folder], cwd=ROOT, env=env, stderr=subprocess.PIPE) as parent:
        wait_until(lambda: {(folder / name).exists() for name in "12"} == {True}, "two workers")
        wait_until(lambda: all((folder / name).read_text() for name in "12"), "their locks")
        parent.send_signal(number)
        parent.wait(60)
        for name in "12":
            take_lock(folder / name)


def take_lock(path: Path) -> None:
    """The process that held it is gone."""

    def is_free() -> bool:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    wait_until(is_free, "the lock's holder to end")


def test_ctrl_c_waits_until_a_child_that_is_being_born_is_known() -> None:
    before, born = signal.getsignal(signal.SIGINT), list[str]()

    def interrupted() -> None:
        interrupt = Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        with runners._for_a_child():
            interrupt.start()
            interrupt.join()
            born.append("a child")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert born == ["a child"]
    assert signal.getsignal(signal.SIGINT) is before
