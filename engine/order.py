"""An open order, and a numbered command to a venue: what the engine makes one of per order.

Plain classes with slots: compiled ahead of time they are C structs; interpreted, a ``msgspec.Struct`` would be made
faster, but each use of it from compiled code would cost a generic look-up (docs/decisions/0013).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from engine.group import Group
from protocol.codes import AT_NO_VENUE, OrderStatus, OrderType, Side, TimeInForce
from risk.gate.exposure import Reservation, Route

LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
STOP: Final = OrderType.STOP
BUY: Final = Side.BUY


class OutgoingKind(IntEnum):
    """What a numbered command to a venue is."""

    NEW = 1
    CANCEL = 2
    QUERY = 3
    VOID = 4
    REPLACE = 5


class Replacement:
    """Terms that were asked of the venue and not answered yet. Quantity in steps, the whole of it; prices in steps.

    ``key``: the keyed hash of the id it came under, for ``State.renamed`` and the dedup table. ``is_flip``: what they
    add was taken though it is no exit, so that an exit is none under them.
    """

    __slots__ = ("client_order_id", "is_flip", "key", "price", "quantity", "seq", "stop_price")

    def __init__(
        self, seq: int, client_order_id: str, key: tuple[int, int, bytes], quantity: int, price: int, stop_price: int
    ) -> None:
        self.is_flip = False
        self.seq = seq
        self.client_order_id = client_order_id
        self.key = key
        self.quantity = quantity
        self.price = price
        self.stop_price = stop_price

    def price_reserved(self, order: Order) -> int:
        """Return the worst price, in steps, that the order could trade at under these terms."""
        if order.order_type is not STOP:
            return self.price
        instrument = order.route.instrument
        return instrument.collar(order.side, self.stop_price * instrument.price_step_e9)

    def is_bolder(self, order: Order) -> bool:
        """Whether these terms ask for more, or at a more aggressive price, than the order's own."""
        if self.quantity > order.quantity:
            return True
        price, own = self.price_reserved(order), order.own_price()
        return price > own if order.side is BUY else price < own


class Terms:
    """What few orders have: a plain order has none of it, and pays one test.

    ``keys``: of the ids it was given by replaces, oldest first; all of them name it. Prices in steps. ``group``: the
    OCO group that it is a leg of.
    """

    __slots__ = ("expire_at_ns", "group", "keys", "post_only", "replacement", "stop_price")

    def __init__(self, stop_price: int = 0, expire_at_ns: int = 0, post_only: bool = False) -> None:
        self.stop_price = stop_price
        self.expire_at_ns = expire_at_ns
        self.post_only = post_only
        self.keys: list[tuple[int, int, bytes]] = []
        self.replacement: Replacement | None = None
        self.group: Group | None = None


class Order(Reservation):
    """One order from acceptance until it leaves memory. Quantities count quantity steps, prices price steps.

    ``limit_price`` is 0 for a MARKET order; ``slot`` is the order's place in the dedup table while it
    is open, -1 after: then its key is looked up, for it may have left. ``source``: the message source it came through;
    empty for orders older than this field. ``is_exit``: it was taken as an exit (RISK.md A1), and is one as long as its
    position holds. While a replace is unanswered ``leaves`` and ``price`` are the worst of both
    terms: what the book has to reserve.
    """

    __slots__ = (
        "accepted_ns", "account", "cancel_seq", "client_order_id", "created_at_ns", "cum", "is_exit", "limit_price",
        "order_id", "order_type", "quantity", "reduce_only", "slot", "source", "status", "terms", "time_in_force",
        "trace_id", "value_e9", "venue_seq",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917 - one is made per order: no keywords, no call of the base's
        self,
        route: Route,
        side: Side,
        price: int,
        leaves: int,
        reserved_value_e9: int,
        account: str,
        client_order_id: str,
        order_id: str,
        order_type: OrderType,
        time_in_force: TimeInForce,
        status: OrderStatus,
        quantity: int,
        limit_price: int,
        reduce_only: bool,
        venue_seq: int,
        accepted_ns: int,
        created_at_ns: int,
        trace_id: bytes,
        slot: int,
        cum: int = 0,
        value_e9: int = 0,
        cancel_seq: int = 0,
    ) -> None:
        self.route = route
        self.side = side
        self.price = price
        self.leaves = leaves
        self.reserved_value_e9 = reserved_value_e9
        self.account = account
        self.client_order_id = client_order_id
        self.order_id = order_id
        self.order_type = order_type
        self.time_in_force = time_in_force
        self.status = status
        self.quantity = quantity
        self.limit_price = limit_price
        self.reduce_only = reduce_only
        self.venue_seq = venue_seq
        self.accepted_ns = accepted_ns
        self.created_at_ns = created_at_ns
        self.trace_id = trace_id
        self.slot = slot
        self.cum = cum
        self.value_e9 = value_e9
        self.cancel_seq = cancel_seq
        self.source = ""
        self.is_exit = False
        self.terms: Terms | None = None

    def resting_price(self) -> int:
        """Return the price at which the other side would meet it, of two terms the one met first; 0 = at no venue.

        Only LIMIT orders rest: a stop order waits for its trigger, a MARKET order is over when the next one comes.
        """
        if self.order_type is not LIMIT or self.status in AT_NO_VENUE:
            return 0
        terms = self.terms
        if terms is None or terms.replacement is None:
            return self.price
        own, asked = self.limit_price, terms.replacement.price
        return max(own, asked) if self.side is BUY else min(own, asked)

    def own_price(self) -> int:
        """Return the worst price, in steps, under the terms that are not in doubt: ``price`` may be another's."""
        if self.terms is None or self.order_type is MARKET:
            return self.price
        if self.order_type is not STOP:
            return self.limit_price
        instrument = self.route.instrument
        return instrument.collar(self.side, self.terms.stop_price * instrument.price_step_e9)

    @property
    def quantity_most(self) -> int:
        """The most that can fill in all: of two totals that may be working, the larger."""
        terms = self.terms
        if terms is None or terms.replacement is None:
            return self.quantity
        return max(self.quantity, terms.replacement.quantity)


class Outgoing:
    """A numbered command to a venue that no report has answered yet: the outbox is state (DESIGN 6.6)."""

    __slots__ = ("at_ns", "kind", "order", "seq")

    def __init__(self, seq: int, kind: OutgoingKind, order: Order, at_ns: int) -> None:
        self.seq = seq
        self.kind = kind
        self.order = order
        self.at_ns = at_ns
