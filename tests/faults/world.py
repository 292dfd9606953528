"""One scenario's world: topics on a real broker, a Redis of its own, consumers as processes, and the verdict."""

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

from kafka import KafkaProducer
from redis import Redis as Client

from consumers.playlists import PlaylistLog
from features.fence import OPTIONAL, OUTCOMES
from features.topics import Topics
from hitparade.settings import Settings
from producers.publisher import Message, Publisher
from producers.topics import ensure_topics, topic_specs
from tests.builders_weekly import Stage
from tests.faults.known import catalogue, known_log
from tests.faults.servers import Redis, environment
from tests.faults.truth import Standing, difference, ends_of, identities, read_back, standings, truth_of
from tests.oracle import Totals
from tests.servers import ROOT, wait_until

WEEKS_KEPT = 6
SALT = "faults"
WEIGHTS = {"control": 0.5, "treatment": 0.5}
EXPERIMENT = f"""
[[experiment]]
name = "{SALT}"
salt = "{SALT}"
[experiment.groups.control]
weight = 0.5
model = "linear"
[experiment.groups.treatment]
weight = 0.5
model = "naive"
"""
PATIENT = {
    "acks": "all",
    "linger_ms": 5,
    "delivery_timeout_ms": 120_000,
    "max_block_ms": 120_000,
    "reconnect_backoff_max_ms": 500,
}
"""A producer that outlives what is done to its broker; idempotent, as kafka-python's are."""
Lists = dict[str, str]
"""The id of every list, by week and group."""
without_faults: dict[int, Lists] = {}
"""The lists of a count without faults, by what was counted."""


@dataclass(frozen=True)
class Verdict:
    """What a scenario came to: how its events ended, and by how much the counters differ from the truth."""

    events: int
    outcomes: Mapping[str, int]
    difference: int
    problems: Sequence[str] = ()

    def __str__(self) -> str:
        named = [*OUTCOMES, *(name for name in OPTIONAL if self.outcomes.get(name))]
        outcomes = ", ".join(f"{self.outcomes.get(name, 0):,} {name}" for name in named)
        return f"{self.events:,} events in: {outcomes}, difference: {self.difference:,}"


@dataclass
class Process:
    """A command of ours in a process of its own."""

    popen: Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self, timeout_s: float = 30) -> int:
        """SIGTERM; the exit code."""
        self.popen.terminate()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> int:
        return self.popen.wait(timeout_s)

    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def said(self, text: str) -> bool:
        """Whether its log has a text."""
        return text in self.log.read_text(errors="replace")

    def close(self) -> None:
        if self.is_alive():
            self.popen.kill()
        self.popen.wait()


