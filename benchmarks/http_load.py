"""The HTTP load: one process, keep-alive connections, requests built before the run, latency from the due time.

Plain sockets and ``select``, for asyncio's timers round a due time up to a whole millisecond. One request at a time
on a connection; all orders of an account share one, so a cancel never overtakes its order.
"""

from __future__ import annotations

import gc
import hashlib
import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from benchmarks.workload import lane_of
from protocol.edge import OrderResponse
from protocol.errors import RemoteProtocolError
from protocol.orders import CancelOrder, Command, NewOrder
from protocol.units import format_e9
from runtime.clock import monotonic_ns

LEAD_NS: Final = 1_000_000
STALL_NS: Final = 30_000_000_000
WAIT_NS_MAX: Final = 1_000_000
RECEIVE_BYTES: Final = 1 << 16
HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"

Request = tuple[int, bytes]
"""(connection, bytes), in order of sending."""


class HttpAnswered(NamedTuple):
    """What one run gave: latencies from the due time in ns, how long it took, (status, body) by request."""

    latencies_ns: list[int]
    duration_ns: int
    answers: list[tuple[int, bytes]]


def build(commands: Sequence[Command], connections: int) -> list[Request]:
    """Return the requests of the commands."""
    return [(lane_of(command, connections), _request(command)) for command in commands]


def drive(port: int, requests: list[Request], connections: int, offsets_ns: Sequence[int] = ()) -> HttpAnswered:
    """Send every request: when it is due, or without ``offsets_ns`` as fast as each connection answers.

    Raises:
        RemoteProtocolError: If the server closes a connection or stops answering.
    """
    load = _HttpLoad(port, requests, connections, offsets_ns)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return load.run()
    finally:
        gc.enable()
        gc.unfreeze()
        load.close()


def digest(answers: list[tuple[int, bytes]]) -> tuple[dict[str, int], str]:
    """Return how many answers of each outcome came, and a hash of what was decided."""
    kinds: dict[str, int] = {}
    hashed = hashlib.sha256()
    for status, body in answers:
        try:
            answer = msgspec.json.decode(body, type=OrderResponse)
        except msgspec.DecodeError:
            raise RemoteProtocolError("HTTP source", "an outcome", f"{status} {body[:200]!r}") from None
        name = answer.outcome if answer.code == "OK" else answer.code
        kinds[name] = kinds.get(name, 0) + 1
        hashed.update(
            f"{status} {answer.outcome} {answer.code} {answer.checks_passed} {answer.position_after}\n".encode()
        )
    return kinds, hashed.hexdigest()


class _Connection:
    """One keep-alive connection. ``due_ns`` is that of the request in flight, ``index`` its number; -1 = none."""

    __slots__ = ("buffer", "due_ns", "index", "socket", "waiting")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.waiting: deque[tuple[int, int]] = deque()  # (index, due_ns)
        self.index = -1
        self.due_ns = 0


class _HttpLoad:
    def __init__(self, port: int, requests: list[Request], connections: int, offsets_ns: Sequence[int]) -> None:
        self._requests = requests
        self._offsets_ns = offsets_ns
        self._connections = [_Connection(port) for _ in range(connections)]
        self._by_fd = {connection.socket.fileno(): connection for connection in self._connections}
        self._epoll = select.epoll()
        for fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLIN)
        self._answers: list[tuple[int, bytes]] = [(0, b"")] * len(requests)
        self._latencies: list[int] = []
        self._next = 0
        self._begin_ns = 0
        self._last_answer_ns = 0

    def run(self) -> HttpAnswered:
        self._begin_ns = self._last_answer_ns = monotonic_ns() + LEAD_NS
        if not self._offsets_ns:
            for index, (lane, _) in enumerate(self._requests):
                self._connections[lane].waiting.append((index, 0))
            for connection in self._connections:
                self._send_next(connection)
        while len(self._latencies) < len(self._requests):
            if self._offsets_ns:
                self._send_due()
            self._receive(self._wait_ns())
        return HttpAnswered(self._latencies, self._last_answer_ns - self._begin_ns, self._answers)

    def close(self) -> None:
        self._epoll.close()
        for connection in self._connections:
            connection.socket.close()

    def _send_due(self) -> None:
        requests, offsets_ns = self._requests, self._offsets_ns
        while self._next < len(requests):
            due_ns = self._begin_ns + offsets_ns[self._next]
            if due_ns > monotonic_ns():
                return
            connection = self._connections[requests[self._next][0]]
            connection.waiting.append((self._next, due_ns))
            self._next += 1
            if connection.index < 0:
                self._send_next(connection)

    def _send_next(self, connection: _Connection) -> None:
        if not connection.waiting:
            connection.index = -1
            return
        connection.index, due_ns = connection.waiting.popleft()
        connection.due_ns = due_ns or monotonic_ns()
        # A request has less bytes than any socket's buffer, and nothing else is in flight.
        connection.socket.send(self._requests[connection.index][1])

    def _wait_ns(self) -> int:
        now_ns = monotonic_ns()
        if now_ns - self._last_answer_ns > STALL_NS:
            raise RemoteProtocolError("HTTP server", "an answer", f"nothing for {STALL_NS} ns")
        if self._offsets_ns and self._next < len(self._requests):
            return max(0, min(WAIT_NS_MAX, self._begin_ns + self._offsets_ns[self._next] - now_ns))
        return WAIT_NS_MAX

    def _receive(self, wait_ns: int) -> None:
        # epoll counts in milliseconds; select on its one descriptor in microseconds.
        if wait_ns:
            select.select([self._epoll], [], [], wait_ns / 1e9)
        for fd, _ in self._epoll.poll(0):
            connection = self._by_fd[fd]
            data = connection.socket.recv(RECEIVE_BYTES)
            if not data:
                raise RemoteProtocolError("HTTP server", "an answer", "it closed the connection")
            connection.buffer += data
            self._take(connection)

    def _take(self, connection: _Connection) -> None:
        """Take the answer if it is whole, and send the connection's next request."""
        head, found, rest = connection.buffer.partition(HEAD_END)
        if not found:
            return
        at = head.lower().index(LENGTH) + len(LENGTH)
        size = int(head[at:].partition(b"\r\n")[0])
        if len(rest) < size:
            return
        self._last_answer_ns = monotonic_ns()
        self._answers[connection.index] = (int(head[9:12]), rest[:size])
        self._latencies.append(self._last_answer_ns - connection.due_ns)
        connection.buffer = rest[size:]
        self._send_next(connection)


def _request(command: Command) -> bytes:
    if isinstance(command, CancelOrder):
        path = f"/v1/orders/{command.account}/{command.orig_client_order_id}"
        return f"DELETE {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    assert isinstance(command, NewOrder), "workload W has orders and cancels only"
    body = msgspec.json.encode(
        {
            "account": command.account,
            "strategy": command.strategy,
            "instrument": command.instrument,
            "side": command.side.name,
            "quantity": format_e9(command.quantity_e9),
            "order_type": command.order_type.name,
            "time_in_force": command.time_in_force.name,
            "price": format_e9(command.price_e9),
            "client_order_id": command.client_order_id,
        }
    )
    head = (
        f"POST /v1/orders HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
