"""The sandbox venue's fills on the recorded session equal those of a slow independent reference, fill by fill.

The venue runs behind the real gateway and its log, without sockets. The reference is given the recording and that
log. A gap of the feed, a crash and a restart happen on the way.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from market import replay
from market.book import Book
from market.replay import Recording
from protocol.codes import Liquidity, Mode, OrderType, Side, TimeInForce
from protocol.session import PROTOCOL_VERSION
from protocol.ticks import BookDelta, BookSnapshot, SnapshotReply, Tick, Trade
from protocol.venue import Commands, Report, SendCancel, SendNew, VenueCommand, VenueWelcome, report_decoder
from sandbox.book import Order
from sandbox.matching import Fill as MatcherFill
from sandbox.matching import Matcher
from tests.reference.prudent import Fill, fills_of
from tests.unit.market.recorded import BTCUSDT, LINEAR, recorded
from venues.core.gateway import Gateway
from venues.core.log import Batch, read_log
from venues.core.state import recover
from venues.sandbox import FeedMarkKind, SandboxVenue, note_decoder

SEED = 20240808
ORDERS = 2_400
NAME = "BTCUSDT"
PRICE_STEP_E9 = BTCUSDT.price_step_e9
STEP_E9 = BTCUSDT.quantity_step_e9
TRACE = bytes(16)
encode = msgspec.msgpack.Encoder().encode


class Desk:
    """A gateway without sockets on the recording, and an engine that sends what a seed says."""

    def __init__(self, folder: Path, venue_kind: type[SandboxVenue], seed: int) -> None:
        self.folder = folder
        self.venue_kind = venue_kind
        self.random = Random(seed)
        self.book = Book()  # the market's own, for prices near the touch and for the feed's snapshots
        self.venue_seq = 0
        self.sent: list[str] = []
        self.open_gateway()

    def open_gateway(self) -> None:
        self.venue = self.venue_kind([BTCUSDT])
        state, log = recover(self.folder, "sandbox", self.venue, 1, segment_bytes=64 << 20, segments_kept=99)
        self.gateway = Gateway(
            name="g", instance=bytes(16), venue=self.venue, state=state, log=log, mono_ns=0, reports_kept_max=10**9
        )
        self.gateway.outgoing(0)
        self.gateway.sent(0)
        self.take(encode(VenueWelcome(PROTOCOL_VERSION, 0, 1, b"e" * 16, Mode.PAPER, 1000, state.reports_durable)))
        while self.gateway.phase.name != "READY":
            self.gateway.outgoing(0)
            self.gateway.sent(0)

    def take(self, body: bytes) -> None:
        """One turn of the loop."""
        self.gateway.wake(1)
        self.gateway.receive([body], 1, 0)
        self.gateway.commit(1)

    def tick(self, tick: Tick) -> None:
        self.venue.on_tick(NAME, tick)

    def show(self, tick: Tick) -> None:
        """Keep the feed's book."""
        if isinstance(tick, BookSnapshot):
            self.book.apply_snapshot(tick.bids, tick.asks)
        elif isinstance(tick, BookDelta):
            self.book.apply_levels(tick.bids, tick.asks)

    def resync(self, tick: Tick) -> None:
        """Answer the gateway's request as the feed does: the book as of its last message."""
        bids, asks = self.book.levels(Side.BUY), self.book.levels(Side.SELL)
        book = BookSnapshot(tick.feed_epoch, tick.feed_seq, tick.exch_ns, tick.local_ns, bids, asks)
        self.venue.follower.on_snapshot(SnapshotReply(NAME, book))

    def act(self) -> None:
        """Send one to three commands in one message."""
        commands = [self.command() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        self.take(encode(Commands(1, commands)))

    def command(self) -> VenueCommand:
        self.venue_seq += 1
        draw = self.random
        if self.sent and draw.random() < 0.15:
            return SendCancel(self.venue_seq, draw.choice(self.sent[-40:]), TRACE)
        order_id = f"P-{self.venue_seq}"
        self.sent.append(order_id)
        side = draw.choice((Side.BUY, Side.SELL))
        lots = draw.choice((1, 5, 50, 300, 2_000, 9_000))
        kind = draw.choice(("near", "near", "near", "behind", "far", "through", "ioc", "market"))
        offset = {
            "near": draw.randint(-1, 2), "behind": draw.randint(3, 30), "far": draw.randint(200, 3_000),
            "through": -draw.randint(1, 15), "ioc": -draw.randint(-1, 8), "market": 0,
        }[kind]  # fmt: skip
        touch = (self.book.best_bid if side is Side.BUY else self.book.best_ask) or 600_000
        price = touch - offset if side is Side.BUY else touch + offset
        return SendNew(
            self.venue_seq, order_id, "A1", NAME, side,
            OrderType.MARKET if kind == "market" else OrderType.LIMIT,
            TimeInForce.IOC if kind == "ioc" else draw.choice((TimeInForce.DAY, TimeInForce.GTC)),
            lots * STEP_E9, 0 if kind == "market" else price * PRICE_STEP_E9, TRACE,
        )  # fmt: skip

    def crash(self) -> None:
        """Lose the process; what it had not committed never happened."""
        self.gateway.wake(1)
        self.gateway.commit(1)
        self.gateway.log.close()
        self.open_gateway()

    def batches(self) -> list[Batch]:
        return [r for _, _, r in read_log(self.folder) if isinstance(r, Batch)]

    def reports(self) -> list[Report]:
        return [report_decoder.decode(raw) for batch in self.batches() for raw in batch.reports]

    def marks(self) -> list[FeedMarkKind]:
        """What happened to the book beside the stream."""
        marks = [m.kind for batch in self.batches() for m in note_decoder.decode(batch.note).feed]
        return [kind for kind in marks if kind in {FeedMarkKind.STALE, FeedMarkKind.RESYNC}]


class TouchMatcher(Matcher):
    """The planted venue: whatever is touched fills whole, at the touch."""

    def on_tick(self, tick: Tick) -> list[MatcherFill]:
        fills = super().on_tick(tick)
        if isinstance(tick, Trade):
            for side in (self.bids, self.asks):
                for order in [o for queue in side.own.values() for o in queue]:
                    if order.price == tick.price_steps:
                        quantity, order.leaves = order.leaves, 0
                        side.remove(order)
                        fills.append(MatcherFill(order, order.price, quantity, 0, Liquidity.MAKER))
        return fills

    def submit(self, order: Order, *, is_market: bool, rests: bool) -> list[MatcherFill]:
        opposite = self.asks if order.side is Side.BUY else self.bids
        if self.is_live and opposite.keys and (is_market or order.key + opposite.keys[-1] >= 0):
            quantity, order.leaves = order.leaves, 0
            return [MatcherFill(order, abs(opposite.keys[-1]), quantity, 0, Liquidity.TAKER)]
        return super().submit(order, is_market=is_market, rests=rests)


class TouchVenue(SandboxVenue):
    """A sandbox venue with the planted matcher."""

    def __init__(self, instruments: list[object]) -> None:
        super().__init__(instruments)  # type: ignore[arg-type]
        for listing in self.exchange.listings.values():
            listing.matcher = TouchMatcher()


@pytest.fixture(scope="module")
def recording() -> Recording:
    """The recorded BTCUSDT session in exchange order."""
    return replay.load(recorded(LINEAR), BTCUSDT)


def run(folder: Path, ticks: tuple[Tick, ...], kind: type[SandboxVenue], orders: int) -> tuple[Desk, list[Fill]]:
    """Drive a venue through the ticks; return the fills of its log."""
    desk = Desk(folder, kind, SEED)
    places = set(desk.random.sample(range(50, len(ticks)), orders))
    gap, crash = len(ticks) // 3, len(ticks) // 2
    for n, tick in enumerate(ticks):
        desk.show(tick)
        if not gap <= n < gap + 400:
            desk.tick(tick)  # the 400 are lost on the way; the one after them shows the hole
        if n == crash:
            desk.crash()
        if n in {gap + 900, crash + 500}:
            desk.resync(tick)
        if n in places:
            desk.act()
    desk.gateway.wake(1)
    desk.gateway.commit(1)
    fills = [
        (
            r.order_id, r.exch_ns, r.last_price_e9 // PRICE_STEP_E9, r.last_quantity_e9 // STEP_E9,
            r.liquidity is Liquidity.MAKER,
        )
        for r in desk.reports() if r.trade_id
    ]  # fmt: skip
    return desk, fills


def test_fills_equal_the_reference(recording: Recording, tmp_path: Path) -> None:
    """Order, time, price, quantity and maker of every fill; thousands of orders of every kind, a gap and a crash."""
    desk, fills = run(tmp_path, recording.ticks, SandboxVenue, ORDERS)

    expected = fills_of(recording.ticks, tmp_path, NAME, PRICE_STEP_E9, STEP_E9)

    first = next((n for n, (a, b) in enumerate(zip(fills, expected, strict=False)) if a != b), None)
    assert fills == expected, f"seed {SEED}: fill {first} differs"
    assert len(desk.sent) >= 2_000
    makers = sum(fill[4] for fill in fills)
    assert makers > 300
    assert len(fills) - makers > 300
    assert desk.marks() == [FeedMarkKind.STALE, FeedMarkKind.RESYNC, FeedMarkKind.RESYNC]


def test_a_venue_that_always_fills_at_the_touch_differs(recording: Recording, tmp_path: Path) -> None:
    """The comparison bites: the planted venue's fills are not the reference's."""
    ticks = recording.ticks[:15_000]
    _, fills = run(tmp_path, ticks, TouchVenue, 300)

    expected = fills_of(ticks, tmp_path, NAME, PRICE_STEP_E9, STEP_E9)

    assert fills
    assert expected
    assert fills != expected