@dataclass
class World:
    """Everything of one scenario; what is started through it ends with it."""

    seed: int
    kafka: str
    redis: Redis
    folder: Path
    prefix: str
    group: int
    n_partitions: int = 4
    n_events: int = 12_000
    replication: int = 1
    settings_: dict[str, str] = field(default_factory=dict)
    record: Callable[[Verdict], None] = print
    recount: Callable[[Sequence[Any]], Totals] | None = None
    """Of one partition's records, where weeks or groups are not the usual ones."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _n_processes: int = 0
    _n_sent: int = 0

    def __post_init__(self) -> None:
        experiment = self.folder / "experiment.toml"
        experiment.write_text(EXPERIMENT)
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "REDIS_URL": self.redis.url,
            "TOPIC_PREFIX": self.prefix,
            "PARTITIONS": str(self.n_partitions),
            "REPLICATION_FACTOR": str(self.replication),
            "SESSION_TIMEOUT_MS": "2000",
            "WEEKS_KEPT": str(WEEKS_KEPT),
            "SLICES": "4",
            "EXPERIMENT_FILE": str(experiment),
            "DATA_DIR": str(self.folder / "data"),
            "CUT_TIMEOUT_S": "30",
        }
        self.env = environment(**{**given, **self.settings_})
        self.settings = Settings.from_env(self.env)
        self.topic = self.settings.topics.sessions
        ensure_topics(
            self.settings.kafka, topic_specs(self.settings.topics, self.n_partitions, WEEKS_KEPT), self.replication
        )
        self.client: Client = self._stack.enter_context(self.redis.client())

    # The log

    def fill(self, n_events: int | None = None) -> None:
        """Send the known log, or what comes next of it, and wait until it is acknowledged."""
        with self.filling(n_events, 0):
            pass

    @contextlib.contextmanager
    def filling(self, n_events: int | None = None, over_s: float = 5.0) -> Iterator[None]:
        """Send it in about so many seconds, while the block runs; at its end everything is acknowledged."""
        n_events = n_events or self.n_events
        sendings = list(known_log(self.seed, n_events, self.n_partitions, self._n_sent))
        self._n_sent += n_events
        failures: list[BaseException] = []

        def send() -> None:
            try:
                with contextlib.closing(KafkaProducer(**PATIENT, **self.settings.kafka)) as producer:
                    futures = []
                    for sending in sendings:
                        pause.wait(over_s / len(sendings))
                        # kafka-python refuses a record with neither key nor value
                        value = b"" if sending.key is None and sending.value is None else sending.value
                        futures.append(producer.send(self.topic, value, sending.key, partition=sending.partition))
                    for future in futures:
                        future.get(timeout=120)
            except BaseException as cause:
                failures.append(cause)

        pause, thread = threading.Event(), threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            pause.set()  # whatever is left goes out at once
            thread.join()
        if failures:
            raise failures[0]

    def send(self, *values: bytes | None, partition: int = 0, key: bytes | None = b"key") -> None:
        """Records of the scenario's own."""
        with contextlib.closing(Publisher(self.settings.kafka)) as publisher:
            publisher.publish([Message(self.topic, key, value, partition=partition) for value in values])

    # The consumers

    def command(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `hitparade …`; env holds settings without their prefix."""
        return self.python("-m", "hitparade", *arguments, env=env)

    def consumer(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a counter consumer."""
        return self.command("consume", "sessions", *arguments, env=env)

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start Python with what it should run."""
        self._n_processes += 1
        log = self.folder / f"process-{self._n_processes}.log"
        more = {f"HITPARADE_{name}": value for name, value in (env or {}).items()}
        with log.open("wb") as sink:
            popen = Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.env | more,
                stdin=DEVNULL,
                stdout=sink,
                stderr=STDOUT,
                process_group=self.group,
            )
        process = Process(popen, log)
        self._stack.callback(process.close)
        return process

    # Where it stands

    def standings(self) -> dict[int, Standing]:
        return standings(self.client, self.topic)

    def n_decided(self) -> int:
        """How many events the tallies add up to, so far."""
        keys = [f"{{hp:{self.topic}:{p}}}:fence" for p in range(self.n_partitions)]
        fences = [self.client.hmget(key, *OUTCOMES, *OPTIONAL) for key in keys]
        return sum(int(tally or 0) for fence in fences for tally in fence)

    def await_decided(self, n_events: int, timeout_s: float = 40) -> None:
        wait_until(lambda: self.n_decided() >= n_events, f"{n_events} events to be decided", timeout_s)

    def await_drained(self, timeout_s: float = 60) -> None:
        """Wait until every fence is at the end of its partition."""
        ends = ends_of(self.kafka, self.topic)
        wait_until(lambda: self._fences() == ends, f"the fences to be at {ends}", timeout_s)

    def _fences(self) -> dict[int, int]:
        offsets = {
            partition: self.client.hget(f"{{hp:{self.topic}:{partition}}}:fence", "next_offset")
            for partition in range(self.n_partitions)
        }
        return {partition: int(offset or 0) for partition, offset in offsets.items()}

    # The verdict

    def read_back(self) -> dict[int, list[Any]]:
        """The log as Kafka has it now."""
        return read_back(self.kafka, self.topic)

    def check(
        self,
        log: Mapping[int, Sequence[Any]] | None = None,
        lists: bool = True,
        before: Mapping[int, Sequence[Any]] | None = None,
    ) -> Verdict:
        """Compare Redis with a recount of the log, event for event; fail with everything that is wrong.

        Args:
            log: what should have been counted, by partition; the log as Kafka has it, unless given.
            lists: whether every list must be the one that a count without faults gives.
            before: the log of an earlier count, whose letters are there too.
        """
        by_partition = self.read_back() if log is None else log
        ends = ends_of(self.kafka, self.topic)
        found = self.standings()
        truth = {p: self.truth(records) for p, records in by_partition.items()}
        outcomes: Counter[str] = sum((totals.outcomes for totals in truth.values()), Counter())
        n_events = sum(outcomes[name] for name in (*OUTCOMES, *OPTIONAL))
        problems = []
        for partition, totals in truth.items():
            standing = found.get(partition, Standing({}))
            decided = sum(standing.tally(name) for name in (*OUTCOMES, *OPTIONAL))
            read = sum(totals.outcomes[name] for name in (*OUTCOMES, *OPTIONAL))
            if decided != read:
                problems.append(f"partition {partition}: {read} events read, the tallies add up to {decided}")
            if standing.next_offset != ends[partition]:
                problems.append(f"partition {partition}: the fence is at {standing.next_offset}, not {ends[partition]}")
        wrong = sum(difference(totals, found.get(p, Standing({}))) for p, totals in truth.items())
        problems += self._letters(truth, {p: self.truth(records) for p, records in (before or {}).items()})
        verdict = Verdict(n_events, dict(outcomes), wrong, problems)
        self.record(verdict)
        assert verdict.difference == 0, str(verdict)
        assert not problems, "; ".join(problems)
        if lists:
            assert self.lists() == self._lists_without_faults(truth), "other lists than without faults"
        return verdict

    def _letters(self, truth: Mapping[int, Totals], before: Mapping[int, Totals]) -> list[str]:
        expected, earlier = self._set_aside(truth), self._set_aside(before)
        names = {"late": self.settings.topics.late, "dead": self.settings.topics.dead_sessions}
        problems = []
        for topic, name in names.items():
            letters = identities([r for records in read_back(self.kafka, name).values() for r in records])
            if missing := expected[topic] - letters:
                problems.append(f"{len(missing)} {topic} events have no letter, such as {min(missing, key=str)}")
            if invented := letters - expected[topic] - earlier[topic]:
                problems.append(f"{len(invented)} {topic} letters are of no such event: {min(invented, key=str)}")
        return problems

    def truth(self, records: Sequence[Any]) -> Totals:
        """The recount of one partition's records."""
        if self.recount is not None:
            return self.recount(records)
        return truth_of(records, self.settings.weeks_kept, SALT, WEIGHTS, self.settings.exposures)

    def _set_aside(self, truth: Mapping[int, Totals]) -> dict[str, set[Any]]:
        found: dict[str, set[Any]] = {"late": set(), "dead": set()}
        for partition, totals in truth.items():
            for topic, cause, offset, index, value in totals.aside:
                found[topic].add((cause, self.topic, partition, offset, index, value or None))
        return found

    # The lists

    def catalogue(self) -> None:
        """Send the catalogue, and have it counted."""
        with contextlib.closing(Publisher(self.settings.kafka)) as publisher:
            publisher.publish([Message(self.settings.topics.tracks, key, value) for key, value in catalogue()])
        with self.stage(self.env) as stage:
            stage.count_tracks()

    def lists(self) -> Lists:
        """Trigger every closed week, and run the triggers: the lists' ids."""
        if not self.client.exists(f"{{hp:{self.settings.topics.tracks}:0}}:fence"):
            self.catalogue()
        return self._run_all(self.env, self.settings.topics)

    def _lists_without_faults(self, truth: Mapping[int, Totals]) -> Lists:
        """Those of the same log, counted in one go into a Redis of its own, and published apart.

        A run that finds lists published sends them again, right or wrong, where nothing they depend on has moved.
        """
        counted = hash(frozenset((p, at, tuple(n)) for p, totals in truth.items() for at, n in totals.counts.items()))
        if counted not in without_faults:
            redis = Redis(self.folder / "without-faults", self.group)
            redis.start()
            self._stack.callback(redis.close)
            env = {"HITPARADE_REDIS_URL": redis.url, "HITPARADE_DATA_DIR": str(self.folder / "data-without-faults")}
            with self.stage(self.env | env) as stage:
                stage.count()
            apart = Topics(f"{self.prefix}-without-faults")
            ensure_topics(self.settings.kafka, topic_specs(apart, 1, WEEKS_KEPT), self.replication)
            without_faults[counted] = self._run_all(self.env | env, apart)
        return without_faults[counted]

    def _run_all(self, env: Mapping[str, str], topics: Topics) -> Lists:
        with self.stage(env) as stage:
            run, ids = stage.weekly_run(), {}
            run = replace(run, topics=topics, playlists=PlaylistLog(self.settings.kafka, topics.playlists))
            for week in stage.triggers.counters.standing().closed():
                for playlist in run.run(stage.triggers.fire(week, "manual")):
                    assert playlist.revision == 1, (
                        f"{playlist.week} {playlist.group} was published twice, with a change"
                    )
                    ids[f"{playlist.week}/{playlist.group}"] = playlist.id
        return ids

    @contextlib.contextmanager
    def stage(self, env: Mapping[str, str]) -> Iterator[Stage]:
        settings = Settings.from_env(env)
        stage = Stage(env, settings, Publisher(settings.kafka))
        try:
            yield stage
        finally:
            for publisher in (stage.publisher, *stage.publishers):
                publisher.close()

    def close(self) -> None:
        self._stack.close()
