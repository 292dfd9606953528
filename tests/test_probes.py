"""The small server of consumers: what it answers, and that nobody can harm the consumer through it."""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers import probes
from consumers.health import SLOW_S, STUCK_S, Health
from consumers.kafka import KafkaUnavailable
from consumers.probes import MOST_HEAD_BYTES, MOST_THREADS, Answer, answering, of_health
from consumers.schedule import Triggers
from consumers.triggers import TriggerConsumer
from features.connect import StoreUnavailable
from features.reader import WeekError
from hitparade.embedded import Embedded
from hitparade.pipeline import SCHEDULE_EVERY_S
from hitparade.processes import HOST
from tests.builders_weekly import plays, staged
from tests.commands import end, nothing_left_running, start  # noqa: F401
from tests.raw_http import Answer as Answered
from tests.raw_http import asked, connected, parsed, request, until_closed
from tests.servers import free_port_pair, wait_until
from tests.test_health import Clock
from tests.test_triggers import Given, Hasty, failing, wire


@contextlib.contextmanager
def answered(**answers: Callable[[], Answer]) -> Iterator[int]:
    with socket.create_server((HOST, 0)) as listener:
        with answering(listener, {f"/{name}": answer for name, answer in answers.items()}):
            yield listener.getsockname()[1]


def well() -> Answer:
    return 200, "text/plain", b"well"


def test_liveness_and_readiness_say_why_and_since_when() -> None:
    clock = Clock()
    health = Health(clock())
    answers = of_health(health, clock)

    def said(path: str) -> tuple[int, Any]:
        status, media_type, body = answers[path]()
        assert media_type == "application/json"
        return status, json.loads(body)

    clock.advance(2)
    starting = {"ready": False, "reason": "it is starting", "for_s": 2.0, "progressed_s_ago": None}
    assert said("/readyz") == (503, starting)
    assert said("/livez")[0] == 200
    health.turned(clock())
    health.recovered(clock())
    health.progressed(clock())
    clock.advance(3)
    assert said("/readyz") == (200, {"ready": True, "reason": "", "for_s": 3.0, "progressed_s_ago": 3.0})
    clock.advance(STUCK_S)
    status, found = said("/livez")
    assert (status, found["live"]) == (503, False)
    assert found["reason"] == "one turn of the loop has taken 303 s so far"


def test_get_and_head_are_answered_and_nothing_else_is() -> None:
    with answered(livez=well) as port:
        got = asked(port, request("GET", "/livez?x=1"))
        assert (got.status, got.body, got.headers["cache-control"]) == (200, b"well", "no-store")
        head = asked(port, request("HEAD", "/livez"))
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "4")
        for method in ("POST", "TRACE", "X<b>"):
            answer = asked(port, request(method, "/livez"))
            assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
        for path in ("/", "/nowhere", "/../etc/passwd", "/%00"):
            assert asked(port, request("GET", path)).status == 404


@pytest.mark.parametrize(
    "found",
    [
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * MOST_HEAD_BYTES + b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=["a long head", "TLS", "half a line", "another version", "nothing"],
)
def test_what_is_no_request_is_refused_or_left_and_repeated_nowhere(
    found: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with answered(livez=well) as port:
        with connected(port) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(found)
            answer = until_closed(connection)
            assert answer == b"" or parsed(answer).status in (400, 505)
            assert b"well" not in answer
        assert asked(port, request("GET", "/livez")).body == b"well"
    assert capfd.readouterr() == ("", "")


def test_who_sends_nothing_is_left_and_while_many_do_others_wait_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, "PATIENCE_S", 0.3)
    with answered(livez=well) as port, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(MOST_THREADS)]
        idle[0].sendall(b"GET /livez HT")
        with contextlib.suppress(ConnectionError):
            assert until_closed(stack.enter_context(connected(port))) == b""  # one too many
        assert [until_closed(connection) for connection in idle] == [b""] * MOST_THREADS
        assert asked(port, request("GET", "/livez")).status == 200


def test_an_answer_that_fails_is_500_and_the_next_one_is_given(caplog: pytest.LogCaptureFixture) -> None:
    def failing() -> Answer:
        raise KeyError("a bug")

    with answered(metrics=failing, livez=well) as port:
        answer = asked(port, request("GET", "/metrics"))
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert asked(port, request("GET", "/livez")).status == 200
    assert "/metrics cannot be answered: KeyError('a bug')" in caplog.text


def test_a_scheduler_is_slower_than_it_rests() -> None:
    assert SCHEDULE_EVERY_S < SLOW_S


class Resting(threading.Event):
    """A stop that looks at the health while its loop rests, and ends it after some turns."""

    def __init__(self, loop: Any, n_turns: int) -> None:
        super().__init__()
        self.loop, self.n_turns = loop, n_turns
        self.found: list[tuple[bool, str]] = []

    def wait(self, timeout: float | None = None) -> bool:
        state = self.loop.health.state(self.loop.clock() + SLOW_S - 1)
        self.found.append((state.ready, state.reason))
        if len(self.found) == self.n_turns:
            self.set()
        return self.is_set()


