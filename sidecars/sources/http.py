"""HTTP as a message source: the request is the delivery, its answer the settlement.

Facts: at least once by the caller's own retries; the stable id is client_order_id (Idempotency-Key where the body has
none); no ordering unit of its own, so orders of one account go in the order they arrived; the lease is the request's
deadline and can't be extended; giving back is 503, not knowing is 504; consumers compete, the unit is the instance.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import structlog
import uvloop
from msgspec import Meta, Struct

from protocol.edge import BODY_BYTES_MAX, ORDERS_MAX
from protocol.errors import ConfigError, WojakError
from protocol.orders import Name
from runtime.exits import CANNOT_RUN, CLEAN, FAILED, UNFINISHED
from runtime.logs import configure
from runtime.signals import StopSignal
from sidecars.core.loop import SidecarLoop
from sidecars.core.metrics import Metrics
from sidecars.core.settings import LoopSettings, SessionSettings
from sidecars.core.source import Delivery, Engines, Lag, Settlement
from sidecars.sources.http_api import OrdersApi
from sidecars.sources.http_keys import HttpCertificate, HttpKey, Keys, SignatureSettings
from sidecars.sources.http_models import Readiness
from sidecars.sources.http_schema import make_app
from sidecars.sources.http_server import HEAD_BYTES_MAX, Bounds, Listener, require_descriptors
from sidecars.sources.http_tls import Tls, TlsSettings

Positive = Annotated[int, Meta(ge=1)]
KEEP_ALIVE_S: Final = 15
BODY_BYTES: Final = 256 << 10


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one HTTP sidecar.

    Attributes:
        port: 0 takes a free one.
        engine_endpoint: The engine's sidecar socket.
        state_file: Where the newest engine epoch is kept (rule 10); its folder exists.
        source: Name under which the engine knows this source.
        sidecar: Name of this process in the engine's status; empty = host name.
        keys: Who may ask; the engine knows what each principal may trade.
        loopback_principal: Who asks without a key from this very host; empty = nobody. For demonstrations.
        request_ms: From the receipt of a request to its 504, if the engine has not answered.
        hold_ms: How long new risk waits here while the engine says RETRY, before its 503.
        receive_ms: A request must have come whole within this.
        head_ms: A request's head, and the handshake of TLS, must have come whole within this.
        send_ms: A client that has not read what was sent to it within this is disconnected.
        connections_max: Clients connected at once.
        connections_per_address: Of them from one address (IPv6: one network of 64 bits); 0 = no bound of its own.
        head_bytes_max: Of request line and headers.
        body_bytes_max: A larger body is answered 413.
        orders_max: Of one array.
        signature_window_s: How old a signature may be.
        signatures_max: Signatures of one key that are remembered, so that each counts once.
        tls: Certificate and clients' authorities; None = plain HTTP.
        certificates: Client certificates that stand for a principal.
        drain_ms: Time to leave in after SIGTERM.
        answer_ms: Age of an unanswered submit after which everything unanswered is submitted again.
        shard_endpoints: Of several engines, the socket of each, shard 0 first; empty = the one at ``engine_endpoint``.
        account_shards: Accounts that the configuration gives a shard; the others are where the hash says.
    """

    engine_endpoint: str
    state_file: str
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8081
    source: Name = "http"
    sidecar: Annotated[str, Meta(max_length=64)] = ""
    keys: tuple[HttpKey, ...] = ()
    loopback_principal: Annotated[str, Meta(max_length=64)] = ""
    request_ms: Positive = 3000
    hold_ms: Positive = 500
    receive_ms: Positive = 10_000
    head_ms: Positive = 5000
    send_ms: Positive = 10_000
    connections_max: Positive = 768
    connections_per_address: Annotated[int, Meta(ge=0)] = 256
    head_bytes_max: Annotated[int, Meta(ge=1024, le=65_536)] = HEAD_BYTES_MAX
    body_bytes_max: Annotated[int, Meta(ge=1024, le=BODY_BYTES_MAX)] = BODY_BYTES
    orders_max: Annotated[int, Meta(ge=1, le=ORDERS_MAX)] = ORDERS_MAX
    signature_window_s: Annotated[int, Meta(ge=1, le=300)] = 30
    signatures_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 65_536
    tls: TlsSettings | None = None
    certificates: tuple[HttpCertificate, ...] = ()
    drain_ms: Positive = 10_000
    answer_ms: Positive = 1500
    shard_endpoints: tuple[str, ...] = ()
    account_shards: dict[str, int] = {}

    @property
    def scheme(self) -> str:
        """Of the address."""
        return "http" if self.tls is None else "https"

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found: list[str] = []
        if self.hold_ms >= self.request_ms:
            found.append(f"http.hold_ms: expected less than request_ms ({self.request_ms}), was {self.hold_ms}")
        if not self.keys and not self.certificates and not self.loopback_principal:
            found.append("http.keys: expected at least one, or loopback_principal for a demonstration, was none")
        if self.certificates and (self.tls is None or not self.tls.client_ca_file):
            found.append("http.certificates: expected http.tls.client_ca_file, by which they are checked, was none")
        if self.tls is not None and self.tls.client_certificate == "required" and not self.certificates:
            found.append('http.certificates: expected at least one for client_certificate = "required", was none')
        return found


