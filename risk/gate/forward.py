"""Breaches that go to the risk service: which checks an order fails in all, and what is checked again after approval.

Off the path of accepted orders. The forwarded codes are collected, all of them, so that the service sees the whole
list; one check that refuses for good wins over them (RISK.md A3). After approval the checks that time may have changed
run again, but for the codes that were approved (DECISIONS 35), and with the rates: a held order was not charged for.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import Code, OrderType
from risk.gate.checks import CHECKS, SEND_CHECKS, check_collar, check_rate_account, check_rate_strategy
from risk.gate.termed import TERMED_CHECKS, TERMED_SEND_CHECKS
from risk.gate.view import View

OK: Final = Code.OK
MARKET: Final = OrderType.MARKET
FORWARDABLE: Final = frozenset({
    Code.PRICE_COLLAR, Code.REF_STALE, Code.VALUE_ORDER_MAX, Code.VALUE_OPEN_MAX, Code.POS_LIMIT,
})  # fmt: skip
"""What the risk service may judge: own limits. What the venue would refuse, and identity, rates and halts, are not."""

_RATES: Final = (check_rate_account, check_rate_strategy)


def forwarded(view: View, routed: frozenset[Code], *, is_termed: bool) -> tuple[tuple[Code, ...], Code]:
    """Return all codes that refuse the order and are the service's to judge, and OK; or none, and what refuses it."""
    codes: list[Code] = []
    for check in TERMED_CHECKS if is_termed else CHECKS:
        if check is check_collar and _has_no_collar(view):
            continue
        code = check(view)
        if code is OK or code in codes:
            continue
        # Without a price there is none that a MARKET order could be reserved at.
        if code not in routed or (code is Code.REF_STALE and view.order_type is MARKET):
            return (), code
        codes.append(code)
    return tuple(codes), OK


def late_refusal(view: View, approved: tuple[Code, ...], *, is_termed: bool) -> Code:
    """Return the code of the first check that refuses a held order now, but for what was approved."""
    for check in (*(TERMED_SEND_CHECKS if is_termed else SEND_CHECKS), *_RATES):
        if check is check_collar and _has_no_collar(view):
            continue
        code = check(view)
        if code is not OK and code not in approved:
            return code
    return OK


def _has_no_collar(view: View) -> bool:
    """Whether there is no price that a collar could stand around."""
    return view.reference is None and not view.worst
