"""One order as the gate's checks see it: steps, class, value and state, derived once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from msgspec.structs import astuple

from protocol.codes import OrderType, Side, TimeInForce, TradingState
from protocol.decisions import Reference
from protocol.orders import NewOrder
from risk.gate.exposure import ExposureBook, Route

BUY: Final = Side.BUY
MARKET: Final = OrderType.MARKET
STOP: Final = OrderType.STOP
STOP_LIMIT: Final = OrderType.STOP_LIMIT
Fields = tuple[str, str, str, str, Side, OrderType, TimeInForce, int, int, bool]
# A NewOrder's fields at once, where each by itself would be a generic look-up.
_new_order: Final[type[NewOrder]] = NewOrder
_fields_of: Final = cast("Callable[[NewOrder], Fields]", astuple)
_more_fields_of: Final = cast("Callable[[NewOrder], tuple[object, ...]]", astuple)
FIELDS: Final = 10


class View:
    """One order as the checks see it; filled by ``look``, reused from order to order.

    ``quantity`` counts quantity steps and ``price`` price steps; ``off_quantity`` and ``off_price`` say that the
    amount was no whole number of them. ``worst`` is the collar bound; a MARKET order has it as effective ``price``.
    ``reach`` is the worst-case position on the order's side with the order, as a positive number. What stands in
    ``look_terms`` is set for termed orders only, and read by their checks only. ``taken``: the order whose own fields
    are here already, for the next ``look`` at it.
    """

    __slots__ = (
        "account_name",
        "client_order_id",
        "created_at_ns",
        "expire_at_ns",
        "instrument_name",
        "is_exit",
        "now_ns",
        "off_price",
        "off_quantity",
        "off_stop",
        "order_age_max_ns",
        "order_type",
        "post_only",
        "price",
        "price_e9",
        "quantity",
        "quantity_e9",
        "reach",
        "reduce_only",
        "reference",
        "route",
        "side",
        "skew_max_ns",
        "state",
        "stop_price",
        "stop_price_e9",
        "strategy_name",
        "taken",
        "time_in_force",
        "value_e9",
        "worst",
    )  # fmt: skip

    account_name: str
    client_order_id: str
    strategy_name: str
    instrument_name: str
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
    reach: int
    worst: int
    reduce_only: bool
    is_exit: bool
    now_ns: int
    created_at_ns: int
    order_age_max_ns: int
    skew_max_ns: int
    state: TradingState
    stop_price: int
    stop_price_e9: int
    off_stop: int
    expire_at_ns: int
    post_only: bool

    def __init__(self) -> None:
        self.taken: NewOrder | None = None

    def take(self, order: NewOrder) -> None:
        """Take the order's own fields."""
        fields = _fields_of(order) if type(order) is _new_order else cast("Fields", _more_fields_of(order)[:FIELDS])
        (
            self.account_name, self.client_order_id, self.strategy_name, self.instrument_name, self.side,
            self.order_type, self.time_in_force, self.quantity_e9, self.price_e9, self.reduce_only,
        ) = fields  # fmt: skip
        self.taken = order

    def look(
        self,
        book: ExposureBook,
        order: NewOrder,
        created_at_ns: int,
        route: Route,
        now_ns: int,
        reference: Reference | None,
    ) -> None:
        """Take one order and derive steps, class, value and state; O(1)."""
        if self.taken is not order:
            self.take(order)
        self.taken = None  # whoever changes this view changes it for once
        instrument = route.instrument
        ledger = route.ledger
        self.route = route
        self.reference = reference
        side, order_type, quantity_e9, price_e9 = self.side, self.order_type, self.quantity_e9, self.price_e9
        self.now_ns = now_ns
        self.created_at_ns = created_at_ns
        step_e9 = instrument.quantity_step_e9
        self.quantity = quantity = quantity_e9 // step_e9
        self.off_quantity = quantity_e9 - quantity * step_e9  # a product is cheaper than a second division
        # EXIT by RISK.md A1: with all pending orders of its side and this one filled it still can't cross zero.
        position = ledger.position
        if side is BUY:
            self.reach = reach = position + ledger.buy + quantity
            self.is_exit = position < 0 and reach <= 0
        else:
            self.reach = reach = ledger.sell - position + quantity
            self.is_exit = position > 0 and reach <= 0
        # The collar written out: it runs for every order, and a call costs more than it does.
        if reference is None:
            worst = 0
        elif side is BUY:
            worst = reference.price_e9 * instrument.collar_buy_bp // instrument.collar_divisor
        else:
            worst = -(-reference.price_e9 * instrument.collar_sell_bp // instrument.collar_divisor)
        self.worst = worst
        if order_type is MARKET:
            price = worst
            self.off_price = 0
        else:
            step_e9 = instrument.price_step_e9
            price = price_e9 // step_e9
            self.off_price = price_e9 - price * step_e9
        self.price = price
        unit_e9 = instrument.unit_value_e9
        self.value_e9 = quantity * price * unit_e9 if unit_e9 else instrument.value_e9(quantity, price)
        state = book.state
        if route.account.state or route.strategy.state or instrument.state:  # rare: three truth tests, not one max()
            state = max(state, route.account.state, route.strategy.state, instrument.state)
        self.state = state

    def look_terms(self, stop_price_e9: int, expire_at_ns: int, post_only: bool) -> None:
        """Take what a termed order has besides; after ``look``.

        A stop order is judged by the price at which it is triggered: the collar stands around the stop price. A STOP
        can trade anywhere inside it, a STOP_LIMIT at its limit at worst.
        """
        instrument = self.route.instrument
        if self.order_type is not STOP and self.order_type is not STOP_LIMIT:
            stop_price_e9 = 0
        self.expire_at_ns = expire_at_ns
        self.post_only = post_only
        self.stop_price_e9 = stop_price_e9
        self.stop_price, self.off_stop = divmod(stop_price_e9, instrument.price_step_e9)
        if stop_price_e9:
            self.worst = instrument.collar(self.side, stop_price_e9)
        if self.order_type is STOP:
            self.price = self.worst
            self.value_e9 = instrument.value_e9(self.quantity, self.price)
