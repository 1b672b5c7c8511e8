"""``/metrics``, ``/healthz`` and ``/readyz`` of a process whose work is a loop of its own: one thread, plain HTTP/1.1.

What can go wrong on the other side and what happens here:
- slow: nothing here waits for one reader; who has not sent its request and read its answer in ``REQUEST_NS`` is closed;
- gone: its connection is closed, nothing else changes;
- a flood: at most ``CONNECTIONS_MAX`` at once and one accept every ``ACCEPT_NS``, the rest waits in the kernel; the
  text is made once a snapshot, so that readers take a bounded part of the interpreter from the loop beside them;
- lying: what is not a short GET or HEAD of a known path is answered with its status and closed.

Rule: it reads the board and nothing else of the process. Liveness is the loop's: a process that still answers here
but whose loop has not turned for ``stall_ms`` is not alive.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from protocol.errors import ConfigError
from runtime.clock import monotonic_ns
from runtime.metrics import Board, BoardCollector, Family, Snapshot, registry_of, text_of

CONNECTIONS_MAX: Final = 16
REQUEST_BYTES_MAX: Final = 8_192
REQUEST_NS: Final = 2_000_000_000
ACCEPT_NS: Final = 10_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
SWITCH_INTERVAL_S: Final = 0.0002
"""How long a loop that becomes runnable waits for this thread's Python code; the interpreter's own is 5 ms."""
STATUS_TEXTS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip


class HealthSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a process tells how it is.

    Attributes:
        process: Its name, as the key of its port says it.
        socket_path: A Unix socket for the command line on this host; empty = none.
        host: Address of the port.
        port: TCP port for Prometheus and probes; 0 = none.
        stall_ms: A loop whose last turn is older is not alive.
        port_key: The configuration's key of the port, for messages; empty = metrics.<process>_port.
    """

    process: str = ""
    socket_path: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    stall_ms: Annotated[int, Meta(ge=1)] = 10_000
    port_key: str = ""


class Ready(Struct, frozen=True):
    """The answer of ``/readyz`` and ``/healthz``: whether, and why not."""

    ready: bool
    reason: str


class _Connection:
    """One reader: what it has asked so far, what it has not read yet."""

    __slots__ = ("answer", "asked", "deadline_ns", "socket")

    def __init__(self, accepted: socket.socket, deadline_ns: int) -> None:
        self.socket = accepted
        self.deadline_ns = deadline_ns
        self.asked = b""
        self.answer = memoryview(b"")


