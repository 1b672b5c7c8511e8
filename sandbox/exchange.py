"""The simulated venue over all its instruments: order ids, validation, the order of reports, idempotent answers.

Commands and ticks in, numbered ``protocol.venue.Report`` values out. What is decided here and nowhere else:

- Reports of one order: NEW, then its TRADEs, then CANCELED for what an IOC or MARKET order leaves; or one REJECTED.
- Checks in SANDBOX section 3's order: instrument known and open, tick and lot, quantity bounds, then the book.
- A replace keeps the place in the queue where it only takes quantity away; at another price or with more quantity the
  order arrives anew and may trade at once. Nothing left to fill under the new total: CANCELED.
- An order id seen before is answered with ORDER_STATUS and never becomes a second order (``idempotent_ids``).
- Trade ids ``S-T<n>`` and venue order ids ``S-<n>`` count up; the counters live in the gateway's log.

Memory: open orders, and the final states of the last ``closed_max`` orders. Older ones may be forgotten: the
engine holds a final report durably before the gateway drops it, and asks only about orders without one.
- A stop order waits outside the book for a trade at its stop price or beyond, is TRIGGERED, and then is the MARKET or
  LIMIT order that it says. FOK fills whole or is CANCELED; a post-only order that would take is REJECTED.

DAY orders work until the owner says that the session ends (``expire_day``), GTD orders until their instant
(``expire_due``).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from msgspec.structs import replace

from protocol.codes import Code, ExecType, Liquidity, OrderStatus, OrderType, TimeInForce
from protocol.ticks import Tick, Trade
from protocol.venue import Query, Report, SendCancel, SendNew, SendReplace, VenueCommand, Void
from sandbox.amending import Amending
from sandbox.book import Order
from sandbox.listing import Closed, Listing, OpenOrder

CLOSED_MAX: Final = 100_000
DUE_SPARE: Final = 1_000

LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
STOP: Final = OrderType.STOP
IOC: Final = TimeInForce.IOC
FOK: Final = TimeInForce.FOK
MAKER: Final = Liquidity.MAKER
NO_LIQUIDITY: Final = Liquidity.NONE
OK: Final = Code.OK
EXEC_NEW: Final = ExecType.NEW
EXEC_TRADE: Final = ExecType.TRADE
EXEC_CANCELED: Final = ExecType.CANCELED
EXEC_EXPIRED: Final = ExecType.EXPIRED
EXEC_REJECTED: Final = ExecType.REJECTED
NEW: Final = OrderStatus.NEW
PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
FILLED: Final = OrderStatus.FILLED
CANCELED: Final = OrderStatus.CANCELED
REJECTED: Final = OrderStatus.REJECTED


class Exchange(Amending):
    """Many instruments, one numbering of orders, trades and reports.

    Attributes:
        report_seq: Number of the last report made.
        is_killed: While set, new orders are rejected with STATE_HALTED.
        now_ns: The venue's clock for an instrument that has had no tick; set by the owner, UTC nanoseconds.
    """

    # Commands

    def execute(self, command: VenueCommand, out: list[Report]) -> None:
        """Act on one command; its reports are appended to ``out``."""
        if type(command) is SendNew:
            self._new(command, out)
        elif type(command) is SendCancel:
            self._cancel(command, out)
        elif type(command) is SendReplace:
            self._replace(command, out)
        elif type(command) is Query:
            self._query(command, out)
        else:
            assert type(command) is Void

    def on_tick(self, instrument: str, tick: Tick, out: list[Report]) -> None:
        """Apply one tick of a listed instrument; passive fills are appended to ``out``."""
        listing = self.listings[instrument]
        fills = listing.matcher.on_tick(tick)
        if fills:
            self._report_fills(listing, fills, 0, listing.matcher.exch_ns, out)
        if listing.matcher.stops and type(tick) is Trade:
            for order in [o for o in listing.matcher.stops.values() if listing.matcher.has_reached(o)]:
                self._trigger(listing, order, out)

    def expire_due(self, out: list[Report]) -> None:
        """Expire the GTD orders whose instant is over by the venue's clock, earliest first."""
        due = self._due
        while due and due[0][0] <= self.now_ns:
            _, _, order_id = heappop(due)
            order = self.open.get(order_id)
            if order is not None:
                listing = self.listings[order.symbol]
                listing.matcher.cancel(order)
                self._report_expired(listing, order, OK, out)

    @property
    def due_at_ns(self) -> int:
        """When the next GTD order expires at the latest; 0 = there is none."""
        return self._due[0][0] if self._due else 0

    def cancel_all(self, code: Code, out: list[Report]) -> None:
        """Cancel every open order on the venue's own account, oldest first."""
        for order in self.oldest_first():
            listing = self.listings[order.symbol]
            listing.matcher.cancel(order)
            self._report_canceled(listing, order, 0, code, out)

    def day_orders(self) -> list[Order]:
        """Return the open DAY orders in the order they arrived."""
        return [o for o in self.oldest_first() if self.commands[o.order_id].time_in_force is TimeInForce.DAY]

    def expire_day(self, out: list[Report]) -> None:
        """End the session: expire every open DAY order, oldest first."""
        for order in self.day_orders():
            listing = self.listings[order.symbol]
            listing.matcher.cancel(order)
            self._report_expired(listing, order, Code.DAY_OVER, out)

    def _new(self, command: SendNew, out: list[Report]) -> None:
        order_id = command.order_id
        if order_id in self.open or order_id in self.closed:
            self._status(order_id, command.venue_seq, out)
            return
        listing = self.listings.get(command.instrument)
        if listing is None:
            self._reject(command, Code.INSTR_UNKNOWN, out)
            return
        code = Code.STATE_HALTED if self.is_killed else listing.refusal(command, self.now_ns)
        matcher = listing.matcher
        if code is OK and command.post_only and matcher.reachable(self._order(listing, command, 0)):
            code = Code.POST_ONLY
        if code is not OK:
            self._reject(command, code, out)
            return
        exch_ns = matcher.exch_ns or self.now_ns
        self.order_count += 1
        order = self._order(listing, command, self.order_count)
        quantity_e9 = command.quantity_e9
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq,
                EXEC_NEW,
                order_id,
                f"S-{order.number}",
                command.venue_seq,
                NEW,
                quantity_e9,
                0,
                exch_ns,
            )
        )
        # Open before it matches: reports close it again by its leaves.
        self._open(order, command)
        if not order.stop_price:
            self._match(listing, order, command, command.venue_seq, exch_ns, out)
            return
        matcher.stops[order_id] = order
        if matcher.has_reached(order):
            self._trigger(listing, order, out)

    def _open(self, order: Order, command: SendNew) -> None:
        self.open[order.order_id] = order
        self.commands[order.order_id] = command
        if command.expire_at_ns:
            due = self._due
            if len(due) > 2 * len(self.open) + DUE_SPARE:  # of orders that ended before their instant
                due[:] = sorted(entry for entry in due if entry[2] in self.open)
            heappush(due, (command.expire_at_ns, order.number, order.order_id))

    def _match(
        self, listing: Listing, order: Order, command: SendNew, venue_seq: int, exch_ns: int, out: list[Report]
    ) -> None:
        """Let an order meet the book, then rest or end."""
        is_market = command.order_type is MARKET or command.order_type is STOP
        rests = not is_market and command.time_in_force is not IOC and command.time_in_force is not FOK
        is_short = command.time_in_force is FOK and not is_market and listing.matcher.reachable(order) < order.leaves
        fills = [] if is_short else listing.matcher.submit(order, is_market=is_market, rests=rests)
        if fills:
            self._report_fills(listing, fills, venue_seq, exch_ns, out)
        if not rests and order.leaves:
            self._report_canceled(listing, order, venue_seq, OK, out)

    def _trigger(self, listing: Listing, order: Order, out: list[Report]) -> None:
        """A trade has reached the stop price: from here on it is an order as any other."""
        listing.matcher.cancel(order)
        order.stop_price = 0
        command = self.commands[order.order_id]
        exch_ns = listing.matcher.exch_ns or self.now_ns
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, ExecType.TRIGGERED, order.order_id, f"S-{order.number}", 0, NEW,
                order.leaves * listing.quantity_step_e9, 0, exch_ns, details=self._details(order.order_id),
            )
        )  # fmt: skip
        self._match(listing, order, command, 0, exch_ns, out)

    def _order(self, listing: Listing, command: SendNew, number: int) -> Order:
        return Order(
            command.order_id,
            number,
            command.instrument,
            command.side,
            command.price_e9 // listing.price_step_e9,
            command.quantity_e9 // listing.quantity_step_e9,
            command.stop_price_e9 // listing.price_step_e9,
        )

    def _cancel(self, command: SendCancel, out: list[Report]) -> None:
        order = self.open.get(command.order_id)
        if order is not None:
            listing = self.listings[order.symbol]
            listing.matcher.cancel(order)
            self._report_canceled(listing, order, command.venue_seq, OK, out)
            return
        self._answer(ExecType.CANCEL_REJECT, command.order_id, command.venue_seq, Code.TOO_LATE, out)

    def _replace(self, command: SendReplace, out: list[Report]) -> None:
        order = self.open.get(command.order_id)
        if order is None:
            self._refuse_replace(command, Code.TOO_LATE, out)
            return
        listing = self.listings[order.symbol]
        code = listing.replace_refusal(order, command)
        quantity = command.quantity_e9 // listing.quantity_step_e9
        price = command.price_e9 // listing.price_step_e9
        stop_price = command.stop_price_e9 // listing.price_step_e9
        was_waiting = order.stop_price > 0
        keeps_place = was_waiting or (price == order.price and quantity <= order.quantity)
        if code is OK and self.is_killed and not keeps_place:
            code = Code.STATE_HALTED
        if code is not OK:
            self._refuse_replace(command, code, out)
            return
        filled = order.quantity - order.leaves
        if quantity == filled:
            listing.matcher.cancel(order)
            self._report_canceled(listing, order, command.venue_seq, OK, out)
            return
        if not keeps_place:
            listing.matcher.cancel(order)
        self._set_terms(order, command.quantity_e9, command.price_e9, command.stop_price_e9)
        if was_waiting:
            order.stop_price = stop_price
        exch_ns = listing.matcher.exch_ns or self.now_ns
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, ExecType.REPLACED, order.order_id, f"S-{order.number}", command.venue_seq,
                PARTIALLY_FILLED if filled else NEW, order.leaves * listing.quantity_step_e9,
                filled * listing.quantity_step_e9, exch_ns, details=self._details(order.order_id),
            )
        )  # fmt: skip
        if not keeps_place:
            fills = listing.matcher.submit(order, is_market=False, rests=True)
            if fills:
                self._report_fills(listing, fills, command.venue_seq, exch_ns, out)
        elif was_waiting and listing.matcher.has_reached(order):
            self._trigger(listing, order, out)

    def _set_terms(self, order: Order, quantity_e9: int, price_e9: int, stop_price_e9: int) -> None:
        """Give an order other terms; the caller sees to its place in the book."""
        listing = self.listings[order.symbol]
        quantity = quantity_e9 // listing.quantity_step_e9
        order.leaves += quantity - order.quantity
        order.quantity = quantity
        order.set_price(price_e9 // listing.price_step_e9)
        command = self.commands[order.order_id]
        self.commands[order.order_id] = replace(
            command, quantity_e9=quantity_e9, price_e9=price_e9, stop_price_e9=stop_price_e9
        )

    def _refuse_replace(self, command: SendReplace, code: Code, out: list[Report]) -> None:
        self._answer(ExecType.REPLACE_REJECT, command.order_id, command.venue_seq, code, out)

    def _query(self, command: Query, out: list[Report]) -> None:
        if command.order_id in self.open or command.order_id in self.closed:
            self._status(command.order_id, command.venue_seq, out)
            return
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, ExecType.NOT_FOUND, command.order_id, "", command.venue_seq, OrderStatus.NONE, 0, 0,
                self.now_ns,
            )
        )  # fmt: skip

    # Recovery

    def open_orders(self) -> list[OpenOrder]:
        """Return the open orders, oldest first, for a checkpoint."""
        return [
            OpenOrder(
                o.number,
                o.leaves * self.listings[o.symbol].quantity_step_e9,
                self.commands[o.order_id],
                self.commands[o.order_id].stop_price_e9 > 0 and not o.stop_price,
            )
            for o in self.oldest_first()
        ]

    def restore_open(self, kept: OpenOrder) -> None:
        """Let an order from a checkpoint rest, or wait for its stop price, again; its place in the queue is unknown."""
        listing = self.listings[kept.command.instrument]
        order = self._order(listing, kept.command, kept.number)
        order.leaves = kept.leaves_quantity_e9 // listing.quantity_step_e9
        if kept.is_triggered:
            order.stop_price = 0
        self.order_count = max(self.order_count, kept.number)
        self._open(order, kept.command)
        listing.matcher.wait(order)

    def restore_report(self, report: Report, commands: dict[str, SendNew]) -> None:
        """Repeat what a logged report says happened; ``commands`` holds the new orders of the same log frame."""
        self.report_seq = report.report_seq
        order_id, exec_type = report.order_id, report.exec_type
        if exec_type is EXEC_NEW:
            number = int(report.venue_order_id.removeprefix("S-"))
            self.restore_open(OpenOrder(number, report.leaves_quantity_e9, commands[order_id]))
        elif exec_type is EXEC_REJECTED:
            self._remember(order_id, Closed(0, REJECTED, 0))
        elif exec_type is ExecType.REPLACED:
            self._restore_replaced(report)
        elif exec_type is ExecType.TRADE_CANCEL or exec_type is ExecType.TRADE_CORRECT:
            self.restore_amended(report)
        elif exec_type is ExecType.TRIGGERED:
            order = self.open[order_id]
            matcher = self.listings[order.symbol].matcher
            matcher.cancel(order)
            order.stop_price = 0
            matcher.wait(order)
        elif exec_type is EXEC_TRADE or exec_type is EXEC_CANCELED or exec_type is EXEC_EXPIRED:
            if report.trade_id:
                self.trade_count = int(report.trade_id.removeprefix("S-T"))
                filled = self.open[order_id]
                quantity = report.last_quantity_e9 // self.listings[filled.symbol].quantity_step_e9
                self._book(filled, report.trade_id, quantity, report.last_price_e9)
            self._restore_change(report)

    def _restore_replaced(self, report: Report) -> None:
        order = self.open[report.order_id]
        details = report.details
        assert details is not None
        matcher = self.listings[order.symbol].matcher
        was_waiting = order.stop_price > 0
        matcher.cancel(order)
        self._set_terms(order, details.quantity_e9, details.price_e9, details.stop_price_e9)
        if was_waiting:
            order.stop_price = details.stop_price_e9 // self.listings[order.symbol].price_step_e9
        matcher.wait(order)

    def _restore_change(self, report: Report) -> None:
        order = self.open[report.order_id]
        listing = self.listings[order.symbol]
        order.leaves = report.leaves_quantity_e9 // listing.quantity_step_e9
        if order.leaves == 0:
            listing.matcher.cancel(order)
            self._close(order, report.status, report.cum_quantity_e9)


def _venue_order_id(number: int) -> str:
    return f"S-{number}" if number else ""
