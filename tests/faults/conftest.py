"""The fault suite's brokers, its worlds, and what it prints: a line a scenario, and a table at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from features.fence import OPTIONAL, OUTCOMES
from hitparade.processes import leash
from tests.faults.servers import Broker, Redis, three_brokers
from tests.faults.world import Verdict, World
from tests.servers import KAFKA, missing

BROKER = (
    "log.retention.check.interval.ms=500",
    "log.cleaner.backoff.ms=200",
    "transaction.state.log.replication.factor=1",
)
NewWorld = Callable[..., World]
CLIENTS = ("kafka-python", "confluent-kafka")
ABOUT_CONSUMERS = {"test_process", "test_kafka", "test_brokers", "test_redis", "test_cluster", "test_data"}
"""Whose scenarios run with each client; a `second` one always, the others with the second client only when all do."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the scenarios that are marked `full`")
    parser.addoption("--broker", help="host:port of a broker that is there, instead of one of our own; none stops it")
    parser.addoption("--seed", type=int, default=1, help="of the known log and of random moments (1)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: left out with --quick")
    config.addinivalue_line("markers", "second: with --quick too, done with the second Kafka client")
    # kafka-python lets go of the sockets of attempts to connect that failed without closing them.
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Lines(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "client" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ABOUT_CONSUMERS:
        is_quick = any(metafunc.definition.iter_markers("second"))
        second = pytest.param(CLIENTS[1], marks=() if is_quick else pytest.mark.full)
        metafunc.parametrize("client", [CLIENTS[0], second], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def group() -> Iterator[int]:
    """Everything started in it dies with this process."""
    with leash() as group:
        yield group


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    number: int = request.config.getoption("--seed")
    return number


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, group: int, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One Apache Kafka broker for all scenarios; whoever stops it starts it again."""
    if address := request.config.getoption("--broker"):
        given = Broker(tmp_path_factory.mktemp("broker"), group)
        given.port = int(address.rpartition(":")[2])
        yield given
        return
    if not (KAFKA / "broker").is_file():
        missing(f"no Apache Kafka in {KAFKA}: name its folder in HITPARADE_TEST_KAFKA")
    broker = Broker(tmp_path_factory.mktemp("broker"), group, *BROKER)
    broker.start()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory, group: int) -> Iterator[list[Broker]]:
    """Three brokers that elect and replicate; whoever stops one starts it again."""
    if not (KAFKA / "broker").is_file():
        missing(f"no Apache Kafka in {KAFKA}: name its folder in HITPARADE_TEST_KAFKA")
    brokers = three_brokers(tmp_path_factory.mktemp("brokers"), group)
    for one in brokers:
        one.launch()
    for one in brokers:
        one.await_up()
    yield brokers
    for one in brokers:
        one.close()


@pytest.fixture
def redis(tmp_path: Path, group: int) -> Iterator[Redis]:
    """A Redis of the scenario's own."""
    redis = Redis(tmp_path / "redis", group)
    redis.start()
    yield redis
    redis.close()


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """The Kafka client that the counting consumers have."""
    return str(getattr(request, "param", CLIENTS[0]))


@pytest.fixture
def new_world(tmp_path: Path, group: int, seed: int, client: str, request: pytest.FixtureRequest) -> Iterator[NewWorld]:
    """Makes worlds; their verdicts are what the scenario's line says."""
    with ExitStack() as stack:

        def make(kafka: str, redis: Redis, **more: Any) -> World:
            folder = tmp_path / f"world{token_hex(2)}"
            folder.mkdir()
            settings = {"KAFKA_CLIENT": client} | more.pop("settings_", {})
            world = World(
                seed, kafka, redis, folder, f"f{token_hex(4)}", group, settings_=settings, record=record, **more
            )
            stack.callback(world.close)
            return world

        def record(verdict: Verdict) -> None:
            request.node.user_properties.append(("verdict", asdict(verdict)))

        yield make


@pytest.fixture
def world(new_world: NewWorld, broker: Broker, redis: Redis) -> World:
    """The usual world: one broker, one Redis, four partitions, nothing sent yet."""
    return new_world(broker.address, redis)


def verdict_of(report: pytest.TestReport) -> Verdict | None:
    """All that the scenario checked, added up; None where it compared no log."""
    parts: list[Any] = [value for name, value in report.user_properties if name == "verdict"]
    if not parts:
        return None
    outcomes = {name: sum(part["outcomes"].get(name, 0) for part in parts) for name in (*OUTCOMES, *OPTIONAL)}
    return Verdict(sum(part["events"] for part in parts), outcomes, sum(part["difference"] for part in parts))


def sentence_of(report: pytest.TestReport) -> str:
    """A scenario's name, as people say it."""
    return report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ")


class Lines:
    """Prints a line a scenario as it ends, and a table of them all at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.ended: list[pytest.TestReport] = []

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (report.outcome, "", "") if report.when == "call" and not report.skipped else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" or report.skipped:
            return
        self.ended.append(report)
        mark = "ok  " if report.passed else "FAIL"
        terminal: Any = self.config.pluginmanager.getplugin("terminalreporter")
        terminal.write_line(f"{mark} {sentence_of(report)}: {verdict_of(report) or 'as it should be'}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        table = Table(title="Scenarios", title_justify="left")
        table.add_column("what was done")
        for name in ("events", *OUTCOMES, "difference", "s"):
            table.add_column(name, justify="right", no_wrap=True)
        for report in sorted(self.ended, key=lambda report: report.nodeid):
            verdict = verdict_of(report)
            figures = [verdict.events, *map(verdict.outcomes.get, OUTCOMES), verdict.difference] if verdict else []
            cells = [f"{figure:,}" for figure in figures] or [""] * (len(OUTCOMES) + 2)
            table.add_row(sentence_of(report) + ("" if report.passed else " FAILED"), *cells, f"{report.duration:.0f}")
        console = Console(width=150, highlight=False, markup=False)
        with console.capture() as drawn:
            console.print(table)
        terminalreporter.write_line(drawn.get())
