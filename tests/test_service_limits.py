"""What a visitor may not do, and what no answer is without; over a real server, by bytes that no client would send."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import StreamingResponse

import service.connections
import service.stream
from features.reader import WeekError
from features.weeks import Calendar, ChartWeek
from service.app import build
from service.limits import HEADERS, MOST_ADDRESSES, MOST_HEAD_BYTES, Rates
from service.parts import Limits, Parts
from service.problems import AWAY
from tests.raw_http import asked, connected, parsed, request, served, until_closed
from tests.servers import wait_until
from tests.serving import a_list, client, parts

TOKEN = "a-token-of-ours"
BEARER = f"Authorization: Bearer {TOKEN}"
JSON = "Content-Type: application/json"
LIMITS = Limits(max_body_bytes=1000, timeout_s=0.5)


def fire(week: str | None) -> ChartWeek:
    """The trigger of a service that has closed one week."""
    found = Calendar().parse(week or "2025-W11")
    if found.name != "2025-W11":
        raise WeekError(f"week {found} is not closed")
    return found


def guarded(folder: Path, **changes: Any) -> Parts:
    return parts(folder, a_list(), **{"limits": LIMITS, "token": TOKEN, "fire": fire, **changes})


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service with small limits."""
    with served(build(guarded(tmp_path_factory.mktemp("limits")))) as port:
        yield port


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait for a visitor is short."""
    for name in ("HEAD_S", "LINGER_S", "TAKE_S"):
        monkeypatch.setattr(service.connections, name, 0.2)


def post(*fields: str, closes: bool = False) -> bytes:
    return request("POST", "/triggers", BEARER, JSON, *fields, closes=closes)


def chunk(n_bytes: int) -> bytes:
    return b"%x\r\n%s\r\n" % (n_bytes, b" " * n_bytes)


def test_a_body_that_says_it_is_too_long_is_413_before_any_of_it_has_come(port: int, impatient: None) -> None:
    answer = asked(port, post("Content-Length: 1001"))
    assert answer.status == 413
    assert json.loads(answer.body)["detail"].startswith("expected a body of at most")
    assert asked(port, post("Content-Length: 1000"), b" " * 998 + b"{}").status == 202


def test_a_body_that_does_not_say_how_long_it_is_is_413_when_it_is_too_long(port: int, impatient: None) -> None:
    assert asked(port, post("Transfer-Encoding: chunked"), chunk(600), chunk(600)).status == 413


def test_a_body_that_does_not_come_is_408_and_the_connection_is_closed(port: int, impatient: None) -> None:
    answer = asked(port, post("Content-Length: 50"), b"{")
    assert answer.status == 408
    assert "within 0.5 s" in json.loads(answer.body)["detail"]


def test_a_body_that_comes_for_ever_byte_by_byte_is_408(port: int, impatient: None) -> None:
    with connected(port) as connection, contextlib.suppress(OSError):
        connection.sendall(post("Content-Length: 900"))
        connection.settimeout(0.05)
        found = b""
        for _ in range(900):
            with contextlib.suppress(TimeoutError):
                found += connection.recv(4096)
                break
            connection.sendall(b" ")
        assert parsed(found).status == 408


def test_a_refused_body_is_not_read_for_ever(port: int, impatient: None) -> None:
    with connected(port) as connection:
        connection.sendall(post(f"Content-Length: {10**15}"))
        with pytest.raises(OSError, match=r"reset|pipe"):
            _send_for_ever(connection)


def _send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b" " * 100)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
@pytest.mark.parametrize("where", ["a field", "many fields", "the path", "the query"])
def test_a_head_that_is_too_long_is_refused(port: int, where: str, at_once: bool, impatient: None) -> None:
    long = "a" * (MOST_HEAD_BYTES + 1)
    head = {
        "a field": request("GET", "/livez", f"X: {long}"),
        "many fields": request("GET", "/livez", *[f"X{n}: {'a' * 100}" for n in range(200)]),
        "the path": request("GET", f"/{long}"),
        "the query": request("GET", f"/livez?{long}"),
    }[where]
    with connected(port) as connection, contextlib.suppress(ConnectionError):
        if at_once:
            connection.sendall(head)
        else:
            for start in range(0, len(head), 4000):
                connection.sendall(head[start : start + 4000])
        answer = parsed(until_closed(connection))
        assert answer.status == 431
        assert answer.headers.items() >= HEADERS.items()


def test_a_head_just_below_the_limit_is_read(port: int) -> None:
    assert asked(port, request("GET", "/livez", f"X: {'a' * (MOST_HEAD_BYTES - 200)}")).status == 200


def test_a_head_that_does_not_come_is_not_waited_for(port: int, impatient: None) -> None:
    with connected(port) as silent, connected(port) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
        assert until_closed(silent) == b""
        with contextlib.suppress(ConnectionError):
            assert until_closed(slow) == b""
    assert asked(port, request("GET", "/livez")).status == 200


def test_who_takes_nothing_of_a_long_answer_is_left(impatient: None) -> None:
    ended = threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b" " * 65536
                await asyncio.sleep(0)
        finally:
            ended.set()

    with served(StreamingResponse(endless())) as port, connected(port) as connection:
        connection.sendall(request("GET", "/"))
        wait_until(ended.is_set, what="the answer to be given up")


def test_connections_beyond_the_limit_are_refused_and_those_within_it_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.connections, "MOST_CONNECTIONS", 20)
    with served(build(guarded(tmp_path))) as port, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(19)]
        assert asked(port, request("GET", "/livez")).status == 200
        idle.append(stack.enter_context(connected(port)))
        answer = asked(port)
        assert answer.status == 503
        assert answer.headers.items() >= HEADERS.items()
        idle[0].sendall(request("GET", "/livez"))
        assert parsed(until_closed(idle.pop(0))).status == 200
        wait_until(lambda: asked(port, request("GET", "/livez")).status == 200, what="the place to be free")


def test_readers_of_events_beyond_the_limit_are_refused_and_a_reader_that_leaves_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.stream, "MOST_READERS", 1)
    made = guarded(tmp_path)
    with served(build(made)) as port:
        with connected(port) as reader:
            reader.sendall(request("GET", "/events"))
            assert b"200 OK" in reader.recv(4096)
            refused = asked(port, request("GET", "/events", closes=False))  # whose connection makes room for others
            assert refused.status == 503
            assert (refused.headers["retry-after"], refused.headers["connection"]) == ("5", "close")
            assert asked(port, request("HEAD", "/events")).status == 200
        wait_until(lambda: made.memory.n_readers == 0, what="the reader to be gone")


def test_of_readers_who_all_come_at_once_no_more_are_taken_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.stream, "MOST_READERS", 3)
    made = guarded(tmp_path)
    app, statuses = build(made), []

    async def reads() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        head = {"method": "GET", "path": "/events", "raw_path": b"/events", "query_string": b"", "headers": []}
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", **head}
        await app({**scope, "server": None, "client": None, "root_path": "", "scheme": "http"}, forever, send)

    async def all_at_once() -> None:
        readers = [asyncio.ensure_future(reads()) for _ in range(20)]
        while len(statuses) < len(readers):
            await asyncio.sleep(0)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)

    asyncio.run(all_at_once())
    assert sorted(statuses) == [200] * 3 + [503] * 17
    assert made.memory.n_readers == 0


async def forever() -> Any:
    """Of a visitor who sends nothing more."""
    await asyncio.get_running_loop().create_future()


def test_a_server_that_ends_ends_its_streams_and_says_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = guarded(tmp_path)
    with contextlib.ExitStack() as stack:
        with served(build(made)) as port:
            reader = stack.enter_context(connected(port))
            reader.sendall(request("GET", "/events", closes=False))
            wait_until(lambda: made.memory.n_readers == 1, what="the reader")
        assert b"event: figures" in until_closed(reader)
    assert made.memory.n_readers == 0
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (request("POST", "/triggers", BEARER, "Content-Length: 2", "Transfer-Encoding: chunked"), 400),
        (request("POST", "/triggers", BEARER, "Content-Length: 2", "Content-Length: 3"), 400),
        (request("POST", "/triggers", BEARER, "Content-Length: +2"), 400),
        (request("POST", "/triggers", BEARER, f"Content-Length: {'9' * 5000}"), 400),
        (request("POST", "/triggers", BEARER, "Transfer-Encoding: gzip, chunked"), 501),
        (request("POST", "/triggers", BEARER, "Transfer-Encoding: xchunked"), 501),
        (request("GET", "/livez", "X : y"), 400),
        (request("GET", "/livez", "Host: another"), 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    ],
    ids=[
        *("both lengths", "two lengths", "a signed length", "a huge length", "an unknown coding", "a near coding"),
        *("a space in a name", "two hosts", "no host", "no version", "a space in the path", "TLS"),
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused_and_what_follows_is_no_request(
    port: int, found: bytes, status: int
) -> None:
    everything = found + b"0\r\n\r\n" + request("GET", "/readyz")
    answer = asked(port, everything)
    assert answer.status == status
    assert b"HTTP/1.1" not in answer.body.replace(b"no request of HTTP/1.1", b"")
    assert answer.headers.items() >= HEADERS.items()


def test_requests_that_are_sent_at_once_are_answered_one_after_the_other(port: int) -> None:
    answer = asked(port, request("GET", "/livez", closes=False) + request("GET", "/nowhere"))
    assert answer.status == 200
    assert answer.body.startswith(b'{"live":true}HTTP/1.1 404')


def test_a_body_that_is_broken_in_its_middle_is_400_and_no_failure(
    port: int, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(port) as connection:
        connection.sendall(post("Transfer-Encoding: chunked", "Expect: 100-continue"))
        assert b"100" in connection.recv(1024)
        connection.sendall(b"zz\r\n")
        assert parsed(until_closed(connection)).status == 400
    with connected(port) as connection:
        connection.sendall(post("Content-Length: 50") + b"{")
    assert asked(port, request("GET", "/livez")).status == 200
    assert caplog.text == ""


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "PROPFIND", "DELETE", "post", "X" * 200])
def test_other_methods_do_nothing(port: int, method: str) -> None:
    for path in ("/livez", "/openapi.json", "/docs"):
        answer = asked(port, request(method, path, BEARER))
        assert answer.status == 405
        assert BEARER.encode() not in answer.body
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/nowhere"])
def test_head_is_answered_as_get_without_the_body(port: int, path: str, caplog: pytest.LogCaptureFixture) -> None:
    got, headed = (asked(port, request(method, path)) for method in ("GET", "HEAD"))
    assert (headed.status, headed.headers["content-type"]) == (got.status, got.headers["content-type"])
    assert got.body
    assert headed.body == b""
    assert caplog.text == ""


@pytest.mark.parametrize("folder", ["/docs/", "/static/"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "../pyproject.toml",
            "../../../../../../etc/passwd",
            "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "..%2f..%2fetc%2fpasswd",
        ),
        *("..%5c..%5cetc%5cpasswd", "/etc/passwd", "//etc/passwd", "%00", "x%00.css", "%ff%fe", "a" * 5000, "."),
    ],
)
def test_no_path_leads_out_of_the_folders_that_are_served(port: int, folder: str, path: str) -> None:
    answer = asked(port, request("GET", folder + path))
    assert answer.status == 404
    assert b"root:" not in answer.body


def test_every_answer_has_the_headers_of_security(port: int) -> None:
    for found in (
        *(request("GET", path) for path in ("/livez", "/metrics", "/playlists", "/openapi.json", "/nowhere", "/docs")),
        request("POST", "/livez"),
        request("POST", "/triggers"),
        request("POST", "/triggers", BEARER, JSON, "Content-Length: 1") + b"{",
    ):
        headers = asked(port, found).headers
        assert headers.keys() >= HEADERS.keys(), found
        assert "server" not in headers
        assert "'unsafe-inline'" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
    etag = asked(port, request("GET", "/playlists/2025-W12/control")).headers["etag"]
    unchanged = asked(port, request("GET", "/playlists/2025-W12/control", f"If-None-Match: {etag}"))
    assert unchanged.status == 304
    assert unchanged.headers.items() >= HEADERS.items()


def test_what_fails_is_500_with_the_headers_and_nothing_of_why(tmp_path: Path) -> None:
    def failing(week: str | None) -> ChartWeek:
        raise KeyError("redis://:a-password@nowhere")

    answer = client(guarded(tmp_path, fire=failing)).post("/triggers", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 500
    assert answer.headers.items() >= HEADERS.items()
    assert "a-password" not in answer.text


def named(folder: Path) -> Any:
    return client(guarded(folder, limits=Limits(hosts=("hits.example", "::1"))))


@pytest.mark.parametrize("host", ["hits.example", "HITS.example", "hits.example:8080", "[::1]:8080", "[::1]"])
def test_a_name_that_is_known_is_answered(tmp_path: Path, host: str) -> None:
    assert named(tmp_path).get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "hits.example.evil", "evil.example:80", "", "hits.example@evil", "127.0.0.1"]
)
def test_a_name_that_is_not_known_is_421(tmp_path: Path, host: str) -> None:
    answer = named(tmp_path).get("/livez", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers.items() >= HEADERS.items()
    assert "hits.example" not in answer.text


def test_who_asks_too_often_is_429_and_others_are_answered() -> None:
    now = [0.0]
    rates = Rates(3, lambda: now[0])
    assert [rates.takes("a") for _ in range(5)] == [True, True, True, False, False]
    assert rates.takes("b")
    now[0] = 0.34
    assert [rates.takes("a"), rates.takes("a")] == [True, False]
    now[0] = 100.0
    assert [rates.takes("a") for _ in range(4)] == [True, True, True, False]


def test_the_addresses_that_are_remembered_are_bounded_and_the_last_ones() -> None:
    rates = Rates(1, lambda: 0.0)
    assert rates.takes("first")
    for n in range(MOST_ADDRESSES - 1):
        rates.takes(str(n))
    assert not rates.takes("first")
    for n in range(MOST_ADDRESSES):
        rates.takes(f"x{n}")
    assert rates.takes("first")
    assert len(rates._left) == MOST_ADDRESSES


def test_an_answer_of_429_says_when_to_come_again_to_that_address_alone(tmp_path: Path) -> None:
    with served(build(guarded(tmp_path, limits=Limits(rate=0.001)))) as port:
        assert asked(port, request("GET", "/livez")).status == 200
        answer = asked(port, request("GET", "/livez"))
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        with socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.2", 0)) as other:
            other.sendall(request("GET", "/livez"))
            assert parsed(until_closed(other)).status == 200


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN.upper()}",
        b"Bearer \xff\xfe\xc3",
        "Bearer " + "x" * 10_000,
    ],
)
def test_a_token_that_is_not_the_token_is_401(tmp_path: Path, given: str | bytes | None) -> None:
    def never(week: str | None) -> ChartWeek:
        raise AssertionError("it was fired")

    headers: Any = {} if given is None else {"Authorization": given}
    answer = client(guarded(tmp_path, fire=never)).post("/triggers", json={}, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in answer.text


def test_the_token_is_asked_for_before_anything_else_is_said(tmp_path: Path) -> None:
    found = client(guarded(tmp_path))
    assert found.post("/triggers", content=b"{", headers={"Content-Type": "application/json"}).status_code == 401
    assert found.post("/triggers", json={"week": "x" * 500}).status_code == 401


@pytest.mark.parametrize("token", [TOKEN, "Schlüssel-für-alle"])
def test_who_bears_the_token_fires(tmp_path: Path, token: str) -> None:
    found = client(guarded(tmp_path, token=token))
    headers: Any = {"Authorization": f"Bearer {token}".encode()}
    for body in ({}, {"week": "2025-W11"}, {"week": None}):
        answer = found.post("/triggers", json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (202, {"week": "2025-W11", "lists_for": "2025-W12"})
    assert found.post("/triggers", headers=headers).status_code == 202
    for wrong in ("2025-W54", "2025-W10", "nonsense", "2025-W11" * 100):
        answer = found.post("/triggers", json={"week": wrong}, headers=headers)
        assert answer.status_code == 422
        assert len(answer.text) < 500


@pytest.mark.parametrize("cause", AWAY, ids=lambda cause: cause.__name__)
def test_a_trigger_that_cannot_be_sent_now_is_503_and_names_no_address(tmp_path: Path, cause: type[Exception]) -> None:
    def away(week: str | None) -> ChartWeek:
        raise cause("Kafka at broker.internal:9092 cannot serve now")

    answer = client(guarded(tmp_path, fire=away)).post("/triggers", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "internal" not in answer.text


def test_without_a_token_nobody_can_fire(tmp_path: Path) -> None:
    found = client(guarded(tmp_path, token=None))
    assert found.post("/triggers", headers={"Authorization": "Bearer None"}).status_code == 404
    assert "/triggers" not in found.get("/openapi.json").json()["paths"]


def test_data_is_shown_unless_it_is_switched_off(tmp_path: Path) -> None:
    paths = ("/playlists", "/weeks", "/evaluations", "/experiments", "/models", "/")
    shown, hidden = client(guarded(tmp_path)), client(guarded(tmp_path, shows_data=False))
    assert [shown.get(path).status_code for path in paths] == [200] * len(paths)
    assert [hidden.get(path).status_code for path in (*paths, "/events", "/tracks/a")] == [404] * (len(paths) + 2)
    assert [hidden.get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/docs")] == [200] * 4


def test_an_answer_that_may_be_old_says_what_is_away(tmp_path: Path) -> None:
    made = guarded(tmp_path)
    assert "hitparade-stale" not in client(made).get("/livez").headers
    figures = made.memory.figures
    away = figures.redis.model_copy(update={"ok": False})
    made.memory.figures = figures.model_copy(update={"redis": away})
    assert client(made).get("/livez").headers["hitparade-stale"] == "redis"
    made.memory.figures = figures.model_copy(update={"redis": away, "kafka": away})
    assert client(made).get("/nowhere").headers["hitparade-stale"] == "kafka, redis"
