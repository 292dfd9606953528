"""The whole job by users with the rights of deploy/acl and no other, and what these users may not do."""

import json
import os
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePatternFilter,
    ResourceType,
)

from features.topics import Topics
from hitparade.processes import HOST, child, leash
from producers.kafka import CLIENT
from tests.builders import play
from tests.commands import Ended, run
from tests.secured import DEPLOY, PASSWORD, Guarded, GuardedRedis, guarded_kafka, guarded_redis
from tests.servers import ROOT, free_port_pair, wait_until

TOPICS = Topics()
USERS = ["topics", "producer", "catalogue", "sessions", "tracks", "weekly", "scheduler", "service", "operator"]
TRACKS = [f"t{n}" for n in range(5)]
WEEKS = 6


@dataclass(frozen=True)
class Stage:
    """A broker and a Redis where every part has a user of its own."""

    kafka: Guarded
    redis: GuardedRedis
    folder: Path

    def env(self, user: str) -> dict[str, str]:
        """The settings of a part, its secrets in files."""
        settings = self.kafka.by_password(f"hitparade-{user}")
        shown = {name: settings.shown(name) for name in settings.model_fields_set - {"kafka_sasl_password"}}
        secrets = {"kafka_sasl_password": PASSWORD, "redis_url": self.redis.url(f"hitparade-{user}")}
        for name, secret in secrets.items():
            (self.folder / f"{user}.{name}").write_text(secret)
        files = {f"{name}_file": str(self.folder / f"{user}.{name}") for name in secrets}
        others = {"data_dir": str(self.folder / "data"), "partitions": "2", "session_timeout_ms": "6000"}
        return {f"HITPARADE_{name.upper()}": value for name, value in {**shown, **files, **others}.items()}

    def write(self, name: str, *lines: bytes) -> str:
        file = self.folder / name
        file.write_bytes(b"\n".join(lines) + b"\n")
        return str(file)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("rights")
    with guarded_kafka(folder / "kafka") as kafka, guarded_redis(folder / "redis", kafka.certificates) as redis:
        kafka.give_rights()
        redis.give_rights()
        for user in USERS:
            kafka.add_user(f"hitparade-{user}")
        yield Stage(kafka, redis, folder)


By = Callable[..., Ended]


@pytest.fixture
def by(stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> By:
    """Runs a command as the user of a part."""

    def by(user: str, *command: str) -> Ended:
        for name, value in stage.env(user).items():
            monkeypatch.setenv(name, value)
        return run(capsys, *command)

    return by


def test_the_whole_job_runs_by_the_rights_of_the_lists(stage: Stage, by: By) -> None:
    catalogue = stage.write("tracks.jsonl", *(json.dumps({"id": track, "name": track}).encode() for track in TRACKS))
    events = [play(week, track) for week in range(WEEKS) for track in TRACKS]
    sessions = stage.write("sessions.jsonl", *events, b'{"broken', play(-20, "late"))
    until_idle = "--until-idle"
    for user, *command in (
        ("topics", "topics"),
        ("catalogue", "produce", "tracks", catalogue),
        ("producer", "produce", "sessions", "--unsorted", sessions),
        ("tracks", "consume", "tracks", until_idle),
        ("sessions", "consume", "sessions", until_idle),
        ("scheduler", "trigger", "--all"),
        ("weekly", "consume", "weekly", until_idle),
        ("operator", "audit"),
        ("operator", "rebuild"),
        ("operator", "audit"),
        ("operator", "why", "t1"),
        ("operator", "evaluations"),
    ):
        ended = by(user, *command)
        assert ended.code == 0, (user, command, ended)
    lists = by("service", "playlists", "--json").rows()
    assert [len(row["tracks"]) for row in lists] == [len(TRACKS)] * 2
    counters = by("operator", "counters", "--week", "2023-W25", "--json").rows()
    assert {row["track_id"]: row["plays"] for row in counters} == dict.fromkeys(TRACKS, 1)
    letters = by("operator", "dead-letters", "--json").rows()
    assert [row["cause"] for row in letters] == ["json"]
    assert by("operator", "dead-letters", "replay", "--yes").code == 0
    assert by("sessions", "consume", "sessions", until_idle).code == 0
    with closing(stage.redis.admin()) as admin:
        assert admin.acl_log() == []
    checks = by("operator", "doctor", "--json").rows()
    assert [check for check in checks if "lacks a right" in check["found"]] == []
    the_service_shows_all_of_it_and_no_secret(stage)


def the_service_shows_all_of_it_and_no_secret(stage: Stage) -> None:
    port = free_port_pair()
    env = {**os.environ, **stage.env("service"), "HITPARADE_HTTP_PORT": str(port), "HITPARADE_LOG_LEVEL": "DEBUG"}
    log = stage.folder / "serve.log"

    def get(path: str) -> Any:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=30) as answer:
            return json.load(answer)

    def is_well() -> bool:
        try:
            reaches = [get("/readyz")[what]["ok"] for what in ("lists", "kafka", "redis")]
            return all(reaches) and bool(get("/charts/live")["tracks"])
        except OSError:
            return False

    with leash() as group, child([sys.executable, "-m", "hitparade", "serve"], log, group, env=env) as process:
        wait_until(is_well, "the service")
        assert len(get("/playlists/latest")) == 2
        assert get("/tracks/t1")["counters"]
        for what in ("cmdline", "environ"):
            assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/{what}").read_bytes()
    assert " DEBUG " in log.read_text()
    for secret in (PASSWORD, stage.redis.url("hitparade-service")):
        assert secret not in log.read_text()


