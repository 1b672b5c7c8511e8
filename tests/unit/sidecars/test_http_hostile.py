"""What hostile or clumsy clients send: one error shape, the engine untouched, bounded cost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from protocol.edge import ErrorResponse
from protocol.errors import ConfigError
from sidecars.sources.http import BODY_BYTES, HttpSettings
from sidecars.sources.http_keys import Caller, HttpKey, Keys, is_loopback
from sidecars.sources.http_server import Bounds, Listener
from tests.unit.sidecars.conftest import ORDER, Stage, until

BODY = json.dumps({**ORDER, "client_order_id": "h"}).encode()


def with_field(name: str, value: bytes) -> bytes:
    """Return an order's JSON with one value as raw text."""
    return json.dumps({**ORDER, "client_order_id": "h", name: "@"}).encode().replace(b'"@"', value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"nonsense", "body"),
        (b"\xff\xfe", "body"),
        (b"null", "body"),
        (b'"order"', "body"),
        (b"{}", "account"),
        (b"[" * 100_000, "body"),
        (b'{"a":' * 50_000, "a"),
        (b'{"leverage": 1, nonsense', "leverage"),
        (with_field("quantity", b"1e30"), "quantity"),
        (with_field("quantity", b"0.01"), "quantity"),
        (with_field("quantity", b'"1e30"'), "quantity"),
        (with_field("quantity", b'"NaN"'), "quantity"),
        (with_field("quantity", b'"-1"'), "quantity"),
        (with_field("quantity", b'"0"'), "quantity"),
        (with_field("quantity", b'"0.12345678901234567890"'), "quantity"),
        (with_field("quantity", b'"99999999999"'), "quantity"),
        (with_field("price", b"null"), "price"),
        (with_field("price", b"[]"), "price"),
        (with_field("side", b'"HOLD"'), "side"),
        (with_field("account", b'"no spaces"'), "account"),
        (with_field("account", b'""'), "account"),
        (with_field("reduce_only", b'"yes"'), "reduce_only"),
        (with_field("created_at_ns", b"-5"), "created_at_ns"),
        (with_field("leverage", b'"100"'), "leverage"),
        (BODY.replace(b'"side"', b'"quantity": "100", "side"'), "quantity"),
        (BODY.replace(b'"side"', b'"q\\u0075antity": "100", "side"'), "body"),
    ],
    ids=lambda value: value[:48].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_wrong_body_is_400_and_names_the_field(shared: Stage, body: bytes, field: str) -> None:
    """Field, value and expectation stand in the one error shape; the engine hears nothing."""
    answer = shared.post(body)

    error = ErrorResponse(**answer.json()).error
    assert answer.status_code == 400
    assert isinstance(error, dict)
    assert (error["code"], error["field"]) == ("FIELD", field)
    assert "expected" in error["text"]
    assert shared.journal.items == []


def test_nan_is_no_json(shared: Stage) -> None:
    """A bare NaN is refused as malformed."""
    assert shared.post(with_field("quantity", b"NaN")).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/v1/orders", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/orders", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/orders/acc/c1", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/v1/orders/acc", 404, "NOT_FOUND"),
        ("DELETE", "/v1/orders/acc/c1/more", 404, "NOT_FOUND"),
        ("DELETE", "/v1/orders/acc/%20", 400, "FIELD"),
        ("DELETE", "/v1/orders//c1", 400, "FIELD"),
        ("POST", "/v2/orders", 404, "NOT_FOUND"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("POST", "/readyz", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_wrong_paths_and_methods_have_the_same_shape(
    shared: Stage, method: str, path: str, status: int, code: str
) -> None:
    """404 and 405 come in the one error shape, 405 with Allow."""
    answer = httpx.request(method, f"{shared.url}{path}", content=b"{}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert status != 405 or answer.headers["allow"]
    assert shared.journal.items == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(shared: Stage, kind: str) -> None:
    """415 says what was expected; a browser form can't place an order."""
    answer = httpx.post(f"{shared.url}/v1/orders", content=BODY, headers={"content-type": kind})

    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "CONTENT_TYPE")


def test_json_with_a_charset_is_json(running: Stage) -> None:
    """Parameters of the content type do not matter."""
    headers = {"content-type": "application/json; charset=utf-8"}
    assert httpx.post(f"{running.url}/v1/orders", content=BODY, headers=headers).status_code == 201


def _peak_rss_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("chunked", [False, True])
def test_ten_mebibytes_are_413_without_being_held(shared: Stage, chunked: bool) -> None:
    """Declared or chunked, the body is thrown away as it comes, and the client sees the answer."""
    block = b"x" * 65536
    blocks = 160

    def stream() -> object:
        for _ in range(blocks):
            yield block

    headers = {"content-type": "application/json"}
    if not chunked:
        headers["content-length"] = str(blocks * len(block))
    before = _peak_rss_kib()
    answer = httpx.post(f"{shared.url}/v1/orders", content=stream(), headers=headers)  # type: ignore[arg-type]

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")
    assert answer.headers["connection"] == "close"
    assert _peak_rss_kib() - before < 8192


def test_a_client_that_asks_first_is_told_before_it_sends(shared: Stage) -> None:
    """Expect: 100-continue with too large a body is answered 413 at once."""
    head = (
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n"
        b"content-length: %d\r\n\r\n" % (BODY_BYTES + 1)
    )
    assert shared.raw(head).startswith(b"HTTP/1.1 413 ")


def test_the_largest_body_is_read(running: Stage) -> None:
    """A body of exactly the limit is judged by its content."""
    body = BODY + b" " * (BODY_BYTES - len(BODY))
    assert running.post(body).status_code == 201


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"POST /v1/orders HTTP/1.1\r\nhost:",),
        (b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",),
    ],
    ids=["silent", "half a head", "half a body"],
)
def test_a_slow_client_is_ended(stage: Stage, parts: tuple[bytes, ...]) -> None:
    """Whatever it holds back, the connection is answered 408 and closed; others are served meanwhile."""
    stage.engine()
    stage.start(receive_ms=200).wait_open()

    answer = stage.raw(*parts)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"SLOW_CLIENT"' in answer
    assert stage.send(1).status_code == 201


