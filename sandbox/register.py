"""What the simulated venue keeps of its orders, and what it says of them: its reports, numbered."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from protocol.codes import Code, ExecType, OrderStatus, Side
from protocol.params import InstrumentParams
from protocol.statement import FILLS_STATED_MAX, StatedFill, StatedOrder, StatedPosition
from protocol.venue import Details, Report, SendNew
from sandbox.book import Order
from sandbox.listing import NEVER, Closed, Listing
from sandbox.matching import Fill

CLOSED_MAX: Final = 100_000
OK: Final = Code.OK
EXEC_TRADE: Final = ExecType.TRADE
EXEC_CANCELED: Final = ExecType.CANCELED
EXEC_EXPIRED: Final = ExecType.EXPIRED
EXEC_REJECTED: Final = ExecType.REJECTED
NEW: Final = OrderStatus.NEW
PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
FILLED: Final = OrderStatus.FILLED
CANCELED: Final = OrderStatus.CANCELED
REJECTED: Final = OrderStatus.REJECTED


class Register:
    """Open orders, the final states of the last ``closed_max``, and one numbering of orders, trades and reports."""

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
        self._due: list[tuple[int, int, str]] = []  # a heap of (expire_at_ns, number, order id), ended ones too

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

    def _report_expired(self, listing: Listing, order: Order, code: Code, out: list[Report]) -> None:
        cum_e9 = (order.quantity - order.leaves) * listing.quantity_step_e9
        self.report_seq += 1
        out.append(
            Report(
                self.report_seq, EXEC_EXPIRED, order.order_id, f"S-{order.number}", 0, OrderStatus.EXPIRED, 0, cum_e9,
                listing.matcher.exch_ns or self.now_ns, code=code,
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

    def oldest_first(self) -> list[Order]:
        """Return the open orders in the order they arrived."""
        return sorted(self.open.values(), key=_number)

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

    def _details(self, order_id: str) -> Details:
        command = self.commands[order_id]
        return Details(command.quantity_e9, command.price_e9, command.stop_price_e9)


def _venue_order_id(number: int) -> str:
    return f"S-{number}" if number else ""


def _number(order: Order) -> int:
    return order.number
