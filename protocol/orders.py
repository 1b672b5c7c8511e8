"""Commands on the wire: what a sidecar asks of the engine, in exact integers.

Every Struct here is ``array_like``: fields are only ever appended, with a default, so that an older reader
skips what it does not know. Changing an order is a field of the command; who sent it, when and through
what stands beside it in ``session.Item``, so the bytes of a command are exactly what the payload hash covers.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from protocol.codes import OrderType, Side, TimeInForce

NAME_CHARS_MAX = 64
LEGS_MAX = 8
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
ClientOrderId = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
PositiveE9 = Annotated[int, Meta(ge=1, le=2**63 - 1)]
PriceE9 = Annotated[int, Meta(ge=-(2**63 - 1), le=2**63 - 1)]


class NewOrder(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Ask for a new order. ``quantity_e9`` and ``price_e9`` in 1e-9; the price of a MARKET order is 0."""

    account: Name
    client_order_id: ClientOrderId
    strategy: Name
    instrument: Name
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity_e9: PositiveE9
    price_e9: PriceE9 = 0
    reduce_only: bool = False


class CancelOrder(Struct, array_like=True, tag=2, frozen=True, gc=False):
    """Ask for the cancel of whatever of ``orig_client_order_id`` still works. Idempotent by state (DECISIONS 10)."""

    account: Name
    orig_client_order_id: ClientOrderId


class ReplaceOrder(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Ask for other terms of an order that works: FIX OrderCancelReplaceRequest.

    ``client_order_id`` is the request's own; from its acceptance it names the order too. ``quantity_e9`` is the new
    total, what is filled included. 0 = as it is.
    """

    account: Name
    client_order_id: ClientOrderId
    orig_client_order_id: ClientOrderId
    quantity_e9: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    price_e9: PriceE9 = 0
    stop_price_e9: PriceE9 = 0


class TermedOrder(NewOrder, array_like=True, tag=4, frozen=True, gc=False):
    """A new order with terms that few have; without any of them it is a NewOrder, whose bytes stay what they were.

    ``stop_price_e9`` of STOP and STOP_LIMIT, ``expire_at_ns`` (UTC) of GTD. ``post_only``: refused by the venue where
    it would take.
    """

    stop_price_e9: PriceE9 = 0
    expire_at_ns: int = 0
    post_only: bool = False


class TrimmableOrder(TermedOrder, array_like=True, tag=5, frozen=True, gc=False):
    """A new order that the risk service may approve for fewer lots than it asks for. Its terms may all be unset."""


class NewBasket(Struct, array_like=True, tag=10, frozen=True, gc=False):
    """Ask for several new orders, all or none. The n-th leg's id is ``<client_order_id>/<n>``, counted from 1."""

    account: Name
    client_order_id: ClientOrderId
    legs: Annotated[list[NewOrder], Meta(min_length=2, max_length=LEGS_MAX)]


class ExitReplace(Struct, array_like=True, tag=11, frozen=True, gc=False):
    """Ask for an exit in the place of others: cancel ``cancels``, wait until they are over, send what then remains.

    At most ``quantity_e9`` goes out, and never more than the position that is left. The named orders are of the same
    account, instrument and side.
    """

    account: Name
    client_order_id: ClientOrderId
    strategy: Name
    instrument: Name
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity_e9: PositiveE9
    cancels: Annotated[list[ClientOrderId], Meta(min_length=1, max_length=LEGS_MAX)]
    price_e9: PriceE9 = 0


class NewOco(Struct, array_like=True, tag=12, frozen=True, gc=False):
    """Ask for two orders of which one cancels the other: a LIMIT order, and a STOP or STOP_LIMIT order behind it.

    Both of one account, strategy, instrument and side. The n-th leg's id is ``<client_order_id>/<n>``, counted from 1.
    The first goes to the venue; the second waits in the engine until its stop price is reached.
    """

    account: Name
    client_order_id: ClientOrderId
    legs: Annotated[list[NewOrder | TermedOrder], Meta(min_length=2, max_length=2)]


Command = NewOrder | CancelOrder | ReplaceOrder | TermedOrder | TrimmableOrder | NewBasket | ExitReplace | NewOco


def order_of(exit_replace: ExitReplace) -> NewOrder:
    """Return the order that an ExitReplace asks for, whole; what goes out may be less."""
    e = exit_replace
    return NewOrder(
        e.account, e.client_order_id, e.strategy, e.instrument, e.side, e.order_type, e.time_in_force, e.quantity_e9,
        e.price_e9, True,
    )  # fmt: skip


command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
