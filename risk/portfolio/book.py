"""What is asked: the positions and orders of one account, and the order that waits for an answer.

These are values: the same book, snapshot and parameters give the same decision at any time. Amounts in 1e-9;
quantities in units of the contract (not lots), positions signed.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from protocol.codes import Code, Side


class OrderClass(IntEnum):
    """What an order does to the worst case (RISK.md A1)."""

    INC = 0
    NONINC = 1
    EXIT = 2


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """What the account holds of an instrument: filled only. ``strategy`` is for the tables, margin sums over it."""

    instrument: str
    quantity_e9: int
    strategy: str = ""


class OpenOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """An order that may still fill: accepted, held or in doubt.

    Attributes:
        leaves_e9: What may still fill, > 0.
        price_e9: Of the limit, the bound of a MARKET order.
        reserved_e9: Money the engine keeps for it (R_o of RISK.md B1), of the account's currency.
    """

    client_order_id: str
    instrument: str
    side: Side
    leaves_e9: int
    price_e9: int = 0
    reserved_e9: int = 0


class Book(Struct, frozen=True, forbid_unknown_fields=True):
    """One account as of record ``book_seq``; the order that is asked for is not among ``orders``.

    Attributes:
        funds_e9: What margin may use: cash, collateral after haircut and unrealised loss (RISK.md A2 stage 8, without
            the margin of the positions and without reservations).
        equity_e9: What stress limits are shares of; 0 = ``funds_e9``.
    """

    account: str
    currency: str
    funds_e9: int
    positions: tuple[Position, ...] = ()
    orders: tuple[OpenOrder, ...] = ()
    book_seq: int = 0
    equity_e9: int = 0


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """The order that is held, and what the answer may be.

    Attributes:
        codes: Checks that sent it here.
        quantity_min_e9: Least that a trim may leave; 0 = one lot.
        allow_trim: Whether less than all is an answer.
        reserved_e9: R_o, money reserved for the whole of it.
        deadline_ns: Engine time by which the answer counts; carried, not read.
        now_ns: Engine time at which it was asked: dates and ages are measured at it.
    """

    req_id: str
    client_order_id: str
    instrument: str
    side: Side
    quantity_e9: int
    price_e9: int = 0
    order_class: OrderClass = OrderClass.INC
    codes: tuple[Code, ...] = ()
    allow_trim: bool = False
    quantity_min_e9: int = 0
    reserved_e9: int = 0
    book_seq: int = 0
    deadline_ns: int = 0
    now_ns: int = 0

    @property
    def signed_e9(self) -> int:
        """The quantity, negative for a sell."""
        return self.quantity_e9 if self.side is Side.BUY else -self.quantity_e9
