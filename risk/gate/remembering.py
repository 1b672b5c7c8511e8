"""What a route remembers of the orders it accepted: their terms, and that they were meant.

Apart from the checks that ask it: it runs for every accepted order of the complete gate, so it is written out.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import OrderType, Side
from risk.gate.flow import NO_INTENTS, Signature, signature
from risk.gate.view import View

BUY: Final = Side.BUY
LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
LIMIT_TERMS: Final = LIMIT * 16


def signature_of(v: View) -> Signature:
    """Return the economic terms of an order; account, strategy and instrument are the route's."""
    if v.order_type is LIMIT:  # ``signature`` written out: it runs for every order
        return (v.side * 256 + LIMIT_TERMS + v.time_in_force, v.quantity_e9, v.price_e9, 0)
    stop_price_e9 = 0 if v.order_type is MARKET else v.stop_price_e9
    return signature(v.side, v.order_type, v.time_in_force, v.quantity_e9, v.price_e9, stop_price_e9)


def remember(v: View, now_ns: int) -> None:
    """Have the route remember the order, which was accepted: its terms, and that it was meant."""
    of = v.route.more
    duplicates = of.duplicates
    if duplicates is not None:
        duplicates.take(signature_of(v), now_ns)
    intents = of.intents_buy if v.side is BUY else of.intents_sell
    if intents is not NO_INTENTS:
        intents.take(now_ns)
