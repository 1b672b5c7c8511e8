"""Positions that shrink outside their exits: which exits are then of more than is left.

An order is an exit when it was taken as one: with all that is pending on its side it could not carry the position past
zero (RISK.md A1). Its own fills and those of other exits keep that so. What shrinks the position outside of them does
not: a trade taken back or corrected, an adjustment, a fill that an operator states, enters or assigns, one of more than
was ordered, one reported after the venue said that its order is over. Then as many exits are stale, newest first, as
exceed what is left: all of them, where the position is gone or has turned.

Called by ``apply`` of the record that moved the position, so a crash forgets none; what follows is decided in
``engine.stale_exits``. Rules: what waits in the engine is never stale, for it takes no more than what is left when it
goes out; an order that was taken though it could flip the position is no exit, and its fills are within the limits.
"""

from __future__ import annotations

from typing import Final

from engine.order import Order
from engine.state import State
from protocol.codes import OrderStatus, Side
from protocol.venue import Report
from risk.gate.exposure import Ledger

BUY: Final = Side.BUY
SELL: Final = Side.SELL
SUSPENDED: Final = OrderStatus.SUSPENDED


def note_drift(state: State, ledger: Ledger, moving: int = 0) -> None:
    """Write which open exits of a position are stale, after it moved outside them.

    Args:
        state: Where it is written; all open orders are looked at if more is pending than what is left, else none.
        ledger: The account's own of the instrument.
        moving: How much the position is about to move yet, signed, in steps.
    """
    position = ledger.position + moving
    if ledger.sell > max(0, position):
        _note(state, ledger, SELL, max(0, position))
    if ledger.buy > max(0, -position):
        _note(state, ledger, BUY, max(0, -position))


def find_late(state: State, report: Report) -> Order:
    """Return the order of a report, which is over; a fill of it was pending no more: noted before it counts."""
    order = state.closed[report.order_id]
    filled = report.last_quantity_e9 // order.route.instrument.quantity_step_e9
    if filled:
        note_drift(state, order.route.ledger, filled if order.side is BUY else -filled)
    return order


def _note(state: State, ledger: Ledger, side: Side, left: int) -> None:
    exits: list[Order] = []
    excess = -left
    for order in state.orders.values():
        if order.is_exit and order.side is side and order.route.ledger is ledger and order.status is not SUSPENDED:
            exits.append(order)
            excess += order.leaves
    while excess > 0:
        newest = exits.pop()
        excess -= newest.leaves
        if newest.order_id not in state.stale:
            state.stale[newest.order_id] = None
            state.stale_count += 1
