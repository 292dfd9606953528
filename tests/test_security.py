"""Passwords, certificates and rights, on a broker and a Redis that look at them."""

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from kafka.admin import NewTopic

from consumers.client import OpenClient
from consumers.confluent import Confluent
from consumers.kafka import KafkaRefused, KafkaUnavailable, TopicWatch
from consumers.kafka_python import KafkaPython
from consumers.source import Source
from features.connect import StoreUnavailable, connect
from features.store import CounterStore
from hitparade import wiring
from hitparade.__main__ import main
from hitparade.doctor import Level
from hitparade.processes import HOST
from hitparade.settings import Settings
from producers import connection
from producers.kafka import build_producer
from tests.commands import run
from tests.doctoring import look
from tests.secured import PASSWORD, Guarded, GuardedRedis, guarded_kafka, guarded_redis
from tests.servers import wait_until

CLIENTS = ["kafka-python", "confluent-kafka"]
OPENED: dict[str, OpenClient] = {"kafka-python": KafkaPython, "confluent-kafka": Confluent}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_kafka(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, *command: str) -> str:
    """What a command that fails says with these settings: one line, and no more."""
    for name, value in settings_env(settings).items():
        monkeypatch.setenv(name, value)
    before = set(threading.enumerate())
    assert main(command) == 1
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("kafka-io")]
    assert not left, "a client that was refused goes on asking"
    error = capsys.readouterr().err
    (line,) = error.splitlines()
    return line


def settings_env(settings: Settings) -> dict[str, str]:
    """The environment in which these are the settings."""
    found = {f"HITPARADE_{name.upper()}": getattr(settings, name) for name in settings.model_fields_set}
    return {name: getattr(value, "get_secret_value", lambda v=value: str(v))() for name, value in found.items()}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("how", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "certificate"])
def test_either_client_writes_and_reads_by_password_and_by_certificate(
    guarded: Guarded, prefix: str, client: str, how: str
) -> None:
    with guarded.admin() as admin:
        admin.create_topics([NewTopic(prefix, 1, 1)])
    guarded.add_user("admin")
    settings = guarded.by_certificate("admin") if how == "certificate" else guarded.by_password("admin", mechanism=how)
    with closing(build_producer(settings.kafka)) as producer:
        producer.send(prefix, b"a").get(timeout=60)
    found: list[bytes | None] = []
    with closing(Source(settings.kafka, prefix, prefix, 6000, OPENED[client])) as source:

        def is_there() -> bool:
            for partition in list(source.waiting):
                source.start(partition, 0)
            found.extend(record.value for batch in source.poll(0.2) for record in batch.records)
            return bool(found)

        wait_until(is_there, "the record")
    assert found == [b"a"]


def wrong(guarded: Guarded) -> Mapping[str, tuple[Settings, str]]:
    """What can be wrong with how one comes, and what is told of it."""
    guarded.add_user("admin")
    where = {"KAFKA_BOOTSTRAP_SERVERS": guarded.listeners["MUTUAL"].replace(HOST, "localhost")}
    stranger = str(guarded.strangers.certificate("admin"))
    return {
        "password": (guarded.by_password("admin", "wrong"), "HITPARADE_KAFKA_SASL_USERNAME or its password"),
        "user": (guarded.by_password("nobody"), "HITPARADE_KAFKA_SASL_USERNAME or its password"),
        "host name": (guarded.by_certificate("admin", **where), "certificate is not valid for 'localhost'"),
        "expired": (guarded.by_certificate("admin", "EXPIRED"), "certificate has expired"),
        "authority": (
            guarded.by_certificate("admin", KAFKA_SSL_CAFILE=str(guarded.strangers.file)),
            "certificate cannot be trusted: ",
        ),
        "no certificate": (guarded.settings("MUTUAL"), "does not accept our certificate, or misses it"),
        "other's certificate": (
            guarded.settings("MUTUAL", KAFKA_SSL_CERTFILE=stranger, KAFKA_SSL_KEYFILE=stranger),
            "does not accept our certificate, or misses it",
        ),
        "no key": (
            guarded.settings("MUTUAL", KAFKA_SSL_CERTFILE=str(guarded.certificates.file)),
            "HITPARADE_KAFKA_SSL_CERTFILE",
        ),
        "in the clear": (guarded.settings("MUTUAL", KAFKA_SECURITY_PROTOCOL="PLAINTEXT"), "SECURITY_PROTOCOL"),
    }


WRONG = [
    *("password", "user", "host name", "expired", "authority"),
    *("no certificate", "other's certificate", "no key", "in the clear"),
]


@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize("what", WRONG)
def test_who_is_refused_is_told_why_in_one_sentence_and_at_once(
    guarded: Guarded,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    redis_url: str,
) -> None:
    settings, expected = wrong(guarded)[what]
    monkeypatch.setenv("HITPARADE_REDIS_URL", redis_url)
    some = [["consume", "sessions"], ["produce", "sessions", "/dev/null"]]
    for command in [*some, ["topics"], ["playlists"]] if what == "password" else some:
        line = told(monkeypatch, capsys, settings, *command)
        # What speaks in the clear may be hung up on before it has heard why.
        refuses = "" if what == "in the clear" else f"Kafka at {settings.kafka_bootstrap_servers} refuses: "
        assert re.fullmatch(f"hitparade: {refuses}.*{expected}.*", line)
        assert "wrong" not in line


