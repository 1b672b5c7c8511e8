"""The rows that a journal means: orders, trades, positions, breaches. Shared by the projection and every store.

Amounts in 1e-9 unless the name says 1e-18; times in UTC nanoseconds; ``day`` is the trading date, yyyymmdd;
``seq`` is the record that last changed the row; ``ledger`` is ``paper`` or ``live``.
"""

from __future__ import annotations

from msgspec import Struct

from protocol.codes import (
    Code,
    Liquidity,
    OrderStatus,
    OrderType,
    ReferenceSource,
    Scope,
    Side,
    TimeInForce,
    TradeStatus,
)


def avg_price_e9(cost_e18: int, quantity_e9: int) -> int:
    """Return cost / quantity in 1e-9, the nearest (half away from zero); 0 without a quantity.

    Args:
        cost_e18: Sum of quantity x price, in 1e-18; its sign is the quantity's for positive prices.
        quantity_e9: In 1e-9, signed.
    """
    if quantity_e9 == 0:
        return 0
    if quantity_e9 < 0:
        cost_e18, quantity_e9 = -cost_e18, -quantity_e9
    rounded = (2 * abs(cost_e18) + quantity_e9) // (2 * quantity_e9)
    return rounded if cost_e18 >= 0 else -rounded


class OrderRow(Struct):
    """One order; key (account, client_order_id, day): an id that left the window may come again on a later date.

    ``value_e9`` is what the engine booked (multiplier included); ``cost_e18`` is quantity x price over all fills,
    from which the average price follows. ``accepted_seq`` is the record that decided the order.
    """

    accepted_seq: int
    seq: int
    ledger: str
    day: int
    account: str
    client_order_id: str
    order_id: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    reduce_only: bool
    quantity_e9: int
    price_e9: int
    status: OrderStatus
    is_open: bool
    leaves_quantity_e9: int
    cum_quantity_e9: int
    filled_e9: int
    value_e9: int
    cost_e18: int
    code: Code
    venue: str
    venue_order_id: str
    source: str
    principal: str
    trace_id: bytes
    created_at_ns: int
    accepted_at_ns: int
    updated_at_ns: int

    @property
    def avg_price_e9(self) -> int:
        """Average price of the fills; 0 without one."""
        return avg_price_e9(self.cost_e18, self.filled_e9)


class TradeRow(Struct, frozen=True):
    """One fill; key (venue, trade_id). A record holds at most one, so ``seq`` is a key too.

    ``side`` 0: a fill in suspense whose venue did not say it. ``status`` says whether it counts, ``changed_seq`` is the
    record that said so last; ``first_*`` are the terms it came with.
    """

    seq: int
    ledger: str
    day: int
    venue: str
    trade_id: str
    account: str
    client_order_id: str
    order_id: str
    strategy: str
    instrument: str
    side: int
    last_quantity_e9: int
    last_price_e9: int
    liquidity: Liquidity
    fee_e9: int
    currency: str
    position_e9: int
    venue_order_id: str
    trace_id: bytes
    exch_ns: int
    at_ns: int
    status: TradeStatus
    changed_seq: int
    changed_at_ns: int
    first_quantity_e9: int
    first_price_e9: int


class PositionRow(Struct):
    """What an account holds of an instrument; key (account, instrument). ``fees_e9`` by currency, paid so far.

    ``anchor_*``: what it was when it was last set from outside, and by which record; all since then are its trades.
    """

    seq: int
    ledger: str
    account: str
    instrument: str
    quantity_e9: int
    cost_e18: int
    fees_e9: dict[str, int]
    updated_at_ns: int
    anchor_seq: int = 0
    anchor_quantity_e9: int = 0
    anchor_cost_e18: int = 0

    @property
    def avg_price_e9(self) -> int:
        """Average price at which what is held was taken."""
        return avg_price_e9(self.cost_e18, self.quantity_e9)

    def fill(self, signed_e9: int, price_e9: int, quantity_after_e9: int) -> None:
        """Book a fill by average cost; ``quantity_after_e9`` is the truth.

        A close takes out its share of the cost, rounded down to 1e-18, so the average stays put to that digit.
        """
        before = quantity_after_e9 - signed_e9
        cost = self.cost_e18
        if before != self.quantity_e9:
            # What the engine held before is not what is here: keep the average, take the engine's quantity.
            cost = cost * before // self.quantity_e9 if self.quantity_e9 else 0
        if before == 0 or (before > 0) == (signed_e9 > 0):
            cost += signed_e9 * price_e9
        elif quantity_after_e9 == 0:
            cost = 0
        elif (quantity_after_e9 > 0) == (before > 0):
            cost = cost * quantity_after_e9 // before
        else:
            cost = quantity_after_e9 * price_e9  # it crossed zero: what is left was taken at this price
        self.quantity_e9 = quantity_after_e9
        self.cost_e18 = cost

    def set(self, quantity_e9: int, price_e9: int) -> None:
        """Set from outside: an opening position."""
        self.quantity_e9 = quantity_e9
        self.cost_e18 = quantity_e9 * price_e9

    def anchor(self, seq: int) -> None:
        """Take what it is now as given: earlier trades are no more what it is made of."""
        self.anchor_seq, self.anchor_quantity_e9, self.anchor_cost_e18 = seq, self.quantity_e9, self.cost_e18

    def add_fee(self, currency: str, fee_e9: int) -> None:
        """Add what a fill cost; negative is a rebate."""
        if fee_e9:
            self.fees_e9[currency] = self.fees_e9.get(currency, 0) + fee_e9


class BreachRow(Struct, frozen=True):
    """One refusal: which rule, what it expected, what it met. Key ``seq``.

    ``command`` is ``new``, ``cancel`` or ``replace``; ``takes_key`` False means that the refusal is no answer of the
    order that has this id. Amounts in 1e-9 or plain counts, as the code says.
    """

    seq: int
    ledger: str
    day: int
    command: str
    account: str
    client_order_id: str
    strategy: str
    instrument: str
    side: int
    quantity_e9: int
    price_e9: int
    code: Code
    expected: int
    actual: int
    scope: Scope
    scope_key: str
    reference_e9: int
    reference_age_ns: int
    reference_source: ReferenceSource
    takes_key: bool
    source: str
    principal: str
    trace_id: bytes
    at_ns: int
