"""How long a consumer takes to start, to be missed, and to stop: `hitparade consume sessions` with its defaults."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from statistics import median
from threading import Event, Thread
from typing import Any

from kafka import ConsumerRebalanceListener

from benchmarks.stand import Counting, Stand, is_missing, stand, wait_for
from consumers.kafka import build_consumer
from hitparade.processes import last_lines
from hitparade.settings import Settings
from producers.kafka import build_producer

ROUNDS = 4
KILLS = 3
N_PARTITIONS = 6
MOST_START_S, MOST_STOP_S, MOST_MARGIN_S = 1.5, 2.0, 1.0
EVERY_S = 0.01
EVENT = b'{"session_id": 1, "timestamp": "2025-01-01T00:00:00", "user_id": 1, "track_id": "a", "event_type": "play"}'


def run() -> Iterator[dict[str, Any]]:
    """Start, stop, and what a killed consumer leaves behind; no row where there is no broker."""
    if is_missing("recovery"):
        return
    with stand() as servers:
        starts = [_started(servers, f"start{n}") for n in range(ROUNDS)]
        joins = [_join_s(servers.settings(f"start{n}")) for n in range(ROUNDS)]
        yield _row(
            "recovery:start",
            f"the first event is counted less than {MOST_START_S} s after start, the join of the group apart",
            [start - join for start, join in zip(starts, joins, strict=True)],
            MOST_START_S,
            with_join_s=round(median(starts), 2),
            join_s=round(median(joins), 2),
        )
        for name, when, stopped in (
            ("idle", "while it has nothing to count", _stopped_idle),
            ("at-work", "while it counts", _stopped_at_work),
            ("joining", "while its group waits for a member that was killed", _stopped_joining),
        ):
            stops = [stopped(servers, f"{name}{n}") for n in range(ROUNDS)]
            yield _row(f"recovery:stop-{name}", f"less than {MOST_STOP_S} s, {when}", stops, MOST_STOP_S)
        timeout_s = servers.settings("kill").session_timeout_ms / 1000
        yield _row(
            "recovery:kill",
            f"what a killed consumer counted goes on within the session time-out ({timeout_s:g} s) and "
            f"{MOST_MARGIN_S:g} s",
            [_taken_over(servers, f"kill{n}") for n in range(KILLS)],
            timeout_s + MOST_MARGIN_S,
        )


def _row(name: str, target: str, seconds: Sequence[float], most_s: float, **more: float) -> dict[str, Any]:
    """Every round must hold."""
    found = {"median_s": round(median(seconds), 2), "most_s": round(max(seconds), 2), "rounds": len(seconds)}
    return {"name": name, "target": target, "holds": max(seconds) < most_s, **found, **more}


def _started(servers: Stand, prefix: str) -> float:
    """Seconds from a process' start to its first count."""
    servers.topics(prefix, N_PARTITIONS)
    with _sending(servers.settings(prefix)), servers.consumer(prefix) as consumer:
        counted = wait_for(lambda: any(servers.fences(prefix, N_PARTITIONS)), "a count", consumer, every_s=0.002)
        return counted - consumer.began


def _join_s(settings: Settings) -> float:
    """What a client of Kafka without us takes to get its partitions in a group of its own."""
    group = {"group_id": f"{settings.topic_prefix}.bare", "session_timeout_ms": settings.session_timeout_ms}
    listener = _Listener()
    with closing(build_consumer(settings.kafka, auto_offset_reset="earliest", **group)) as consumer:
        began = time.monotonic()
        consumer.subscribe([settings.topics.sessions], listener=listener)
        while listener.assigned is None:
            consumer.poll(timeout_ms=500)  # shorter ones may never come to the end of a join
        return listener.assigned - began


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    assigned: float | None = None

    def on_partitions_assigned(self, assigned: object) -> None:
        self.assigned = time.monotonic()

    def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing is read."""


@contextmanager
def _sending(settings: Settings) -> Iterator[None]:
    """An event every few milliseconds, to each partition in turn."""
    stop = Event()

    def send() -> None:
        with closing(build_producer(settings.kafka, linger_ms=0)) as producer:
            for partition in cycle(range(N_PARTITIONS)):
                producer.send(settings.topics.sessions, EVENT, partition=partition)
                if stop.wait(EVERY_S):
                    return

    sender = Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def _stop_s(consumer: Counting) -> float:
    """Seconds from SIGTERM to the end."""
    began = time.monotonic()
    consumer.process.terminate()
    if code := consumer.process.wait(60):
        raise RuntimeError(f"a consumer ended with {code} at SIGTERM:\n{last_lines(consumer.log, 20)}")
    return time.monotonic() - began


def _stopped_idle(servers: Stand, prefix: str) -> float:
    servers.topics(prefix, N_PARTITIONS)
    with servers.consumer(prefix) as consumer:
        wait_for(lambda: servers.is_shared(prefix, 1), "its partitions", consumer, every_s=0.1)
        return _stop_s(consumer)


def _stopped_at_work(servers: Stand, prefix: str) -> float:
    servers.topics(prefix, N_PARTITIONS)
    with _sending(servers.settings(prefix)), servers.consumer(prefix) as consumer:
        wait_for(lambda: all(servers.fences(prefix, N_PARTITIONS)), "counts", consumer)
        return _stop_s(consumer)


def _stopped_joining(servers: Stand, prefix: str) -> float:
    servers.topics(prefix, N_PARTITIONS)
    with servers.consumer(prefix) as killed:
        wait_for(lambda: servers.is_shared(prefix, 1), "its partitions", killed, every_s=0.1)
    with servers.consumer(prefix) as consumer:
        wait_for(lambda: "reading" in consumer.log.read_text(), "a consumer to begin", consumer)
        time.sleep(1)
        return _stop_s(consumer)


def _taken_over(servers: Stand, prefix: str) -> float:
    """Seconds from the SIGKILL of one of two consumers until every partition has moved on."""
    servers.topics(prefix, N_PARTITIONS)

    def fences() -> list[int]:
        return [fence or 0 for fence in servers.fences(prefix, N_PARTITIONS)]

    with ExitStack() as stack:
        stack.enter_context(_sending(servers.settings(prefix)))
        one, other = (stack.enter_context(servers.consumer(prefix)) for _ in range(2))
        wait_for(lambda: all(fences()) and servers.is_shared(prefix, 2), "two to share", one, other, every_s=0.1)
        one.process.kill()
        killed, at = time.monotonic(), fences()
        moved = wait_for(lambda: all(now > then + 1 for now, then in zip(fences(), at, strict=True)), "all", other)
        return moved - killed
