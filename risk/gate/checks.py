"""Every check of the gate, in the order they run: each one small function that answers a Code, OK = pass.

Formulas, exemptions and worked examples: RISK.md part A2 and A7. A check reads the ``View`` of one order and
changes nothing. Order of the checks: RISK.md A3, rate last, so that a refused order consumes no token. Each is one
``return`` of one expression, which is what ``fuse`` needs to make one function of them all: ``risk.gate.fused``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OrderType, Side, TradingState
from risk.gate.view import View

OK: Final = Code.OK
BUY: Final = Side.BUY
MARKET: Final = OrderType.MARKET
ACTIVE: Final = TradingState.ACTIVE
REDUCING: Final = TradingState.REDUCING
HALTED_AUTO: Final = TradingState.HALTED_AUTO
HALTED: Final = TradingState.HALTED
LIMIT: Final = OrderType.LIMIT
INT64_MAX: Final = 2**63 - 1


def check_expired(v: View) -> Code:
    """MESSAGE_EXPIRED: an unknown id older than the window of deduplication (DESIGN 6.4). Exits too."""
    return Code.MESSAGE_EXPIRED if v.now_ns - v.created_at_ns > v.order_age_max_ns else OK


def check_stale(v: View) -> Code:
    """TIME_MESSAGE_STALE: older than the strategy's ttl, where it sets one. 2.000000000 s A, 2.000000001 s R."""
    return Code.TIME_MESSAGE_STALE if 0 < v.route.strategy.ttl_ns < v.now_ns - v.created_at_ns else OK


def check_future(v: View) -> Code:
    """TIME_MESSAGE_FUTURE: made later than now plus the skew allowed (1 s for outside sources, DECISIONS 16)."""
    return Code.TIME_MESSAGE_FUTURE if v.created_at_ns - v.now_ns > v.skew_max_ns else OK


def check_tradable(v: View) -> Code:
    """INSTR_NOT_TRADABLE: the instrument is suspended."""
    return OK if v.route.instrument.tradable else Code.INSTR_NOT_TRADABLE


def check_expiry(v: View) -> Code:
    """INSTR_EXPIRED: at or after the contract's expiry."""
    return Code.INSTR_EXPIRED if 0 < v.route.instrument.expiry_ns <= v.now_ns else OK


def check_halted(v: View) -> Code:
    """STATE_HALTED: an operator's halt refuses all, an automatic one lets exits pass (DECISIONS 20)."""
    return Code.STATE_HALTED if v.state is HALTED or (v.state is HALTED_AUTO and not v.is_exit) else OK


def check_reducing(v: View) -> Code:
    """STATE_REDUCING: only exits, judged in the ledger of the scope that is reducing. P=-65: BUY 65 A, BUY 130 R.

    At any severity that check_halted lets through: a scope in HALTED_AUTO does not free one that is REDUCING.
    """
    return Code.STATE_REDUCING if v.state is not ACTIVE and not is_exit_where_reducing(v) else OK


def check_type(v: View) -> Code:
    """TYPE_UNSUPPORTED: a type with a time in force that the venue does not take, as its gateway said."""
    return (
        Code.TYPE_UNSUPPORTED
        if (is_type_refused(v) if v.order_type is not LIMIT else v.time_in_force not in v.route.instrument.limit_times)
        else OK
    )


def check_price_positive(v: View) -> Code:
    """PRICE_NOT_POSITIVE: a limit price of 0 or less."""
    return Code.PRICE_NOT_POSITIVE if v.price_e9 <= 0 and v.order_type is not MARKET else OK


def check_tick(v: View) -> Code:
    """PRICE_TICK: tick 5: 437.65 A, 437.67 R. Exits too: the venue would refuse it."""
    return Code.PRICE_TICK if (v.off_price or v.price % v.route.instrument.tick) and v.order_type is not MARKET else OK


def check_reference(v: View) -> Code:
    """REF_STALE: no fresh reference. An exit with a LIMIT passes; a MARKET order never (DECISIONS 27)."""
    return Code.REF_STALE if v.reference is None and (v.order_type is MARKET or not v.is_exit) else OK


def check_collar(v: View) -> Code:
    """PRICE_COLLAR: worse than reference ± collar; the passive side is free. ref 100, 25 %: 125 A, 125.05 R."""
    return Code.PRICE_COLLAR if not v.is_exit and (v.price > v.worst if v.side is BUY else v.price < v.worst) else OK


def check_lot(v: View) -> Code:
    """QTY_LOT: lot 65: 65 A, 100 R. Exits too."""
    return Code.QTY_LOT if v.off_quantity or v.quantity % v.route.instrument.lot else OK


