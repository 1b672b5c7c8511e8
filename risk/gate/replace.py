"""The gate of a replace: what it adds is checked as a new order's would be, what it takes away is never refused.

RISK.md A1 and A2, column M: Δ is what the new total adds to the most that may be working. EXIT and the position are
judged by Δ, size and value by the new total. A replace that adds nothing and makes the price no more aggressive is
harmless: no limit, state or rate refuses it, only what the venue would refuse too (time, tick, lot, contract).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code
from risk.gate.checks import (
    check_collar,
    check_expired,
    check_expiry,
    check_future,
    check_halted,
    check_lot,
    check_order_value,
    check_position,
    check_quantity_limit,
    check_quantity_max,
    check_quantity_min,
    check_rate_account,
    check_rate_strategy,
    check_reduce_only,
    check_reducing,
    check_stale,
    check_tradable,
    check_value_range,
)
from risk.gate.further_checks import (
    check_algo,
    check_ban,
    check_band,
    check_cash,
    check_cross,
    check_cutoff,
    check_day_account,
    check_day_strategy,
    check_freeze,
    check_gross,
    check_lpp,
    check_margin,
    check_net,
    check_rate_global,
    check_rate_venue,
    check_restricted,
    check_session,
    check_short,
    check_underlying,
    check_value_min,
    check_write,
)
from risk.gate.loss_checks import check_pnl
from risk.gate.price_checks import check_suspect
from risk.gate.ratio_checks import check_ratio
from risk.gate.termed import check_stop_side, check_termed_price, check_termed_reference, check_termed_tick
from risk.gate.view import View

OK: Final = Code.OK
Check = Callable[[View], Code]

ALWAYS: Final = 0
BOLDER: Final = 1
LARGER: Final = 2


class Change:
    """What a replace asks beside the view of its Δ.

    ``total`` in quantity steps and ``total_e9`` of the whole order, ``off_quantity`` what is no whole step of it;
    ``is_larger``: Δ > 0; ``is_harmless``: neither larger nor at a more aggressive price; ``value_e9`` of the whole
    order at the new price, ``added_value_e9`` what has to be reserved more.
    """

    __slots__ = ("added_value_e9", "is_harmless", "is_larger", "off_quantity", "total", "total_e9", "value_e9")

    def __init__(
        self,
        total: int,
        total_e9: int,
        off_quantity: int,
        is_larger: bool,
        is_harmless: bool,
        value_e9: int,
        added_value_e9: int,
    ) -> None:
        self.total = total
        self.total_e9 = total_e9
        self.off_quantity = off_quantity
        self.is_larger = is_larger
        self.is_harmless = is_harmless
        self.value_e9 = value_e9
        self.added_value_e9 = added_value_e9


# With Δ as the view's quantity.
DELTA_CHECKS: Final[tuple[tuple[Check, int], ...]] = (
    (check_expired, ALWAYS),
    (check_stale, ALWAYS),
    (check_future, ALWAYS),
    (check_tradable, ALWAYS),
    (check_expiry, ALWAYS),
    (check_halted, BOLDER),
    (check_reducing, LARGER),
    (check_termed_price, ALWAYS),
    (check_termed_tick, ALWAYS),
    (check_stop_side, ALWAYS),
    (check_termed_reference, BOLDER),
    (check_collar, BOLDER),
    (check_reduce_only, LARGER),
    (check_position, LARGER),
)

# With the new total as the view's quantity; rate last, so that a refused replace consumes no token.
TOTAL_CHECKS: Final[tuple[tuple[Check, int], ...]] = (
    (check_lot, ALWAYS),
    (check_quantity_min, ALWAYS),
    (check_quantity_max, LARGER),
    (check_quantity_limit, LARGER),
    (check_value_range, ALWAYS),
    (check_order_value, BOLDER),
)
RATE_CHECKS: Final[tuple[tuple[Check, int], ...]] = ((check_rate_account, BOLDER), (check_rate_strategy, BOLDER))
# Where the route takes the complete gate, behind the plain ones of the same stage.
FURTHER_DELTA_CHECKS: Final[tuple[tuple[Check, int], ...]] = (
    (check_algo, ALWAYS),
    (check_session, ALWAYS),
    (check_restricted, BOLDER),
    (check_ban, LARGER),
    (check_cutoff, LARGER),
    (check_write, LARGER),
    (check_short, LARGER),
    (check_band, BOLDER),
    (check_suspect, BOLDER),
    (check_lpp, BOLDER),
    (check_underlying, LARGER),
    (check_gross, LARGER),
    (check_net, LARGER),
    (check_pnl, LARGER),
    (check_cross, BOLDER),
)
FURTHER_TOTAL_CHECKS: Final[tuple[tuple[Check, int], ...]] = (
    (check_freeze, LARGER),
    (check_value_min, BOLDER),
    (check_day_account, BOLDER),
    (check_day_strategy, BOLDER),
    (check_ratio, BOLDER),
)
FURTHER_MONEY_CHECKS: Final[tuple[tuple[Check, int], ...]] = (
    (check_cash, BOLDER),
    (check_margin, LARGER),
    (check_rate_global, BOLDER),
    (check_rate_venue, BOLDER),
)
REPLACE_CHECKS: Final = len(DELTA_CHECKS) + len(TOTAL_CHECKS) + 1 + len(RATE_CHECKS)


def first_replace_refusal(view: View, change: Change) -> tuple[Code, int]:
    """Return the code of the first check that refuses and how many passed before it.

    Args:
        view: Looked at with Δ as its quantity and the new price. It has the new total afterwards, as evidence needs it.
        change: What is asked.
    """
    is_complete = view.route.is_complete
    code, passed = _run(DELTA_CHECKS, view, change, 0)
    if code is OK and is_complete:
        code, passed = _run(FURTHER_DELTA_CHECKS, view, change, passed)
    if code is not OK:
        return code, passed
    view.quantity = change.total
    view.quantity_e9 = change.total_e9
    view.off_quantity = change.off_quantity
    view.value_e9 = change.value_e9
    code, passed = _run(TOTAL_CHECKS, view, change, passed)
    if code is OK and is_complete:
        code, passed = _run(FURTHER_TOTAL_CHECKS, view, change, passed)
    if code is not OK:
        return code, passed
    view.value_e9 = change.added_value_e9
    account = view.route.account
    after_e9 = account.open_value_e9 + change.added_value_e9
    if not change.is_harmless and not view.is_exit and after_e9 > view.route.limits.open_value_e9:
        return Code.VALUE_OPEN_MAX, passed
    if is_complete:
        code, passed = _run(FURTHER_MONEY_CHECKS, view, change, passed)
        if code is not OK:
            return code, passed
    return _run(RATE_CHECKS, view, change, passed + 1)


def _run(checks: tuple[tuple[Check, int], ...], view: View, change: Change, passed: int) -> tuple[Code, int]:
    for check, when in checks:
        if when == ALWAYS or (change.is_larger if when == LARGER else not change.is_harmless):
            code = check(view)
            if code is not OK:
                return code, passed
        passed += 1
    return OK, passed
