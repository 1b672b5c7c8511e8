"""Baskets as people and programs write them: an object with ``legs``, all of them taken or none.

Same rules as single orders (``protocol.edge``): FIX names, decimal strings, unknown fields refused. A leg has no id of
its own: the n-th is ``<client_order_id>/<n>``, counted from 1, and is cancelled, replaced and looked up by it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from protocol.edge import BODY_BYTES_MAX, Decimal, Identifier, NewOrderRequest, decode_body, to_new_order
from protocol.errors import FieldError
from protocol.orders import LEGS_MAX, NAME_CHARS_MAX, NewBasket

LEGS_MIN: Final = 2
LEG_SUFFIX_CHARS: Final = 2


class LegRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One order of a basket; account, strategy and id are the basket's."""

    instrument: Identifier
    side: Literal["BUY", "SELL"]
    quantity: Decimal
    order_type: Literal["LIMIT", "MARKET"] = "LIMIT"
    time_in_force: Literal["DAY", "GTC", "IOC"] = "DAY"
    price: Decimal | None = None
    reduce_only: bool = False


class BasketRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Several new orders, all or none."""

    account: Identifier
    strategy: Identifier
    legs: Annotated[list[LegRequest], Meta(min_length=LEGS_MIN, max_length=LEGS_MAX)]
    client_order_id: Identifier | None = None
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A basket whose legs are not read yet, so that a fault in one of them is named with its number."""

    account: Identifier
    strategy: Identifier
    legs: Annotated[list[Raw], Meta(min_length=LEGS_MIN, max_length=LEGS_MAX)]
    client_order_id: Identifier | None = None
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


_envelope_decoder: Final = msgspec.json.Decoder(_Envelope, strict=True)
_leg_decoder: Final = msgspec.json.Decoder(LegRequest, strict=True)


def is_basket(body: bytes) -> bool:
    """Whether a body that should be an order is a basket: no field or value of a single order can hold this."""
    return b'"legs"' in body[:BODY_BYTES_MAX]


def leg_bodies(body: bytes) -> list[bytes]:
    """Return the legs of a basket as they were written.

    Raises:
        FieldError: If it is none.
    """
    return [bytes(leg) for leg in decode_body(_envelope_decoder, body).legs]


def decode_basket(body: bytes) -> BasketRequest:
    """Return the basket in one JSON object.

    Raises:
        FieldError: Naming the leg, the field, the value it had and what was expected.
    """
    envelope = decode_body(_envelope_decoder, body)
    legs = []
    for n, leg in enumerate(envelope.legs, start=1):
        try:
            legs.append(decode_body(_leg_decoder, bytes(leg)))
        except FieldError as e:
            raise FieldError(f"legs[{n}].{e.field}", e.value, e.expected) from e
    return BasketRequest(envelope.account, envelope.strategy, legs, envelope.client_order_id, envelope.created_at_ns)


def to_basket(request: BasketRequest, client_order_id: str) -> NewBasket:
    """Return the wire command.

    Raises:
        FieldError: If a leg's price and order type do not fit, a value is out of range, or the id leaves no room for
            those of the legs.
    """
    longest = NAME_CHARS_MAX - LEG_SUFFIX_CHARS
    if len(client_order_id) > longest:
        text = f"at most {longest} characters: the legs are called <id>/1 and so on"
        raise FieldError("client_order_id", client_order_id, text)
    legs = []
    for n, leg in enumerate(request.legs, start=1):
        order = NewOrderRequest(
            request.account, request.strategy, leg.instrument, leg.side, leg.quantity, leg.order_type,
            leg.time_in_force, leg.price, None, leg.reduce_only,
        )  # fmt: skip
        try:
            legs.append(to_new_order(order, f"{client_order_id}/{n}"))
        except FieldError as e:
            raise FieldError(f"legs[{n}].{e.field}", e.value, e.expected) from e
    return NewBasket(request.account, client_order_id, legs)
