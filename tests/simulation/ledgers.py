"""Positions and pending orders as RISK.md A1 defines them, kept from the journal's records alone.

Refuses an EXIT that is none, and an order that could lead past the position limit.
"""

from __future__ import annotations

from collections import defaultdict

from protocol.codes import TERMINAL, Side
from protocol.orders import NewOrder
from protocol.records import Adjusted, EngineCancel, OrderClass, Reported
from protocol.venue import report_decoder

Key = tuple[str, str]


class Ledgers:
    """P and the leaves of every order that could still trade, by (account, instrument)."""

    def __init__(self, position_max_e9: int) -> None:
        self.position_max_e9 = position_max_e9
        self.positions: dict[Key, int] = defaultdict(int)
        self.orders: dict[str, tuple[Key, Side]] = {}
        self.leaves: dict[str, int] = {}
        self._trades: set[str] = set()

    def accept(self, order_id: str, order: NewOrder, order_class: OrderClass) -> None:
        """Take an accepted order; say so if it should not have been."""
        key = (order.account, order.instrument)
        sign = 1 if order.side is Side.BUY else -1
        pending = sum(self.leaves[o] for o, (k, s) in self.orders.items() if (k, s) == (key, order.side))
        position = self.positions[key] * sign
        reach = position + pending + order.quantity_e9
        if order_class is OrderClass.EXIT:
            assert position < 0, f"{order_id} is no exit: nothing to exit from"
            assert reach <= 0, f"{order_id} is no exit: with all pending it reaches {reach}"
        else:
            assert reach <= self.position_max_e9, f"{order_id} reaches {reach}, the limit is {self.position_max_e9}"
            assert not order.reduce_only, f"{order_id} promised to reduce only"
        self.orders[order_id] = (key, order.side)
        self.leaves[order_id] = order.quantity_e9

    def report(self, record: Reported) -> None:
        """Take what the venue said."""
        report = report_decoder.decode(record.report)
        if report.order_id not in self.orders:
            return
        key, side = self.orders[report.order_id]
        if report.last_quantity_e9 and report.trade_id not in self._trades:
            self._trades.add(report.trade_id)
            self.positions[key] += report.last_quantity_e9 * (1 if side is Side.BUY else -1)
            self.leaves[report.order_id] = max(0, self.leaves[report.order_id] - report.last_quantity_e9)
        if record.decision.status in TERMINAL:
            self.leaves[report.order_id] = 0

    def cancel_unsent(self, cancel: EngineCancel) -> None:
        """Take an order that never went out."""
        self.leaves[cancel.order_id] = 0

    def adjust(self, record: Adjusted) -> None:
        """Take account truth from outside."""
        if record.instrument:
            self.positions[record.account, record.instrument] = record.quantity_e9
