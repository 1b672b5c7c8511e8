"""A gateway on a folder, and an engine that speaks the venue protocol by hand, in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec
import structlog

from protocol.channels import Context, Dealer, Router, Waiter
from protocol.codes import Mode, OrderType, Side, TimeInForce
from protocol.params import ContractKind, InstrumentParams
from protocol.session import PROTOCOL_VERSION
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Tick
from protocol.venue import (
    Commands,
    Confirm,
    EngineVenueMessage,
    GatewayHello,
    GatewayMessage,
    GatewayReady,
    Heartbeat,
    Query,
    Report,
    Reports,
    ReportsDurable,
    SendCancel,
    SendNew,
    VenueCommand,
    VenueWelcome,
    gateway_decoder,
    report_decoder,
)
from venues.core.control import GatewayControlReply, reply_decoder
from venues.core.loop import GatewayLoop
from venues.core.settings import GatewaySettings
from venues.sandbox import SandboxVenue

E9 = 10**9
TRACE = bytes(16)
INSTANCE = b"engine-instance1"
PATIENCE_S = 60.0
TOKEN = "let me in"

XY = InstrumentParams(
    instrument="XY", venue="sandbox", currency="USDT", kind=ContractKind.LINEAR, price_step_e9=E9,
    quantity_step_e9=E9, tick_e9=E9, lot_e9=E9, multiplier_e9=E9, quantity_min_e9=E9, quantity_max_e9=1000 * E9,
    collar_bp=1000, tick_age_max_ns=5 * E9, taker_fee_bp_e9=5 * E9, maker_fee_bp_e9=2 * E9,
)  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode


def new(
    venue_seq: int,
    order_id: str,
    *,
    side: Side = Side.BUY,
    price: int = 100,
    quantity: int = 4,
    order_type: OrderType = OrderType.LIMIT,
    time_in_force: TimeInForce = TimeInForce.GTC,
    instrument: str = "XY",
) -> SendNew:
    """Return a new order; price and quantity in whole units."""
    price_e9 = 0 if order_type is OrderType.MARKET else price * E9
    return SendNew(
        venue_seq, order_id, "A1", instrument, side, order_type, time_in_force, quantity * E9, price_e9, TRACE
    )


def cancel(venue_seq: int, order_id: str) -> SendCancel:
    return SendCancel(venue_seq, order_id, TRACE)


def query(venue_seq: int, order_id: str) -> Query:
    return Query(venue_seq, order_id, TRACE)


class Ticks:
    """Book B of SANDBOX section 12 and what follows on it, numbered."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.seq = 0

    def stamp(self) -> tuple[int, int, int, int]:
        self.seq += 1
        return self.epoch, self.seq, self.seq * 1000, self.seq * 1000

    def book(self) -> list[Tick]:
        return [
            BookClear(*self.stamp()),
            BookSnapshot(*self.stamp(), [(100, 10), (99, 20), (98, 30)], [(101, 8), (102, 12), (103, 40)]),
        ]

    def delta(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Tick:
        return BookDelta(*self.stamp(), bids, asks)


class Engine:
    """The other end of the session, one message at a time."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self.router = Router(context, endpoint, 10_000)
        self.identity = b""
        self.got: list[GatewayMessage] = []
        self.reports: list[Report] = []
        self.hellos = 0
        self.instance = b""

    def send(self, *messages: EngineVenueMessage) -> None:
        for message in messages:
            assert self.router.send(self.identity, _encode(message))

    def receive(self) -> None:
        for identity, body in self.router.receive(1000):
            message = gateway_decoder.decode(body)
            self.got.append(message)
            if isinstance(message, GatewayHello):
                # A session is its hello's: what a dead one still had on the way is not.
                self.identity, self.instance = identity, message.instance
                self.hellos += 1
            if isinstance(message, Reports):
                self.reports += [report_decoder.decode(raw) for raw in message.items]

    def all_of(self, kind: type[GatewayMessage]) -> list[GatewayMessage]:
        return [m for m in self.got if isinstance(m, kind)]

    def count(self, kind: type[GatewayMessage]) -> int:
        return sum(isinstance(m, kind) for m in self.got)

    @property
    def confirmed_seq(self) -> int:
        return max((m.received_seq for m in self.got if isinstance(m, Confirm | Reports | GatewayReady)), default=0)


class Stage:
    """Engine, gateway and the folder between its lives."""

    def __init__(self, folder: Path) -> None:
        self.context = Context()
        self.folder = folder / "log"
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        self.engine = Engine(self.context, f"ipc://{folder}/e")
        self.settings = GatewaySettings(
            venue="sandbox", gateway="g", engine_endpoint=f"ipc://{folder}/e", control_endpoint=f"ipc://{folder}/c",
            token_file=str(self.token_file), log_dir=str(self.folder), instruments=(XY,),
            feed_endpoint=f"ipc://{folder}/f", snapshots_endpoint=f"ipc://{folder}/s",
        )  # fmt: skip
        self.ticks = Ticks()
        self.greeted = 0
        self.loop: GatewayLoop | None = None
        self.venue: SandboxVenue | None = None

    def start(self, **changes: object) -> GatewayLoop:
        settings = msgspec.structs.replace(self.settings, **changes)
        self.venue = SandboxVenue(settings.instruments, static_book=settings.static_book)
        self.loop = GatewayLoop(settings, self.context, self.venue, TOKEN, structlog.get_logger())
        return self.loop

    def start_following(self) -> GatewayLoop:
        """Start with a venue that follows the feed's sockets."""
        self.venue = SandboxVenue.open(self.settings, self.context)
        self.loop = GatewayLoop(self.settings, self.context, self.venue, TOKEN, structlog.get_logger())
        return self.loop

    def feed(self, *ticks: Tick) -> None:
        assert self.venue is not None
        for tick in ticks:
            self.venue.on_tick("XY", tick)

    def crash(self) -> None:
        """Drop the gateway as kill -9 would: what was not written is gone."""
        assert self.loop is not None
        self.loop.drop()
        self.loop = None
        self.engine.receive()
        self.greeted = self.engine.hellos

    def until(self, condition: Callable[[], bool], *, turns: bool = True) -> None:
        """Turn until the condition holds; a test that waits too long fails here.

        ``turns`` False: the gateway is another process, so only the engine's socket is watched.
        """
        waiter = Waiter(self.engine.router)
        deadline = monotonic() + PATIENCE_S
        while not condition():
            assert monotonic() < deadline, f"waited {PATIENCE_S} s; the engine got {self.engine.got[-5:]}"
            if turns:
                assert self.loop is not None
                self.loop.turn(20)
            else:
                waiter.wait(100)
            self.engine.receive()

    def greet(
        self, *, epoch: int = 1, instance: bytes = INSTANCE, durable: int = 0, lease_ms: int = 60_000, shard: int = 0
    ) -> GatewayHello:
        """Wait for a hello and welcome it."""
        assert self.loop is not None
        alive = self.loop.gateway.instance
        self.until(lambda: self.engine.hellos > self.greeted and self.engine.instance == alive)
        self.greeted = self.engine.hellos
        self.welcome(epoch, instance, durable, lease_ms, shard)
        hello = self.engine.all_of(GatewayHello)[-1]
        assert isinstance(hello, GatewayHello)
        return hello

    def welcome(
        self, epoch: int = 1, instance: bytes = INSTANCE, durable: int = 0, lease_ms: int = 60_000, shard: int = 0
    ) -> None:
        """Answer a hello."""
        self.engine.send(VenueWelcome(PROTOCOL_VERSION, shard, epoch, instance, Mode.PAPER, lease_ms, durable))

    def ready(self, **welcome: object) -> GatewayHello:
        """Bring a session to READY."""
        before = self.engine.count(GatewayReady)
        hello = self.greet(**welcome)  # type: ignore[arg-type]
        self.until(lambda: self.engine.count(GatewayReady) > before)
        return hello

    def command(self, *commands: VenueCommand, epoch: int = 1) -> None:
        self.engine.send(Commands(epoch, list(commands)))

    def order(self, *commands: VenueCommand) -> list[Report]:
        """Send commands, wait until they are confirmed, return the reports that came."""
        before = len(self.engine.reports)
        last = commands[-1].venue_seq
        self.command(*commands)
        self.until(lambda: self.engine.confirmed_seq >= last)
        return self.engine.reports[before:]

    def durable(self, report_seq: int) -> None:
        assert self.loop is not None
        state = self.loop.gateway.state
        self.engine.send(ReportsDurable(report_seq), Heartbeat(state.epoch))
        self.until(lambda: state.reports_durable == report_seq)

    def control(self, action: str, token: str = TOKEN) -> GatewayControlReply:
        dealer = Dealer(self.context, self.settings.control_endpoint, 10)
        body = msgspec.json.encode({"token": token, "operator": "me", "action": action})
        try:
            self.until(lambda: dealer.send(body))
            answers: list[bytes] = []
            self.until(lambda: bool(answers.extend(dealer.receive(1)) or answers))
            return reply_decoder.decode(answers[0])
        finally:
            dealer.close()

    def close(self) -> None:
        if self.loop is not None:
            self.crash()
        self.engine.router.close()
        self.context.close()
