"""Evidence of what the complete gate refuses: value, limit, scope, reference. Off the path of accepted orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, Scope, Side
from protocol.session import Facts
from protocol.units import wide
from risk.gate.further_checks import cash_short, exposure_added, margin_added, margin_short, net_after, side_after
from risk.gate.more import BP, Bound
from risk.gate.rate import RateLog
from risk.gate.ratio import RatioBound
from risk.gate.view import View

BUY: Final = Side.BUY
E9: Final = 10**9


def _instrument(expected: int, actual: int, v: View) -> Facts:
    return Facts(wide(expected), wide(actual), Scope.INSTRUMENT, v.route.instrument.name)


def _account(expected: int, actual: int, v: View) -> Facts:
    return Facts(wide(expected), wide(actual), Scope.ACCOUNT, v.route.account.name)


def _strategy(expected: int, actual: int, v: View) -> Facts:
    return Facts(wide(expected), wide(actual), Scope.STRATEGY, v.route.strategy.name)


def _bound(bound: Bound, actual: int) -> Facts:
    return Facts(wide(bound.value), wide(actual), bound.scope, bound.key)


def _session(v: View) -> Facts:
    contract = v.route.more.contract
    expected = contract.open_ns if v.now_ns < contract.open_ns else contract.close_ns
    return Facts(expected, v.now_ns, Scope.VENUE, v.route.instrument.venue)


def _cutoff(v: View) -> Facts:
    contract = v.route.more.contract
    return _instrument(contract.cutoff_buy_ns if v.side is BUY else contract.cutoff_sell_ns, v.now_ns, v)


def _held(v: View) -> Facts:
    ledger, step = v.route.ledger, v.route.instrument.quantity_step_e9
    return _instrument(max(0, ledger.position - ledger.sell) * step, v.quantity_e9, v)


def _band(v: View) -> Facts:
    contract = v.route.more.contract
    return _instrument(
        contract.band_high_e9 if v.price_e9 > contract.band_high_e9 else contract.band_low_e9, v.price_e9, v
    )


def _lpp(v: View) -> Facts:
    reference = v.reference
    assert reference is not None
    width_e9 = v.route.more.contract.lpp_width_e9(reference.price_e9)
    bound_e9 = reference.price_e9 + width_e9 if v.side is BUY else reference.price_e9 - width_e9
    return Facts(
        bound_e9, v.price_e9, Scope.INSTRUMENT, v.route.instrument.name, reference.price_e9, reference.age_ns,
        reference.source,
    )  # fmt: skip


def _suspect(v: View) -> Facts:
    reference = v.reference
    if reference is None:
        return _instrument(0, 0, v)
    return Facts(
        0, 0, Scope.INSTRUMENT, v.route.instrument.name, reference.price_e9, reference.age_ns, reference.source
    )


def _day(v: View) -> Facts:
    more = v.route.more
    if more.account_day.count >= more.per_account.value:
        return _bound(more.per_account, more.account_day.count + 1)
    return _bound(more.per_strategy, more.strategy_day.count + 1)


def _ratio(v: View) -> Facts:
    ratio = v.route.more.ratio
    assert ratio is not None
    bound = ratio.hard()
    if bound is None and ratio.soft() is not None:
        return soft_ratio(v)
    bound = bound or ratio.bounds[0]
    return _messages(bound, bound.hard)


def soft_ratio(v: View) -> Facts:
    """Return the evidence of the soft value."""
    ratio = v.route.more.ratio
    assert ratio is not None
    bound = ratio.soft() or ratio.bounds[0]
    return _messages(bound, bound.soft)


def _messages(bound: RatioBound, most: int) -> Facts:
    counted = bound.messages
    return Facts(wide(most * max(1, counted.trades)), counted.sent, bound.scope, bound.key)


def _duplicate(v: View) -> Facts:
    duplicates = v.route.more.duplicates
    assert duplicates is not None
    return _strategy(duplicates.most, duplicates.most + 1, v)


def _intent(v: View) -> Facts:
    intents = v.route.more.intents_buy if v.side is BUY else v.route.more.intents_sell
    return _strategy(intents.most, intents.most, v)


def _gross(v: View) -> Facts:
    more = v.route.more
    return _bound(more.gross_max, -(-(more.account.gross_e18 + exposure_added(v)) // E9))


def _cash(v: View) -> Facts:
    needed_e9 = v.route.more.contract.cash_e9(v.side, v.value_e9)
    return _account(needed_e9 - cash_short(v), needed_e9, v)


def _margin(v: View) -> Facts:
    needed_e9 = margin_added(v)
    return _account(needed_e9 - margin_short(v), needed_e9, v)


def _cross(v: View) -> Facts:
    prices, step_e9 = v.route.more.own_prices, v.route.instrument.price_step_e9
    assert prices is not None
    return _instrument(prices.best(v.side) * step_e9, v.price * step_e9, v)


def _rate(rate: RateLog | None, v: View, scope: Scope, key: str) -> Facts:
    assert rate is not None
    most = rate.count + rate.reserve_exit if v.is_exit else rate.count
    return Facts(most, rate.in_window(v.now_ns) + 1, scope, key)


def _pnl(v: View) -> Facts:
    pnl = v.route.more.pnl
    return _account(0, 0 if pnl is None else len(pnl.unknown), v)


FURTHER_EVIDENCE: Final[dict[Code, Callable[[View], Facts]]] = {
    Code.ALGO_ID_MISSING: lambda v: _strategy(0, 0, v),
    Code.SESSION_CLOSED: _session,
    Code.INSTR_RESTRICTED: lambda v: _instrument(0, 0, v),
    Code.INSTR_BAN_REDUCE_ONLY: lambda v: _instrument(0, 0, v),
    Code.INSTR_EXPIRY_CUTOFF: _cutoff,
    Code.PERM_OPTION_WRITE: _held,
    Code.PERM_SHORT_SELL: _held,
    Code.PRICE_BAND: _band,
    Code.PRICE_LPP: _lpp,
    Code.REF_SUSPECT: _suspect,
    Code.QTY_FREEZE: lambda v: _instrument(v.route.more.contract.freeze_e9, v.quantity_e9, v),
    Code.VALUE_ORDER_MIN: lambda v: _instrument(v.route.more.contract.value_min_e9, v.value_e9, v),
    Code.COUNT_DAILY_MAX: _day,
    Code.RATIO_OTR: _ratio,
    Code.DUP_ECONOMIC: _duplicate,
    Code.LOOP_INTENT: _intent,
    Code.POS_UNDERLYING: lambda v: _bound(v.route.more.underlying_max, -(-side_after(v) // BP)),
    Code.EXPO_GROSS: _gross,
    Code.EXPO_NET: lambda v: _bound(v.route.more.net_max, -(-net_after(v) // BP)),
    Code.CASH_INSUFFICIENT: _cash,
    Code.MARGIN_ESTIMATE: _margin,
    Code.PNL_UNKNOWN: _pnl,
    Code.STP_CROSS: _cross,
    Code.RATE_GLOBAL: lambda v: _rate(v.route.more.global_rate, v, Scope.GLOBAL, ""),
    Code.RATE_VENUE: lambda v: _rate(v.route.more.venue_rate, v, Scope.VENUE, v.route.instrument.venue),
}
