"""What tests share: both brokers, a Redis, a prefix that keeps tests apart on them, and the data of the field."""

import gc
import logging
import signal
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from hitparade.embedded import Embedded, embedded
from tests.commands import Command, Ended, handlers_kept
from tests.servers import DATA, apache_kafka, missing

if TYPE_CHECKING:  # it imports kafka, which needs what follows
    from tests.builders_counting import Counted

with warnings.catch_warnings():  # it reads its schemas with functions that Python 3.11 and 3.12 call deprecated
    warnings.filterwarnings("ignore", "(open|read)_text is deprecated", DeprecationWarning)
    import_module("kafka")

# A shell has its background jobs ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command that a test runs in this process leaves its handlers behind; logs' may write to a closed stream."""
    with handlers_kept():
        yield


@pytest.fixture(scope="session")
def embedded_stack() -> Iterator[Embedded]:
    """Tansu and Valkey."""
    with embedded() as stack:
        yield stack


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap server of an Apache Kafka broker, started at first use."""
    with apache_kafka(tmp_path_factory.mktemp("apache")) as address:
        yield address


@pytest.fixture(scope="session", params=["tansu", "apache"])
def kafka(request: pytest.FixtureRequest) -> str:
    """The bootstrap server of each broker in turn: a test with this fixture runs on both."""
    if request.param == "tansu":
        stack: Embedded = request.getfixturevalue("embedded_stack")
        return stack.kafka
    address: str = request.getfixturevalue("apache")
    return address


@pytest.fixture(scope="session")
def redis_url(embedded_stack: Embedded) -> str:
    """The embedded Valkey, over TCP."""
    return embedded_stack.redis_url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the Redis that all tests share."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test alone, so that tests share servers and no topic or key."""
    return f"t{token_hex(4)}"


@pytest.fixture
def leaky(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For clients without a broker: kafka-python leaves sockets to the garbage collector, and log records hold them."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def listening_data() -> Path:
    """The folder with the sessions, tracks and charts of the field."""
    if not DATA.is_dir():
        missing(f"no data in {DATA}: name its folder in HITPARADE_TEST_DATA")
    return DATA


@pytest.fixture
def log(kafka: str, redis: Redis, redis_url: str, prefix: str, tmp_path: Path) -> "Counted":
    """A session topic without a record, and nothing counted; a test with this fixture runs on both brokers."""
    from tests.builders_counting import counted_on

    return counted_on(kafka, redis, redis_url, prefix, tmp_path)


@pytest.fixture
def apache_log(apache: str, redis: Redis, redis_url: str, prefix: str, tmp_path: Path) -> "Counted":
    """The same on Apache Kafka alone."""
    from tests.builders_counting import counted_on

    return counted_on(apache, redis, redis_url, prefix, tmp_path)


@pytest.fixture
def counted(embedded_stack: Embedded, redis: Redis, redis_url: str, prefix: str, tmp_path: Path) -> "Counted":
    """A known log on the embedded broker, all of it counted."""
    from tests.builders_counting import counted_on

    counted = counted_on(embedded_stack.kafka, redis, redis_url, prefix, tmp_path)
    counted.fill(500)
    counted.count()
    return counted


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Command":
    """Commands on what was counted."""

    from tests.commands import run

    def command(counted: "Counted", *arguments: str) -> "Ended":
        for name, value in counted.env.items():
            monkeypatch.setenv(name, value)
        return run(capsys, *arguments)

    return command