def table(name: str) -> dict[str, dict[str, set[str]]]:
    """A table of SECURITY.md: by its first column, who writes and who reads."""
    found = re.search(f"<!-- {name} -->\n(.*?)<!-- /{name} -->", (ROOT / "SECURITY.md").read_text(), re.DOTALL)
    assert found
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]
    return {what.strip("`"): {"write": set(w.split(", ")), "read": set(r.split(", "))} for what, w, r in rows}


@pytest.fixture
def topics(stage: Stage, by: By) -> None:
    """All topics are there."""
    assert by("topics", "topics").code == 0


@pytest.mark.usefixtures("topics", "leaky")
def test_the_broker_gives_each_user_what_the_table_says_and_no_more(stage: Stage) -> None:
    found: dict[str, dict[str, set[str]]] = {name: {"write": set(), "read": set()} for name in table("topics")}
    others: set[str] = set()
    for user in USERS:
        with closing(KafkaAdminClient(**CLIENT, **stage.kafka.by_password(f"hitparade-{user}").kafka)) as admin:
            for topic in admin.describe_topics(list(found)):
                for operation in map(str.lower, topic["authorized_operations"] or ()):
                    found[topic["name"]].get(operation, others).add(user)
            assert not {"ALTER", "ALTER_CONFIGS", "CLUSTER_ACTION", "CREATE"} & set(
                admin.describe_cluster()["authorized_operations"] or ()
            )
    assert found == table("topics")
    with closing(KafkaAdminClient(**CLIENT, bootstrap_servers=stage.kafka.listeners["CLEAR"])) as nobody:
        assert nobody.list_topics() == []


def test_redis_gives_each_user_what_the_table_says_and_no_more(stage: Stage) -> None:
    found: dict[str, dict[str, set[str]]] = {name: {"write": set(), "read": set()} for name in table("keys")}
    with closing(stage.redis.admin()) as admin:
        ask: Any = admin.execute_command

        def may(user: str, *command: str) -> bool:
            return bool(ask("ACL DRYRUN", f"hitparade-{user}", *command) == b"OK")

        users = [str(user).removeprefix("hitparade-") for user in admin.acl_users()]
        assert set(users) == {"default", "sessions", "tracks", "weekly", "scheduler", "service", "operator"}
        users.remove("default")
        for name, key in ((name, name.replace("*", "0").replace("…", "x:1")) for name in found):
            found[name]["write"] = {user for user in users if may(user, "hset", key, "field", "1")}
            found[name]["read"] = {user for user in users if may(user, "hgetall", key)}
            copy = "{hp:hitparade.sessions.v1:0}:copy:x"
            assert {user for user in users if may(user, "unlink", key)} <= {"operator", "sessions"}
            assert may("weekly", "unlink", copy)
            assert may("weekly", "copy", "{hp:hitparade.sessions.v1:0}:week:x:1", copy)
            assert not may("weekly", "copy", copy, key)
        for user in users:
            assert not may(user, "hset", "{hp:other.sessions.v1:0}:fence", "field", "1")
            for command in (["flushall"], ["config", "set", "save", ""], ["acl", "list"], ["keys", "*"], ["shutdown"]):
                assert not may(user, *command), (user, command)
    assert found == table("keys")


