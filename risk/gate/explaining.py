"""Every check of one order with its value and its limit, whether it passes or not. Never on the path of orders.

Rule: the answer of a check is the check's own, asked one by one; the values are those that a refusal would carry
(``evidence``), so that an explanation can't say anything else than the gate does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, Scope
from protocol.explained import Explained
from protocol.session import Facts
from protocol.units import INT64_MAX
from risk.gate.checks import CHECKS
from risk.gate.evidence import facts_of
from risk.gate.termed import TERMED_CHECKS
from risk.gate.view import View

OK: Final = Code.OK
Check = Callable[[View], Code]

CODE_OF: Final[dict[str, Code]] = {
    "check_expired": Code.MESSAGE_EXPIRED,
    "check_stale": Code.TIME_MESSAGE_STALE,
    "check_future": Code.TIME_MESSAGE_FUTURE,
    "check_tradable": Code.INSTR_NOT_TRADABLE,
    "check_expiry": Code.INSTR_EXPIRED,
    "check_halted": Code.STATE_HALTED,
    "check_reducing": Code.STATE_REDUCING,
    "check_type": Code.TYPE_UNSUPPORTED,
    "check_termed_type": Code.TYPE_UNSUPPORTED,
    "check_expire": Code.TIME_EXPIRE_PAST,
    "check_price_positive": Code.PRICE_NOT_POSITIVE,
    "check_termed_price": Code.PRICE_NOT_POSITIVE,
    "check_tick": Code.PRICE_TICK,
    "check_termed_tick": Code.PRICE_TICK,
    "check_stop_side": Code.PRICE_STOP_SIDE,
    "check_reference": Code.REF_STALE,
    "check_termed_reference": Code.REF_STALE,
    "check_collar": Code.PRICE_COLLAR,
    "check_lot": Code.QTY_LOT,
    "check_quantity_min": Code.QTY_MIN,
    "check_quantity_max": Code.QTY_MAX,
    "check_quantity_limit": Code.QTY_MAX,
    "check_value_range": Code.MSG_MALFORMED,
    "check_order_value": Code.VALUE_ORDER_MAX,
    "check_open_value": Code.VALUE_OPEN_MAX,
    "check_open_count": Code.COUNT_OPEN_MAX,
    "check_reduce_only": Code.REDUCE_ONLY_VIOLATION,
    "check_position": Code.POS_LIMIT,
    "check_rate_account": Code.RATE_ACCOUNT,
    "check_rate_strategy": Code.RATE_STRATEGY,
}
"""What each check refuses with; a test holds it equal to what its docstring says first."""

ALL_CHECKS: Final = tuple(dict.fromkeys((*CHECKS, *TERMED_CHECKS)))

_NEEDS: Final[dict[str, Callable[[View], bool]]] = {
    "check_stale": lambda v: v.route.strategy.ttl_ns > 0,
    "check_expiry": lambda v: v.route.instrument.expiry_ns > 0,
    "check_collar": lambda v: v.reference is not None,
    "check_rate_account": lambda v: v.route.account.rate is not None,
    "check_rate_strategy": lambda v: v.route.strategy.rate is not None,
}
"""Without it a check has nothing to compare with: nothing limits the value, and there is no evidence."""


def explain_view(view: View, *, is_termed: bool) -> list[Explained]:
    """Return what every check says of the order in ``view``, in the order in which they run."""
    return [_explained(check, view) for check in (TERMED_CHECKS if is_termed else CHECKS)]


def _explained(check: Check, view: View) -> Explained:
    name = check.__name__
    code = CODE_OF[name]
    passes = check(view) is OK
    needs = _NEEDS.get(name)
    if needs is not None and not needs(view):
        return Explained(name, code, passes, None, is_bound=False)
    facts = _facts(name, code, view)
    return Explained(name, code, passes, facts, is_bound=facts is None or int(facts.expected) < INT64_MAX)


def _facts(name: str, code: Code, view: View) -> Facts | None:
    """Return the evidence of a check; None where the codes it shares would show another one's."""
    route = view.route
    if name == "check_quantity_max":
        most_e9 = route.instrument.quantity_max * route.instrument.quantity_step_e9
        return Facts(most_e9, view.quantity_e9, Scope.INSTRUMENT, route.instrument.name)
    if name == "check_quantity_limit":
        bound = route.limits.bounds[0]
        return Facts(min(bound.value, INT64_MAX), view.quantity_e9, bound.scope, bound.key)
    facts = facts_of(code, view)
    return None if facts == Facts() else facts
