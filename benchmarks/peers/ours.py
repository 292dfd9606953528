"""Our own rows: `hitparade consume sessions` as it ships, into a Valkey that writes its append-only file."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from benchmarks.environments import Missing
from benchmarks.peers.log import N_PARTITIONS
from benchmarks.peers.stage import Stage
from benchmarks.peers.truth import Counts, of_rows
from benchmarks.peers.watch import Going
from hitparade import wiring
from hitparade.processes import child
from hitparade.settings import PREFIX, Settings, SettingsError
from tests.faults.servers import Redis as Valkey
from tests.faults.servers import environment

COMMAND = [sys.executable, "-m", "hitparade", "consume", "sessions", "--until-idle"]
OUTCOMES = ("counted", "late", "dead", "ignored")


def need(client: str, module: str) -> None:
    """Check that a client can be had.

    Raises:
        Missing: its module is not installed, or no setting takes it.
    """
    if find_spec(module) is None:
        raise Missing(f"{module} is not installed: install the extra that has it")
    try:
        Settings.from_env({f"{PREFIX}KAFKA_CLIENT": client})
    except SettingsError as cause:
        raise Missing(" ".join(str(cause).split())) from cause


@contextmanager
def count(stage: Stage, client: str, n_consumers: int = 1) -> Iterator[Going]:
    """So many consumers of one group, all settings as they are by default."""
    with ExitStack() as stack:
        valkey = Valkey(stage.folder / "valkey", stage.group)
        stack.callback(valkey.close)
        valkey.start()
        env = environment(
            KAFKA_BOOTSTRAP_SERVERS=stage.kafka,
            KAFKA_CLIENT=client,
            PARTITIONS=str(N_PARTITIONS),
            REDIS_URL=valkey.url,
            TOPIC_PREFIX=stage.prefix,
        )
        logs = [stage.folder / f"consumer{n}.log" for n in range(n_consumers)]
        processes = [stack.enter_context(child(COMMAND, log, stage.group, env=env)) for log in logs]
        settings = Settings.from_env({name: value for name, value in env.items() if name.startswith(PREFIX)})
        store = wiring.session_store(settings)
        stack.callback(store.client.close)

        def counted() -> int:
            fences = store.fences(range(N_PARTITIONS))
            return sum(fence.tallies.get(name, 0) for fence in fences.values() for name in OUTCOMES)

        yield Going(processes, logs, counted, lambda: _counts(settings), valkey.process)


def _counts(settings: Settings) -> Counts:
    """The counters of every week and group, as `hitparade counters` reads them."""
    reader = wiring.counter_reader(settings)
    weeks = reader.standing().kept()
    rows = ((week.name, row) for week in weeks for row in reader.at_one_instant(week))
    return of_rows((week, track_id, plays, skips, likes) for week, (track_id, _, plays, skips, likes) in rows)
