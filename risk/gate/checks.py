"""Every check of the gate, in the order they run: each one small function that answers a Code, OK = pass.

Formulas, exemptions and worked examples: RISK.md part A2 and A7. A check reads the ``View`` of one order and
changes nothing. Order of the checks: RISK.md A3, rate last, so that a refused order consumes no token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OrderType, Side, TimeInForce, TradingState
from protocol.records import Reference
from risk.gate.exposure import ExposureBook, Route

OK: Final = Code.OK
BUY: Final = Side.BUY
MARKET: Final = OrderType.MARKET
ACTIVE: Final = TradingState.ACTIVE
REDUCING: Final = TradingState.REDUCING
HALTED_AUTO: Final = TradingState.HALTED_AUTO
HALTED: Final = TradingState.HALTED
GTC: Final = TimeInForce.GTC
INT64_MAX: Final = 2**63 - 1


class View:
    """One order as the checks see it; filled by ``look``, reused from order to order.

    ``quantity`` counts quantity steps and ``price`` price steps; ``off_quantity`` and ``off_price`` say that the
    amount was no whole number of them. ``price`` of a MARKET order is the collar bound, its effective price.
    """

    __slots__ = (
        "created_at_ns",
        "is_exit",
        "now_ns",
        "off_price",
        "off_quantity",
        "order_age_max_ns",
        "order_type",
        "price",
        "price_e9",
        "quantity",
        "quantity_e9",
        "reduce_only",
        "reference",
        "route",
        "side",
        "skew_max_ns",
        "state",
        "time_in_force",
        "value_e9",
    )  # fmt: skip

    route: Route
    reference: Reference | None
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int
    quantity_e9: int
    price_e9: int
    off_quantity: int
    off_price: int
    value_e9: int
    reduce_only: bool
    is_exit: bool
    now_ns: int
    created_at_ns: int
    order_age_max_ns: int
    skew_max_ns: int
    state: TradingState

    def look(self, book: ExposureBook) -> None:
        """Derive steps, class, value and state from what was set; O(1)."""
        route = self.route
        instrument = route.instrument
        self.quantity, self.off_quantity = divmod(self.quantity_e9, instrument.quantity_step_e9)
        if self.order_type is MARKET:
            self.off_price = 0
            reference = self.reference
            self.price = instrument.collar(self.side, reference.price_e9) if reference is not None else 0
        else:
            self.price, self.off_price = divmod(self.price_e9, instrument.price_step_e9)
        self.is_exit = route.ledger.is_exit(self.side, self.quantity)
        self.value_e9 = instrument.value_e9(self.quantity, self.price)
        state = book.state
        if route.account.state or route.strategy.state or instrument.state:  # rare: three truth tests, not one max()
            state = max(state, route.account.state, route.strategy.state, instrument.state)
        self.state = state


def check_expired(v: View) -> Code:
    """MESSAGE_EXPIRED: an unknown id older than the window of deduplication (DESIGN 6.4). Exits too."""
    return Code.MESSAGE_EXPIRED if v.now_ns - v.created_at_ns > v.order_age_max_ns else OK


def check_stale(v: View) -> Code:
    """TIME_MESSAGE_STALE: older than the strategy's ttl, where it sets one. 2.000000000 s A, 2.000000001 s R."""
    ttl_ns = v.route.strategy.ttl_ns
    return Code.TIME_MESSAGE_STALE if ttl_ns and v.now_ns - v.created_at_ns > ttl_ns else OK


def check_future(v: View) -> Code:
    """TIME_MESSAGE_FUTURE: made later than now plus the skew allowed (1 s for outside sources, DECISIONS 16)."""
    return Code.TIME_MESSAGE_FUTURE if v.created_at_ns - v.now_ns > v.skew_max_ns else OK


def check_tradable(v: View) -> Code:
    """INSTR_NOT_TRADABLE: the instrument is suspended."""
    return OK if v.route.instrument.tradable else Code.INSTR_NOT_TRADABLE


def check_expiry(v: View) -> Code:
    """INSTR_EXPIRED: at or after the contract's expiry."""
    expiry_ns = v.route.instrument.expiry_ns
    return Code.INSTR_EXPIRED if expiry_ns and v.now_ns >= expiry_ns else OK


def check_halted(v: View) -> Code:
    """STATE_HALTED: an operator's halt refuses all, an automatic one lets exits pass (DECISIONS 20)."""
    if v.state < HALTED_AUTO:
        return OK
    return OK if v.state is HALTED_AUTO and v.is_exit else Code.STATE_HALTED


def check_reducing(v: View) -> Code:
    """STATE_REDUCING: only exits, judged in the ledger of the scope that is reducing. P=-65: BUY 65 A, BUY 130 R."""
    if v.state is not REDUCING:
        return OK
    if not v.is_exit:
        return Code.STATE_REDUCING
    if v.route.strategy.state is REDUCING and not v.route.own.is_exit(v.side, v.quantity):
        return Code.STATE_REDUCING
    return OK


def check_type(v: View) -> Code:
    """TYPE_UNSUPPORTED: a MARKET order can't rest, so it can't be good till cancelled."""
    return Code.TYPE_UNSUPPORTED if v.order_type is MARKET and v.time_in_force is GTC else OK


