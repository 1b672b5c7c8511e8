"""Slow and greedy clients over real sockets, and whatever bytes: each meets its own bound, the others are served."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import FieldError
from sidecars.core.decode import decode_command
from sidecars.sources.http import HttpSettings
from sidecars.sources.http_keys import HttpCertificate, HttpKey
from sidecars.sources.http_tls import TlsSettings
from tests.unit.sidecars.conftest import DEADLINE_S, ORDER, Stage, until

BODY = json.dumps({**ORDER, "client_order_id": "h"}).encode()
HEAD = b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
PAGE = b"GET /schema/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"


def whole(body: bytes = BODY) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


def connect(stage: Stage, source: str = "127.0.0.1", receive_bytes: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(DEADLINE_S)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", stage.sidecars[-1].source.port))
    return sock


def until_closed(sock: socket.socket) -> bytes:
    """Return everything until the other side closes, or resets."""
    answer = bytearray()
    try:
        while chunk := sock.recv(65536):
            answer += chunk
    except ConnectionResetError:
        pass
    return bytes(answer)


@pytest.fixture
def strict(stage: Stage) -> Stage:
    """A stage with short deadlines."""
    stage.engine()
    stage.start(head_ms=300, receive_ms=900, send_ms=400, connections_per_address=4).wait_open()
    return stage


def refused(stage: Stage, why: str) -> int:
    return stage.sidecars[-1].source._metrics.refused.get(why, 0)


def test_a_head_has_less_time_than_a_request(strict: Stage) -> None:
    """A head that trickles is ended by its own deadline, a body that trickles by that of the whole; both 408."""
    heads, bodies = connect(strict), connect(strict)
    began = time.monotonic()
    heads.sendall(HEAD[:30])
    bodies.sendall(HEAD + b"content-length: 99\r\n\r\n{")
    assert until_closed(heads).startswith(b"HTTP/1.1 408 ")
    head_s = time.monotonic() - began
    answer = until_closed(bodies)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"whole request within 0.9 s" in answer
    assert 0.3 <= head_s < time.monotonic() - began
    assert strict.send(1).status_code == 201


@pytest.mark.parametrize(
    "drip", [b"\r\n", b"GET /x", b"POST /v1/orders HTTP/1.1\r\nx: y\r\n"], ids=["lines", "path", "head"]
)
def test_a_connection_kept_alive_has_no_more_time(strict: Stage, drip: bytes) -> None:
    """After an answer too, whatever drips in without making a request ends the connection."""
    sock = connect(strict)
    sock.sendall(HEALTH)
    assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    ends = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < ends:
            sock.sendall(drip)
            drip = drip if drip == b"\r\n" else b"y"
            sock.settimeout(0.05)
            try:
                if not sock.recv(65536):
                    break
            except TimeoutError:
                continue
    except OSError:
        pass

    assert time.monotonic() < ends
    assert refused(strict, "SLOW_CLIENT") == 1


def test_a_client_that_does_not_read_is_ended(strict: Stage) -> None:
    """It asks for much and takes nothing: what waits for it is bounded in time, and others are served meanwhile."""
    greedy = connect(strict, receive_bytes=4096)
    greedy.sendall(PAGE * 300)
    assert strict.send(1).status_code == 201

    until(lambda: refused(strict, "SLOW_READER"), "the end of the slow reader")
    until(lambda: len(strict.sidecars[-1].source._listener._bounds.connections) == 0, "its place")  # type: ignore[union-attr]
    greedy.close()
    assert strict.send(2).status_code == 201


def test_a_client_that_reads_late_gets_everything(strict: Stage) -> None:
    """A pause costs nothing, nor does taking longer for many answers than one may take."""
    late = connect(strict, receive_bytes=4096)
    late.sendall(PAGE * 300 + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    connections = strict.sidecars[-1].source._listener._bounds.connections  # type: ignore[union-attr]
    until(lambda: any(c.is_made and c.transport.get_write_buffer_size() for c in list(connections)), "a full buffer")
    answer = until_closed(late)

    assert answer.count(b"HTTP/1.1 200 ") == 301
    assert answer.endswith(b'{"status":"ok"}')


def test_an_address_has_its_own_bound(strict: Stage) -> None:
    """The fifth connection from one address is told so; another address is served, and so is this one later."""
    held = [connect(strict) for _ in range(4)]
    until(lambda: until_closed(connect(strict)).startswith(b"HTTP/1.1 503 "), "a refusal")
    elsewhere = connect(strict, "127.0.0.2")
    elsewhere.sendall(HEALTH)

    assert elsewhere.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert refused(strict, "CONNECTIONS_OF_ADDRESS") >= 1
    for sock in held:
        sock.close()
    until(lambda: strict.raw(HEALTH.replace(b"1.1", b"1.0")).startswith(b"HTTP/1.1 200 "), "service again")


def test_a_head_in_one_piece_is_bounded_too(running: Stage) -> None:
    """17 KiB of headers that come at once are 431 as those that trickle, and begin no request."""
    answer = running.raw(HEAD + b"x-large: " + b"y" * (17 << 10) + b"\r\ncontent-length: 2\r\n\r\n{}")

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert running.journal.items == []


def test_large_bodies_do_not_count_as_heads(running: Stage) -> None:
    """Requests behind each other in one piece are all answered, however large the bodies before a small head."""
    body = BODY + b" " * 60_000
    answer = running.raw(
        whole(body) + whole(body)[:-1], b" " + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    )

    assert answer.count(b"HTTP/1.1 201 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /v1/orders HTTP/9.9\r\nhost: x\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}", 400),
        (HEAD + b"content-length: -1\r\n\r\n{}", 400),
        (HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (HEAD + b"transfer-encoding: gzip, chunked\r\ncontent-encoding: gzip\r\n\r\n0\r\n\r\n", 415),
        (HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}", 415),
        (HEAD + b"content-length: 4\r\n\r\n\x00\x00\x00\x00", 400),
        (HEAD + b"content-length: 4\r\n\r\n\xff\xfe{\x00", 400),
    ],
    ids=["TLS", "HTTP/2", "HTTP/9.9", "two lengths", "negative", "overflow", "chunk", "encoded in transit", "encoded",
         "binary", "UTF-16"],
)  # fmt: skip
def test_what_is_no_request_is_4xx_in_the_one_shape(running: Stage, request_: bytes, status: int) -> None:
    """Status, JSON error and a closed connection; the engine hears nothing, the next client is served."""
    sock = connect(running)
    sock.sendall(request_)
    sock.shutdown(socket.SHUT_WR)
    answer = until_closed(sock)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert "expected" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["text"]
    assert running.journal.items == []
    assert running.send(1).status_code == 201


def test_a_principals_rate_is_429_with_the_time_to_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both keys of a principal draw on one bucket; cancels and exits pass, and so does another principal."""
    for name in ("A", "B", "C"):
        monkeypatch.setenv(name, f"the secret of key {name} here")
    keys = (
        HttpKey(principal="p", secret_env="A", orders_per_s=1, burst=2),
        HttpKey(principal="p", secret_env="B", orders_per_s=1, burst=2),
        HttpKey(principal="q", secret_env="C"),
    )
    stage.engine()
    stage.start(keys=keys, loopback_principal="").wait_open()

    def send(number: int, key: str, **fields: object) -> httpx.Response:
        return stage.post(
            {**ORDER, "client_order_id": f"r{number}", **fields}, x_api_key=f"the secret of key {key} here"
        )

    first = [send(1, "A").status_code, send(2, "B").status_code]
    limited = send(3, "B")
    passing = [send(4, "A", reduce_only=True).status_code, send(5, "C").status_code]
    cancelled = httpx.delete(f"{stage.url}/v1/orders/acc/r1", headers={"x-api-key": "the secret of key A here"})

    assert (first, passing, cancelled.status_code) == ([201, 201], [201, 201], 201)
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "RATE_LIMITED")
    assert int(limited.headers["retry-after"]) >= 1


