"""Work over slices that need nothing of each other (partitions, weeks, tracks): here, in processes, or on Ray.

The results are the same, in the same order, whoever makes them. What goes to other processes must be picklable.
"""

import os
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from secrets import token_hex
from threading import Thread, current_thread, main_thread
from typing import Any, Protocol, TypeVar

AHEAD = 4  # items a worker that are begun before the first result is taken: memory does not grow with the items
CONNECT_TIMEOUT_S = 5.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Advance = Callable[[int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")
Begun = TypeVar("Begun")


class RunnerError(Exception):
    """Nobody can do the work, or whoever did it is gone."""


class Runner(Protocol):
    """Does the work for every item, and gives the results in the items' order."""

    def __call__(
        self, work: Callable[[Item, Advance], Result], items: Iterable[Item], advance: Advance
    ) -> Iterator[Result]:
        """Begin as the results are asked for.

        Args:
            work: for one item; it tells how far it has come.
            items: what there is to do.
            advance: told of it: at once by work done here, by others when an item's result is taken.

        Raises:
            RunnerError: a worker is gone.
            Exception: whatever the work raises, for the first item where it does; what others do is given up.
        """


def here(work: Callable[[Item, Advance], Result], items: Iterable[Item], advance: Advance) -> Iterator[Result]:
    """One item after the other, in this process."""
    for item in items:
        yield work(item, advance)


def in_processes(n_workers: int) -> Runner:
    """So many processes on this machine, of one thread each; none outlives this one."""

    def run(work: Callable[[Item, Advance], Result], items: Iterable[Item], advance: Advance) -> Iterator[Result]:
        others = set(active_children())
        with ProcessPoolExecutor(n_workers, get_context("spawn"), _end_with_parent) as pool:

            def start(item: Item) -> "Future[_Done]":
                with _for_a_child():
                    return pool.submit(_do, work, item)

            try:
                yield from _in_order(start, Future.result, items, AHEAD * n_workers, advance)
            except BrokenProcessPool as cause:
                raise RunnerError("a worker was killed, perhaps for want of memory: try fewer of them") from cause
            except BaseException:  # also of the generator's end, or of Ctrl-C: nobody waits for what is under way
                for child in set(active_children()) - others:
                    child.kill()  # it has nothing to put in order, and may be too young to be told
                pool.shutdown(cancel_futures=True)
                raise

    return run


def on_ray(address: str = "local") -> Runner:
    """A cluster of Ray by its address, or one that is started on this machine for as long as it is needed.

    Workers of a cluster need this package, and whatever the work reads, on their machines.
    """

    def run(work: Callable[[Item, Advance], Result], items: Iterable[Item], advance: Advance) -> Iterator[Result]:
        ray = _ray(address)
        try:
            do, n_workers = ray.remote(max_retries=0)(_do), int(ray.cluster_resources().get("CPU", 1))
            yield from _in_order(lambda item: do.remote(work, item), ray.get, items, AHEAD * n_workers, advance)
        except ray.exceptions.RayError as cause:
            raise RunnerError(f"Ray: {str(cause).strip().splitlines()[-1]}") from cause
        finally:
            ray.shutdown()

    return run


def _ray(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":  # it listens on every address of this machine, and does what it is told
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token_hex(32))
    host, _, port = address.rpartition(":")
    try:
        if host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        ray: Any = import_module("ray")
        ray.init(
            address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="WARNING",
        )
    except ModuleNotFoundError as cause:
        raise RunnerError(f"{cause.name} is not installed: pip install -e '.[ray]'") from cause
    except (OSError, RuntimeError, ValueError) as cause:
        raise RunnerError(f"Ray cannot be had at {address}: {cause}") from cause
    return ray


_Done = tuple[Any, int, Exception | None]
"""The result, how far the work had come, and why there is no result."""


def _do(work: Callable[[Item, Advance], Result], item: Item) -> _Done:
    """In a worker: errors are values, so that they come out as themselves."""
    told: list[int] = []
    try:
        return work(item, told.append), sum(told), None
    except Exception as cause:
        return None, sum(told), _portable(cause)


def _portable(cause: Exception) -> Exception:
    """The error, with where it was raised; what cannot be pickled, as what it says."""
    try:
        ForkingPickler.dumps(copy(cause))  # a copy is made as the other side will make it
    except Exception:  # a class may do anything there
        cause = RuntimeError(f"{type(cause).__name__}: {cause}")
    cause.add_note(f"in a worker:\n{traceback.format_exc()}")
    return cause


def _in_order(
    start: Callable[[Item], Begun], finish: Callable[[Begun], _Done], items: Iterable[Item], most: int, advance: Advance
) -> Iterator[Any]:
    begun: deque[Begun] = deque()
    for item in items:
        if len(begun) == most:
            yield _taken(finish(begun.popleft()), advance)
        begun.append(start(item))
    while begun:
        yield _taken(finish(begun.popleft()), advance)


def _taken(done: _Done, advance: Advance) -> Any:
    result, n, cause = done
    advance(n)
    if cause:
        raise cause
    return result


@contextmanager
def _for_a_child() -> Iterator[None]:
    """What is started inside has one thread for sums, and never gets the Ctrl-C of the terminal."""
    before = dict(os.environ)
    with _uninterrupted():
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(ONE_THREAD)
        try:
            yield
        finally:
            for name in ONE_THREAD:
                os.environ.pop(name)
            os.environ.update({name: before[name] for name in ONE_THREAD.keys() & before.keys()})
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end: it would leave a child that is being born, of which nobody knows yet, to itself.

    A mask does not keep it away: another thread takes the signal, and the main one is interrupted all the same.
    """
    if current_thread() is not main_thread():  # where there is no interrupt
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _end_with_parent() -> None:
    """In a worker: a pool's workers would wait for work for ever where their parent was killed."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