def scheduler(*outcomes: Exception | None) -> tuple[Triggers, Clock]:
    """A scheduler whose turns end so, one after the other."""
    clock, left = Clock(), list(outcomes)

    class Scheduler(Triggers):
        def fire_due(self, *_: Any) -> Any:
            clock.advance(SLOW_S)
            if outcome := left.pop(0):
                raise outcome
            return []

    nowhere: Any = None
    return Scheduler(nowhere, nowhere, nowhere, nowhere, clock=clock), clock


def test_a_scheduler_says_that_it_cannot_work_and_why_and_that_it_can_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = StoreUnavailable("Redis is away")
    triggers, clock = scheduler(None, away, away, None, WeekError("nothing has been counted yet"))
    stop = Resting(triggers, 5)
    triggers.run(stop, Any, True, 1.0)  # type: ignore[arg-type]
    assert stop.found == [(True, ""), (False, "Redis is away"), (False, "Redis is away"), (True, ""), (True, "")]
    assert not triggers.health.state(clock()).live
    assert caplog.text.count("not ready: Redis is away") == 1


def test_a_scheduler_that_trains_is_not_taken_for_one_that_hangs() -> None:
    health = Health(0.0)
    health.recovered(0.0)
    health.may_take_long()
    assert health.state(10 * STUCK_S).ready
    assert health.state(10 * STUCK_S).live
    health.turned(10 * STUCK_S)
    assert not health.state(11 * STUCK_S).live


def test_training_before_a_week_is_fired_may_take_long(embedded_stack: Embedded, prefix: str, tmp_path: Path) -> None:
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        stage.send(plays(20, {"a": 1}), plays(21, {"a": 1}))
        stage.count()
        triggers, found = stage.triggers, list[bool]()
        triggers.prepare = lambda week: found.append(triggers.health.state(triggers.clock() + 10 * STUCK_S).live)
        assert [week.name for week in triggers.fire_due(None, timedelta())] == ["2023-W20"]
        assert found == [True]
        assert triggers.n_fired == 1
        assert not triggers.health.state(triggers.clock() + 2 * STUCK_S).live


def test_a_weekly_consumer_in_a_long_run_turns_and_what_fails_is_told_until_it_goes_well() -> None:
    clock = Clock()
    found: list[tuple[bool, str]] = []

    class Kept(Given):
        def keep_membership(self) -> None:
            super().keep_membership()
            look()
            if self.n_kept == 2:
                done.set()

    done = threading.Event()
    run, _ = failing(StoreUnavailable("Redis is away"), KafkaUnavailable("Kafka too"))
    reader = Kept(wire("2023-W20"), wire("2023-W21"))

    def long(trigger: Any) -> None:
        if trigger.closed_week == "2023-W21":
            clock.advance(STUCK_S)
            assert done.wait(60)
        else:
            run(trigger)

    def look() -> None:
        state = consumer.health.state(clock())
        found.append((state.ready, state.reason))

    stop = Hasty(look)
    consumer = TriggerConsumer(reader, long, stop, clock=clock)
    assert consumer.consume(until_idle=True) == 0
    name = "the trigger at offset 0 of triggers"
    assert found[:2] == [(False, f"{name}: Redis is away"), (False, f"{name}: Kafka too")]
    assert found[-1] == (True, "")
    assert (consumer.n_run, consumer.n_failed, consumer.n_refused) == (2, 2, 0)
    assert consumer.last
    assert consumer.last.seconds == STUCK_S
    assert consumer.health.state(clock()).reason == "it has ended"


COMMANDS = {
    "consume sessions": "hitparade_next_offset",
    "consume tracks": "hitparade_apply_seconds_bucket",
    "consume weekly": "hitparade_triggers_total",
    "schedule --event-time": "hitparade_triggers_fired_total",
}


@pytest.mark.usefixtures("nothing_left_running")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_consumer_answers_on_a_port_of_its_own(
    embedded_stack: Embedded, prefix: str, tmp_path: Path, command: str
) -> None:
    port = free_port_pair()
    with staged(embedded_stack.kafka, embedded_stack.redis_url, prefix, tmp_path) as stage:
        stage.catalogue("a")
        env = {**stage.env, "HITPARADE_METRICS_PORT": str(port)}
        process = start(*command.split(), env=env)
        wait_until(lambda: answers(port, "/readyz").status == 200, "the consumer to be ready")
        wait_until(lambda: f"\n{COMMANDS[command]}" in answers(port, "/metrics").body.decode(), "its metrics")
        assert "\nhitparade_ready 1.0\n" in answers(port, "/metrics").body.decode()
        assert answers(port, "/livez").status == 200
        second = start(*command.split(), env=env)
        ended = end(second)
        assert ended.code == 1
        assert ended.err.count("\n") == 1
        assert f"cannot listen on 127.0.0.1:{port} (HITPARADE_HTTP_HOST, HITPARADE_METRICS_PORT): " in ended.err
        assert end(process, 15).code == 0  # type: ignore[arg-type]


def answers(port: int, path: str) -> Answered:
    with contextlib.suppress(OSError):
        return asked(port, request("GET", path))
    return Answered(0, {}, b"")
