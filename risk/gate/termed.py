"""The gate of termed orders: stop orders, good till a date, post-only. Most checks are those of any order.

A stop order is judged by the price at which it is triggered (RISK.md, part A2 and its px_eff): the collar stands around
its stop price, a STOP counts at that bound, a STOP_LIMIT at its limit. Few orders are termed, so this gate is a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OrderType, Side, TimeInForce
from risk.gate.checks import CHECKS, SEND_CHECKS, check_price_positive, check_reference, check_tick, check_type
from risk.gate.further_checks import COMPLETE_CHECKS, COMPLETE_SEND_CHECKS
from risk.gate.view import View

Check = Callable[[View], Code]
OK: Final = Code.OK
BUY: Final = Side.BUY
MARKET: Final = OrderType.MARKET
LIMIT: Final = OrderType.LIMIT
STOP: Final = OrderType.STOP
STOP_LIMIT: Final = OrderType.STOP_LIMIT
GTD: Final = TimeInForce.GTD
IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)


def check_termed_type(v: View) -> Code:
    """TYPE_UNSUPPORTED: likewise for stop orders, good till a date, post-only."""
    return Code.TYPE_UNSUPPORTED if is_termed_refused(v) else OK


def check_expire(v: View) -> Code:
    """TIME_EXPIRE_PAST: good till an instant that is over. t+1 A, t R."""
    return Code.TIME_EXPIRE_PAST if v.time_in_force is GTD and v.expire_at_ns <= v.now_ns else OK


def check_termed_price(v: View) -> Code:
    """PRICE_NOT_POSITIVE: a limit or stop price of 0 or less where the type has one."""
    return (
        Code.PRICE_NOT_POSITIVE
        if (v.price_e9 <= 0 and v.order_type is not MARKET and v.order_type is not STOP)
        or (v.stop_price_e9 <= 0 and (v.order_type is STOP or v.order_type is STOP_LIMIT))
        else OK
    )


def check_termed_tick(v: View) -> Code:
    """PRICE_TICK: limit and stop price alike."""
    return (
        Code.PRICE_TICK
        if v.off_stop
        or v.stop_price % v.route.instrument.tick
        or (
            (v.off_price or v.price % v.route.instrument.tick)
            and v.order_type is not MARKET
            and v.order_type is not STOP
        )
        else OK
    )


def check_stop_side(v: View) -> Code:
    """PRICE_STOP_SIDE: a limit that its own stop price has passed. BUY stop 100: limit 105 A, 99 R."""
    return (
        Code.PRICE_STOP_SIDE
        if v.order_type is STOP_LIMIT
        and (v.stop_price_e9 > v.price_e9 if v.side is BUY else v.stop_price_e9 < v.price_e9)
        else OK
    )


def check_termed_reference(v: View) -> Code:
    """REF_STALE: as for any order; a stop order is judged by its stop price and needs no other."""
    return (
        Code.REF_STALE
        if v.reference is None and not v.stop_price_e9 and (v.order_type is MARKET or not v.is_exit)
        else OK
    )


def is_termed_refused(v: View) -> bool:
    """Whether the venue does not take a termed order; where nobody said what it takes, it is asked."""
    if v.order_type is MARKET or (v.post_only and (v.order_type is not LIMIT or v.time_in_force in IMMEDIATE)):
        return True
    able = v.route.instrument.capabilities
    return able is not None and (
        v.order_type not in able.order_types
        or v.time_in_force not in able.times_in_force
        or (v.post_only and not able.post_only)
    )


TERMED: Final[dict[Check, tuple[Check, ...]]] = {
    check_type: (check_termed_type, check_expire),
    check_price_positive: (check_termed_price,),
    check_tick: (check_termed_tick, check_stop_side),
    check_reference: (check_termed_reference,),
}
"""What stands in the place of a check for termed orders."""


def _termed(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    return tuple(termed for check in checks for termed in TERMED.get(check, (check,)))


TERMED_CHECKS: Final = _termed(CHECKS)
TERMED_SEND_CHECKS: Final = (*_termed(SEND_CHECKS), check_expire)
TERMED_COMPLETE_CHECKS: Final = _termed(COMPLETE_CHECKS)
TERMED_COMPLETE_SEND_CHECKS: Final = (*_termed(COMPLETE_SEND_CHECKS), check_expire)


def termed_checks_of(view: View) -> tuple[Check, ...]:
    """Return the checks that a termed order of this route takes, in their order."""
    return TERMED_COMPLETE_CHECKS if view.route.is_complete else TERMED_CHECKS


def termed_send_checks_of(view: View) -> tuple[Check, ...]:
    """Return the checks of a late send of one."""
    return TERMED_COMPLETE_SEND_CHECKS if view.route.is_complete else TERMED_SEND_CHECKS


def first_termed_refusal(view: View) -> Code:
    """Return the code of the first check that refuses a new termed order."""
    return _first(termed_checks_of(view), view)


def first_late_termed_refusal(view: View) -> Code:
    """Return the code of the first check that refuses a late send of one."""
    return _first(termed_send_checks_of(view), view)


def _first(checks: tuple[Check, ...], view: View) -> Code:
    for check in checks:
        code = check(view)
        if code is not OK:
            return code
    return OK