class HttpSource:
    """The HTTP source. Handlers queue deliveries, ``receive`` hands on what is queued, ``settle`` lets them answer."""

    lease_extend_ms = 0
    tells_reserved = True
    tells_account = True

    def __init__(self, settings: HttpSettings, metrics: Metrics) -> None:
        """Read the keys; nothing listens before ``open``.

        Raises:
            ConfigError: If the settings or a key can't be used.
        """
        if problems := settings.problems():
            raise ConfigError(problems)
        self.name = settings.source
        self._settings = settings
        self._queue: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._listener: Listener | None = None
        self._flow: Engines
        self._tls = Tls(settings.tls) if settings.tls is not None else None
        self._keys = Keys(
            settings.keys,
            settings.loopback_principal,
            certificates=settings.certificates,
            signatures=SignatureSettings(settings.signature_window_s, settings.signatures_max),
            is_certificate_required=settings.tls is not None and settings.tls.client_certificate == "required",
        )
        self._metrics = metrics
        self._api = OrdersApi(
            self._keys,
            self._offer,
            self._queue.__len__,
            request_ms=settings.request_ms,
            body_bytes_max=settings.body_bytes_max,
            orders_max=settings.orders_max,
            answers=metrics.answers,
            other=make_app(self._readiness, metrics),  # type: ignore[arg-type]
        )

    # Session

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None
        return self._listener.port

    async def open(self, flow: Engines) -> None:
        """Listen.

        Raises:
            ConfigError: If the address is taken.
        """
        self._flow = flow
        self._api.flow = flow
        settings = self._settings
        bounds = Bounds(
            settings.connections_max,
            settings.receive_ms,
            per_address_max=settings.connections_per_address,
            head_ms=settings.head_ms,
            send_ms=settings.send_ms,
            head_bytes_max=settings.head_bytes_max,
        )
        bounds.answers, bounds.refused = self._metrics.answers, self._metrics.refused
        self._listener = Listener(settings.host, settings.port, bounds, KEEP_ALIVE_S, self._tls)
        await self._listener.serve(self._api)

    def read(self) -> None:
        """Read certificates and secrets again, for connections and requests from now on.

        Raises:
            ConfigError: Naming what can't be used; what was read before stays.
        """
        context = self._tls.fresh() if self._tls is not None else None
        self._keys.read(self._settings.keys, self._settings.certificates)
        if self._tls is not None and context is not None:
            self._tls.context = context

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await self._listener.close()

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for what the handlers queued; they have looked at the room before they did."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._taken()

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: the handlers ask for room by the account before they queue."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend nothing: the deadline is the caller's."""
        return deliveries

    async def pause(self) -> Sequence[Delivery]:
        """Return what is queued; what comes from now on is answered 503 by the handlers."""
        return self._taken()

    def _offer(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._arrived.set()

    def _taken(self) -> Sequence[Delivery]:
        taken = self._queue[:]
        self._queue.clear()
        return taken

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Wake the handlers; each answers its caller."""
        for settlement in settlements:
            delivery = settlement.delivery
            ticket, at = delivery.receipt
            delivery.receipt = None  # the ticket now holds the settlement, so nothing of it may hold the ticket
            ticket.settle(at, settlement)
        return ()

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Reply nowhere: the answer is the reply, and no delivery of this source carries an address."""
        return ()

    # Observe

    def lag(self) -> Lag | None:
        """Return None: what has not reached us waits at its sender."""
        return None

    def fault(self) -> str:
        """Return none: whoever reads this has reached us."""
        return ""

    def _readiness(self) -> Readiness:
        flow = self._flow
        closed = [(n, s.fault or s.why_closed.name) for n, s in enumerate(flow.shards) if not s.is_open]
        if len(flow.shards) == 1:
            return Readiness(flow.is_open, closed[0][1] if closed else "", flow.mode.name, flow.epoch)
        away = dict(closed)
        shards = {str(n): away.get(n, "open") for n in range(len(flow.shards))}
        reason = "; ".join(f"shard {n}: {why}" for n, why in closed)
        return Readiness(flow.is_open, reason, flow.mode.name, flow.epoch, shards)


def loop_settings(settings: HttpSettings) -> LoopSettings:
    """Return what the one loop is told."""
    return LoopSettings(
        engine_endpoint=settings.engine_endpoint,
        state_file=settings.state_file,
        sidecar=settings.sidecar,
        session=SessionSettings(answer_ms=settings.answer_ms, hold_ms=settings.hold_ms),
        drain_ms=settings.drain_ms,
        shard_endpoints=settings.shard_endpoints,
        account_shards=settings.account_shards,
    )


def make_sidecar(settings: HttpSettings) -> tuple[SidecarLoop, HttpSource]:
    """Return the loop and its source; call inside the asyncio loop that will run it.

    Raises:
        ConfigError: If the settings, a key or the state file can't be used.
    """
    metrics = Metrics(settings.source)
    source = HttpSource(settings, metrics)
    return SidecarLoop(loop_settings(settings), source, metrics), source


def _read_again(source: HttpSource) -> None:
    log = structlog.get_logger()
    try:
        source.read()
    except ConfigError as e:
        log.error("certificates and keys not read again, those of before stay", problems=e.problems)
    else:
        log.info("certificates and keys read again")


def run(settings: HttpSettings) -> int:
    """Be the HTTP sidecar process: serve until SIGTERM or SIGINT, drain, return the exit code."""
    configure("http")
    stop = StopSignal()
    log = structlog.get_logger()

    async def serve() -> int:
        require_descriptors(settings.connections_max)
        loop, source = make_sidecar(settings)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _read_again, source)
        gc.collect()
        gc.freeze()
        address = f"{settings.scheme}://{settings.host}:{settings.port}"
        shards = max(1, len(settings.shard_endpoints))
        log.info("http sidecar", address=address, engine=settings.engine_endpoint, shards=shards)
        return UNFINISHED if await loop.run(stop) else CLEAN

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve())
    except ConfigError as e:
        print(f"http: {'; '.join(e.problems)}", file=sys.stderr)
        return CANNOT_RUN
    except WojakError as e:
        print(f"http: {e}", file=sys.stderr)
        return FAILED
