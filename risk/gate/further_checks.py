"""The checks that the complete gate has beyond the plain one, and the order of both: RISK.md A2 and A3.

Each is one ``return`` of one expression over the ``View``, as in ``checks``: ``fuse`` makes one function of them all.
On a route without parameters of the complete gate they all pass. Where RISK.md says FWD, the hard value refuses until
the code is routed to the risk service (DECISIONS 27): ``risk.gate.forwarded``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from protocol.codes import Code, OrderType, Side
from risk.gate import more
from risk.gate.checks import (
    CHECKS,
    SEND_CHECKS,
    check_collar,
    check_expiry,
    check_future,
    check_open_count,
    check_open_value,
    check_order_value,
    check_position,
    check_quantity_max,
    check_tick,
    check_type,
)
from risk.gate.flow import NO_INTENTS
from risk.gate.loss_checks import check_pnl
from risk.gate.price_checks import check_soft_collar, check_suspect
from risk.gate.ratio_checks import RATIO_CHECKS
from risk.gate.remembering import signature_of
from risk.gate.view import View

Check = Callable[[View], Code]
OK: Final = Code.OK
BUY: Final = Side.BUY
LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
E9: Final = 10**9
BP: Final = more.BP
FEE_BITS: Final = more.FEE_BITS
ALL_REFUSED: Final = more.ALL_REFUSED


def check_algo(v: View) -> Code:
    """ALGO_ID_MISSING: the venue needs the strategy's registered id, and it has none. Exits too."""
    return Code.ALGO_ID_MISSING if v.route.more.lacks_algo_id else OK


def check_session(v: View) -> Code:
    """SESSION_CLOSED: outside the venue's hours of the trading date. 09:14:59.999 R, 09:15 A, 15:30 R. Exits too."""
    return OK if v.route.more.contract.open_ns <= v.now_ns < v.route.more.contract.close_ns else Code.SESSION_CLOSED


def check_restricted(v: View) -> Code:
    """INSTR_RESTRICTED: on a restricted list; exits pass where the list lets them."""
    return (
        Code.INSTR_RESTRICTED
        if v.route.more.restricted and (v.route.more.restricted == ALL_REFUSED or not v.is_exit)
        else OK
    )


def check_ban(v: View) -> Code:
    """INSTR_BAN_REDUCE_ONLY: underlying on the ban list, exits pass. P=500: SELL 500 A, SELL 1000 R, BUY R."""
    return Code.INSTR_BAN_REDUCE_ONLY if v.route.more.banned and not v.is_exit else OK


def check_cutoff(v: View) -> Code:
    """INSTR_EXPIRY_CUTOFF: new risk on this side so near to expiry. 30 min: 14:59:59 A, 15:00:00 R. Exits pass."""
    return (
        Code.INSTR_EXPIRY_CUTOFF
        if v.now_ns >= (v.route.more.contract.cutoff_buy_ns if v.side is BUY else v.route.more.contract.cutoff_sell_ns)
        and not v.is_exit
        else OK
    )


def check_write(v: View) -> Code:
    """PERM_OPTION_WRITE: a sale of options that can end short, without the permission. P=65: SELL 65 A, 130 R."""
    return Code.PERM_OPTION_WRITE if v.route.more.no_write and v.side is not BUY and v.reach > 0 else OK


def check_short(v: View) -> Code:
    """PERM_SHORT_SELL: a sale of more than is held, without the permission. Held 10: SELL 10 A, 11 R."""
    return Code.PERM_SHORT_SELL if v.route.more.no_short and v.side is not BUY and v.reach > 0 else OK


def check_band(v: View) -> Code:
    """PRICE_BAND: limit price outside the day's range. Base 24000, 10 %: 26400.00 A, 26400.05 R. Exits too."""
    return (
        OK
        if v.price_e9 <= 0 or v.route.more.contract.band_low_e9 <= v.price_e9 <= v.route.more.contract.band_high_e9
        else Code.PRICE_BAND
    )


def check_lpp(v: View) -> Code:
    """PRICE_LPP: a LIMIT worse than reference ± width. Ref 50.05, 40 %: BUY 70.05 A, 70.10 R. Exits too."""
    return (
        Code.PRICE_LPP
        if v.order_type is LIMIT
        and v.route.more.contract.is_protected
        and v.reference is not None
        and (v.price_e9 > v.reference.price_e9 if v.side is BUY else v.price_e9 < v.reference.price_e9)
        and is_beyond_lpp(v)
        else OK
    )  # fmt: skip


