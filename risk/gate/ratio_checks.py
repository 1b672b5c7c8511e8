"""The checks of messages a trade (RISK.md A2, RATIO_OTR), and what counts a new order. What they read: ``ratio``."""

from __future__ import annotations

from typing import Final

from protocol.codes import Code
from risk.gate.exposure import Route
from risk.gate.view import View

OK: Final = Code.OK


def check_ratio(v: View) -> Code:
    """RATIO_OTR: messages a trade of today. At 40: 500 for 13 A, 530 for 13 R. Exits pass, and are counted."""
    return Code.RATIO_OTR if v.route.more.ratio is not None and not v.is_exit and is_over_hard(v) else OK


def check_soft_ratio(v: View) -> Code:
    """RATIO_OTR, soft: above it the risk service judges, where the code is routed there. Exits pass."""
    return Code.RATIO_OTR if v.route.more.ratio is not None and not v.is_exit and is_over_soft(v) else OK


def is_over_hard(v: View) -> bool:
    """Whether any scope of the route has more messages a trade than its limit."""
    ratio = v.route.more.ratio
    return ratio is not None and ratio.hard() is not None


def is_over_soft(v: View) -> bool:
    """Whether any scope of the route has more messages a trade than its soft limit."""
    ratio = v.route.more.ratio
    return ratio is not None and ratio.soft() is not None


def count_message(route: Route, price: int) -> None:
    """Count a message about an order that is open already; the price in steps, 0 = MARKET."""
    ratio = route.more.ratio
    if ratio is not None:
        ratio.take(price)


def count_new(v: View) -> None:
    """Count an order that was accepted; its reference is the newest price."""
    ratio = v.route.more.ratio
    if ratio is None:
        return
    if v.reference is not None:
        ratio.see(v.reference.price_e9 // v.route.instrument.price_step_e9)
    ratio.take(v.price if v.price_e9 > 0 else 0)


RATIO_CHECKS: Final = (check_ratio, check_soft_ratio)