def check_price_positive(v: View) -> Code:
    """PRICE_NOT_POSITIVE: a limit price of 0 or less."""
    return OK if v.order_type is MARKET or v.price_e9 > 0 else Code.PRICE_NOT_POSITIVE


def check_tick(v: View) -> Code:
    """PRICE_TICK: tick 5: 437.65 A, 437.67 R. Exits too: the venue would refuse it."""
    if v.order_type is MARKET:
        return OK
    return Code.PRICE_TICK if v.off_price or v.price % v.route.instrument.tick else OK


def check_reference(v: View) -> Code:
    """REF_STALE: no fresh reference. An exit with a LIMIT passes; a MARKET order never (DECISIONS 27)."""
    if v.reference is not None or (v.is_exit and v.order_type is not MARKET):
        return OK
    return Code.REF_STALE


def check_collar(v: View) -> Code:
    """PRICE_COLLAR: worse than reference ± collar; the passive side is free. ref 100, 25 %: 125 A, 125.05 R."""
    reference = v.reference
    if v.order_type is MARKET or v.is_exit or reference is None:
        return OK
    bound = v.route.instrument.collar(v.side, reference.price_e9)
    if v.side is BUY:
        return Code.PRICE_COLLAR if v.price > bound else OK
    return Code.PRICE_COLLAR if v.price < bound else OK


def check_lot(v: View) -> Code:
    """QTY_LOT: lot 65: 65 A, 100 R. Exits too."""
    return Code.QTY_LOT if v.off_quantity or v.quantity % v.route.instrument.lot else OK


def check_quantity_min(v: View) -> Code:
    """QTY_MIN: below the contract's minimum; an exit of the whole position passes."""
    if v.quantity >= v.route.instrument.quantity_min:
        return OK
    return OK if v.is_exit and v.quantity == abs(v.route.ledger.position) else Code.QTY_MIN


def check_quantity_max(v: View) -> Code:
    """QTY_MAX: the contract's maximum binds exits too, the account's own does not. 650: 650 A, 715 R."""
    if v.quantity > v.route.instrument.quantity_max:
        return Code.QTY_MAX
    return Code.QTY_MAX if not v.is_exit and v.quantity_e9 > v.route.quantity.value else OK


def check_value_range(v: View) -> Code:
    """MSG_MALFORMED: the value of one order leaves int64 in 1e-9."""
    return OK if v.value_e9 <= INT64_MAX else Code.MSG_MALFORMED


def check_order_value(v: View) -> Code:
    """VALUE_ORDER_MAX: value above the own limit; exits pass."""
    return Code.VALUE_ORDER_MAX if not v.is_exit and v.value_e9 > v.route.order_value.value else OK


def check_open_value(v: View) -> Code:
    """VALUE_OPEN_MAX: open value with this order. max 100: 60+40 A, 60+41 R. Exits pass, and are counted."""
    if v.is_exit:
        return OK
    return Code.VALUE_OPEN_MAX if v.route.account.open_value_e9 + v.value_e9 > v.route.open_value.value else OK


def check_open_count(v: View) -> Code:
    """COUNT_OPEN_MAX: 49/50 A, 50/50 R. No bound for exits (DECISIONS 33)."""
    return Code.COUNT_OPEN_MAX if not v.is_exit and v.route.account.open_count >= v.route.open_count.value else OK


def check_reduce_only(v: View) -> Code:
    """REDUCE_ONLY_VIOLATION: a promise that does not hold. P=10, S=0: SELL 10 A, SELL 11 R; S=5: SELL 6 R."""
    return Code.REDUCE_ONLY_VIOLATION if v.reduce_only and not v.is_exit else OK


def check_position(v: View) -> Code:
    """POS_LIMIT: worst case with open orders. max 650: P=585 BUY 65 A; with B=65 R. Exits pass by algebra."""
    if v.is_exit:
        return OK
    reach = (v.route.ledger.reach(v.side) + v.quantity) * v.route.instrument.quantity_step_e9
    return Code.POS_LIMIT if reach > v.route.position.value else OK


def check_rate_account(v: View) -> Code:
    """RATE_ACCOUNT: sliding log full. N=10, W=1 s: 11th at 0.999999999 s R, at 1.000000000 s A."""
    rate = v.route.account.rate
    return OK if rate is None or rate.allows(v.now_ns, is_exit=v.is_exit) else Code.RATE_ACCOUNT


def check_rate_strategy(v: View) -> Code:
    """RATE_STRATEGY: likewise for the strategy."""
    rate = v.route.strategy.rate
    return OK if rate is None or rate.allows(v.now_ns, is_exit=v.is_exit) else Code.RATE_STRATEGY


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


def first_refusal(v: View) -> Code:
    """Return the code of the first check that fails, or OK."""
    for check in CHECKS:
        code = check(v)
        if code is not OK:
            return code
    return OK


def first_late_refusal(v: View) -> Code:
    """Return the code of the first check of the send gate that fails, or OK."""
    for check in SEND_CHECKS:
        code = check(v)
        if code is not OK:
            return code
    return OK