def check_freeze(v: View) -> Code:
    """QTY_FREEZE: more than the exchange takes in one order. 1800, lot 65: 1755 A, 1820 R. Exits too."""
    return Code.QTY_FREEZE if v.quantity_e9 > v.route.more.contract.freeze_e9 else OK


def check_value_min(v: View) -> Code:
    """VALUE_ORDER_MIN: below the venue's least notional. 5: 5 A, 4.99 R; an exit of 4.99 A."""
    return Code.VALUE_ORDER_MIN if v.value_e9 < v.route.more.contract.value_min_e9 and not v.is_exit else OK


def check_day_account(v: View) -> Code:
    """COUNT_DAILY_MAX of the account: accepted today. 9999 A, 10000 R. Exits pass, and are counted."""
    return (
        Code.COUNT_DAILY_MAX
        if v.route.more.account_day.count >= v.route.more.per_account.value and not v.is_exit
        else OK
    )


def check_day_strategy(v: View) -> Code:
    """COUNT_DAILY_MAX of the strategy."""
    return (
        Code.COUNT_DAILY_MAX
        if v.route.more.strategy_day.count >= v.route.more.per_strategy.value and not v.is_exit
        else OK
    )


def check_duplicate(v: View) -> Code:
    """DUP_ECONOMIC: same terms again within the window. 500 ms: 499.999 R, 500 A; one tick off A. Exits too."""
    return (
        Code.DUP_ECONOMIC
        if v.route.more.duplicates is not None and v.now_ns < v.route.more.duplicates.until_ns and is_duplicate(v)
        else OK
    )


def check_intent(v: View) -> Code:
    """LOOP_INTENT: so often the same side without a fill; halts the strategy. n=20 in 10 s: the 20th. Exits pass."""
    return Code.LOOP_INTENT if is_loop(v) else OK


def check_underlying(v: View) -> Code:
    """POS_UNDERLYING: worst-case delta on one side of the underlying. +100, -200 puts at -0.5: 200; max 200 A."""
    return (
        Code.POS_UNDERLYING
        if not v.is_exit and v.route.more.contract.delta and side_after(v) > v.route.more.underlying_max.value * BP
        else OK
    )


def check_gross(v: View) -> Code:
    """EXPO_GROSS: exposure of the account with this order. Max 100 at 99: 1 more A, 2 R; at 120: 0 more A."""
    return (
        Code.EXPO_GROSS
        if not v.is_exit
        and exposure_added(v) > 0
        and v.route.more.account.gross_e18 + exposure_added(v) > v.route.more.gross_max.value * E9
        else OK
    )


def check_net(v: View) -> Code:
    """EXPO_NET: worst-case net delta on the side that grows. D+=95, max 100: 5 more A, 6 R. Exits pass."""
    return (
        Code.EXPO_NET
        if not v.is_exit and v.route.more.contract.delta and net_after(v) > v.route.more.net_max.value * BP
        else OK
    )


def check_soft_order_value(v: View) -> Code:
    """VALUE_ORDER_MAX, soft: above it the risk service judges, where the code is routed there. Exits pass."""
    return Code.VALUE_ORDER_MAX if v.value_e9 > v.route.more.soft_order_value_e9 and not v.is_exit else OK


def check_soft_open_value(v: View) -> Code:
    """VALUE_OPEN_MAX, soft."""
    return (
        Code.VALUE_OPEN_MAX
        if v.route.account.open_value_e9 + v.value_e9 > v.route.more.soft_open_value_e9 and not v.is_exit
        else OK
    )


def check_soft_position(v: View) -> Code:
    """POS_LIMIT, soft."""
    return (
        Code.POS_LIMIT
        if v.reach * v.route.instrument.quantity_step_e9 > v.route.more.soft_position_e9 and not v.is_exit
        else OK
    )


def check_soft_gross(v: View) -> Code:
    """EXPO_GROSS, soft."""
    return (
        Code.EXPO_GROSS
        if not v.is_exit
        and exposure_added(v) > 0
        and v.route.more.account.gross_e18 + exposure_added(v) > v.route.more.gross_soft.value * E9
        else OK
    )


def check_cash(v: View) -> Code:
    """CASH_INSUFFICIENT: premium, purchase and fees above free cash. 28,447.25: at 28,447.25 A, .24 R. Exits pass."""
    return Code.CASH_INSUFFICIENT if v.route.more.checks_cash and not v.is_exit and cash_short(v) > 0 else OK


