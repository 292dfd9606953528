"""How the doctor works: one check after the other, each bounded in time; what needs a broken thing is not looked at."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from consumers.brokers import Brokers, SeenLog
from features.fence import Fence
from features.store import CounterStore
from features.vitals import Vitals, vitals
from hitparade import wiring
from hitparade.errors import USAGE, is_expected, sentence
from hitparade.settings import Settings

if TYPE_CHECKING:
    from features.history import History

LONGEST_S = 15.0  # of one check: a Kafka or a Redis that accepts and never answers is given up after 5 s by itself
REDIS_TIMEOUT_S = 5.0


class Level(StrEnum):
    """How bad it is: a warning works now, and may not for long or not as it is meant to."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Wrong(Exception):
    """What must be mended: what, which, expected against found, what to do."""


class Careful(Exception):
    """What is to be warned of, in the same words."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found."""

    check: str
    level: Level
    found: str


class Patient:
    """What is looked at; each thing is opened, or asked for, once."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.pause = pause
        self._open = contextlib.ExitStack()

    @cached_property
    def brokers(self) -> Brokers:
        """Kafka."""
        return self._open.enter_context(contextlib.closing(Brokers(self.settings.kafka)))

    @cached_property
    def sessions(self) -> CounterStore:
        """The counters."""
        return self._store(self.settings.topics.sessions)

    @cached_property
    def tracks(self) -> CounterStore:
        """The catalogue."""
        return self._store(self.settings.topics.tracks)

    def _store(self, topic: str) -> CounterStore:
        store = wiring.patient_store(self.settings, topic, REDIS_TIMEOUT_S)
        self._open.callback(store.client.close)
        return store

    @cached_property
    def redis(self) -> list[Vitals]:
        """What every node of Redis says of itself."""
        return vitals(self.sessions.client)

    @cached_property
    def logs(self) -> dict[str, SeenLog]:
        """The topics that are counted and kept, by the name of their consumer."""
        topics = self.settings.topics
        names = {"sessions": topics.sessions, "tracks": topics.tracks}
        return {name: self.brokers.log(topic, topics.group(name)) for name, topic in names.items()}

    @cached_property
    def configs(self) -> dict[str, dict[str, str]]:
        """What the topics are set to."""
        return self.brokers.configs(self.settings.topics.all())

    def fences(self, consumer: str) -> dict[int, Fence]:
        """Where a topic's partitions stand in Redis, now."""
        store = {"sessions": self.sessions, "tracks": self.tracks}[consumer]
        return store.fences(sorted(self.logs[consumer].ends))

    @cached_property
    def history(self) -> "History":
        """The closed weeks on this disk."""
        from features.history import History

        return History(self.settings.data_dir / "history")

    def close(self) -> None:
        """Let go of everything."""
        with contextlib.suppress(Exception):  # what has not answered in time may be in the midst of it
            self._open.close()


@dataclass(frozen=True, slots=True)
class Check:
    """One look: it says what is well, or raises; needs names the checks without which it cannot tell."""

    name: str
    look: Callable[[Patient], str]
    needs: tuple[str, ...] = ()


def examine(patient: Patient, checks: Sequence[Check], longest_s: float = LONGEST_S) -> Iterator[Finding]:
    """Look at everything, in order."""
    to_mend: dict[str, list[str]] = {}  # by check, the ones to be mended first
    for check in checks:
        if first := list(dict.fromkeys(name for need in check.needs for name in to_mend.get(need, ()))):
            to_mend[check.name] = first
            yield Finding(check.name, Level.WRONG, f"not looked at: first mend {' and '.join(first)}")
            continue
        finding = _look(check, patient, longest_s)
        if finding.level is Level.WRONG:
            to_mend[check.name] = [check.name]
        yield finding


def _look(check: Check, patient: Patient, longest_s: float) -> Finding:
    answer: Future[str] = Future()
    threading.Thread(target=_answer, args=(answer, check, patient), daemon=True).start()
    try:
        return Finding(check.name, Level.OK, answer.result(longest_s))
    except Careful as cause:
        return Finding(check.name, Level.WARNING, str(cause))
    except Wrong as cause:
        return Finding(check.name, Level.WRONG, str(cause))
    except Exception as cause:
        if not answer.done():
            text = "what is asked hangs, is very slow, or speaks another protocol (TLS, or none)"
            return Finding(check.name, Level.WRONG, f"no answer in {longest_s:g} s: {text}")
        if not isinstance(cause, USAGE) and not is_expected(cause):
            raise
        return Finding(check.name, Level.WRONG, sentence(cause, patient.settings))


def _answer(answer: Future[str], check: Check, patient: Patient) -> None:
    try:
        answer.set_result(check.look(patient))
    except BaseException as cause:
        answer.set_exception(cause)
