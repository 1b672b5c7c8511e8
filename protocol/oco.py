"""OCO groups as people and programs write them: an order with ``oco``, two of which the one cancels the other.

Same rules as single orders (``protocol.edge``): FIX names, decimal strings, unknown fields refused. The legs have no id
of their own: they are ``<client_order_id>/1``, the LIMIT order, and ``/2``, the stop order.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from protocol.baskets import LEG_SUFFIX_CHARS
from protocol.edge import BODY_BYTES_MAX, Decimal, Identifier, NewOrderRequest, decode_body, to_new_order
from protocol.errors import FieldError
from protocol.orders import NAME_CHARS_MAX, NewOco

TimeNs = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class OcoLimitRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The leg that goes to the venue at once."""

    quantity: Decimal
    price: Decimal
    order_type: Literal["LIMIT"] = "LIMIT"
    time_in_force: Literal["DAY", "GTC", "GTD"] = "DAY"
    expire_at_ns: TimeNs | None = None
    post_only: bool = False
    reduce_only: bool = False


class OcoStopRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The leg that waits in the engine until its stop price is reached."""

    quantity: Decimal
    stop_price: Decimal
    order_type: Literal["STOP", "STOP_LIMIT"] = "STOP"
    price: Decimal | None = None
    time_in_force: Literal["DAY", "GTC", "GTD"] = "DAY"
    expire_at_ns: TimeNs | None = None
    reduce_only: bool = False


class OcoRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Two orders of which the one cancels the other; a target and a stop, for instance."""

    account: Identifier
    strategy: Identifier
    instrument: Identifier
    side: Literal["BUY", "SELL"]
    oco: tuple[OcoLimitRequest, OcoStopRequest]
    client_order_id: Identifier | None = None
    created_at_ns: TimeNs | None = None


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A group whose legs are not read yet, so that a fault in one of them is named with its number."""

    account: Identifier
    strategy: Identifier
    instrument: Identifier
    side: Literal["BUY", "SELL"]
    oco: Annotated[list[Raw], Meta(min_length=2, max_length=2)]
    client_order_id: Identifier | None = None
    created_at_ns: TimeNs | None = None


_envelope_decoder: Final = msgspec.json.Decoder(_Envelope, strict=True)
_limit_decoder: Final = msgspec.json.Decoder(OcoLimitRequest, strict=True)
_stop_decoder: Final = msgspec.json.Decoder(OcoStopRequest, strict=True)
_NAMED: Final = re.compile(rb'"oco"\s*:')


def is_oco(body: bytes) -> bool:
    """Whether a body that should be an order is a group: the value of no field can hold a name and its colon."""
    return _NAMED.search(body[:BODY_BYTES_MAX]) is not None


def oco_bodies(body: bytes) -> list[bytes]:
    """Return the legs of a group as they were written.

    Raises:
        FieldError: If it is none.
    """
    return [bytes(leg) for leg in decode_body(_envelope_decoder, body).oco]


def decode_oco(body: bytes) -> OcoRequest:
    """Return the group in one JSON object.

    Raises:
        FieldError: Naming the leg, the field, the value it had and what was expected.
    """
    envelope = decode_body(_envelope_decoder, body)
    try:
        limit = decode_body(_limit_decoder, bytes(envelope.oco[0]))
    except FieldError as e:
        raise _of_leg(1, e) from e
    try:
        stop = decode_body(_stop_decoder, bytes(envelope.oco[1]))
    except FieldError as e:
        raise _of_leg(2, e) from e
    return OcoRequest(
        envelope.account, envelope.strategy, envelope.instrument, envelope.side, (limit, stop),
        envelope.client_order_id, envelope.created_at_ns,
    )  # fmt: skip


def to_oco(request: OcoRequest, client_order_id: str) -> NewOco:
    """Return the wire command.

    Raises:
        FieldError: If a leg's price and order type do not fit, a value is out of range, or the id leaves no room for
            those of the legs.
    """
    longest = NAME_CHARS_MAX - LEG_SUFFIX_CHARS
    if len(client_order_id) > longest:
        text = f"at most {longest} characters: the legs are called <id>/1 and <id>/2"
        raise FieldError("client_order_id", client_order_id, text)
    limit, stop = request.oco
    names = request.account, request.strategy, request.instrument, request.side
    orders = (
        NewOrderRequest(
            *names, limit.quantity, "LIMIT", limit.time_in_force, limit.price, None, limit.reduce_only,
            expire_at_ns=limit.expire_at_ns, post_only=limit.post_only,
        ),
        NewOrderRequest(
            *names, stop.quantity, stop.order_type, stop.time_in_force, stop.price, None, stop.reduce_only,
            stop_price=stop.stop_price, expire_at_ns=stop.expire_at_ns,
        ),
    )  # fmt: skip
    legs = []
    for n, order in enumerate(orders, start=1):
        try:
            legs.append(to_new_order(order, f"{client_order_id}/{n}"))
        except FieldError as e:
            raise _of_leg(n, e) from e
    return NewOco(request.account, client_order_id, legs)


def _of_leg(n: int, error: FieldError) -> FieldError:
    return FieldError(f"oco[{n}].{error.field}", error.value, error.expected)