def check_margin(v: View) -> Code:
    """MARGIN_ESTIMATE: margin of the worst case above what is free. 172,285: at 172,285 A, 172,284 R. Exits pass."""
    return Code.MARGIN_ESTIMATE if v.route.more.checks_margin and not v.is_exit and margin_short(v) > 0 else OK


def check_cross(v: View) -> Code:
    """STP_CROSS: would trade with an own open order. Own SELL at 100: BUY 99.95 A, BUY 100 R. Exits pass."""
    return Code.STP_CROSS if v.route.more.own_prices is not None and not v.is_exit and is_crossing(v) else OK


def check_rate_global(v: View) -> Code:
    """RATE_GLOBAL: sliding log of the engine full; ``reserve_exit`` more for exits."""
    return (
        Code.RATE_GLOBAL
        if v.route.more.global_rate is not None
        and v.route.more.global_rate.room <= 0
        and not v.route.more.global_rate.allows(v.now_ns, v.is_exit)
        else OK
    )


def check_rate_venue(v: View) -> Code:
    """RATE_VENUE: sliding log of the venue full. N=10, W=1 s: 11th at 0.999999999 s R, at 1.000000000 s A."""
    return (
        Code.RATE_VENUE
        if v.route.more.venue_rate is not None
        and v.route.more.venue_rate.room <= 0
        and not v.route.more.venue_rate.allows(v.now_ns, v.is_exit)
        else OK
    )


def is_crossing(v: View) -> bool:
    """Whether the order would meet an own one that is open on the other side; a stop order waits for its trigger."""
    prices = v.route.more.own_prices
    best = 0 if prices is None else prices.best(v.side)
    if not best or (v.order_type is not LIMIT and v.order_type is not MARKET):
        return False
    return v.order_type is MARKET or (v.price >= best if v.side is BUY else v.price <= best)


def is_beyond_lpp(v: View) -> bool:
    """Whether the limit price is beyond the protection, where there is a reference (DECISIONS 25)."""
    if v.reference is None:
        return False
    reference_e9 = v.reference.price_e9
    width_e9 = v.route.more.contract.lpp_width_e9(reference_e9)
    if width_e9 <= 0:
        return False
    return v.price_e9 > reference_e9 + width_e9 if v.side is BUY else v.price_e9 < reference_e9 - width_e9


def is_duplicate(v: View) -> bool:
    """Whether as many of these terms as are allowed were just accepted."""
    duplicates = v.route.more.duplicates
    return duplicates is not None and duplicates.is_one_too_many(signature_of(v), v.now_ns)


def is_loop(v: View) -> bool:
    """Whether this one would be one too many of its side without a fill."""
    intents = v.route.more.intents_buy if v.side is BUY else v.route.more.intents_sell
    return intents is not NO_INTENTS and not v.is_exit and intents.is_full(v.now_ns)


def exposure_added(v: View) -> int:
    """Return by how much the order raises the worst-case exposure of its ledger, in 1e-18 of the currency."""
    contract = v.route.more.contract
    weight = contract.exposure_long_e18 if v.side is BUY else contract.exposure_short_e18
    return max(0, v.reach * weight - v.route.more.key.exposure_e18)


def side_after(v: View) -> int:
    """Return the worst-case delta on the order's side of its underlying with it; 1e-9 times basis points of a unit."""
    delta = v.route.more.contract.delta
    key, of = v.route.more.key, v.route.more.underlying
    change = (max(0, v.reach) - max(0, key.high if v.side is BUY else -key.low)) * abs(delta)
    return change + (of.long if (v.side is BUY) is (delta > 0) else of.short)


def net_after(v: View) -> int:
    """Return the worst-case net delta on the side that the order lets grow, as a positive number."""
    of, grown = v.route.more.underlying, abs(v.quantity * v.route.more.contract.delta)
    return of.up + grown if (v.side is BUY) is (v.route.more.contract.delta > 0) else grown - of.down


def cash_short(v: View) -> int:
    """Return how much cash is missing for the order; 0 or less = none."""
    of = v.route.more
    free_e9 = of.cash_e9.get(of.currency, 0) - of.account.cash_reserved_e9
    return of.contract.cash_e9(v.side, v.value_e9) - free_e9


def margin_added(v: View) -> int:
    """Return by how much the order raises the margin of its ledger's worst case."""
    contract = v.route.more.contract
    margin_e9 = contract.margin_e9(v.reach, 0) if v.side is BUY else contract.margin_e9(0, -v.reach)
    return max(0, margin_e9 - v.route.more.key.margin_e9)


