"""What is decided about other terms of an order: the parts of the journal's replace records."""

from __future__ import annotations

from msgspec import Struct

from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.session import Facts


class ReplaceDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a ReplaceOrder. Terms are those asked for, "as it is" filled in.

    ``order_client_order_id`` is the id under which the order came first. ``cancels``: the new total is what has
    filled, so the rest is cancelled instead. ``venue_seq`` 0: nothing goes to the venue.
    """

    kind: OutcomeKind
    code: Code
    order_client_order_id: str = ""
    order_id: str = ""
    venue_seq: int = 0
    status: OrderStatus = OrderStatus.NONE
    quantity_e9: int = 0
    price_e9: int = 0
    stop_price_e9: int = 0
    leaves_quantity_e9: int = 0
    cum_quantity_e9: int = 0
    cancels: bool = False
    checks_passed: int = 0
    position_after_e9: int = 0
    position_limit_e9: int = -1
    takes_key: bool = True
    facts: Facts | None = None


class ReplaceUnsent(Struct, array_like=True, tag=21, frozen=True, gc=False):
    """A late replace failed the send gate (DESIGN 6.8): its number is VOID, the order as before."""

    venue: str
    venue_seq: int
    account: str
    client_order_id: str
    order_id: str
    code: Code
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