class HealthServer:
    """Serves one board from its own thread; ``start`` it once, ``close`` it once.

    Raises:
        ConfigError: If the port or the socket can't be had: which, where, what to do.
    """

    def __init__(
        self,
        settings: HealthSettings,
        board: Board,
        families: Iterable[Family],
        monotonic: Callable[[], int] = monotonic_ns,
        constant: Mapping[str, str] | None = None,
    ) -> None:
        """``constant``: labels that every sample carries."""
        self._settings = settings
        self._board = board
        self._monotonic = monotonic
        self._registry = registry_of(BoardCollector(lambda: board.snapshots, families, constant))
        self._text = (Snapshot(-1, {}, {}), b"")
        self._connections: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._accept_at_ns = 0
        self._listening = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        try:
            if settings.socket_path:
                self._listeners.append(_listen_unix(settings))
            if settings.port:
                self._listeners.append(_listen_tcp(settings))
        except BaseException:
            self._release()
            raise

    def start(self) -> None:
        """Begin to serve. Signals stay with the thread that waits for them."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Stop serving and let the addresses go."""
        if self._thread.is_alive():
            os.write(self._wake_write, b"\0")
            self._thread.join()
        self._release()

    def health(self) -> Ready:
        """Whether the loop turns. One that has not begun is starting: recovery may take its time."""
        turned_ns = self._board.turned_ns
        age_ns = self._monotonic() - turned_ns
        if turned_ns and age_ns > self._settings.stall_ms * NS_PER_MS:
            age_ms = age_ns // NS_PER_MS
            return Ready(False, f"the loop's last turn was {age_ms} ms ago, expected at most {self._settings.stall_ms}")
        return Ready(True, "")

    def readiness(self) -> Ready:
        """Whether the process does its work now."""
        health = self.health()
        reasons = (*self._board.not_ready, *([health.reason] if not health.ready else []))
        return Ready(not reasons, "; ".join(reasons))

    # The thread

    def _run(self) -> None:
        while True:
            now_ns = self._monotonic()
            self._listen(now_ns)
            for key, _ in self._selector.select(self._wait_s(now_ns)):
                if key.fileobj == self._wake_read:
                    return
                if isinstance(key.data, _Connection):
                    self._serve(key.data)
                else:
                    self._accept(key.data)
            self._drop_late()

    def _listen(self, now_ns: int) -> None:
        """Take new readers only when there is room for one, and not more often than ``ACCEPT_NS`` allows."""
        wanted = len(self._connections) < CONNECTIONS_MAX and now_ns >= self._accept_at_ns
        if wanted and not self._listening:
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, listener)
        elif self._listening and not wanted:
            for listener in self._listeners:
                self._selector.unregister(listener)
        self._listening = wanted

    def _wait_s(self, now_ns: int) -> float | None:
        """Return the time to the next thing that is due by the clock; None = nothing is."""
        due = [c.deadline_ns for c in self._connections.values()]
        if not self._listening and len(self._connections) < CONNECTIONS_MAX:
            due.append(self._accept_at_ns)
        return max(0, min(due) - now_ns) / NS_PER_S if due else None

    def _accept(self, listener: socket.socket) -> None:
        now_ns = self._monotonic()
        if len(self._connections) >= CONNECTIONS_MAX or now_ns < self._accept_at_ns:
            return  # the other listener had one in the same look
        self._accept_at_ns = now_ns + ACCEPT_NS
        try:
            accepted, _ = listener.accept()
        except OSError:  # it left again, or no file descriptor is free: the pace above bounds how often we look
            return
        accepted.setblocking(False)
        connection = _Connection(accepted, now_ns + REQUEST_NS)
        self._connections[accepted.fileno()] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _serve(self, connection: _Connection) -> None:
        try:
            if not connection.answer:
                part = connection.socket.recv(REQUEST_BYTES_MAX)
                connection.asked += part
                if not part:
                    self._drop(connection)
                    return
                if b"\r\n\r\n" not in connection.asked and len(connection.asked) <= REQUEST_BYTES_MAX:
                    return
                connection.answer = memoryview(self._answer(connection.asked))
                self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            sent = connection.socket.send(connection.answer)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            self._drop(connection)

    def _answer(self, asked: bytes) -> bytes:
        if len(asked) > REQUEST_BYTES_MAX:
            return _response(431, b"the request is too long\n", "text/plain")
        words = asked.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:
            return _response(400, b"expected a line: GET /metrics HTTP/1.1\n", "text/plain")
        method, target = words[0], words[1].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _response(405, b"expected GET\n", "text/plain")
        if target == b"/metrics":
            response = _response(200, self._metrics(), CONTENT_TYPE_PLAIN_0_0_4)
        elif target in {b"/healthz", b"/readyz"}:
            state = self.health() if target == b"/healthz" else self.readiness()
            response = _response(200 if state.ready else 503, msgspec.json.encode(state) + b"\n", "application/json")
        else:
            response = _response(404, b"expected /metrics, /healthz or /readyz\n", "text/plain")
        return response[: response.index(b"\r\n\r\n") + 4] if method == b"HEAD" else response

    def _metrics(self) -> bytes:
        snapshots = self._board.snapshots
        newest = snapshots[-1] if snapshots else Snapshot(0, {}, {})
        made_of, text = self._text
        if made_of is not newest:
            text = text_of(self._registry)
            self._text = (newest, text)
        return text

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_late(self) -> None:
        now_ns = self._monotonic()
        for connection in [c for c in self._connections.values() if c.deadline_ns <= now_ns]:
            self._drop(connection)

    def _release(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        for listener in self._listeners:
            listener.close()
        if self._listeners and self._settings.socket_path:
            Path(self._settings.socket_path).unlink(missing_ok=True)
        self._listeners.clear()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


@contextlib.contextmanager
def served(
    settings: HealthSettings, board: Board, families: Iterable[Family], constant: Mapping[str, str] | None = None
) -> Iterator[Callable[[], None]]:
    """Yield what begins to serve the board: to be called once the process has its lock. Ends with the block."""
    servers: list[HealthServer] = []

    def serve() -> None:
        servers.append(HealthServer(settings, board, families, constant=constant))
        servers[0].start()

    try:
        yield serve
    finally:
        for server in servers:
            server.close()


def _response(status: int, body: bytes, content_type: str) -> bytes:
    head = (
        f"HTTP/1.1 {status} {STATUS_TEXTS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _listen_tcp(settings: HealthSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(CONNECTIONS_MAX)
    except OSError as e:
        listener.close()
        raise ConfigError([port_in_use(settings, e.strerror or "in use")]) from e
    return listener


def port_in_use(settings: HealthSettings, why: str) -> str:
    """Return what to tell a person whose metrics port can't be had."""
    key = settings.port_key or f"metrics.{settings.process}_port"
    return (
        f"{key}: expected a free port, was {settings.port} on {settings.host} ({why}); stop the program that has it, "
        f"or change {key} (0 = none)"
    )


def _listen_unix(settings: HealthSettings) -> socket.socket:
    """Take the address over: the caller holds the lock of what the process works on, so its holder is dead."""
    path = Path(settings.socket_path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(CONNECTIONS_MAX)
    except OSError as e:
        listener.close()
        why = f"metrics socket: expected {path} to be free to bind ({e.strerror}); choose another wojak.state_dir"
        raise ConfigError([why]) from e
    return listener
