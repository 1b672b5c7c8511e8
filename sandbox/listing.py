"""One instrument of the simulated venue, and what the venue keeps of an order while it is open and after it ended."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from protocol.codes import Code, OrderStatus, OrderType, TimeInForce
from protocol.params import InstrumentParams, InstrumentStatus
from protocol.venue import SendNew, SendReplace
from sandbox.book import Order
from sandbox.matching import Matcher
from sandbox.models.fee import FeeModel

MARKET: Final = OrderType.MARKET
IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
OK: Final = Code.OK


class Closed(Struct, frozen=True, gc=False):
    """What is kept of an order that ended: enough to answer for it."""

    number: int
    status: OrderStatus
    cum_quantity_e9: int


NEVER: Final = Closed(0, OrderStatus.NONE, 0)


class OpenOrder(Struct, array_like=True, frozen=True, gc=False):
    """An open order as a checkpoint keeps it; quantities in 1e-9. ``is_triggered``: a stop order that no more waits."""

    number: int
    leaves_quantity_e9: int
    command: SendNew
    is_triggered: bool = False


class Listing:
    """One instrument of the venue: its parameters as plain integers, its matcher, its fees."""

    __slots__ = ("fees", "lot_e9", "matcher", "params", "price_step_e9", "quantity_step_e9", "tick_e9")

    def __init__(self, params: InstrumentParams, *, replenishes: bool) -> None:
        self.params = params
        self.matcher = Matcher(replenishes=replenishes)
        self.fees = FeeModel(params)
        self.price_step_e9 = params.price_step_e9
        self.quantity_step_e9 = params.quantity_step_e9
        self.tick_e9 = params.tick_e9
        self.lot_e9 = params.lot_e9

    def replace_refusal(self, order: Order, command: SendReplace) -> Code:
        """Return why the venue refuses other terms of an order that rests, or OK."""
        params = self.params
        filled_e9 = (order.quantity - order.leaves) * self.quantity_step_e9
        quantity_e9 = command.quantity_e9
        if params.status is not InstrumentStatus.OPEN:
            return Code.INSTR_NOT_TRADABLE
        if command.price_e9 % self.tick_e9 or command.stop_price_e9 % self.tick_e9:
            return Code.PRICE_TICK
        if quantity_e9 < filled_e9:
            return Code.QTY_BELOW_FILLED
        if quantity_e9 % self.lot_e9:
            return Code.QTY_LOT
        if quantity_e9 < params.quantity_min_e9:
            return Code.QTY_MIN
        return Code.QTY_MAX if quantity_e9 > params.quantity_max_e9 else OK

    def refusal(self, command: SendNew, now_ns: int) -> Code:
        """Return why the venue refuses the order before it looks at the book, or OK."""
        params = self.params
        if params.status is not InstrumentStatus.OPEN:
            return Code.INSTR_NOT_TRADABLE
        if command.price_e9 % self.tick_e9 or command.stop_price_e9 % self.tick_e9:
            return Code.PRICE_TICK
        if 0 < command.expire_at_ns <= now_ns:
            return Code.TIME_EXPIRE_PAST
        quantity_e9 = command.quantity_e9
        if quantity_e9 % self.lot_e9:
            return Code.QTY_LOT
        if quantity_e9 < params.quantity_min_e9:
            return Code.QTY_MIN
        if quantity_e9 > params.quantity_max_e9:
            return Code.QTY_MAX
        is_immediate = command.order_type is MARKET or command.time_in_force in IMMEDIATE
        if is_immediate and not self.matcher.is_live and not command.stop_price_e9:
            return Code.VENUE_BOOK_STALE
        return OK
