"""An open order, and a numbered command to a venue: what the engine makes one of per order.

Plain classes with slots: compiled ahead of time they are C structs; interpreted, a ``msgspec.Struct`` would be made
faster, but each use of it from compiled code would cost a generic look-up (docs/decisions/0013).
"""

from __future__ import annotations

from enum import IntEnum

from protocol.codes import OrderStatus, OrderType, Side, TimeInForce
from risk.gate.exposure import Reservation, Route


class OutgoingKind(IntEnum):
    """What a numbered command to a venue is."""

    NEW = 1
    CANCEL = 2
    QUERY = 3
    VOID = 4


class Order(Reservation):
    """One order from acceptance until it leaves memory. Quantities count quantity steps, prices price steps.

    ``limit_price`` is 0 for a MARKET order; ``slot`` is the order's place in the dedup table while it
    is open, -1 after: then its key is looked up, for it may have left. ``source``: the message source it came through;
    empty for orders older than this field.
    """

    __slots__ = (
        "accepted_ns", "account", "cancel_seq", "client_order_id", "created_at_ns", "cum", "limit_price",
        "order_id", "order_type", "quantity", "reduce_only", "slot", "source", "status", "time_in_force", "trace_id",
        "value_e9", "venue_seq",
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


class Outgoing:
    """A numbered command to a venue that no report has answered yet: the outbox is state (DESIGN 6.6)."""

    __slots__ = ("at_ns", "kind", "order", "seq")

    def __init__(self, seq: int, kind: OutgoingKind, order: Order, at_ns: int) -> None:
        self.seq = seq
        self.kind = kind
        self.order = order
        self.at_ns = at_ns
