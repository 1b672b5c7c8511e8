"""The listening side of the HTTP source: uvicorn's protocol with the bounds it lacks.

Rule: whatever a client does, it costs bounded memory and time: so many connections, in all and from one address, so
large a head, so long for TLS, for a head, for a whole request to come and for an answer to be read. Connections are
accepted here and not by the event loop, so that one still shaking hands counts too. uvicorn's own server is not used:
it polls, and it takes the process's signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import time
from collections import Counter
from ipaddress import IPv6Address
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from protocol.errors import ConfigError
from sidecars.sources.http_models import encode_error
from sidecars.sources.http_tls import Tls

HEAD_BYTES_MAX: Final = 16 << 10
BACKLOG: Final = 1024
ACCEPTS_A_TURN: Final = 64
ACCEPT_PAUSE_S: Final = 1.0
SWEEP_S: Final = 0.25
LINGER_S: Final = 1.0
CERTIFICATE: Final = "certificate"
DESCRIPTORS_SPARE: Final = 128
_REASONS: Final = {
    400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


class Bounds:
    """What one listener allows, and who is connected. ``refused`` counts by reason, ``answers`` by status."""

    def __init__(
        self,
        connections_max: int,
        request_receive_ms: int,
        *,
        per_address_max: int = 0,
        head_ms: int = 5_000,
        send_ms: int = 10_000,
        head_bytes_max: int = HEAD_BYTES_MAX,
    ) -> None:
        """``per_address_max`` 0 = no bound of an address's own."""
        self.connections_max = connections_max
        self.per_address_max = per_address_max
        self.request_receive_s = request_receive_ms / 1000
        self.head_s = min(head_ms, request_receive_ms) / 1000
        self.send_s = send_ms / 1000
        self.head_bytes_max = head_bytes_max
        self.connections: set[BoundedProtocol] = set()
        self.refused: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self._of: Counter[str] = Counter()

    def why_not(self, address: str) -> tuple[str, str]:
        """Return code and text if one more connection from there is one too many; empty if not."""
        if len(self.connections) >= self.connections_max:
            return "CONNECTIONS", f"more than {self.connections_max} connections; try again later"
        if self.per_address_max and self._of[address] >= self.per_address_max:
            return "CONNECTIONS_OF_ADDRESS", f"more than {self.per_address_max} connections from one address; use fewer"
        return "", ""

    def enter(self, connection: BoundedProtocol) -> None:
        """Count a connection."""
        self.connections.add(connection)
        self._of[connection.address] += 1

    def leave(self, connection: BoundedProtocol) -> None:
        """Forget a connection, once."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self._of[connection.address] -= 1
        if not self._of[connection.address]:
            del self._of[connection.address]

    def refuse(self, why: str, status: int = 0) -> None:
        """Count a refusal, and the status that was answered."""
        self.refused[why] = self.refused.get(why, 0) + 1
        if status:
            self.answers[str(status)] = self.answers.get(str(status), 0) + 1


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``receiving_since`` is when the request now coming began; 0 between requests."""

    bounds: Bounds
    identity_of: Any

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop, address: str) -> None:
        super().__init__(config, state, {}, loop)
        self.address = address
        self.is_made = False
        self.receiving_since = 0.0
        self.sending_since = 0.0
        self._is_head = True
        self._is_over = False
        self._head_bytes = 0  # of what is parsed
        self._raw_head_bytes = 0  # of chunks that are all head, parsed or not
        self._begun = 0
        self._answered = 0
        self._answered_then = 0
        self._running: RequestResponseCycle | None = None  # of requests behind each other, the one being answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request; note whose certificate it is."""
        super().connection_made(transport)
        self.is_made = True
        self.receiving_since = time.monotonic()
        if self.scheme == "https":
            self.app_state = {CERTIFICATE: self.identity_of(transport.get_extra_info("peercert"))}

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; whoever answers on it writes to nobody."""
        self.bounds.leave(self)
        if isinstance(exc, TimeoutError):
            self.bounds.refuse("SLOW_READER")  # the kernel was first
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that does not end is refused."""
        if self._is_over or self.transport.is_closing():
            return
        begun = self._begun
        if not self.receiving_since and not self.is_answering:
            self.receiving_since = time.monotonic()  # also of what begins no request, such as empty lines without end
        super().data_received(data)
        if self._is_head:
            self._raw_head_bytes = self._raw_head_bytes + len(data) if self._begun == begun else 0
            if max(self._raw_head_bytes, self._head_bytes) > self.bounds.head_bytes_max:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Start the request's clock."""
        self._is_head = True
        self._head_bytes = self._raw_head_bytes = 0
        self._begun += 1
        self.receiving_since = time.monotonic()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._head_bytes += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head; one too large begins no request."""
        if self._is_over:
            return
        if self._head_bytes + len(self.url) > self.bounds.head_bytes_max:
            self._refuse_head()
            return
        self._is_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._is_over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: the request is here."""
        if not self._is_over:
            self.receiving_since = 0.0
            super().on_message_complete()

    @property
    def is_answering(self) -> bool:
        """Whether a whole request waits for its answer: nothing else may be answered or closed before."""
        running = self._running
        if running is None or running.response_complete:
            return False
        return running is not self.cycle or not running.more_body

    def on_response_complete(self) -> None:
        """Count the answer."""
        self._answered += 1
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the one error shape."""
        self.refuse(400, "HTTP", f"expected HTTP/1.1 ({msg.rstrip('.')})")

    def check(self, now_s: float) -> None:
        """End the connection if its client is too slow to send, or to read."""
        bounds = self.bounds
        if not self.transport.get_write_buffer_size():
            self.sending_since = 0.0
        elif not self.sending_since or self._answered_then != self._answered:
            # An answer that could be written whole is progress: of many behind each other each has its own time.
            self.sending_since, self._answered_then = now_s, self._answered
        elif now_s - self.sending_since > bounds.send_s:
            bounds.refuse("SLOW_READER")
            self.transport.abort()
            return
        if not self.receiving_since or self.is_answering or self._is_over or self.transport.is_closing():
            return
        most_s, what = (bounds.head_s, "head") if self._is_head else (bounds.request_receive_s, "whole request")
        if now_s - self.receiving_since > most_s:
            self.refuse(408, "SLOW_CLIENT", f"expected the {what} within {most_s:g} s")

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answer the request that is coming, unless its answer has begun, and close."""
        if self._is_over or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        self.bounds.refuse(code, status)
        self._is_over = True
        if self.is_answering or (cycle is not None and cycle.response_started and not cycle.response_complete):
            self.transport.close()
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whoever waits for the rest of it need not any more
            cycle.message_event.set()
        self.transport.write(_answer(status, code, text))
        if self.transport.can_write_eof():
            # A close with bytes unread is a reset, which would take the answer away: read on a moment, keeping nothing.
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(LINGER_S, self.transport.abort)
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        most = self.bounds.head_bytes_max
        self.refuse(431, "HEAD_TOO_LARGE", f"expected at most {most} bytes of request line and headers")


