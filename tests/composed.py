"""docker-compose.yml read, and its services started as processes of this machine."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hitparade.embedded import Embedded
from hitparade.processes import HOST, child, last_lines
from tests.servers import KAFKA, ROOT, apache_kafka, free_port_pair, wait_until

yaml: Any = import_module("yaml")  # it has no types
DEPLOY = ROOT / "deploy"
Service = dict[str, Any]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Service] = COMPOSE["services"]


def environment(name: str) -> dict[str, str]:
    """What the file sets for a service."""
    return {key: str(value) for key, value in SERVICES[name].get("environment", {}).items()}


@dataclass
class Running:
    """The file's services as processes: where each answers, and how to ask its health check."""

    folder: Path
    here: Mapping[str, str]
    group: int
    stack: ExitStack
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]

    def environment(self, name: str, copy_of: str) -> dict[str, str]:
        """The file's settings, with the names and ports of containers replaced by those of this machine."""
        env = {**environment(copy_of), **self.here}
        for key in ("HITPARADE_METRICS_PORT", "HITPARADE_HTTP_PORT"):
            if key in env:
                env[key] = str(self.ports[name])
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}

    def start(self, name: str, copy_of: str = "") -> None:
        service = SERVICES[copy_of or name]
        self.ports.setdefault(name, free_port_pair())
        command = [sys.executable, "-m", "hitparade", *service["command"]]
        started = child(command, self.folder / f"{name}.log", self.group, env=self.environment(name, copy_of or name))
        self.processes[name] = self.stack.enter_context(started)

    def ends(self, name: str) -> None:
        """A service that is to end has ended well."""
        code = self.processes[name].wait(timeout=90)
        assert code == 0, (name, last_lines(self.folder / f"{name}.log", 20))

    def health(self, name: str, copy_of: str = "") -> subprocess.CompletedProcess[str]:
        """Run the file's health check, as Docker would."""
        test = SERVICES[copy_of or name]["healthcheck"]["test"]
        assert test[:3] == ["CMD", "python", "/app/deploy/healthy.py"]
        port = [str(self.ports[name])] if test[3:] else []
        return subprocess.run(
            [sys.executable, str(DEPLOY / "healthy.py"), *port],
            env=self.environment(name, copy_of or name),
            capture_output=True,
            text=True,
            timeout=float(SERVICES["sessions"]["healthcheck"]["timeout"].rstrip("s")) + 5,
        )

    def becomes(self, name: str, code: int, timeout_s: float = 60, copy_of: str = "") -> str:
        """Wait until a health check ends so; gives what it printed."""
        wait_until(lambda: self.health(name, copy_of).returncode == code, f"{name}: {code}", timeout_s)
        return self.health(name, copy_of).stdout

    def metrics(self, name: str) -> list[tuple[str, str, float]]:
        """What a process tells Prometheus: name, labels and value of each sample."""
        connection = HTTPConnection(HOST, self.ports[name], timeout=30)
        connection.request("GET", "/metrics")
        body = connection.getresponse().read().decode()
        connection.close()
        return [(n, of, float(v)) for n, of, v in re.findall(r"^(\w+)\{?(.*?)\}? (\S+)$", body, re.MULTILINE)]

    def start_prometheus(self, binary: str, config: str) -> None:
        """Start it with a configuration (JSON is YAML), and nothing else that it would read."""
        file = self.folder / "prometheus.yml"
        file.write_text(config)
        port = self.ports["prometheus"] = free_port_pair()
        options = [f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        command = [binary, *options, f"--web.listen-address={HOST}:{port}"]
        self.processes["prometheus"] = self.stack.enter_context(
            child(command, self.folder / "prometheus.log", self.group)
        )

    def asked(self, query: str) -> list[Any]:
        """What Prometheus answers to a query; empty until it is up."""
        answer = self.get(f"/api/v1/query?{urlencode({'query': query})}", "prometheus")
        return list(answer["data"]["result"]) if answer else []

    def get(self, path: str, name: str = "service") -> Any:
        """What the service (or another) answers; None where it does not, or not yet."""
        connection = HTTPConnection(HOST, self.ports[name], timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


@contextmanager
def broker(folder: Path, stack: Embedded) -> Iterator[str]:
    """Apache Kafka with what the file sets; the embedded broker on a laptop that has none."""
    if not (KAFKA / "broker").is_file() and not os.environ.get("CI"):
        yield stack.kafka
        return
    ours = {"LOG_DIRS", "HEAP_OPTS", "NODE_ID", "PROCESS_ROLES"}
    told = {key.removeprefix("KAFKA_"): value for key, value in environment("kafka").items() if key[:6] == "KAFKA_"}
    properties: dict[str, Any] = {
        key.lower().replace("_", "."): value
        for key, value in told.items()
        if key not in ours and "LISTENER" not in key and "VOTERS" not in key
    }
    with apache_kafka(folder / "kafka", **properties) as address:
        yield address
