"""Every check of one order with its value and its limit, whether it passes or not. Never on the path of orders.

Rule: the answer of a check is the check's own, asked one by one; the values are those that a refusal would carry
(``evidence``), so that an explanation can't say anything else than the gate does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, Scope, Side
from protocol.explained import Explained
from protocol.session import Facts
from protocol.units import INT64_MAX, wide
from risk.gate.evidence import QUANTITY, facts_of
from risk.gate.flow import NO_INTENTS
from risk.gate.further_checks import COMPLETE_CHECKS, exposure_added
from risk.gate.further_evidence import soft_ratio
from risk.gate.more import BP, NEVER_NS, Bound
from risk.gate.termed import TERMED_COMPLETE_CHECKS
from risk.gate.view import View

OK: Final = Code.OK
BUY: Final = Side.BUY
E9: Final = 10**9
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
    "check_algo": Code.ALGO_ID_MISSING,
    "check_session": Code.SESSION_CLOSED,
    "check_restricted": Code.INSTR_RESTRICTED,
    "check_ban": Code.INSTR_BAN_REDUCE_ONLY,
    "check_cutoff": Code.INSTR_EXPIRY_CUTOFF,
    "check_write": Code.PERM_OPTION_WRITE,
    "check_short": Code.PERM_SHORT_SELL,
    "check_band": Code.PRICE_BAND,
    "check_lpp": Code.PRICE_LPP,
    "check_suspect": Code.REF_SUSPECT,
    "check_freeze": Code.QTY_FREEZE,
    "check_value_min": Code.VALUE_ORDER_MIN,
    "check_day_account": Code.COUNT_DAILY_MAX,
    "check_day_strategy": Code.COUNT_DAILY_MAX,
    "check_ratio": Code.RATIO_OTR,
    "check_soft_ratio": Code.RATIO_OTR,
    "check_duplicate": Code.DUP_ECONOMIC,
    "check_intent": Code.LOOP_INTENT,
    "check_underlying": Code.POS_UNDERLYING,
    "check_gross": Code.EXPO_GROSS,
    "check_net": Code.EXPO_NET,
    "check_soft_order_value": Code.VALUE_ORDER_MAX,
    "check_soft_open_value": Code.VALUE_OPEN_MAX,
    "check_soft_position": Code.POS_LIMIT,
    "check_soft_gross": Code.EXPO_GROSS,
    "check_soft_collar": Code.PRICE_COLLAR,
    "check_cash": Code.CASH_INSUFFICIENT,
    "check_margin": Code.MARGIN_ESTIMATE,
    "check_pnl": Code.PNL_UNKNOWN,
    "check_cross": Code.STP_CROSS,
    "check_rate_global": Code.RATE_GLOBAL,
    "check_rate_venue": Code.RATE_VENUE,
}
"""What each check refuses with; a test holds it equal to what its docstring says first."""

ALL_CHECKS: Final = tuple(dict.fromkeys((*COMPLETE_CHECKS, *TERMED_COMPLETE_CHECKS)))

_NEEDS: Final[dict[str, Callable[[View], bool]]] = {
    "check_stale": lambda v: v.route.strategy.ttl_ns > 0,
    "check_expiry": lambda v: v.route.instrument.expiry_ns > 0,
    "check_collar": lambda v: v.reference is not None,
    "check_rate_account": lambda v: v.route.account.rate is not None,
    "check_rate_strategy": lambda v: v.route.strategy.rate is not None,
    "check_session": lambda v: v.route.more.contract.close_ns < NEVER_NS,
    "check_cutoff": lambda v: _cutoff_ns(v) < NEVER_NS,
    "check_write": lambda v: v.route.more.no_write and v.side is not BUY,
    "check_short": lambda v: v.route.more.no_short and v.side is not BUY,
    "check_band": lambda v: v.price_e9 > 0,
    "check_lpp": lambda v: v.reference is not None and v.route.more.contract.is_protected,
    "check_suspect": lambda v: v.reference is not None and v.route.more.contract.is_book_checked,
    "check_value_min": lambda v: v.route.more.contract.value_min_e9 > 0,
    "check_ratio": lambda v: v.route.more.ratio is not None,
    "check_soft_ratio": lambda v: v.route.more.ratio is not None,
    "check_duplicate": lambda v: v.route.more.duplicates is not None,
    "check_intent": lambda v: v.route.more.intents_buy is not NO_INTENTS,
    "check_underlying": lambda v: v.route.more.contract.delta != 0,
    "check_net": lambda v: v.route.more.contract.delta != 0,
    "check_soft_collar": lambda v: v.route.more.contract.collar_soft_bp > 0 and v.reference is not None,
    "check_cash": lambda v: v.route.more.checks_cash,
    "check_margin": lambda v: v.route.more.checks_margin,
    "check_pnl": lambda v: v.route.more.pnl is not None,
    "check_cross": lambda v: v.route.more.own_prices is not None and v.route.more.own_prices.best(v.side) > 0,
    "check_rate_global": lambda v: v.route.more.global_rate is not None,
    "check_rate_venue": lambda v: v.route.more.venue_rate is not None,
}
"""Without it a check has nothing to compare with: nothing limits the value, and there is no evidence."""


def explain_view(view: View, *, is_termed: bool) -> list[Explained]:
    """Return what every check says of the order in ``view``, in the order in which they run."""
    return [_explained(check, view) for check in (TERMED_COMPLETE_CHECKS if is_termed else COMPLETE_CHECKS)]


def _explained(check: Check, view: View) -> Explained:
    name = check.__name__
    code = CODE_OF[name]
    passes = check(view) is OK
    needs = _NEEDS.get(name)
    if needs is not None and not needs(view):
        return Explained(name, code, passes, None, is_bound=False)
    own = _OWN.get(name)
    facts = own(view) if own is not None else facts_of(code, view)
    if facts == Facts():
        return Explained(name, code, passes)
    return Explained(name, code, passes, facts, is_bound=int(facts.expected) < INT64_MAX)


def _cutoff_ns(v: View) -> int:
    contract = v.route.more.contract
    return contract.cutoff_buy_ns if v.side is BUY else contract.cutoff_sell_ns


def _contract_quantity(v: View) -> Facts:
    instrument = v.route.instrument
    most_e9 = instrument.quantity_max * instrument.quantity_step_e9
    return Facts(most_e9, v.quantity_e9, Scope.INSTRUMENT, instrument.name)


def _own_quantity(v: View) -> Facts:
    bound = v.route.limits.bounds[QUANTITY]
    return Facts(wide(bound.value), v.quantity_e9, bound.scope, bound.key)


def _soft(value: int, actual: int) -> Facts:
    return Facts(wide(value), wide(actual))


def _soft_collar(v: View) -> Facts:
    reference, contract = v.reference, v.route.more.contract
    assert reference is not None
    sign = 1 if v.side is BUY else -1
    worst_e9 = reference.price_e9 * (BP + sign * contract.collar_soft_bp) // BP
    return Facts(worst_e9, v.price_e9, Scope.INSTRUMENT, v.route.instrument.name, reference.price_e9)


def _day(bound: Bound, count: int) -> Facts:
    return Facts(wide(bound.value), count + 1, bound.scope, bound.key)


_OWN: Final[dict[str, Callable[[View], Facts]]] = {
    "check_quantity_max": _contract_quantity,
    "check_quantity_limit": _own_quantity,
    "check_day_account": lambda v: _day(v.route.more.per_account, v.route.more.account_day.count),
    "check_day_strategy": lambda v: _day(v.route.more.per_strategy, v.route.more.strategy_day.count),
    "check_soft_order_value": lambda v: _soft(v.route.more.soft_order_value_e9, v.value_e9),
    "check_soft_open_value": lambda v: _soft(
        v.route.more.soft_open_value_e9, v.route.account.open_value_e9 + v.value_e9
    ),
    "check_soft_position": lambda v: _soft(
        v.route.more.soft_position_e9, v.reach * v.route.instrument.quantity_step_e9
    ),
    "check_soft_gross": lambda v: _soft(
        v.route.more.gross_soft.value, -(-(v.route.more.account.gross_e18 + exposure_added(v)) // E9)
    ),
    "check_soft_collar": _soft_collar,
    "check_soft_ratio": soft_ratio,
}
"""Evidence of checks that share a code with another one, each its own."""