def test_arrays_and_bodies_are_bounded_by_setting(stage: Stage) -> None:
    """Three orders where two are allowed, 1,025 bytes where 1,024 are."""
    stage.engine()
    stage.start(orders_max=2, body_bytes_max=1024).wait_open()
    many = stage.post([{"client_order_id": str(n)} for n in range(3)])
    large = stage.post(BODY + b" " * (1025 - len(BODY)))

    assert (many.status_code, many.json()["error"]["text"]) == (400, "body expected 1 to 2 orders, was 3")
    assert large.status_code == 413


# Whatever comes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [*ORDER, "client_order_id", "legs", "cancels", "created_at_ns", "order_type", "post_only", "x"]
)
NEARLY = st.dictionaries(FIELDS, VALUES | st.sampled_from([*ORDER.values(), "MARKET", [], [ORDER], [ORDER, ORDER]]))
BYTES = (
    st.binary(max_size=200)
    | NEARLY.map(lambda o: json.dumps({**ORDER, **o}).encode())
    | st.lists(
        st.sampled_from(
            [b"{", b"}", b"[", b"]", b'"', b":", b",", b'"legs"', b'"cancels"', b"1", b"\\u0000", b"\xff", BODY]
        )
    ).map(b"".join)
)


@given(BYTES)
@settings(max_examples=400)
def test_any_body_is_a_command_or_a_named_fault(body: bytes) -> None:
    """The decoder raises FieldError and nothing else; what it returns has an id."""
    try:
        command, _ = decode_command(body, lambda own: own or "id")
    except FieldError as e:
        fault = e
    else:
        fault = None
        assert command
    assert fault is None or (fault.field and fault.expected)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage for whatever bytes, some of which are orders."""
    stage = Stage(tmp_path_factory.mktemp("fuzzed"))
    stage.engine()
    stage.start().wait_open()
    yield stage
    stage.close()


WIRE = st.lists(
    st.binary(max_size=60)
    | st.sampled_from(
        [HEAD, b"\r\n", b"content-length: 3\r\n\r\n", b"{}", whole(), whole(b"[]"), whole(b"[" + BODY + b"]")]
    )
    | st.sampled_from(
        [b"DELETE /v1/orders/", b"a/%00", b"%ff", b"a/b HTTP/1.1\r\n", b"signature-input: x\r\n", b"expect: 1"]
    )
    | BYTES.map(whole),
    min_size=1,
    max_size=6,
).map(b"".join)


@given(WIRE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_leave_the_service_standing(fuzzed: Stage, sent: bytes) -> None:
    """Every answer is an outcome or a 4xx, never 5xx; the next client is served."""
    sock = connect(fuzzed)
    sock.sendall(sent)
    sock.shutdown(socket.SHUT_WR)
    answer = until_closed(sock)
    sock.close()

    statuses = [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert [s for s in statuses if s >= 500] == []
    assert httpx.get(f"{fuzzed.url}/healthz").status_code == 200


def test_settings_that_contradict_each_other_are_named() -> None:
    """Certificates of clients without an authority that checks them; certificates required and none listed."""
    plain = HttpSettings(
        engine_endpoint="ipc://x", state_file="x", certificates=(HttpCertificate(identity="x", principal="p"),)
    )
    required = TlsSettings(certificate_file="c", key_file="k", client_ca_file="a", client_certificate="required")
    empty = HttpSettings(engine_endpoint="ipc://x", state_file="x", loopback_principal="demo", tls=required)

    assert [p.partition(":")[0] for p in plain.problems() + empty.problems()] == ["http.certificates"] * 2