@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize("what", [what for what in WRONG if what != "in the clear"])
def test_librdkafka_is_as_clear(guarded: Guarded, what: str) -> None:
    settings, _ = wrong(guarded)[what]
    with pytest.raises(KafkaRefused, match=f"Kafka at {settings.kafka_bootstrap_servers} refuses: "):
        Confluent(settings.kafka, "topic", "group", 6000)


def test_the_doctor_says_what_a_user_may_not_see(guarded: Guarded) -> None:
    guarded.add_user("stranger")
    settings = guarded.by_password("stranger")
    level, found = look(settings, "topics")
    assert (level, found.startswith("this user may not see 8 topics (hitparade.")) == (Level.WRONG, True)
    assert look(settings, "consumers") == (Level.OK, "the brokers do not tell: GroupAuthorizationFailedError")
    assert look(settings, "Kafka's clock") == (Level.OK, "the brokers do not tell: ClusterAuthorizationFailedError")
    assert look(settings, "Kafka's disk") == (Level.OK, "the brokers do not tell")


@pytest.mark.usefixtures("leaky")
def test_a_handshake_that_is_never_answered_holds_nothing_up(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.2)  # where much else runs, the last try is cut by the clock
    with socket.create_server((HOST, 0)) as silent:  # the kernel takes the connection, and nobody looks at it
        where = f"{HOST}:{silent.getsockname()[1]}"
        settings = guarded.by_certificate("admin", KAFKA_BOOTSTRAP_SERVERS=where)
        with pytest.raises(
            KafkaUnavailable, match=f"{where} cannot serve now: .*(no TLS handshake within 0.2 s|timed out)"
        ):
            TopicWatch({**settings.kafka, "bootstrap_timeout_ms": 1000}).facts("topic")


def test_the_client_of_the_settings_is_what_wiring_opens() -> None:
    env = {"HITPARADE_KAFKA_CLIENT": "confluent-kafka"}
    assert wiring.kafka_client(Settings.from_env(env)) is OPENED["confluent-kafka"]


@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize(("mechanism", "log_format"), [("PLAIN", "text"), ("SCRAM-SHA-512", "json")])
def test_no_secret_is_shown_by_any_command_or_logged_by_any_library(
    guarded: Guarded,
    mechanism: str,
    log_format: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    guarded.add_user("admin")
    secrets = {"API_TOKEN": 'to"ken\\é', "REDIS_URL": f"redis://u:s%2Fcret@{HOST}:1/0"}
    more = {**secrets, "LOG_LEVEL": "DEBUG", "LOG_FORMAT": log_format}
    for name, value in settings_env(guarded.by_password("admin", mechanism=mechanism, **more)).items():
        monkeypatch.setenv(name, value)
    shown = ""
    for password, expected in ((PASSWORD, "admin"), ("wr0ng", "not accepted")):
        monkeypatch.setenv("HITPARADE_KAFKA_SASL_PASSWORD", password)
        for command in (["config"], ["config", "--json"], ["doctor"], ["playlists"], ["consume", "tracks"]):
            ended = run(capsys, *command)
            shown += ended.out + ended.err
        assert expected in shown
    assert "DEBUG" in shown.upper()
    for secret in (PASSWORD, "wr0ng", 'to"ken', "ken\\é", "s%2Fcret", "s/cret"):
        assert secret not in shown


def wrong_redis(redis: GuardedRedis, expired: GuardedRedis, strangers: Path) -> Mapping[str, tuple[str, str]]:
    """What can be wrong with an address of Redis, and what is told of it."""
    right = redis.url("default")
    return {
        "password": (redis.url("default", "wr0ng"), "user or password of HITPARADE_REDIS_URL is not accepted"),
        "user": (redis.url("nobody"), "user or password of HITPARADE_REDIS_URL is not accepted"),
        "no password": (re.sub("//.*@", "//", right), "user or password of HITPARADE_REDIS_URL is not accepted"),
        "host name": (redis.url("default", host="localhost"), "certificate is not valid for 'localhost'"),
        "expired": (expired.url("default"), "certificate has expired"),
        "authority": (right.replace(str(redis.certificates.file), str(strangers)), "certificate cannot be trusted"),
        "no authority": (right.partition("?")[0], "certificate cannot be trusted"),
    }


def test_redis_is_as_clear_and_nothing_is_tried_again(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in settings_env(guarded.by_certificate("admin")).items():
        monkeypatch.setenv(name, value)
    with (
        guarded_redis(tmp_path / "right", guarded.certificates) as redis,
        guarded_redis(tmp_path / "expired", guarded.certificates, is_expired=True) as expired,
    ):
        for url, expected in wrong_redis(redis, expired, guarded.strangers.file).values():
            monkeypatch.setenv("HITPARADE_REDIS_URL", url)
            for command in (["consume", "sessions"], ["rebuild"]):
                ended = run(capsys, *command)
                assert ended.code == 1
                assert re.fullmatch(f"hitparade: Redis refuses: .*{expected}.*\n", ended.err)
                assert not {PASSWORD, quote(PASSWORD, safe=""), "wr0ng"} & set(re.split(r"[\s:@]", ended.err))


def test_a_redis_that_never_answers_a_handshake_is_an_outage(guarded: Guarded) -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"rediss://{HOST}:{silent.getsockname()[1]}/0?ssl_ca_certs={guarded.certificates.file}"
        with closing(connect(url, timeout_s=0.2)) as client, pytest.raises(StoreUnavailable, match=r"[Tt]imeout"):
            CounterStore(client, "topic", 4).fence(0)
