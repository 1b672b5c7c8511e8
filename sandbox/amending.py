"""Trades taken back and corrected by the simulated venue: what an exchange's desk does after an erroneous trade.

Rules: a trade of this session, of an order that is remembered, and the whole of it. An order that rests gets the
quantity back and waits at the end of its queue; one that is over stays over, FILLED becomes CANCELED. A correction has
an id of its own, from the numbers of trades.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from protocol.codes import ExecType, OrderStatus, Side
from protocol.statement import StatedFill
from protocol.venue import Details, Report
from sandbox.book import Order
from sandbox.listing import Closed
from sandbox.register import Register

FILLED: Final = OrderStatus.FILLED
CANCELED: Final = OrderStatus.CANCELED
PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
NEW: Final = OrderStatus.NEW


class Amending(Register):
    """A register whose trades can be taken back (quantity 0) or corrected."""

    def amend_trade(self, trade_id: str, quantity_e9: int, price_e9: int, out: list[Report]) -> str:
        """Take a trade back, or correct it to another quantity and price; its report is appended to ``out``.

        Returns:
            Why it can't be done; empty if it was.
        """
        fill = self._find_fill(trade_id)
        if fill is None:
            return f"trade {trade_id} expected one of this session, was none"
        listing = self.listings[fill.instrument]
        step = listing.quantity_step_e9
        if quantity_e9 and (quantity_e9 < 0 or quantity_e9 % step or price_e9 < listing.price_step_e9):
            return (
                f"correction expected a quantity in steps of {step} e9 and a price, was {quantity_e9} at {price_e9} e9"
            )
        order = self.open.get(fill.order_id)
        change = (quantity_e9 - fill.quantity_e9) // step
        if change > (0 if order is None else order.leaves):
            return f"correction of {trade_id} expected at most what the order has open, was {change} steps more"
        if order is None:
            closed = self.closed.get(fill.order_id)
            if closed is None:
                return f"order {fill.order_id} of trade {trade_id} expected one that is remembered, was over too long"
            number, status, leaves_e9, cum_e9 = _closed_after(closed, quantity_e9 - fill.quantity_e9)
        else:
            number, leaves_e9 = order.number, (order.leaves - change) * step
            cum_e9 = order.quantity * step - leaves_e9
            status = FILLED if not leaves_e9 else PARTIALLY_FILLED if cum_e9 else NEW
        correction_id = ""
        if quantity_e9:
            self.trade_count += 1
            correction_id = f"S-T{self.trade_count}"
        self.report_seq += 1
        report = Report(
            self.report_seq, ExecType.TRADE_CORRECT if quantity_e9 else ExecType.TRADE_CANCEL, fill.order_id,
            f"S-{number}" if number else "", 0, status, leaves_e9, cum_e9, listing.matcher.exch_ns or self.now_ns,
            correction_id, quantity_e9 or fill.quantity_e9, price_e9 if quantity_e9 else fill.price_e9,
            details=Details(
                original_trade_id=trade_id, account=fill.account, instrument=fill.instrument, side=fill.side
            ),
        )  # fmt: skip
        self._apply_amended(report, fill)
        out.append(report)
        return ""

    def restore_amended(self, report: Report) -> None:
        """Repeat what a logged report of a trade that was taken back or corrected says."""
        details = report.details
        assert details is not None
        if report.trade_id:
            self.trade_count = int(report.trade_id.removeprefix("S-T"))
        fill = self._find_fill(details.original_trade_id)
        assert fill is not None, f"{report} changes a trade that the log does not have"
        self._apply_amended(report, fill)

    def _find_fill(self, trade_id: str) -> StatedFill | None:
        return next((fill for fill in reversed(self.fills) if fill.trade_id == trade_id), None)

    def _apply_amended(self, report: Report, fill: StatedFill) -> None:
        """Change what is stated, the position, and the order."""
        to_e9 = report.last_quantity_e9 if report.exec_type is ExecType.TRADE_CORRECT else 0
        at = self.fills.index(fill)
        if to_e9:
            self.fills[at] = replace(fill, quantity_e9=to_e9, price_e9=report.last_price_e9)
        else:
            del self.fills[at]
        listing = self.listings[fill.instrument]
        change = (to_e9 - fill.quantity_e9) // listing.quantity_step_e9
        if self.positions is not None:
            key = fill.account, fill.instrument
            self.positions[key] = self.positions.get(key, 0) + (change if fill.side is Side.BUY else -change)
        order = self.open.get(fill.order_id)
        if order is not None:
            if change:
                self._requeue(order, report)
        elif fill.order_id in self.closed:
            number = self.closed[fill.order_id].number
            self.closed[fill.order_id] = Closed(number, report.status, report.cum_quantity_e9)

    def _requeue(self, order: Order, report: Report) -> None:
        listing = self.listings[order.symbol]
        listing.matcher.cancel(order)
        order.leaves = report.leaves_quantity_e9 // listing.quantity_step_e9
        if order.leaves:
            listing.matcher.wait(order)
        else:
            self._close(order, FILLED, report.cum_quantity_e9)


def _closed_after(closed: Closed, change_e9: int) -> tuple[int, OrderStatus, int, int]:
    """Return number, state, leaves and cum of an order that is over, after less of it traded."""
    status = CANCELED if closed.status is FILLED and change_e9 else closed.status
    return closed.number, status, 0, max(0, closed.cum_quantity_e9 + change_e9)