def margin_short(v: View) -> int:
    """Return how much is missing for the margin that the order adds; 0 or less = none.

    What it takes in cash is missing for margin too, so both are compared with the same money.
    """
    added_e9 = margin_added(v)
    if added_e9 <= 0:
        return 0
    of = v.route.more
    free_e9 = of.cash_e9.get(of.currency, 0) - of.account.cash_reserved_e9 - of.account.margin_e9
    short_e9 = added_e9 + of.contract.cash_e9(v.side, v.value_e9) - free_e9
    return short_e9 - of.pledged_e9() if short_e9 > 0 and of.collateral else short_e9


def is_tight(v: View) -> bool:  # noqa: C901 - written out: a call costs as much as a sum
    """Whether any of ``SUMMED`` may refuse: their sums at once, without a call. Most orders are far from it.

    It may say so where none does, never the other way: an order adds at most its own quantity to each sum, as if its
    ledger were empty, and its fee is rounded up without a division.
    """
    if v.is_exit:
        return False
    route, quantity = v.route, v.quantity
    of = route.more
    contract, account = of.contract, of.account
    is_buy = v.side is BUY
    if v.reach * route.instrument.quantity_step_e9 > of.soft_position_e9:
        return True
    if of.bounds_gross:
        added = quantity * (contract.exposure_long_e18 if is_buy else contract.exposure_short_e18)
        if account.gross_e18 + added > of.gross_least_e18:
            return True
    delta = contract.delta
    if delta and of.bounds_delta:
        sums, grown = of.underlying, quantity * delta if delta > 0 else -quantity * delta
        if is_buy is (delta > 0):
            if sums.up + grown > of.net_least or sums.long + grown > of.side_least:
                return True
        elif grown - sums.down > of.net_least or sums.short + grown > of.side_least:
            return True
    if not of.checks_cash and not of.checks_margin:
        return False
    needed_e9 = (v.value_e9 * contract.fee_2e40 >> FEE_BITS) + 1
    if is_buy and contract.is_paid:
        needed_e9 += v.value_e9
    if of.checks_margin:
        added_e9 = quantity * (contract.margin_long_e9 if is_buy else contract.margin_short_e9)
        if contract.margin_steps != 1:
            added_e9 = -(-added_e9 // contract.margin_steps)
        needed_e9 += added_e9 + account.margin_e9
    return needed_e9 > of.cash_e9.get(of.currency, 0) - account.cash_reserved_e9


def first_of_sums(v: View) -> Code:
    """Return the code of the first of ``SUMMED`` that refuses."""
    for check in SUMMED:
        code = check(v)
        if code is not OK:
            return code
    return OK


def check_sums(v: View) -> Code:
    """Return what ``SUMMED`` say one by one; the fused gate has it in their place."""
    return first_of_sums(v) if is_tight(v) else OK


SUMMED: Final[tuple[Check, ...]] = (
    check_soft_position, check_underlying, check_gross, check_soft_gross, check_net, check_cash, check_margin,
)  # fmt: skip
AFTER: Final[dict[Check, tuple[Check, ...]]] = {
    check_future: (check_algo,),
    check_expiry: (check_session, check_restricted, check_ban, check_cutoff),
    check_type: (check_write, check_short),
    check_tick: (check_band,),
    check_collar: (check_suspect, check_soft_collar, check_lpp),
    check_quantity_max: (check_freeze,),
    check_order_value: (check_soft_order_value, check_value_min),
    check_open_value: (check_soft_open_value,),
    check_open_count: (check_day_account, check_day_strategy, *RATIO_CHECKS, check_duplicate, check_intent),
    check_position: (*SUMMED, check_pnl, check_cross, check_rate_global, check_rate_venue),
}  # fmt: skip
"""What the complete gate checks behind a check of the plain one. Rates come last."""


def completed(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks with those of the complete gate among them."""
    return tuple(each for check in checks for each in (check, *AFTER.get(check, ())))


FURTHER_SEND: Final = frozenset({check_session, check_restricted, check_band, check_lpp, check_cross})
COMPLETE_CHECKS: Final = completed(CHECKS)
COMPLETE_FUSED: Final = tuple(check_sums if c is SUMMED[0] else c for c in COMPLETE_CHECKS if c not in SUMMED[1:])
"""What is fused of them: the same answers."""
COMPLETE_SEND_CHECKS: Final = tuple(each for each in COMPLETE_CHECKS if each in SEND_CHECKS or each in FURTHER_SEND)
