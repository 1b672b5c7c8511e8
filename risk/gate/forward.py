"""Breaches that go to the risk service or to paper: which checks an order fails in all, what is checked after approval.

Off the path of accepted orders. The forwarded codes are collected, all of them, so that the service sees the whole
list; one check that refuses for good wins over them (RISK.md A3). Where a limit has a soft value its hard one refuses
for good; without one the service judges every breach of it (RISK.md A0). After approval the checks that time may have
changed run again, but for the codes that were approved (DECISIONS 35), and with the rates: a held order was not charged
for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OrderType
from risk.gate.checks import (
    check_collar,
    check_open_value,
    check_order_value,
    check_position,
    check_rate_account,
    check_rate_strategy,
)
from risk.gate.further_checks import check_gross, check_rate_global, check_rate_venue
from risk.gate.gate import checks_of, send_checks_of
from risk.gate.more import UNLIMITED
from risk.gate.ratio_checks import check_ratio
from risk.gate.termed import termed_checks_of, termed_send_checks_of
from risk.gate.view import View

OK: Final = Code.OK
MARKET: Final = OrderType.MARKET
Check = Callable[[View], Code]
FORWARDABLE: Final = frozenset({
    Code.PRICE_COLLAR, Code.REF_STALE, Code.VALUE_ORDER_MAX, Code.VALUE_OPEN_MAX, Code.POS_LIMIT, Code.POS_UNDERLYING,
    Code.EXPO_GROSS, Code.EXPO_NET, Code.MARGIN_ESTIMATE, Code.INSTR_EXPIRY_CUTOFF, Code.INSTR_BAN_REDUCE_ONLY,
    Code.RATIO_OTR, Code.REF_SUSPECT, Code.PNL_UNKNOWN,
})  # fmt: skip
"""What the risk service may judge: own limits. What the venue would refuse, and identity, rates and halts, are not."""
HALTABLE: Final = FORWARDABLE | {
    Code.QTY_MAX, Code.COUNT_OPEN_MAX, Code.COUNT_DAILY_MAX, Code.RATE_STRATEGY, Code.RATE_ACCOUNT, Code.DUP_ECONOMIC,
    Code.CASH_INSUFFICIENT, Code.PERM_OPTION_WRITE, Code.PERM_SHORT_SELL, Code.INSTR_RESTRICTED,
}  # fmt: skip
"""What may halt: breaches that show somebody who does what he should not."""
SANDBOXABLE: Final = frozenset({
    Code.VALUE_ORDER_MAX, Code.VALUE_OPEN_MAX, Code.COUNT_OPEN_MAX, Code.COUNT_DAILY_MAX, Code.POS_LIMIT,
    Code.POS_UNDERLYING, Code.EXPO_GROSS, Code.EXPO_NET, Code.CASH_INSUFFICIENT, Code.MARGIN_ESTIMATE,
    Code.PERM_OPTION_WRITE, Code.PERM_SHORT_SELL,
})  # fmt: skip
"""What may make an order paper: what counts real money and exposure only, so that the paper side is not refused too."""

_RATES: Final[tuple[Check, ...]] = (check_rate_account, check_rate_strategy)
_COMPLETE_RATES: Final[tuple[Check, ...]] = (*_RATES, check_rate_global, check_rate_venue)


def forwarded(view: View, routed: frozenset[Code], *, is_termed: bool) -> tuple[tuple[Code, ...], Code]:
    """Return all codes that refuse the order and are all routed, and OK; or none, and what refuses it."""
    codes: list[Code] = []
    for check in termed_checks_of(view) if is_termed else checks_of(view):
        if check is check_collar and _has_no_collar(view):
            continue
        code = check(view)
        if code is OK:
            continue
        # Without a price there is none that a MARKET order could be reserved at.
        is_blind = code is Code.REF_STALE and view.order_type is MARKET
        if code not in routed or is_blind or _is_hard(check, view):
            return (), code
        if code not in codes:
            codes.append(code)
    return tuple(codes), OK


def late_refusal(view: View, approved: tuple[Code, ...], *, is_termed: bool) -> Code:
    """Return the code of the first check that refuses a held order now, but for what was approved."""
    rates = _COMPLETE_RATES if view.route.is_complete else _RATES
    for check in (*(termed_send_checks_of(view) if is_termed else send_checks_of(view)), *rates):
        if check is check_collar and _has_no_collar(view):
            continue
        code = check(view)
        if code is not OK and (code not in approved or _is_hard(check, view)):
            return code
    return OK


def _has_no_collar(view: View) -> bool:
    """Whether there is no price that a collar could stand around."""
    return view.reference is None and not view.worst


def _is_hard(check: Check, view: View) -> bool:
    """Whether the check is of a hard value beside which there is a soft one."""
    if not view.route.is_complete:
        return False
    more = view.route.more
    if check is check_collar:
        return more.contract.collar_soft_bp > 0
    if check is check_position:
        return more.soft_position_e9 < UNLIMITED
    if check is check_order_value:
        return more.soft_order_value_e9 < UNLIMITED
    if check is check_open_value:
        return more.soft_open_value_e9 < UNLIMITED
    if check is check_ratio:
        return True
    return check is check_gross and more.gross_soft.value < UNLIMITED
