"""What a trade that was taken back or corrected does to the rows of its order, its position and itself.

An average price by average cost depends on every fill since the position began, so a position whose trade changed is
made again from all its trades since its quantity was last set from outside (``anchor_seq``). For a trade from before
that moment the cost at which it was taken is not known any more: what it moves is booked as a fill at its price.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from journal.rows import OrderRow, PositionRow, TradeRow
from protocol.amend_events import AmendEvent, SuspenseEvent
from protocol.codes import TERMINAL, OrderStatus, Side, TradeStatus

COUNTED = frozenset({TradeStatus.BOOKED, TradeStatus.CORRECTED})


def amended_trade(row: TradeRow, event: AmendEvent) -> TradeRow:
    """Return the trade as it is now; one that was taken back keeps the terms it had, and counts no more."""
    is_busted = event.last_quantity_e9 == 0
    changed = structs.replace(
        row, status=TradeStatus.BUSTED if is_busted else TradeStatus.CORRECTED, changed_seq=event.seq,
        changed_at_ns=event.at_ns,
    )  # fmt: skip
    if is_busted:
        return changed
    changed = structs.replace(changed, last_quantity_e9=event.last_quantity_e9, last_price_e9=event.last_price_e9)
    if event.currency:
        changed = structs.replace(changed, fee_e9=event.fee_e9, currency=event.currency)
    return changed


def amend_order(row: OrderRow, before: TradeRow, event: AmendEvent) -> None:
    """Let an order have what its fills are now; without the engine's word on it, what they add up to."""
    change_e9 = event.last_quantity_e9 - before.last_quantity_e9
    row.filled_e9 += change_e9
    row.cost_e18 += (
        event.last_quantity_e9 * event.last_price_e9 - before.last_quantity_e9 * before.last_price_e9
    )  # fmt: skip
    if event.knows_order:
        row.value_e9, row.cum_quantity_e9 = event.value_e9, event.cum_quantity_e9
        return
    row.value_e9 += event.value_change_e9
    row.cum_quantity_e9 += change_e9
    if row.status in TERMINAL and row.cum_quantity_e9 >= row.quantity_e9:
        row.status = OrderStatus.FILLED
    elif row.status is OrderStatus.FILLED:
        row.status = OrderStatus.CANCELED


def amend_position(row: PositionRow, before: TradeRow, event: AmendEvent, trades: Iterable[TradeRow]) -> None:
    """Let a position have what its trades are now.

    Args:
        row: The position.
        before: The trade as it was.
        event: What became of it.
        trades: All of the position that came after ``row.anchor_seq``, in order, the changed one in its new form.
    """
    if before.seq <= row.anchor_seq:
        sign = 1 if event.side is Side.BUY else -1
        without_e9 = event.position_e9 - sign * event.last_quantity_e9
        row.fill(-sign * before.last_quantity_e9, before.last_price_e9, without_e9)
        if event.last_quantity_e9:
            row.fill(sign * event.last_quantity_e9, event.last_price_e9, event.position_e9)
        return
    again = structs.replace(row, quantity_e9=row.anchor_quantity_e9, cost_e18=row.anchor_cost_e18)
    for trade in trades:
        if trade.status in COUNTED:
            signed_e9 = trade.last_quantity_e9 if trade.side == Side.BUY else -trade.last_quantity_e9
            again.fill(signed_e9, trade.last_price_e9, again.quantity_e9 + signed_e9)
    row.quantity_e9, row.cost_e18 = again.quantity_e9, again.cost_e18
    row.fill(0, 0, event.position_e9)  # the engine's is the truth


def trade_in_suspense(event: SuspenseEvent, ledger: str, day: int, exch_ns: int) -> TradeRow:
    """Return the row of a fill that is nobody's yet."""
    return TradeRow(
        event.seq, ledger, day, event.venue, event.trade_id, event.account, "", event.order_id, event.strategy,
        event.instrument, event.side, event.last_quantity_e9, event.last_price_e9, event.liquidity, event.fee_e9,
        event.currency, 0, event.venue_order_id, b"", exch_ns, event.at_ns, event.status, event.seq, event.at_ns,
        event.last_quantity_e9, event.last_price_e9,
    )  # fmt: skip


def resolved_trade(row: TradeRow, event: SuspenseEvent) -> TradeRow:
    """Return a fill in suspense after a word on it."""
    changed = structs.replace(
        row, status=event.status, changed_seq=event.seq, changed_at_ns=event.at_ns,
        last_quantity_e9=event.last_quantity_e9, last_price_e9=event.last_price_e9,
    )  # fmt: skip
    if event.status is not TradeStatus.ASSIGNED:
        return changed
    return structs.replace(
        changed, account=event.account, strategy=event.strategy, instrument=event.instrument, side=event.side,
        position_e9=event.position_e9,
    )  # fmt: skip
