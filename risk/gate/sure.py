"""One look that says of most orders that the complete gate passes them, without asking its checks one by one.

``is_sure`` compares an order with the bounds of its route (``usual``) and with what is counted. True = none of
``COVERED`` refuses; the fused gate asks the others all the same, so a check that is not named here costs its own look
and is never left out. False says nothing: then every check is asked. A property holds both answers equal for any view.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import OrderType, Side
from protocol.units import INT64_MAX
from risk.gate.exposure import Route
from risk.gate.further_checks import is_beyond_lpp, is_duplicate, is_loop
from risk.gate.more import FEE_BITS, OPEN, More
from risk.gate.price_checks import is_beyond_soft
from risk.gate.usual import Usual, UsualSide
from risk.gate.view import View

BUY: Final = Side.BUY
LIMIT: Final = OrderType.LIMIT
COVERED: Final = frozenset({
    "check_expired", "check_stale", "check_future", "check_tradable", "check_expiry", "check_halted",
    "check_reducing", "check_type", "check_price_positive", "check_tick", "check_reference", "check_collar",
    "check_lot", "check_quantity_min", "check_quantity_max", "check_quantity_limit", "check_value_range",
    "check_order_value", "check_open_value", "check_open_count", "check_reduce_only", "check_position",
    "check_rate_account", "check_rate_strategy", "check_algo", "check_session", "check_restricted", "check_ban",
    "check_cutoff", "check_write", "check_short", "check_band", "check_lpp", "check_soft_collar",
    "check_freeze", "check_soft_order_value", "check_value_min", "check_soft_open_value", "check_day_account",
    "check_day_strategy", "check_duplicate", "check_intent", "check_sums", "check_rate_global",
    "check_rate_venue",
})  # fmt: skip
"""Names of the checks that ``is_sure`` speaks for. Who changes one of them changes it too, or takes the name out."""


def is_sure(v: View) -> bool:  # noqa: C901, PLR0912 - written out: a call costs as much as three comparisons
    """Whether the order is a plain LIMIT order so far inside every bound that no check of ``COVERED`` can refuse it."""
    route, reference, is_buy = v.route, v.reference, v.side is BUY
    more = route.more
    usual = more.usual
    of = usual.buy if is_buy else usual.sell
    now_ns = v.now_ns
    if not usual.open_ns <= now_ns < of.until_ns or v.state or v.order_type is not LIMIT or reference is None:
        return False
    age_ns = now_ns - v.created_at_ns
    if age_ns > v.order_age_max_ns or age_ns > usual.ttl_ns or -age_ns > v.skew_max_ns or v.reduce_only:
        return False
    price, price_e9 = v.price, v.price_e9
    if v.off_price or price % usual.tick or v.time_in_force not in route.instrument.limit_times:
        return False
    if not usual.low_e9 <= price_e9 <= usual.high_e9 or (price > v.worst if is_buy else price < v.worst):
        return False
    if (
        usual.is_guarded
        and (price_e9 > reference.price_e9 if is_buy else price_e9 < reference.price_e9)
        and (is_beyond_lpp(v) or (more.contract.collar_soft_bp and is_beyond_soft(v)))
    ):
        return False
    quantity, value_e9, account = v.quantity, v.value_e9, route.account
    if v.off_quantity or quantity % usual.lot or not usual.quantity_min <= quantity <= usual.quantity_max:
        return False
    if v.quantity_e9 > usual.quantity_high_e9 or not usual.value_low_e9 <= value_e9 <= usual.value_high_e9:
        return False
    if account.open_value_e9 + value_e9 > usual.open_value_e9 or account.open_count >= usual.open_count:
        return False
    if more.account_day.count >= usual.account_count or more.strategy_day.count >= usual.strategy_count:
        return False
    if v.reach > usual.reach or not fits(more, usual, of, quantity, value_e9):
        return False
    duplicates = more.duplicates
    if duplicates is not None and now_ns < duplicates.until_ns and is_duplicate(v):
        return False
    intents = more.intents_buy if is_buy else more.intents_sell
    if len(intents.log) >= intents.free and is_loop(v):
        return False
    rate = more.global_rate
    if rate is not None and rate.room <= 0 and not rate.allows(now_ns, v.is_exit):
        return False
    rate = more.venue_rate
    if rate is not None and rate.room <= 0 and not rate.allows(now_ns, v.is_exit):
        return False
    rate = account.rate
    if rate is not None and rate.room <= 0 and not rate.allows(now_ns, v.is_exit):
        return False
    rate = route.strategy.rate
    return rate is None or rate.room > 0 or rate.allows(now_ns, v.is_exit)


def fits(more: More, usual: Usual, of: UsualSide, quantity: int, value_e9: int) -> bool:
    """Whether the order fits into every sum, even if it added all its quantity to each and its fee were rounded up."""
    account = more.account
    if usual.bounds_gross and account.gross_e18 + quantity * of.weight_e18 > usual.gross_e18:
        return False
    if of.delta:
        sums, grown = more.underlying, quantity * of.delta
        if of.is_up:
            if sums.up + grown > usual.net or sums.long + grown > usual.one_sided:
                return False
        elif grown - sums.down > usual.net or sums.short + grown > usual.one_sided:
            return False
    if not usual.asks_cash:
        return True
    needed_e9 = (value_e9 * of.cash_2e40 >> FEE_BITS) + 1
    if usual.checks_margin:
        needed_e9 += quantity * of.margin_e9 + account.margin_e9
    return needed_e9 <= more.cash_e9.get(more.currency, 0) - account.cash_reserved_e9


Identity = tuple[object, ...]


def identity_of(route: Route, more: More) -> Identity:
    """Return what the bounds of a route are made of: where it is the same, they are."""
    instrument = route.instrument
    return (
        more.contract, route.limits, route.strategy.ttl_ns, instrument.tick, instrument.lot, instrument.quantity_min,
        instrument.quantity_max, instrument.quantity_step_e9, instrument.tradable, instrument.expiry_ns,
        more.per_account, more.per_strategy, more.gross_least_e18, more.net_least, more.side_least,
        more.soft_order_value_e9, more.soft_open_value_e9, more.soft_position_e9, more.bounds_gross, more.bounds_delta,
        more.checks_cash, more.checks_margin, more.lacks_algo_id, more.banned, more.restricted, more.no_write,
        more.no_short,
    )  # fmt: skip


def usual_of(route: Route, more: More) -> Usual:
    """Return the bounds of a route with these parameters of the complete gate; of what ``identity_of`` names only."""
    made, contract, instrument, limits = Usual(), more.contract, route.instrument, route.limits
    step_e9 = instrument.quantity_step_e9
    made.ttl_ns = route.strategy.ttl_ns if route.strategy.ttl_ns > 0 else made.ttl_ns
    made.tick, made.lot = instrument.tick, instrument.lot
    made.low_e9, made.high_e9 = max(1, contract.band_low_e9), contract.band_high_e9
    made.is_guarded = contract.is_protected or contract.collar_soft_bp > 0
    made.quantity_min, made.quantity_max = instrument.quantity_min, instrument.quantity_max
    made.quantity_high_e9 = min(contract.freeze_e9, limits.quantity_e9)
    made.value_low_e9 = contract.value_min_e9
    made.value_high_e9 = min(INT64_MAX, limits.order_value_e9, more.soft_order_value_e9)
    made.open_value_e9 = min(limits.open_value_e9, more.soft_open_value_e9)
    made.open_count = limits.open_count
    made.account_count, made.strategy_count = more.per_account.value, more.per_strategy.value
    made.reach = min(limits.position_e9, more.soft_position_e9) // step_e9
    made.bounds_gross, made.gross_e18 = more.bounds_gross, more.gross_least_e18
    made.net, made.one_sided = more.net_least, more.side_least
    made.asks_cash, made.checks_margin = more.checks_cash or more.checks_margin, more.checks_margin
    made.open_ns = contract.open_ns
    _take_sides(made, route, more)
    return made


def _take_sides(made: Usual, route: Route, more: More) -> None:
    contract, instrument = more.contract, route.instrument
    is_unusual = more.lacks_algo_id or more.banned or more.restricted != OPEN or not instrument.tradable
    end_ns = min(contract.close_ns, instrument.expiry_ns) if instrument.expiry_ns > 0 else contract.close_ns
    buy, sell = made.buy, made.sell
    if not is_unusual:
        buy.until_ns = min(end_ns, contract.cutoff_buy_ns)
        sell.until_ns = 0 if more.no_write or more.no_short else min(end_ns, contract.cutoff_sell_ns)
    buy.weight_e18, sell.weight_e18 = contract.exposure_long_e18, contract.exposure_short_e18
    buy.margin_e9 = -(-contract.margin_long_e9 // contract.margin_steps)
    sell.margin_e9 = -(-contract.margin_short_e9 // contract.margin_steps)
    buy.cash_2e40 = contract.fee_2e40 + (1 << FEE_BITS) if contract.is_paid else contract.fee_2e40
    sell.cash_2e40 = contract.fee_2e40
    buy.delta = sell.delta = abs(contract.delta) if more.bounds_delta else 0
    buy.is_up, sell.is_up = contract.delta > 0, contract.delta < 0
