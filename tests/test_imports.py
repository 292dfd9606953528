"""What a command imports while it runs: what starts often and runs long must stay small."""

import subprocess
import sys
from pathlib import Path

import pytest

from hitparade.embedded import Embedded
from tests.builders import play
from tests.faults.servers import environment
from tests.servers import ROOT, free_port_pair

RUN = """
import sys
from pathlib import Path
from hitparade.__main__ import main
code = main(sys.argv[2:])
Path(sys.argv[1]).write_text("\\n".join(sys.modules))
sys.exit(code)
"""
OURS = ("features", "models", "producers", "consumers", "hitparade")
ALL = {"annotated_types", "kafka", "msgspec", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
IF_INSTALLED = {"crc32c", "cryptography", "hiredis", "jwt", "lz4", "opentelemetry", "snappy", "xxhash", "zstandard"}
"""What the clients take where it is there; of these only crc32c is among our dependencies."""
BESIDES = {
    "topics": set[str](),
    "produce tracks": set[str](),
    "produce sessions": set[str](),
    "consume tracks --until-idle": {"redis"},
    "consume sessions --until-idle": {"redis"},
}
WITH_METRICS = {"prometheus_client", "consumers.metrics", "consumers.probes", "http.server"}
"""What METRICS_PORT adds, and nothing else of ours or of others."""
COUNTING = {
    *("models", "models.experiments"),
    *(
        "producers",
        "producers.climates",
        "producers.connection",
        "producers.kafka",
        "producers.letters",
        "producers.publisher",
    ),
}
"""What counting takes of the packages that also score, simulate and publish."""


@pytest.fixture(scope="module")
def imported(embedded_stack: Embedded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What each command had imported at its end; they ran in this order, on one stream with a dead event in it."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "sessions").write_bytes(play() + b"\n{}\n")
    (folder / "tracks").write_bytes(b'{"id": "a"}\n')
    settings = {name.removeprefix("HITPARADE_"): value for name, value in embedded_stack.environment.items()}
    env = environment(**settings, TOPIC_PREFIX="imports")
    return {command: modules_of(command, folder, env) for command in BESIDES}


def modules_of(command: str, folder: Path, env: dict[str, str]) -> set[str]:
    found = folder / "modules"
    files = [str(folder / command.split()[1])] if command.startswith("produce") else []
    arguments = [sys.executable, "-c", RUN, str(found), *command.split(), *files]
    ended = subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return set(found.read_text().splitlines())


def roots(modules: set[str]) -> set[str]:
    """The packages of others; what installers leave in every interpreter begins with an underscore."""
    found = {name.partition(".")[0] for name in modules}
    return {name for name in found if not name.startswith("_")} - set(sys.stdlib_module_names) - {*OURS, *IF_INSTALLED}


@pytest.mark.parametrize("command", BESIDES)
def test_a_command_that_moves_data_imports_no_package_that_it_does_not_need(
    imported: dict[str, set[str]], command: str
) -> None:
    assert roots(imported[command]) == ALL | BESIDES[command]


def test_help_comes_without_what_the_commands_need(tmp_path: Path) -> None:
    for arguments in ("", "--help", "backtest --help", "--version"):
        found = modules_of(arguments, tmp_path, {})
        assert roots(found) <= {"msgspec", "typing_extensions"}, arguments
        assert found.isdisjoint({"hitparade.settings", "hitparade.wiring"})


def test_the_counting_consumer_imports_nothing_of_what_scores_and_publishes(imported: dict[str, set[str]]) -> None:
    counting = imported["consume sessions --until-idle"]
    assert {name for name in counting if name.partition(".")[0] in ("models", "producers")} == COUNTING
    assert counting.isdisjoint({"features.reader", "features.history", "features.table", "consumers.weekly"})


def test_only_a_consumer_that_is_to_tell_its_metrics_imports_what_it_takes(
    embedded_stack: Embedded, imported: dict[str, set[str]], tmp_path: Path
) -> None:
    command = "consume sessions --until-idle"
    settings = {name.removeprefix("HITPARADE_"): value for name, value in embedded_stack.environment.items()}
    env = environment(**settings, TOPIC_PREFIX="imports", METRICS_PORT=str(free_port_pair()))
    more, ours = modules_of(command, tmp_path, env), imported[command]
    assert not ours & WITH_METRICS
    assert more >= WITH_METRICS
    assert roots(more) == roots(ours) | {"prometheus_client"}
    assert {name for name in more - ours if name.partition(".")[0] in OURS} == {"consumers.metrics", "consumers.probes"}


def test_the_catalogue_consumer_imports_nothing_of_what_counts_and_scores(imported: dict[str, set[str]]) -> None:
    catalogue = imported["consume tracks --until-idle"]
    assert catalogue.isdisjoint({"consumers.sessions", "features.reader", "features.history", "features.table"})
