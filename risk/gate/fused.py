"""All checks of a gate as one function, for each gate. Written by ``wojak docs``; change the checks."""

from __future__ import annotations

from protocol.codes import Code
from risk.gate.checks import (
    ACTIVE, BUY, HALTED, HALTED_AUTO, INT64_MAX, LIMIT, MARKET, OK, is_exit_of_all, is_exit_where_reducing,
    is_type_refused,
)
from risk.gate.further_checks import (
    ALL_REFUSED, first_of_sums, is_beyond_lpp, is_crossing, is_duplicate, is_loop, is_tight,
)
from risk.gate.price_checks import (
    CROSSED, is_beyond_soft,
)
from risk.gate.ratio_checks import (
    is_over_hard, is_over_soft,
)
from risk.gate.sure import (
    is_sure,
)
from risk.gate.view import View


def first_refusal(v: View) -> Code:
    """Return the code of the first of 24 checks."""
    v__created_at_ns = v.created_at_ns
    v__is_exit = v.is_exit
    v__now_ns = v.now_ns
    v__off_price = v.off_price
    v__off_quantity = v.off_quantity
    v__order_age_max_ns = v.order_age_max_ns
    v__order_type = v.order_type
    v__price = v.price
    v__price_e9 = v.price_e9
    v__quantity = v.quantity
    v__quantity_e9 = v.quantity_e9
    v__reach = v.reach
    v__reduce_only = v.reduce_only
    v__reference = v.reference
    v__route = v.route
    v__side = v.side
    v__skew_max_ns = v.skew_max_ns
    v__state = v.state
    v__time_in_force = v.time_in_force
    v__value_e9 = v.value_e9
    v__worst = v.worst
    v__route__account = v__route.account
    v__route__instrument = v__route.instrument
    v__route__limits = v__route.limits
    v__route__strategy = v__route.strategy
    if v__now_ns - v__created_at_ns > v__order_age_max_ns:
        return Code.MESSAGE_EXPIRED
    if 0 < v__route__strategy.ttl_ns < v__now_ns - v__created_at_ns:
        return Code.TIME_MESSAGE_STALE
    if v__created_at_ns - v__now_ns > v__skew_max_ns:
        return Code.TIME_MESSAGE_FUTURE
    if not (v__route__instrument.tradable):
        return Code.INSTR_NOT_TRADABLE
    if 0 < v__route__instrument.expiry_ns <= v__now_ns:
        return Code.INSTR_EXPIRED
    if v__state is HALTED or (v__state is HALTED_AUTO and (not v__is_exit)):
        return Code.STATE_HALTED
    if v__state is not ACTIVE and (not is_exit_where_reducing(v)):
        return Code.STATE_REDUCING
    if is_type_refused(v) if v__order_type is not LIMIT else v__time_in_force not in v__route__instrument.limit_times:
        return Code.TYPE_UNSUPPORTED
    if v__price_e9 <= 0 and v__order_type is not MARKET:
        return Code.PRICE_NOT_POSITIVE
    if (v__off_price or v__price % v__route__instrument.tick) and v__order_type is not MARKET:
        return Code.PRICE_TICK
    if v__reference is None and (v__order_type is MARKET or not v__is_exit):
        return Code.REF_STALE
    if not v__is_exit and (v__price > v__worst if v__side is BUY else v__price < v__worst):
        return Code.PRICE_COLLAR
    if v__off_quantity or v__quantity % v__route__instrument.lot:
        return Code.QTY_LOT
    if v__quantity < v__route__instrument.quantity_min and (not is_exit_of_all(v)):
        return Code.QTY_MIN
    if v__quantity > v__route__instrument.quantity_max:
        return Code.QTY_MAX
    if v__quantity_e9 > v__route__limits.quantity_e9 and (not v__is_exit):
        return Code.QTY_MAX
    if v__value_e9 > INT64_MAX:
        return Code.MSG_MALFORMED
    if v__value_e9 > v__route__limits.order_value_e9 and (not v__is_exit):
        return Code.VALUE_ORDER_MAX
    if v__route__account.open_value_e9 + v__value_e9 > v__route__limits.open_value_e9 and (not v__is_exit):
        return Code.VALUE_OPEN_MAX
    if v__route__account.open_count >= v__route__limits.open_count and (not v__is_exit):
        return Code.COUNT_OPEN_MAX
    if v__reduce_only and (not v__is_exit):
        return Code.REDUCE_ONLY_VIOLATION
    if v__reach * v__route__instrument.quantity_step_e9 > v__route__limits.position_e9 and (not v__is_exit):
        return Code.POS_LIMIT
    if v__route__account.rate is not None and v__route__account.rate.room <= 0 and (not v__route__account.rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_ACCOUNT
    if v__route__strategy.rate is not None and v__route__strategy.rate.room <= 0 and (not v__route__strategy.rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_STRATEGY
    return OK


def first_late_refusal(v: View) -> Code:
    """Return the code of the first of 8 checks."""
    v__created_at_ns = v.created_at_ns
    v__is_exit = v.is_exit
    v__now_ns = v.now_ns
    v__order_age_max_ns = v.order_age_max_ns
    v__order_type = v.order_type
    v__price = v.price
    v__reference = v.reference
    v__route = v.route
    v__side = v.side
    v__state = v.state
    v__worst = v.worst
    v__route__instrument = v__route.instrument
    v__route__strategy = v__route.strategy
    if v__now_ns - v__created_at_ns > v__order_age_max_ns:
        return Code.MESSAGE_EXPIRED
    if 0 < v__route__strategy.ttl_ns < v__now_ns - v__created_at_ns:
        return Code.TIME_MESSAGE_STALE
    if not (v__route__instrument.tradable):
        return Code.INSTR_NOT_TRADABLE
    if 0 < v__route__instrument.expiry_ns <= v__now_ns:
        return Code.INSTR_EXPIRED
    if v__state is HALTED or (v__state is HALTED_AUTO and (not v__is_exit)):
        return Code.STATE_HALTED
    if v__state is not ACTIVE and (not is_exit_where_reducing(v)):
        return Code.STATE_REDUCING
    if v__reference is None and (v__order_type is MARKET or not v__is_exit):
        return Code.REF_STALE
    if not v__is_exit and (v__price > v__worst if v__side is BUY else v__price < v__worst):
        return Code.PRICE_COLLAR
    return OK


def first_complete_refusal(v: View) -> Code:
    """Return the code of the first of 50 checks."""
    if is_sure(v):
        v__is_exit = v.is_exit
        v__reference = v.reference
        v__route = v.route
        v__route__more = v__route.more
        v__route__more__contract = v__route__more.contract
        if v__route__more__contract.is_book_checked and v__reference is not None and (v__reference.source is CROSSED) and (not v__is_exit):
            return Code.REF_SUSPECT
        if v__route__more.ratio is not None and (not v__is_exit) and is_over_hard(v):
            return Code.RATIO_OTR
        if v__route__more.ratio is not None and (not v__is_exit) and is_over_soft(v):
            return Code.RATIO_OTR
        if v__route__more.pnl is not None and v__route__more.pnl.unknown and (not v__is_exit):
            return Code.PNL_UNKNOWN
        if v__route__more.own_prices is not None and (not v__is_exit) and is_crossing(v):
            return Code.STP_CROSS
        return OK
    v__created_at_ns = v.created_at_ns
    v__is_exit = v.is_exit
    v__now_ns = v.now_ns
    v__off_price = v.off_price
    v__off_quantity = v.off_quantity
    v__order_age_max_ns = v.order_age_max_ns
    v__order_type = v.order_type
    v__price = v.price
    v__price_e9 = v.price_e9
    v__quantity = v.quantity
    v__quantity_e9 = v.quantity_e9
    v__reach = v.reach
    v__reduce_only = v.reduce_only
    v__reference = v.reference
    v__route = v.route
    v__side = v.side
    v__skew_max_ns = v.skew_max_ns
    v__state = v.state
    v__time_in_force = v.time_in_force
    v__value_e9 = v.value_e9
    v__worst = v.worst
    v__route__account = v__route.account
    v__route__instrument = v__route.instrument
    v__route__limits = v__route.limits
    v__route__more = v__route.more
    v__route__strategy = v__route.strategy
    v__route__more__contract = v__route__more.contract
    if v__now_ns - v__created_at_ns > v__order_age_max_ns:
        return Code.MESSAGE_EXPIRED
    if 0 < v__route__strategy.ttl_ns < v__now_ns - v__created_at_ns:
        return Code.TIME_MESSAGE_STALE
    if v__created_at_ns - v__now_ns > v__skew_max_ns:
        return Code.TIME_MESSAGE_FUTURE
    if v__route__more.lacks_algo_id:
        return Code.ALGO_ID_MISSING
    if not (v__route__instrument.tradable):
        return Code.INSTR_NOT_TRADABLE
    if 0 < v__route__instrument.expiry_ns <= v__now_ns:
        return Code.INSTR_EXPIRED
    if not (v__route__more__contract.open_ns <= v__now_ns < v__route__more__contract.close_ns):
        return Code.SESSION_CLOSED
    if v__route__more.restricted and (v__route__more.restricted == ALL_REFUSED or not v__is_exit):
        return Code.INSTR_RESTRICTED
    if v__route__more.banned and (not v__is_exit):
        return Code.INSTR_BAN_REDUCE_ONLY
    if v__now_ns >= (v__route__more__contract.cutoff_buy_ns if v__side is BUY else v__route__more__contract.cutoff_sell_ns) and (not v__is_exit):
        return Code.INSTR_EXPIRY_CUTOFF
    if v__state is HALTED or (v__state is HALTED_AUTO and (not v__is_exit)):
        return Code.STATE_HALTED
    if v__state is not ACTIVE and (not is_exit_where_reducing(v)):
        return Code.STATE_REDUCING
    if is_type_refused(v) if v__order_type is not LIMIT else v__time_in_force not in v__route__instrument.limit_times:
        return Code.TYPE_UNSUPPORTED
    if v__route__more.no_write and v__side is not BUY and (v__reach > 0):
        return Code.PERM_OPTION_WRITE
    if v__route__more.no_short and v__side is not BUY and (v__reach > 0):
        return Code.PERM_SHORT_SELL
    if v__price_e9 <= 0 and v__order_type is not MARKET:
        return Code.PRICE_NOT_POSITIVE
    if (v__off_price or v__price % v__route__instrument.tick) and v__order_type is not MARKET:
        return Code.PRICE_TICK
    if not (v__price_e9 <= 0 or v__route__more__contract.band_low_e9 <= v__price_e9 <= v__route__more__contract.band_high_e9):
        return Code.PRICE_BAND
    if v__reference is None and (v__order_type is MARKET or not v__is_exit):
        return Code.REF_STALE
    if not v__is_exit and (v__price > v__worst if v__side is BUY else v__price < v__worst):
        return Code.PRICE_COLLAR
    if v__route__more__contract.is_book_checked and v__reference is not None and (v__reference.source is CROSSED) and (not v__is_exit):
        return Code.REF_SUSPECT
    if v__route__more__contract.collar_soft_bp and (not v__is_exit) and is_beyond_soft(v):
        return Code.PRICE_COLLAR
    if v__order_type is LIMIT and v__route__more__contract.is_protected and (v__reference is not None) and (v__price_e9 > v__reference.price_e9 if v__side is BUY else v__price_e9 < v__reference.price_e9) and is_beyond_lpp(v):
        return Code.PRICE_LPP
    if v__off_quantity or v__quantity % v__route__instrument.lot:
        return Code.QTY_LOT
    if v__quantity < v__route__instrument.quantity_min and (not is_exit_of_all(v)):
        return Code.QTY_MIN
    if v__quantity > v__route__instrument.quantity_max:
        return Code.QTY_MAX
    if v__quantity_e9 > v__route__more__contract.freeze_e9:
        return Code.QTY_FREEZE
    if v__quantity_e9 > v__route__limits.quantity_e9 and (not v__is_exit):
        return Code.QTY_MAX
    if v__value_e9 > INT64_MAX:
        return Code.MSG_MALFORMED
    if v__value_e9 > v__route__limits.order_value_e9 and (not v__is_exit):
        return Code.VALUE_ORDER_MAX
    if v__value_e9 > v__route__more.soft_order_value_e9 and (not v__is_exit):
        return Code.VALUE_ORDER_MAX
    if v__value_e9 < v__route__more__contract.value_min_e9 and (not v__is_exit):
        return Code.VALUE_ORDER_MIN
    if v__route__account.open_value_e9 + v__value_e9 > v__route__limits.open_value_e9 and (not v__is_exit):
        return Code.VALUE_OPEN_MAX
    if v__route__account.open_value_e9 + v__value_e9 > v__route__more.soft_open_value_e9 and (not v__is_exit):
        return Code.VALUE_OPEN_MAX
    if v__route__account.open_count >= v__route__limits.open_count and (not v__is_exit):
        return Code.COUNT_OPEN_MAX
    if v__route__more.account_day.count >= v__route__more.per_account.value and (not v__is_exit):
        return Code.COUNT_DAILY_MAX
    if v__route__more.strategy_day.count >= v__route__more.per_strategy.value and (not v__is_exit):
        return Code.COUNT_DAILY_MAX
    if v__route__more.ratio is not None and (not v__is_exit) and is_over_hard(v):
        return Code.RATIO_OTR
    if v__route__more.ratio is not None and (not v__is_exit) and is_over_soft(v):
        return Code.RATIO_OTR
    if v__route__more.duplicates is not None and v__now_ns < v__route__more.duplicates.until_ns and is_duplicate(v):
        return Code.DUP_ECONOMIC
    if is_loop(v):
        return Code.LOOP_INTENT
    if v__reduce_only and (not v__is_exit):
        return Code.REDUCE_ONLY_VIOLATION
    if v__reach * v__route__instrument.quantity_step_e9 > v__route__limits.position_e9 and (not v__is_exit):
        return Code.POS_LIMIT
    if is_tight(v):
        return first_of_sums(v)
    if v__route__more.pnl is not None and v__route__more.pnl.unknown and (not v__is_exit):
        return Code.PNL_UNKNOWN
    if v__route__more.own_prices is not None and (not v__is_exit) and is_crossing(v):
        return Code.STP_CROSS
    if v__route__more.global_rate is not None and v__route__more.global_rate.room <= 0 and (not v__route__more.global_rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_GLOBAL
    if v__route__more.venue_rate is not None and v__route__more.venue_rate.room <= 0 and (not v__route__more.venue_rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_VENUE
    if v__route__account.rate is not None and v__route__account.rate.room <= 0 and (not v__route__account.rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_ACCOUNT
    if v__route__strategy.rate is not None and v__route__strategy.rate.room <= 0 and (not v__route__strategy.rate.allows(v__now_ns, v__is_exit)):
        return Code.RATE_STRATEGY
    return OK


def first_late_complete_refusal(v: View) -> Code:
    """Return the code of the first of 13 checks."""
    v__created_at_ns = v.created_at_ns
    v__is_exit = v.is_exit
    v__now_ns = v.now_ns
    v__order_age_max_ns = v.order_age_max_ns
    v__order_type = v.order_type
    v__price = v.price
    v__price_e9 = v.price_e9
    v__reference = v.reference
    v__route = v.route
    v__side = v.side
    v__state = v.state
    v__worst = v.worst
    v__route__instrument = v__route.instrument
    v__route__more = v__route.more
    v__route__strategy = v__route.strategy
    v__route__more__contract = v__route__more.contract
    if v__now_ns - v__created_at_ns > v__order_age_max_ns:
        return Code.MESSAGE_EXPIRED
    if 0 < v__route__strategy.ttl_ns < v__now_ns - v__created_at_ns:
        return Code.TIME_MESSAGE_STALE
    if not (v__route__instrument.tradable):
        return Code.INSTR_NOT_TRADABLE
    if 0 < v__route__instrument.expiry_ns <= v__now_ns:
        return Code.INSTR_EXPIRED
    if not (v__route__more__contract.open_ns <= v__now_ns < v__route__more__contract.close_ns):
        return Code.SESSION_CLOSED
    if v__route__more.restricted and (v__route__more.restricted == ALL_REFUSED or not v__is_exit):
        return Code.INSTR_RESTRICTED
    if v__state is HALTED or (v__state is HALTED_AUTO and (not v__is_exit)):
        return Code.STATE_HALTED
    if v__state is not ACTIVE and (not is_exit_where_reducing(v)):
        return Code.STATE_REDUCING
    if not (v__price_e9 <= 0 or v__route__more__contract.band_low_e9 <= v__price_e9 <= v__route__more__contract.band_high_e9):
        return Code.PRICE_BAND
    if v__reference is None and (v__order_type is MARKET or not v__is_exit):
        return Code.REF_STALE
    if not v__is_exit and (v__price > v__worst if v__side is BUY else v__price < v__worst):
        return Code.PRICE_COLLAR
    if v__order_type is LIMIT and v__route__more__contract.is_protected and (v__reference is not None) and (v__price_e9 > v__reference.price_e9 if v__side is BUY else v__price_e9 < v__reference.price_e9) and is_beyond_lpp(v):
        return Code.PRICE_LPP
    if v__route__more.own_prices is not None and (not v__is_exit) and is_crossing(v):
        return Code.STP_CROSS
    return OK