def test_a_slow_answer_is_no_slow_client(stage: Stage) -> None:
    """A request that came whole waits for the engine longer than receive_ms, and gets its own answer."""
    peer = stage.engine()
    stage.start(receive_ms=100, hold_ms=900, request_ms=1000).wait_open()
    peer.holds_risk = True

    assert stage.send(1).status_code == 503


def test_an_endless_head_is_ended(shared: Stage) -> None:
    """Headers past 16 KiB are 431, whatever follows."""
    answer = shared.raw(b"POST /v1/orders HTTP/1.1\r\nhost: x\r\n", *[b"x-a: " + b"b" * 4000 + b"\r\n"] * 6)

    assert answer.startswith(b"HTTP/1.1 431 ")


def test_ambiguous_lengths_are_refused(shared: Stage) -> None:
    """Content-Length beside Transfer-Encoding is how requests are smuggled."""
    answer = shared.raw(
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert shared.journal.items == []


def test_connections_are_bounded(stage: Stage) -> None:
    """One too many is told 503 and closed; when one leaves, the next is served."""
    stage.engine()
    sidecar = stage.start(connections_max=2)
    sidecar.wait_open()
    held = [socket.create_connection(("127.0.0.1", sidecar.source.port)) for _ in range(2)]
    until(lambda: stage.raw(b"").startswith(b"HTTP/1.1 503 "), "a refusal")
    for connection in held:
        connection.close()

    until(lambda: stage.raw(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 "), "service again")


def test_a_client_that_leaves_changes_nothing(running: Stage) -> None:
    """The order stands, its answer is dropped, and a repeat gets it."""
    head = b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.sidecars[0].source.port)) as sock:
        sock.sendall(head % len(BODY) + BODY)
    until(lambda: running.journal.items, "the order")

    assert running.post(BODY).headers["idempotent-replayed"] == "true"


def test_a_port_in_use_stops_the_start(running: Stage) -> None:
    """The error names the address and says what to do."""
    port = running.sidecars[0].source.port

    with pytest.raises(ConfigError, match=f"127.0.0.1:{port} can't be bound.*choose another port"):
        Listener("127.0.0.1", port, Bounds(1, 1), 1)


PROCESS = """
import sys
from sidecars.sources.http import HttpSettings, run
sys.exit(run(HttpSettings(engine_endpoint=sys.argv[1], state_file=sys.argv[2], port=int(sys.argv[3]),
                          loopback_principal="demo", drain_ms=1000)))
"""


def _process(stage: Stage, port: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROCESS, stage.endpoint, str(stage.folder / "p"), str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment)


def test_the_process_says_in_one_line_that_its_port_is_taken(running: Stage) -> None:
    """Exit code 1, no traceback."""
    process = _process(running, running.sidecars[0].source.port)
    _, errors = process.communicate(timeout=10)

    last = errors.strip().splitlines()[-1]
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert last.startswith("http: ")
    assert "choose another port" in last


def test_the_process_drains_on_sigterm(stage: Stage) -> None:
    """Serve, get SIGTERM, say Drained, leave with code 0."""
    peer = stage.engine()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = _process(stage, port)
    until(lambda: peer.sessions and any(s.units for s in peer.sessions.values()), "a session")
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/orders", content=BODY, headers={"content-type": "application/json"}
    )

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)

    assert answer.status_code == 201
    assert process.returncode == 0
    assert peer.drained.is_set()


def test_keys_that_cannot_work_are_all_named(tmp_path: Path) -> None:
    """Absent, unreadable, short and shared secrets, both origins at once: one line each, no secret shown."""
    keys = (
        HttpKey(principal="a", secret_env="ABSENT"),
        HttpKey(principal="b", secret_file=str(tmp_path / "absent")),
        HttpKey(principal="c", secret_env="SHORT"),
        HttpKey(principal="d", secret_env="GOOD"),
        HttpKey(principal="e", secret_env="GOOD"),
        HttpKey(principal="f", secret_env="GOOD", secret_file="x"),
    )
    with pytest.raises(ConfigError) as caught:
        Keys(keys, "", {"SHORT": "abc", "GOOD": "a secret of fair length"})

    assert len(caught.value.problems) == 5
    assert "a secret of fair length" not in str(caught.value)


def test_settings_without_a_caller_are_refused(tmp_path: Path) -> None:
    """No key and no loopback principal: nobody could ask, so the start says so."""
    settings = HttpSettings(engine_endpoint="ipc://x", state_file=str(tmp_path / "e"), hold_ms=3000)

    assert len(settings.problems()) == 2


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_this_host_only(peer: str, expected: bool) -> None:
    """Only this host's own addresses go without a key."""
    assert is_loopback(peer) is expected


def test_a_rate_refills_with_time() -> None:
    """Two at once, then one per 100 ms; an array larger than the burst is paid for afterwards."""
    caller = Caller("p", orders_per_s=10, burst=2)

    assert [caller.take(1, 0) for _ in range(3)] == [0, 0, 100_000_000]
    assert caller.take(1, 100_000_000) == 0
    assert caller.take(50, 10**9) == 0
    assert caller.take(1, 10**9 + 1) > 0
    assert caller.take(1, 10**9 + 5 * 10**9) == 0
