import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "features": set[str](),
    "models": {"features"},
    "producers": {"models", "features"},
    "consumers": {"producers", "models", "features"},
    "service": {"consumers", "producers", "models", "features"},
    "hitparade": {"service", "consumers", "producers", "models", "features"},
}
# Who may know an outside thing. The partitioner of producers/arrays.py is Kafka's own hash, a pure function.
MAY_KNOW = {
    "redis": {"features/connect.py"},
    "kafka": {
        "producers/connection.py",
        "producers/kafka.py",
        "producers/topics.py",
        "producers/publisher.py",
        "producers/arrays.py",
        "consumers/brokers.py",
        "consumers/kafka.py",
        "consumers/kafka_python.py",
        "consumers/log.py",
        "consumers/records.py",
        "consumers/group.py",
    },
    "confluent_kafka": {"consumers/confluent.py"},
    "opentelemetry": {"hitparade/tracing.py"},
}
HEAVY = ["torch", "sklearn", "pandas", "numpy", "pyarrow", "matplotlib", "safetensors", "scipy"]


def modules() -> list[Path]:
    return [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported_roots(path: Path) -> Iterator[str]:
    """The top packages that a file imports anywhere, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def called(path: Path) -> set[str]:
    """The names that a file calls, or gives to a call; not those of its annotations."""
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    parts = [part for call in calls for part in (call.func, *call.args)]
    return {part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "") for part in parts}


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_inwards(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        outside = (set(imported_roots(path)) & {*MAY_IMPORT, "tests", "benchmarks"}) - {package}
        assert outside <= MAY_IMPORT[package], path


def test_the_rule_looks_at_all_packages_that_are_installed() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"} <= MAY_IMPORT.keys()
    assert len(modules()) > 20


@pytest.mark.parametrize("outside", MAY_KNOW)
def test_few_files_know_an_outside_thing(outside: str) -> None:
    assert {str(p.relative_to(ROOT)) for p in modules() if outside in imported_roots(p)} <= MAY_KNOW[outside]


@pytest.mark.parametrize(
    ("client", "builder"), [("KafkaProducer", "producers/kafka.py"), ("KafkaConsumer", "consumers/kafka.py")]
)
def test_one_file_builds_a_client_of_kafka(client: str, builder: str) -> None:
    assert [str(p.relative_to(ROOT)) for p in modules() if client in called(p)] == [builder]


def test_the_counting_consumer_needs_no_heavy_library() -> None:
    assert fresh(f"import sys, consumers.sessions; print(*set({HEAVY}) & sys.modules.keys())") == "\n"


def test_every_module_can_be_imported_and_connects_to_nothing() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules()]
    fresh(f"""
import importlib, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"an import led to {{event}} {{arguments}}")

sys.addaudithook(refuse)
for name in {names}:
    importlib.import_module(name)
""")
