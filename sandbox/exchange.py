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
DAY orders work until the owner says that the session ends (``expire_day``).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from protocol.codes import Code, ExecType, Liquidity, OrderStatus, OrderType, Side, TimeInForce
from protocol.params import InstrumentParams
from protocol.statement import FILLS_STATED_MAX, StatedFill, StatedOrder, StatedPosition
from protocol.ticks import Tick
from protocol.venue import Details, Query, Report, SendCancel, SendNew, SendReplace, VenueCommand, Void
from sandbox.book import Order
from sandbox.listing import NEVER, Closed, Listing, OpenOrder
from sandbox.matching import Fill

CLOSED_MAX: Final = 100_000

LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
IOC: Final = TimeInForce.IOC
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


class Exchange:
    """Many instruments, one numbering of orders, trades and reports.

    Attributes:
        report_seq: Number of the last report made.
        is_killed: While set, new orders are rejected with STATE_HALTED.
        now_ns: The venue's clock for an instrument that has had no tick; set by the owner, UTC nanoseconds.
    """

    def __init__(
        self, instruments: Iterable[InstrumentParams], *, closed_max: int = CLOSED_MAX, replenishes: bool = False
    ) -> None:
        self.listings = {p.instrument: Listing(p, replenishes=replenishes) for p in instruments}
        self.open: dict[str, Order] = {}
        self.commands: dict[str, SendNew] = {}
        self.closed: OrderedDict[str, Closed] = OrderedDict()
        self.closed_max = closed_max
        self.fills: deque[StatedFill] = deque(maxlen=FILLS_STATED_MAX)  # of this session
        # Net of all trades by (account, instrument), steps; None: from a log that did not keep them.
        self.positions: dict[tuple[str, str], int] | None = {}
        self.order_count = 0
        self.trade_count = 0
        self.report_seq = 0
        self.is_killed = False
        self.now_ns = 0

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
            self._report_expired(listing, order, out)

    def oldest_first(self) -> list[Order]:
        """Return the open orders in the order they arrived."""
        return sorted(self.open.values(), key=_number)

    def _new(self, command: SendNew, out: list[Report]) -> None:
        order_id = command.order_id
        if order_id in self.open or order_id in self.closed:
            self._status(order_id, command.venue_seq, out)
            return
        listing = self.listings.get(command.instrument)
        if listing is None:
            self._reject(command, Code.INSTR_UNKNOWN, out)
            return
        code = Code.STATE_HALTED if self.is_killed else listing.refusal(command)
        if code is not OK:
            self._reject(command, code, out)
            return
        matcher = listing.matcher
        exch_ns = matcher.exch_ns or self.now_ns
        order = self._order(listing, command)
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
        is_market = command.order_type is MARKET
        rests = not is_market and command.time_in_force is not IOC
        # Open before it matches: reports close it again by its leaves.
        self.open[order_id] = order
        self.commands[order_id] = command
        fills = matcher.submit(order, is_market=is_market, rests=rests)
        if fills:
            self._report_fills(listing, fills, command.venue_seq, exch_ns, out)
        if not rests and order.leaves:
            self._report_canceled(listing, order, command.venue_seq, OK, out)

    def _order(self, listing: Listing, command: SendNew) -> Order:
        self.order_count += 1
        return Order(
            command.order_id,
            self.order_count,
            command.instrument,
            command.side,
            command.price_e9 // listing.price_step_e9,
            command.quantity_e9 // listing.quantity_step_e9,
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
        keeps_place = price == order.price and quantity <= order.quantity
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
        self._set_terms(order, command.quantity_e9, command.price_e9)
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

    def _set_terms(self, order: Order, quantity_e9: int, price_e9: int) -> None:
        """Give an order other terms; the caller sees to its place in the book."""
        listing = self.listings[order.symbol]
        quantity = quantity_e9 // listing.quantity_step_e9
        order.leaves += quantity - order.quantity
        order.quantity = quantity
        order.set_price(price_e9 // listing.price_step_e9)
        command = self.commands[order.order_id]
        self.commands[order.order_id] = replace(command, quantity_e9=quantity_e9, price_e9=price_e9)

    def _details(self, order_id: str) -> Details:
        command = self.commands[order_id]
        return Details(command.quantity_e9, command.price_e9)

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

    # Reports

    def _status(self, order_id: str, venue_seq: int, out: list[Report]) -> None:
        self._answer(ExecType.ORDER_STATUS, order_id, venue_seq, OK, out)

    def _answer(self, exec_type: ExecType, order_id: str, venue_seq: int, code: Code, out: list[Report]) -> None:
        """Say what an order is, and the terms on which it works; one that was never seen is nothing."""
        order = self.open.get(order_id)
        if order is None:
            closed = self.closed.get(order_id, NEVER)
            number, status, leaves, cum = closed.number, closed.status, 0, closed.cum_quantity_e9
        else:
            step = self.listings[order.symbol].quantity_step_e9
            number, leaves, cum = order.number, order.leaves * step, (order.quantity - order.leaves) * step
            status = PARTIALLY_FILLED if cum else NEW
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, exec_type, order_id, _venue_order_id(number), venue_seq, status, leaves, cum,
                self.now_ns, code=code, details=None if order is None else self._details(order_id),
            )
        )  # fmt: skip

    def _report_fills(
        self, listing: Listing, fills: list[Fill], venue_seq: int, exch_ns: int, out: list[Report]
    ) -> None:
        quantity_step, price_step, fees = listing.quantity_step_e9, listing.price_step_e9, listing.fees
        for fill in fills:
            order = fill.order
            leaves = fill.leaves
            cum_e9 = (order.quantity - leaves) * quantity_step
            self.report_seq += 1
            self.trade_count += 1
            status = PARTIALLY_FILLED if leaves else FILLED
            self._book(order, f"S-T{self.trade_count}", fill.quantity, fill.price * price_step)
            out.append(
                Report(
                    self.report_seq, EXEC_TRADE, order.order_id, f"S-{order.number}", venue_seq, status,
                    leaves * quantity_step, cum_e9, exch_ns, f"S-T{self.trade_count}", fill.quantity * quantity_step,
                    fill.price * price_step, fill.liquidity,
                    fees.fee_e9(fill.price, fill.quantity, fill.liquidity), fees.currency,
                )
            )  # fmt: skip
            if leaves == 0:
                self._close(order, FILLED, cum_e9)

    def _book(self, order: Order, trade_id: str, quantity: int, price_e9: int) -> None:
        """Keep a fill for statements, and what it did to the position."""
        account, instrument = self.commands[order.order_id].account, order.symbol
        step = self.listings[instrument].quantity_step_e9
        self.fills.append(
            StatedFill(trade_id, order.order_id, account, instrument, order.side, quantity * step, price_e9)
        )
        if self.positions is not None:
            key = account, instrument
            self.positions[key] = self.positions.get(key, 0) + (quantity if order.side is Side.BUY else -quantity)

    def _report_canceled(self, listing: Listing, order: Order, venue_seq: int, code: Code, out: list[Report]) -> None:
        cum_e9 = (order.quantity - order.leaves) * listing.quantity_step_e9
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, EXEC_CANCELED, order.order_id, f"S-{order.number}", venue_seq, CANCELED, 0, cum_e9,
                listing.matcher.exch_ns or self.now_ns, code=code,
            )
        )  # fmt: skip
        self._close(order, CANCELED, cum_e9)

    def _report_expired(self, listing: Listing, order: Order, out: list[Report]) -> None:
        cum_e9 = (order.quantity - order.leaves) * listing.quantity_step_e9
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, EXEC_EXPIRED, order.order_id, f"S-{order.number}", 0, OrderStatus.EXPIRED, 0, cum_e9,
                listing.matcher.exch_ns or self.now_ns, code=Code.DAY_OVER,
            )
        )  # fmt: skip
        self._close(order, OrderStatus.EXPIRED, cum_e9)

    def _reject(self, command: SendNew, code: Code, out: list[Report]) -> None:
        listing = self.listings.get(command.instrument)
        exch_ns = (listing.matcher.exch_ns if listing else 0) or self.now_ns
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, EXEC_REJECTED, command.order_id, "", command.venue_seq, REJECTED, 0, 0, exch_ns,
                code=code,
            )
        )  # fmt: skip
        self._remember(command.order_id, Closed(0, REJECTED, 0))

    def _close(self, order: Order, status: OrderStatus, cum_quantity_e9: int) -> None:
        del self.open[order.order_id]
        del self.commands[order.order_id]
        self._remember(order.order_id, Closed(order.number, status, cum_quantity_e9))

    def _remember(self, order_id: str, closed: Closed) -> None:
        self.closed[order_id] = closed
        if len(self.closed) > self.closed_max:
            # The oldest. A plain dict would walk over the holes that its first entries left, longer each time.
            self.closed.popitem(last=False)

    # Statements

    def stated_orders(self) -> list[StatedOrder]:
        """Return what works, oldest first."""
        stated = []
        for o in self.oldest_first():
            step = self.listings[o.symbol].quantity_step_e9
            account = self.commands[o.order_id].account
            stated.append(StatedOrder(o.order_id, account, o.symbol, o.leaves * step, (o.quantity - o.leaves) * step))
        return stated

    def stated_positions(self) -> list[StatedPosition] | None:
        """Return the net of all trades, None if a part of them is not known."""
        if self.positions is None:
            return None
        return [
            StatedPosition(account, instrument, quantity * self.listings[instrument].quantity_step_e9)
            for (account, instrument), quantity in self.positions.items()
            if quantity
        ]

    # Recovery

    def open_orders(self) -> list[OpenOrder]:
        """Return the open orders, oldest first, for a checkpoint."""
        return [
            OpenOrder(o.number, o.leaves * self.listings[o.symbol].quantity_step_e9, self.commands[o.order_id])
            for o in self.oldest_first()
        ]

    def restore_open(self, kept: OpenOrder) -> None:
        """Let an order from a checkpoint rest again, its place in the queue unknown."""
        listing = self.listings[kept.command.instrument]
        order = Order(
            kept.command.order_id, kept.number, kept.command.instrument, kept.command.side,
            kept.command.price_e9 // listing.price_step_e9, kept.command.quantity_e9 // listing.quantity_step_e9,
        )  # fmt: skip
        order.leaves = kept.leaves_quantity_e9 // listing.quantity_step_e9
        self.order_count = max(self.order_count, kept.number)
        self.open[order.order_id] = order
        self.commands[order.order_id] = kept.command
        listing.matcher.rest_unknown(order)

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
        matcher.cancel(order)
        self._set_terms(order, details.quantity_e9, details.price_e9)
        matcher.rest_unknown(order)

    def _restore_change(self, report: Report) -> None:
        order = self.open[report.order_id]
        listing = self.listings[order.symbol]
        order.leaves = report.leaves_quantity_e9 // listing.quantity_step_e9
        if order.leaves == 0:
            listing.matcher.cancel(order)
            self._close(order, report.status, report.cum_quantity_e9)


def _number(order: Order) -> int:
    return order.number


def _venue_order_id(number: int) -> str:
    return f"S-{number}" if number else ""
