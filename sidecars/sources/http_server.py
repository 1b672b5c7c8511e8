"""The listening side of the HTTP source: uvicorn's protocol with the bounds it lacks.

Rule: whatever a client does, it costs bounded memory and time: so many connections, so large a head, so long for a
request to come whole. uvicorn's own server is not used: it polls, and it takes the process's signals.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from protocol.errors import ConfigError
from sidecars.sources.http_models import encode_error

HEAD_BYTES_MAX: Final = 16 << 10
BACKLOG: Final = 1024
SWEEP_S: Final = 0.25
_REASONS: Final = {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class Bounds:
    """What one listener allows, and who is connected."""

    def __init__(self, connections_max: int, request_receive_ms: int) -> None:
        self.connections_max = connections_max
        self.request_receive_s = request_receive_ms / 1000
        self.connections: set[BoundedProtocol] = set()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``receiving_since`` is when the request now coming began; 0 between requests."""

    bounds: Bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; one too many is told so."""
        super().connection_made(transport)
        self.receiving_since = time.monotonic()
        self._is_head = True
        self._head_bytes = 0
        self.bounds.connections.add(self)
        if len(self.bounds.connections) > self.bounds.connections_max:
            self.refuse(503, "CONNECTIONS", f"more than {self.bounds.connections_max} connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.bounds.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that does not end is refused."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.refuse(
                    431, "HEAD_TOO_LARGE", f"expected at most {HEAD_BYTES_MAX} bytes of request line and headers"
                )

    def on_message_begin(self) -> None:
        """Start the request's clock."""
        self._is_head = True
        self._head_bytes = 0
        self.receiving_since = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head."""
        self._is_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock: the request is here."""
        self.receiving_since = 0.0
        super().on_message_complete()

    @property
    def is_answering(self) -> bool:
        """Whether a whole request waits for its answer: nothing else may be answered or closed before."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answer the request that is coming, unless its answer has begun, and close."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not (cycle.response_started or self.is_answering):
            body = encode_error(code, text)
            head = (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


class Listener:
    """A bound socket and the connections that came through it."""

    def __init__(self, host: str, port: int, bounds: Bounds, keep_alive_s: int) -> None:
        """Bind.

        Raises:
            ConfigError: If the address can't be taken, naming it and what to do.
        """
        self._bounds = bounds
        self._keep_alive_s = keep_alive_s
        self._socket = _bind(host, port)
        self._server: asyncio.Server | None = None
        self._state = ServerState()
        self._sweep_timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port bound; of interest where port 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def serve(self, app: ASGI3Application) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        config = Config(
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
        config.load()
        protocol = type("Protocol", (BoundedProtocol,), {"bounds": self._bounds})
        self._server = await loop.create_server(
            lambda: protocol(config, self._state, {}, loop), sock=self._socket, backlog=BACKLOG
        )
        self._sweep(loop)

    async def close(self) -> None:
        """Accept nothing more; close idle connections, and the others when their answer is written."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._bounds.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=1)
        for connection in list(self._bounds.connections):
            connection.transport.close()
        self._socket.close()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        before = time.monotonic() - self._bounds.request_receive_s
        for connection in list(self._bounds.connections):
            is_late = 0 < connection.receiving_since < before
            if is_late and not connection.is_answering and not connection.transport.is_closing():
                connection.refuse(
                    408, "SLOW_CLIENT", f"expected the whole request within {self._bounds.request_receive_s:g} s"
                )
        self._sweep_timer = loop.call_later(SWEEP_S, self._sweep, loop)


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
