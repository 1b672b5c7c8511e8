"""Trades taken back, corrected, or of nobody's order: what venues and operators say of trades afterwards.

A venue cancels (FIX ExecType H) or corrects (G) a trade it reported. A fill of an order that nobody knows is in the
suspense ledger until an operator says whose it is. Nothing here is on the path of a plain order.
"""

from __future__ import annotations

from msgspec import Raw, Struct

from protocol.codes import Side
from protocol.decisions import ReportDecision


class Amendment(Struct, array_like=True, frozen=True, gc=False):
    """What became of a trade that is booked, or that is in suspense.

    Attributes:
        trade_id: Under which the trade came first; corrections have ids of their own.
        quantity_e9: Before, as ``price_e9``.
        to_quantity_e9: After; 0 = it was taken back.
        value_e9: What the order's value changes by; in 1e-9 of the currency.
        knows_order: False: the order is no longer remembered; only the position moves, and the books' row of it.
        in_suspense: The trade was never booked; only the suspense ledger changes.
        disagrees: The venue says other leaves or another cum after it than there are here.
    """

    trade_id: str
    quantity_e9: int
    price_e9: int
    to_quantity_e9: int
    to_price_e9: int
    value_e9: int = 0
    knows_order: bool = True
    in_suspense: bool = False
    disagrees: bool = False


class TradeAmended(Struct, array_like=True, tag=45, frozen=True, gc=False):
    """A venue took a trade back or corrected it, or an operator says that it did (``report`` then has number 0).

    ``report`` is msgpack ``venue.Report``, TRADE_CANCEL or TRADE_CORRECT. ``amendment`` None: nothing was changed.
    """

    venue: str
    report: Raw
    decision: ReportDecision
    amendment: Amendment | None = None
    operator: str = ""
    reason: str = ""


class SuspendedFill(Struct, array_like=True, frozen=True, gc=False):
    """A fill of an order that nobody knows, as the venue said it; it may leave out account, instrument and side."""

    venue: str
    trade_id: str
    order_id: str
    report_seq: int
    quantity_e9: int
    price_e9: int
    exch_ns: int
    account: str = ""
    instrument: str = ""
    side: Side | None = None
    fee_e9: int = 0
    currency: str = ""


class SuspenseResolved(Struct, array_like=True, tag=46, frozen=True):
    """An operator said whose a fill in suspense is, or that it is nobody's (``account`` empty).

    ``trade_id`` empty: of those that the ledger had no room for. ``position_e9``: of (account, instrument) after it.
    """

    venue: str
    trade_id: str
    operator: str
    reason: str
    account: str = ""
    strategy: str = ""
    instrument: str = ""
    side: Side = Side.BUY
    quantity_e9: int = 0
    price_e9: int = 0
    position_e9: int = 0