def check_quantity_min(v: View) -> Code:
    """QTY_MIN: below the contract's minimum; an exit of the whole position passes."""
    return Code.QTY_MIN if v.quantity < v.route.instrument.quantity_min and not is_exit_of_all(v) else OK


def check_quantity_max(v: View) -> Code:
    """QTY_MAX of the contract: binds exits too. 650: 650 A, 715 R."""
    return Code.QTY_MAX if v.quantity > v.route.instrument.quantity_max else OK


def check_quantity_limit(v: View) -> Code:
    """QTY_MAX of the own limits: exits pass (DECISIONS 27)."""
    return Code.QTY_MAX if v.quantity_e9 > v.route.limits.quantity_e9 and not v.is_exit else OK


def check_value_range(v: View) -> Code:
    """MSG_MALFORMED: the value of one order leaves int64 in 1e-9."""
    return Code.MSG_MALFORMED if v.value_e9 > INT64_MAX else OK


def check_order_value(v: View) -> Code:
    """VALUE_ORDER_MAX: value above the own limit; exits pass."""
    return Code.VALUE_ORDER_MAX if v.value_e9 > v.route.limits.order_value_e9 and not v.is_exit else OK


def check_open_value(v: View) -> Code:
    """VALUE_OPEN_MAX: open value with this order. max 100: 60+40 A, 60+41 R. Exits pass, and are counted."""
    return (
        Code.VALUE_OPEN_MAX
        if v.route.account.open_value_e9 + v.value_e9 > v.route.limits.open_value_e9 and not v.is_exit
        else OK
    )


def check_open_count(v: View) -> Code:
    """COUNT_OPEN_MAX: 49/50 A, 50/50 R. No bound for exits (DECISIONS 33)."""
    return Code.COUNT_OPEN_MAX if v.route.account.open_count >= v.route.limits.open_count and not v.is_exit else OK


def check_reduce_only(v: View) -> Code:
    """REDUCE_ONLY_VIOLATION: a promise that does not hold. P=10, S=0: SELL 10 A, SELL 11 R; S=5: SELL 6 R."""
    return Code.REDUCE_ONLY_VIOLATION if v.reduce_only and not v.is_exit else OK


def check_position(v: View) -> Code:
    """POS_LIMIT: worst case with open orders. max 650: P=585 BUY 65 A; with B=65 R. Exits pass by algebra."""
    return (
        Code.POS_LIMIT
        if v.reach * v.route.instrument.quantity_step_e9 > v.route.limits.position_e9 and not v.is_exit
        else OK
    )


def check_rate_account(v: View) -> Code:
    """RATE_ACCOUNT: sliding log full. N=10, W=1 s: 11th at 0.999999999 s R, at 1.000000000 s A."""
    return (
        Code.RATE_ACCOUNT
        if v.route.account.rate is not None
        and v.route.account.rate.room <= 0
        and not v.route.account.rate.allows(v.now_ns, v.is_exit)
        else OK
    )


def check_rate_strategy(v: View) -> Code:
    """RATE_STRATEGY: likewise for the strategy."""
    return (
        Code.RATE_STRATEGY
        if v.route.strategy.rate is not None
        and v.route.strategy.rate.room <= 0
        and not v.route.strategy.rate.allows(v.now_ns, v.is_exit)
        else OK
    )


def is_type_refused(v: View) -> bool:
    """Whether a plain order that is no LIMIT order can't be what it says."""
    return v.order_type is not MARKET or v.time_in_force not in v.route.instrument.market_times


def is_exit_where_reducing(v: View) -> bool:
    """Whether the order is an exit in the ledger of each scope that is reducing (RISK.md A1)."""
    return v.is_exit and (v.route.strategy.state is ACTIVE or v.route.own.is_exit(v.side, v.quantity))


def is_exit_of_all(v: View) -> bool:
    """Whether the order closes the whole position."""
    return v.is_exit and v.quantity == abs(v.route.ledger.position)


CHECKS: Final[tuple[Callable[[View], Code], ...]] = (
    check_expired,
    check_stale,
    check_future,
    check_tradable,
    check_expiry,
    check_halted,
    check_reducing,
    check_type,
    check_price_positive,
    check_tick,
    check_reference,
    check_collar,
    check_lot,
    check_quantity_min,
    check_quantity_max,
    check_quantity_limit,
    check_value_range,
    check_order_value,
    check_open_value,
    check_open_count,
    check_reduce_only,
    check_position,
    check_rate_account,
    check_rate_strategy,
)

SEND_CHECKS: Final[tuple[Callable[[View], Code], ...]] = (
    check_expired,
    check_stale,
    check_tradable,
    check_expiry,
    check_halted,
    check_reducing,
    check_reference,
    check_collar,
)
"""The send gate of DESIGN 6.8: what may have changed between acceptance and a late send."""
