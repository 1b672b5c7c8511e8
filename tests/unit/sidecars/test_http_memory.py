"""What requests leave behind in the HTTP sidecar once they are answered: nothing, not even for the collector."""

from __future__ import annotations

import gc
import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.sidecars.conftest import DEADLINE_S, ORDER, Stage

REQUESTS = 600
WARM_UP = 50
NEVER = 1 << 63


def request(body: Any, *headers: str, method: str = "POST", path: str = "/v1/orders") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "host: h", "content-type: application/json", f"content-length: {len(content)}"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + content


ORDER_1 = {**ORDER, "client_order_id": "c1"}
POISON = {**ORDER, "client_order_id": "c2", "quantity": "no"}
KINDS = {
    "an order's outcome, again": (request(ORDER_1), 201),
    "a refusal by the engine": (request({**ORDER, "client_order_id": "c3", "strategy": "refuse"}), 422),
    "an order without rights": (request({**ORDER, "client_order_id": "c5", "strategy": "forbidden"}), 403),
    "a cancel": (request(b"", method="DELETE", path="/v1/orders/acc/c1"), 202),
    "an array": (request([ORDER_1, POISON, {**ORDER, "client_order_id": "c4"}]), 200),
    "an array beyond the credits": (request([{**ORDER, "client_order_id": f"d{n}"} for n in range(6)]), 200),
    "a body that is no order": (request(POISON), 400),
    "a body that is no JSON": (request(b"{"), 400),
    "a body without an id": (request(ORDER), 400),
    "a cancel of no order": (request(b"", method="DELETE", path="/v1/orders/acc"), 404),
    "another method": (request(ORDER_1, method="PUT"), 405),
}


class Caller:
    """One connection kept alive, which itself allocates nothing that stays."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._answers = self._socket.makefile("rb")

    def ask(self, body: bytes) -> int:
        """Send a request; return the status when the answer is whole."""
        self._socket.sendall(body)
        status = int(self._answers.readline().split()[1])
        length = 0
        while (line := self._answers.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self._answers.read(length)
        return status

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect, then let garbage in cycles pile up."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def garbage() -> Counter[str]:
    """Return what only the collector can free, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(type(thing).__qualname__ for thing in gc.garbage)
    gc.garbage.clear()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_answered_request_leaves_nothing(kind: str, stage: Stage) -> None:
    """Neither objects nor cycles: both are counted, of the whole process; some hundred are msgspec's cache."""
    body, status = KINDS[kind]
    peer = stage.engine(credits=4, reserved=0)
    sidecar = stage.start()
    sidecar.wait_open()
    sidecar.sidecar._metrics.board._due_ns = NEVER  # what is kept a second is no matter of requests
    caller = Caller(sidecar.source.port)

    def ask(times: int) -> int:
        for _ in range(times):
            assert caller.ask(body) == status
        stage.journal.items.clear()
        peer.received.clear()
        return sys.getallocatedblocks()

    ask(WARM_UP)
    with without_collector():
        before = ask(WARM_UP)
        after = ask(REQUESTS)
        cycles = garbage()
    caller.close()

    assert after - before < 2 * REQUESTS, f"{REQUESTS} requests left {after - before} objects; in cycles: {cycles}"
    assert cycles.total() < REQUESTS, f"{REQUESTS} requests left cycles: {cycles}"
