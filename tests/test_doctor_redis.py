"""What the doctor finds on a real Redis that is set wrong, full, silent or alone, and what it says to do."""

import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hitparade.checks_redis import REDIS
from hitparade.doctor import Level
from hitparade.processes import leash
from tests.doctoring import OK, WARNING, WRONG, Found, look, looks
from tests.faults.proxy import Fate, Proxy
from tests.faults.servers import Redis
from tests.servers import wait_until

Start = Callable[..., Redis]
NO_ANSWER = "no answer in 0.2 s: what is asked hangs, is very slow, or speaks another protocol (TLS, or none)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with such options."""
    with leash() as group, ExitStack() as stack:

        def start(*options: str, kind: type[Redis] = Redis) -> Redis:
            server = kind(tmp_path / str(len(list(tmp_path.iterdir()))), group, *options)
            stack.enter_context(closing(server))
            server.start()
            return server

        yield start


def found(server: Redis, check: str, **patient: Callable[..., object]) -> Found:
    return look({"HITPARADE_REDIS_URL": server.url}, check, **patient)


def test_a_redis_as_the_product_starts_it_is_well(start: Start) -> None:
    env = {"HITPARADE_REDIS_URL": start().url}
    assert {finding.level for finding in looks(env, *(check.name for check in REDIS), "Redis' clock")} == {OK}


def test_nobody_there_is_told_once() -> None:
    redis, *others = looks({"HITPARADE_REDIS_URL": "redis://127.0.0.1:9/0"}, *(check.name for check in REDIS))
    assert redis.level == WRONG
    assert redis.found.endswith("HITPARADE_REDIS_URL is redis://127.0.0.1:9/0: is that right, and is it up?")
    assert {finding.found for finding in others} == {"not looked at: first mend redis"}


def test_what_accepts_and_never_answers_holds_the_doctor_up_no_longer_than_it_may() -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as silent:
        env = {"HITPARADE_REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}
        redis, safety, experiments = looks(env, "redis", "redis safety", "experiments", longest_s=0.2)
    assert (redis.level, redis.found) == (WRONG, NO_ANSWER)
    assert safety.found == "not looked at: first mend redis"
    assert experiments.level == OK


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru, expected noeviction"),
        (("--appendonly", "no"), "appendonly is no, expected yes"),
    ],
)
def test_a_redis_that_could_forget(start: Start, options: tuple[str, ...], said: str) -> None:
    level, text = found(start(*options), "redis safety")
    assert level == WRONG
    assert said in text


def test_a_redis_that_is_full_or_nearly(start: Start) -> None:
    server = start()
    with server.client() as client:
        client.setrange("ballast", 10_000_000, b"x")  # sent as one byte: buffers of connections count, and come and go
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used * 2)
        assert found(server, "redis memory")[0] == OK
        client.config_set("maxmemory", int(used * 1.1))
        level, text = found(server, "redis memory")
        assert (level, "raise maxmemory, or lower HITPARADE_WEEKS_KEPT" in text) == (WARNING, True)
        client.config_set("maxmemory", used - 1_000_000)
        level, text = found(server, "redis memory")
        assert (level, "every write is refused" in text) == (WRONG, True)


class Tough(Redis):
    """Lives on where the kernel says by a signal that a file may grow no further."""

    def command(self) -> Sequence[str]:
        return ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", *super().command()]


def test_a_redis_whose_disk_takes_no_more(start: Start) -> None:
    server = start(kind=Tough)
    assert found(server, "redis disk")[0] == OK
    assert server.process
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
    with server.client() as client:
        client.set("a", b"x" * 100_000)
        wait_until(lambda: client.info("persistence")["aof_last_write_status"] != "ok", what="a write to fail")
    level, text = found(server, "redis disk")
    assert level == WRONG
    assert text.startswith("the last write of its append-only file has failed, and writes may be refused: make room")


def test_a_replica_in_place_of_its_master(start: Start) -> None:
    server = start("--replicaof", "127.0.0.1", "9")
    level, text = found(server, "redis")
    assert level == WRONG
    assert text.startswith(f"{server.url} is a replica of 127.0.0.1:9 and takes no writes: set HITPARADE_REDIS_URL")


def test_a_replica_that_lags(start: Start) -> None:
    server = start("--repl-diskless-sync-delay", "0")
    replica = start("--replicaof", "127.0.0.1", str(server.port))
    with server.client() as client:
        wait_until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "the replica")
        assert found(server, "redis replicas") == (OK, "1 follow closely")
        replica.freeze()
        client.set("much", b"x" * (65 * 2**20))
        level, text = found(server, "redis replicas")
    assert level == WARNING
    assert f"replicas lag, and would lose that much if they took over: 127.0.0.1:{replica.port} lacks 65 MiB" in text


def test_fewer_replicas_than_writes_wait_for(start: Start) -> None:
    level, text = found(start("--min-replicas-to-write", "1"), "redis replicas")
    assert level == WRONG
    assert text.startswith("0 replicas follow, expected 1 (min-replicas-to-write), and every write is refused")


def test_a_redis_that_is_loading(start: Start) -> None:
    server = start()
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for n in range(8_000):
            pipeline.set(f"k{n}", "x")
        pipeline.execute()
    server.stop()
    server.options += ["--key-load-delay", "200"]
    server.launch()
    said = " is loading its data: wait until it has, nothing else is to be done"
    wait_until(lambda: (WRONG, True) == ends_with(found(server, "redis"), said), "it to say that it loads")


def ends_with(found: Found, said: str) -> tuple[Level, bool]:
    return found[0], found[1].endswith(said)


def test_a_clock_of_redis_that_is_wrong(start: Start) -> None:
    then = int(time.time()) - 30 * 86_400
    told = b"server_time_usec:%d000000\r\n" % then
    answer = b"$%d\r\n%s\r\n" % (len(told), told)
    with Proxy(start().port, lambda request: answer if b"server" in request else Fate.PASS) as proxy:
        level, text = look({"HITPARADE_REDIS_URL": proxy.url}, "Redis' clock")
    assert level == WRONG
    assert "30 days ahead: set the clocks by NTP" in text


def test_a_clock_that_is_off_by_seconds_is_warned_of(start: Start) -> None:
    assert found(start(), "Redis' clock", clock=lambda: time.time() + 20)[0] == WARNING