@pytest.mark.parametrize(
    ("user", "scripts"),
    [("sessions", ["apply", "known", "played"]), ("operator", ["apply", "known", "played", "freeze", "replace"])],
)
def test_the_list_has_every_command_of_the_scripts(user: str, scripts: list[str]) -> None:
    (line,) = re.findall(f"^user hitparade-{user} .*$", (DEPLOY / "acl" / "redis.acl").read_text(), re.MULTILINE)
    texts = [(ROOT / "features" / f"{name}.lua").read_text() for name in scripts]
    commands = {name.lower() for text in texts for name in re.findall(r"(?:call|plan)\('(\w+)'", text)}
    assert len(commands) > 7
    assert commands <= set(re.findall(r"\+(\w+)", line))


LACKING = {
    "producer": (ACLOperation.WRITE, "topic", TOPICS.sessions, ["produce", "sessions", "FILE"]),
    "catalogue": (ACLOperation.WRITE, "topic", TOPICS.tracks, ["produce", "tracks", "FILE"]),
    "sessions": (ACLOperation.READ, "group", TOPICS.group("sessions"), ["consume", "sessions"]),
    "tracks": (ACLOperation.READ, "topic", TOPICS.tracks, ["consume", "tracks"]),
    "weekly": (ACLOperation.READ, "group", TOPICS.group("weekly"), ["consume", "weekly"]),
    "service": (ACLOperation.READ, "topic", TOPICS.playlists, ["playlists"]),
    "operator": (ACLOperation.READ, "topic", "hitparade.", ["audit"]),
}


@pytest.mark.usefixtures("topics", "leaky")
@pytest.mark.parametrize("user", LACKING)
def test_a_part_that_lacks_one_right_in_kafka_ends_and_says_which(stage: Stage, by: By, user: str) -> None:
    operation, kind, name, command = LACKING[user]
    file = stage.write("one.jsonl", play(0) if user == "producer" else b'{"id": "a"}')
    of = ResourcePatternFilter(ResourceType[kind.upper()], name, ACLResourcePatternType.ANY)
    one = ACLFilter(f"User:hitparade-{user}", "*", operation, ACLPermissionType.ALLOW, of)
    with closing(stage.kafka.admin()) as admin:
        rights, _ = admin.describe_acls(one)
        assert len(rights) == 1
        admin.delete_acls([one])
        try:
            ended = by(user, *(file if word == "FILE" else word for word in command))
        finally:
            admin.create_acls(rights)
    assert ended.code == 1
    said = ended.err.splitlines()[-1]
    assert re.fullmatch(f"hitparade: (.* lacks a right: {kind} {name}.*|.* none that this user may see.*)", said), said


@pytest.mark.usefixtures("topics", "leaky")
@pytest.mark.parametrize(
    ("user", "right", "command"),
    [
        ("sessions", "info", ["consume", "sessions"]),
        ("tracks", "hgetall", ["consume", "tracks", "--until-idle"]),
        ("scheduler", "hgetall", ["schedule"]),
        ("weekly", "info", ["consume", "weekly", "--until-idle"]),
        ("operator", "eval", ["rebuild"]),
        ("operator", "exists", ["rebuild"]),
    ],
)
def test_a_part_that_lacks_one_right_in_redis_ends_and_says_which(
    stage: Stage, by: By, user: str, right: str, command: list[str]
) -> None:
    with closing(stage.redis.admin()) as admin:
        admin.script_flush()
        ask: Any = admin.execute_command
        ask("ACL SETUSER", f"hitparade-{user}", f"-{right}")
    try:
        ended = by(user, *command)
    finally:
        stage.redis.give_rights()
    assert ended.code == 1
    said = ended.err.splitlines()[-1]
    assert re.fullmatch(
        f"hitparade: Redis refuses: this user lacks a right: .*('{right}'|script).*redis.acl gives .*", said
    ), said


@pytest.mark.parametrize("command", [["produce", "sessions", "FILE"], ["consume", "tracks"], ["rebuild"]])
def test_a_part_cannot_do_what_is_not_its_own(stage: Stage, by: By, command: list[str]) -> None:
    file = stage.write("one.jsonl", play(0))
    ended = by("service", *(file if word == "FILE" else word for word in command))
    assert ended.code == 1
    assert re.search("lacks a right|AuthorizationFailed", ended.err + ended.out), ended
