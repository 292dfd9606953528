"""Work shared by a cluster of Ray: the same results as here. Ray runs in processes of its own, not in this one."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis

from hitparade.embedded import Embedded
from tests.builders_counting import counted_on
from tests.builders_history import listening
from tests.builders_weekly import chart_week, plays, staged
from tests.commands import Ended, end, nothing_left_running, start
from tests.servers import ROOT, missing, wait_until

__all__ = ["nothing_left_running"]
pytestmark = [pytest.mark.usefixtures("nothing_left_running"), pytest.mark.timeout(300)]

PATIENCE_S = 120
CLUSTER = """
import sys
import ray
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
CONTRACT = """
import sys
from features.runners import RunnerError, on_ray
from tests.test_runners import inverse, killed, odd, squared

told = []
results = list(on_ray(sys.argv[1])(squared, range(20), told.append))
assert [square for square, _ in results] == [number * number for number in range(20)], results
assert sum(told) == sum(range(20)) + 20, told
for work, numbers in ((inverse, [4, 0]), (odd, [3]), (killed, [1])):
    try:
        list(on_ray(sys.argv[1])(work, numbers, lambda n: None))
    except (ZeroDivisionError, RuntimeError, RunnerError) as cause:
        print(f"{type(cause).__name__}: {cause}", "in a worker" in "".join(getattr(cause, "__notes__", [])))
"""


@pytest.fixture(scope="module")
def needs_ray() -> None:
    if find_spec("ray") is None:
        missing("Ray is not installed: pip install -e '.[ray]'")


@contextmanager
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of two workers, and what it takes to be let in."""
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), env
        finally:
            process.stdin.close()  # it ends, and Ray with it


@pytest.fixture(scope="module")
def ray(needs_ray: None) -> Iterator[tuple[str, dict[str, str]]]:
    with cluster() as found:
        yield found


def ended(*arguments: str, env: Mapping[str, str]) -> Ended:
    return end(start(*arguments, env=env), timeout_s=PATIENCE_S)


def test_a_cluster_keeps_what_every_runner_promises(ray: tuple[str, dict[str, str]]) -> None:
    """Order, how far it has come, errors as themselves; and a worker that is killed is no hang."""
    address, env = ray
    done = subprocess.run(
        [sys.executable, "-c", CONTRACT, address],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *others, killed = [line for line in done.stdout.splitlines() if "Error: " in line]
    assert others == ["ZeroDivisionError: division by zero True", "RuntimeError: Odd: 3 is not 7 True"]
    assert killed.startswith("RunnerError: Ray: ")


def test_an_audit_and_a_rebuild_by_a_cluster_are_those_of_one_process(
    ray: tuple[str, dict[str, str]],
    embedded_stack: Embedded,
    redis: Redis,
    redis_url: str,
    prefix: str,
    tmp_path: Path,
) -> None:
    address, env = ray
    counted = counted_on(embedded_stack.kafka, redis, redis_url, prefix, tmp_path)
    counted.fill(500)
    counted.count()
    week = counted.change(1)[0]
    here = ended("audit", "--json", env=counted.env)
    assert (here.code, week in here.out) == (1, True)
    assert ended("audit", "--json", "--ray", address, env={**env, **counted.env}) == here
    assert ended("rebuild", "--ray", address, env={**env, **counted.env}).code == 0
    assert ended("audit", env=counted.env).code == 0


def test_the_lists_that_a_cluster_makes_are_those_of_one_process(
    ray: tuple[str, dict[str, str]], embedded_stack: Embedded, prefix: str, tmp_path: Path
) -> None:
    address, env = ray
    made = []
    for name, shared in (("one", ()), ("cluster", ("--ray", address))):
        with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix + name, tmp_path / name) as stage:
            stage.catalogue(*"abcdefgh")
            for week in range(18, 25):
                stage.send(plays(week, {track: week * n % 7 + 1 for n, track in enumerate("abcdefgh", 3)}))
            stage.count()
            stage.triggers.fire(chart_week(23), "manual")
            done = ended("consume", "weekly", "--until-idle", *shared, env={**env, **stage.env})
            assert done.code == 0, done.err
            made.append([stage.published(group) for group in ("control", "treatment")])
    assert [len(lists) for lists in made[0]] == [1, 1]
    assert made[1] == made[0]


def test_a_backtest_by_a_ray_that_is_started_for_it_is_that_of_one_process(needs_ray: None, tmp_path: Path) -> None:
    listening(tmp_path, 12, n_tracks=30)
    command = ("backtest", "--models", "linear", "--last", "2", "--refit-every", "1", "--json", "--history")
    here = ended(*command, str(tmp_path), env={})
    assert (here.code, len(here.rows())) == (0, 2)
    process = start(*command, str(tmp_path), "--ray", env={}, start_new_session=True)
    assert end(process, timeout_s=PATIENCE_S) == here
    wait_until(lambda: not in_session(process.pid), "Ray to end with the command")


def in_session(session: int) -> str:
    return subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True, check=False).stdout