class Listener:
    """A bound socket and the connections that came through it."""

    def __init__(self, host: str, port: int, bounds: Bounds, keep_alive_s: int, tls: Tls | None = None) -> None:
        """Bind.

        Raises:
            ConfigError: If the address can't be taken, naming it and what to do.
        """
        self._bounds = bounds
        self._keep_alive_s = keep_alive_s
        self._tls = tls
        self._socket = _bind(host, port)
        self._state = ServerState()
        self._shaking: set[asyncio.Task[None]] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._accept_timer: asyncio.TimerHandle | None = None
        self._protocol: type[BoundedProtocol]
        self._config: Config
        self._loop: asyncio.AbstractEventLoop
        self.is_serving = False

    @property
    def port(self) -> int:
        """The port bound; of interest where port 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def serve(self, app: ASGI3Application) -> None:
        """Accept connections from now on."""
        self._loop = asyncio.get_running_loop()
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what a client sends wrong is counted, not logged
        self._config = Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=self._keep_alive_s,
        )
        self._config.load()
        identity_of = self._tls.identity_of if self._tls is not None else None
        self._protocol = type(
            "Protocol",
            (BoundedProtocol,),
            {"bounds": self._bounds, "identity_of": staticmethod(identity_of) if identity_of else None},
        )
        self._listen()
        self._sweep()
        self.is_serving = True

    async def close(self) -> None:
        """Accept nothing more; close idle connections, and the others when their answer is written."""
        for timer in (self._sweep_timer, self._accept_timer):
            if timer is not None:
                timer.cancel()
        if self.is_serving:
            self._loop.remove_reader(self._socket.fileno())
        for task in self._shaking:
            task.cancel()
        made = [c for c in self._bounds.connections if c.is_made]
        for connection in made:
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=1)
        for connection in made:
            connection.transport.close()
        self._socket.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                accepted, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                # No descriptor or memory left: those who wait stay in the backlog, or the loop would spin on them.
                self._bounds.refuse("NO_DESCRIPTOR")
                self._loop.remove_reader(self._socket.fileno())
                self._accept_timer = self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            self._take(accepted, _network(str(peer[0])))

    def _take(self, accepted: socket.socket, address: str) -> None:
        code, text = self._bounds.why_not(address)
        if code:
            self._bounds.refuse(code, 503)
            with accepted, contextlib.suppress(OSError):
                accepted.setblocking(False)
                if self._tls is None:
                    accepted.send(_answer(503, code, text))
                    accepted.shutdown(socket.SHUT_WR)
            return
        connection = self._protocol(self._config, self._state, self._loop, address)
        self._bounds.enter(connection)
        task = self._loop.create_task(self._connect(accepted, connection))
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _connect(self, accepted: socket.socket, connection: BoundedProtocol) -> None:
        is_made = False
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A peer that acknowledges nothing, or keeps its window shut, is ended by the kernel.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._bounds.send_s * 1000))
            tls: dict[str, Any] = {}
            if self._tls is not None:
                tls = {
                    "ssl": self._tls.context,
                    "ssl_handshake_timeout": self._bounds.head_s,
                    "ssl_shutdown_timeout": LINGER_S,
                }
            await self._loop.connect_accepted_socket(lambda: connection, accepted, **tls)
            is_made = True
        except (OSError, ssl.SSLError):
            # Plain HTTP, an old TLS, a certificate of nobody's, or no end of the handshake: nobody to answer.
            self._bounds.refuse("TLS_HANDSHAKE")
        finally:
            if not is_made:
                self._bounds.leave(connection)
                accepted.close()

    def _sweep(self) -> None:
        now_s = time.monotonic()
        for connection in list(self._bounds.connections):
            if connection.is_made:
                connection.check(now_s)
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)


def _answer(status: int, code: str, text: str) -> bytes:
    body = encode_error(code, text)
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def require_descriptors(connections_max: int) -> None:
    """Let this process have as many descriptors as it may have connections.

    Raises:
        ConfigError: If the system does not.
    """
    needed = connections_max + DESCRIPTORS_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            why = f"expected at most {hard - DESCRIPTORS_SPARE} with {hard} descriptors a process (ulimit -Hn)"
            raise ConfigError([f"http.connections_max: {why}, was {connections_max}"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits, which one host has whole."""
    if ":" not in address:
        return address
    number = IPv6Address(address.partition("%")[0])
    return str(number.ipv4_mapped or int(number) >> 64)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        why = f"http.host and http.port: {host}:{port} can't be bound ({e.strerror or e})"
        raise ConfigError([f"{why}; stop the process that uses it, or choose another port"]) from e
    return listener
