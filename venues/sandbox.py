"""The sandbox venue behind the venue contract: the simulated exchange, the feed it follows, its words in the log.

An order acts after the last tick applied when it came: ``arrive_ns`` is that tick's exch_ns, and its
(feed_epoch, feed_seq) stands in the log beside it, so a reference that reads the recording and the log must find the
same fills (DECISIONS 23). Gaps and resyncs of the feed are marked there too.

A restart rebuilds open orders, counters and final states from the log; places in queues are unknown until the next
snapshot. What had been taken from displayed levels is forgotten with the book.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Self

import msgspec
from msgspec import Struct

from protocol.channels import Channel, Context
from protocol.codes import Code, GatewayKind, OrderType, TimeInForce
from protocol.params import InstrumentParams
from protocol.statement import StatedFill, StatedPosition
from protocol.ticks import BookClear, BookSnapshot, Tick
from protocol.venue import Capabilities, Report, SendCancel, SendNew, SendReplace, VenueCommand
from runtime.sessions import SessionCalendar, SessionRules
from sandbox.book import Order
from sandbox.exchange import CLOSED_MAX, Exchange
from sandbox.listing import Closed, OpenOrder
from venues.core.errors import LogInstrumentError
from venues.core.settings import GatewaySettings, StaticBook
from venues.core.venue import VenueStatement
from venues.feed import FeedFollower, FeedLink

CAPABILITIES: Final = Capabilities(
    order_types=tuple(OrderType),
    times_in_force=tuple(TimeInForce),
    idempotent_ids=True,
    query=True,
    replace=True,
    statement=True,
    post_only=True,
)
TICKS_MAX: Final = 64
ASKING_WAIT_MS: Final = 50
IDLE_WAIT_MS: Final = 1_000
NS_PER_MS: Final = 1_000_000


class FeedMarkKind(IntEnum):
    """What happened to the book of an instrument beside the stream of ticks."""

    STALE = 1  # lost after (feed_epoch, feed_seq)
    RESYNC = 2  # taken from the feed's snapshot as of (feed_epoch, feed_seq)
    FILLED = 3  # the tick (feed_epoch, feed_seq) filled resting orders: how far the book had come at least
    CLEARED = 4  # the BookClear (feed_epoch, feed_seq) was applied: an epoch followed from its beginning


class FeedMark(Struct, array_like=True, frozen=True, gc=False):
    """A gap, its end, or a tick that filled."""

    kind: FeedMarkKind
    instrument: str
    feed_epoch: int
    feed_seq: int


class SandboxNote(Struct, array_like=True, frozen=True):
    """The sandbox's words beside a batch.

    ``feed``: marks since the last note. ``acted``: flat (feed_epoch, feed_seq, arrive_ns), first for each order that
    the gateway cancelled or let expire by itself, then for each SendNew, SendCancel and SendReplace of the batch, in
    order; zeros where the instrument had no tick or the order was unknown. ``trading_date``: of the venue's session,
    yyyymmdd.
    """

    feed: list[FeedMark]
    acted: list[int]
    trading_date: int = 0


class SandboxState(Struct, array_like=True, frozen=True):
    """What a checkpoint keeps."""

    order_count: int
    trade_count: int
    open: list[OpenOrder]
    trading_date: int = 0
    positions: list[StatedPosition] | None = None
    fills: list[StatedFill] = []


_encoder: Final = msgspec.msgpack.Encoder()
note_decoder: Final = msgspec.msgpack.Decoder(SandboxNote)
_state_decoder: Final = msgspec.msgpack.Decoder(SandboxState)


class SandboxVenue:
    """One simulated venue. Without a feed link, ticks are handed in by ``on_tick`` (tests, backtests)."""

    def __init__(
        self,
        instruments: Sequence[InstrumentParams],
        *,
        closed_max: int = CLOSED_MAX,
        static_book: StaticBook | None = None,
        ticks_max: int = TICKS_MAX,
        session: SessionRules | None = None,
    ) -> None:
        self.exchange = Exchange(instruments, closed_max=closed_max, replenishes=static_book is not None)
        self.follower = FeedFollower(
            self.exchange.listings if static_book is None else (),
            apply=self._apply, gap=self._mark_stale, resync=self._mark_resync,
        )  # fmt: skip
        self._link: FeedLink | None = None
        self._ticks_max = ticks_max
        self._reports: list[Report] = []
        self._marks: list[FeedMark] = []
        self._acted: list[int] = []
        self._calendar = None if session is None else SessionCalendar(session)
        self.trading_date = 0
        self._session_end_ns = 0
        if static_book is not None:
            self._load_static(static_book)

    @classmethod
    def open(cls, settings: GatewaySettings, context: Context) -> Self:
        """Return the venue that the settings describe, following the feed if there is one."""
        venue = cls(
            settings.instruments, closed_max=settings.closed_max, static_book=settings.static_book,
            ticks_max=settings.ticks_max, session=settings.session,
        )  # fmt: skip
        if settings.feed_endpoint:
            venue._link = FeedLink(
                context, venue.follower, venue.exchange.listings, settings.feed_endpoint, settings.snapshots_endpoint
            )
        return venue

    # The venue contract

    @property
    def kind(self) -> GatewayKind:
        """A simulation."""
        return GatewayKind.SANDBOX

    @property
    def capabilities(self) -> Capabilities:
        """Every order type and time in force; the same id twice is one order."""
        return CAPABILITIES

    @property
    def open_count(self) -> int:
        """Orders that rest."""
        return len(self.exchange.open)

    def channels(self) -> Sequence[Channel]:
        """Return the feed's sockets."""
        return self._link.channels() if self._link else ()

    def wake(self, now_ns: int) -> list[Report]:
        """Apply ticks that are there and return the passive fills they caused."""
        self.exchange.now_ns = now_ns
        if self._calendar is not None and now_ns >= self._session_end_ns:
            self._end_session(self._calendar, now_ns)
        if self.exchange.due_at_ns:
            self.exchange.expire_due(self._reports)
        if self._link:
            self._link.pump(self._ticks_max, now_ns)
        reports = self._reports
        if reports:
            self._reports = []
        return reports

    def _end_session(self, calendar: SessionCalendar, now_ns: int) -> None:
        """Let DAY orders expire once per end of a session, also of one that came while this process was down.

        Looked at before anything is executed, so orders that come now are of the new session. A clock that goes back
        opens no session again.
        """
        today = max(self.trading_date, calendar.trading_date(now_ns))
        if self.trading_date and today > self.trading_date:
            for order in self.exchange.day_orders():
                self._note_place(order)
            self.exchange.expire_day(self._reports)
        if today > self.trading_date:
            self.exchange.fills.clear()
        self.trading_date = today
        self._session_end_ns = calendar.end_ns(today)

    def _note_place(self, order: Order) -> None:
        matcher = self.exchange.listings[order.symbol].matcher
        self._acted += (matcher.feed_epoch, matcher.feed_seq, matcher.exch_ns)

    def wait_max_ms(self) -> int:
        """Look often while a snapshot is to be asked for: a feed that comes up is no event on a socket of ours."""
        most = ASKING_WAIT_MS if self._link and self.follower.waiting_count else IDLE_WAIT_MS
        due_at_ns = self.exchange.due_at_ns
        return most if not due_at_ns else min(most, max(1, (due_at_ns - self.exchange.now_ns) // NS_PER_MS))

    def execute(self, commands: Sequence[VenueCommand], now_ns: int) -> list[Report]:
        """Act on each command after the last tick of its instrument, and note which one that was."""
        exchange = self.exchange
        exchange.now_ns = now_ns
        # Fills of ticks handed in since the last wake come first, as they happened.
        reports, self._reports = self._reports, []
        execute, listings, opened, acted = exchange.execute, exchange.listings, exchange.open, self._acted
        for command in commands:
            if type(command) is SendNew:
                listing = listings.get(command.instrument)
            elif type(command) is SendCancel or type(command) is SendReplace:
                order = opened.get(command.order_id)
                listing = listings[order.symbol] if order else None
            else:
                execute(command, reports)
                continue
            if listing is None:
                acted += (0, 0, 0)
            else:
                matcher = listing.matcher
                acted += (matcher.feed_epoch, matcher.feed_seq, matcher.exch_ns)
            execute(command, reports)
        return reports

    def cancel_all(self, code: Code) -> list[Report]:
        """Cancel every open order."""
        reports, self._reports = self._reports, []
        for order in self.exchange.oldest_first():
            self._note_place(order)
        self.exchange.cancel_all(code, reports)
        return reports

    def amend_trade(self, trade_id: str, quantity_e9: int, price_e9: int) -> list[Report] | str:
        """Take a trade of this session back, or correct it."""
        reports, self._reports = self._reports, []
        refused = self.exchange.amend_trade(trade_id, quantity_e9, price_e9, reports)
        if not refused:
            return reports
        self._reports = reports
        return refused

    def set_killed(self, *, is_killed: bool) -> None:
        """Refuse new orders, or take them again."""
        self.exchange.is_killed = is_killed

    def note(self) -> bytes:
        """Return the feed marks and places of action since the last note."""
        note = _encoder.encode(SandboxNote(self._marks, self._acted, self.trading_date))
        self._marks, self._acted = [], []
        return note

    def state(self) -> bytes:
        """Return counters and open orders."""
        exchange = self.exchange
        return _encoder.encode(
            SandboxState(
                exchange.order_count,
                exchange.trade_count,
                exchange.open_orders(),
                self.trading_date,
                exchange.stated_positions(),
                list(exchange.fills),
            )
        )

    def restore(self, state: bytes, report_seq: int, reports: Sequence[Report]) -> None:
        """Start from a checkpoint; orders whose final report is still kept stay known."""
        kept = _state_decoder.decode(state)
        exchange = self.exchange
        exchange.report_seq = report_seq
        exchange.order_count, exchange.trade_count = kept.order_count, kept.trade_count
        self.trading_date = kept.trading_date
        exchange.fills.extend(kept.fills)
        exchange.positions = None
        if kept.positions is not None and all(p.instrument in exchange.listings for p in kept.positions):
            exchange.positions = {
                (p.account, p.instrument): p.quantity_e9 // exchange.listings[p.instrument].quantity_step_e9
                for p in kept.positions
            }
        for order in kept.open:
            self._require_listed(order.command)
            exchange.restore_open(order)
        for report in reports:
            if report.status.is_terminal and report.order_id not in exchange.open:
                number = int(report.venue_order_id.removeprefix("S-") or 0)
                exchange.closed[report.order_id] = Closed(number, report.status, report.cum_quantity_e9)

    def replay(self, commands: Sequence[VenueCommand], reports: Sequence[Report], note: bytes) -> None:
        """Repeat what a logged batch says happened; of the note only the session's date is for us."""
        self.trading_date = max(self.trading_date, note_decoder.decode(note).trading_date)
        orders = {c.order_id: c for c in commands if isinstance(c, SendNew)}
        for report in reports:
            if report.order_id in orders and report.venue_order_id:
                self._require_listed(orders[report.order_id])
            self.exchange.restore_report(report, orders)

    def statement(self) -> VenueStatement | None:
        """State what rests, the fills of the session, and the net of all trades: never what came from outside."""
        if self._reports:
            return None  # the book is ahead of what was reported
        exchange = self.exchange
        return VenueStatement(exchange.stated_orders(), list(exchange.fills), exchange.stated_positions())

    def facts(self) -> dict[str, int]:
        """Return counts of the feed and of the simulation."""
        link = self._link
        return {
            "instruments": len(self.exchange.listings),
            "instruments_without_book": sum(not li.matcher.is_live for li in self.exchange.listings.values()),
            "feed_gaps": self.follower.gaps,
            "feed_undecodable": link.undecodable if link else 0,
            "orders": self.exchange.order_count,
            "trades": self.exchange.trade_count,
        }

    def close(self) -> None:
        """Close the feed's sockets."""
        if self._link:
            self._link.close()

    # Ticks

    def on_tick(self, instrument: str, tick: Tick) -> None:
        """Take one tick; its passive fills are returned by the next ``wake`` or ``execute``."""
        self.follower.on_tick(instrument, tick)

    def _apply(self, instrument: str, tick: Tick) -> None:
        before = len(self._reports)
        self.exchange.on_tick(instrument, tick, self._reports)
        if len(self._reports) > before:
            self._marks.append(FeedMark(FeedMarkKind.FILLED, instrument, tick.feed_epoch, tick.feed_seq))
        elif type(tick) is BookClear:
            self._marks.append(FeedMark(FeedMarkKind.CLEARED, instrument, tick.feed_epoch, tick.feed_seq))

    def _mark_stale(self, instrument: str) -> None:
        matcher = self.exchange.listings[instrument].matcher
        matcher.mark_stale()
        self._marks.append(FeedMark(FeedMarkKind.STALE, instrument, matcher.feed_epoch, matcher.feed_seq))

    def _mark_resync(self, instrument: str) -> None:
        matcher = self.exchange.listings[instrument].matcher
        self._marks.append(FeedMark(FeedMarkKind.RESYNC, instrument, matcher.feed_epoch, matcher.feed_seq))

    def _load_static(self, book: StaticBook) -> None:
        for name, listing in self.exchange.listings.items():
            mid_e9 = book.mid_by_instrument_e9.get(name, book.mid_e9)
            step = listing.tick_e9 // listing.price_step_e9
            mid = mid_e9 // listing.tick_e9 * step
            size = book.quantity_e9 // listing.quantity_step_e9
            bids = [(mid - n * step, size) for n in range(1, book.levels + 1)]
            asks = [(mid + n * step, size) for n in range(1, book.levels + 1)]
            listing.matcher.on_tick(BookSnapshot(0, 0, 0, 0, bids, asks))

    def _require_listed(self, command: SendNew) -> None:
        if command.instrument not in self.exchange.listings:
            raise LogInstrumentError(command.order_id, command.instrument)
