"""Exits in the place of others as people and programs write them: an order with ``cancels``, the ids it replaces.

Same rules as single orders (``protocol.edge``): FIX names, decimal strings, unknown fields refused.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.edge import BODY_BYTES_MAX, Decimal, Identifier, NewOrderRequest, decode_body, to_new_order
from protocol.orders import LEGS_MAX, ExitReplace


class ExitReplaceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An exit in the place of others: they are cancelled first, what then remains of the position is sent."""

    account: Identifier
    strategy: Identifier
    instrument: Identifier
    side: Literal["BUY", "SELL"]
    quantity: Decimal
    cancels: Annotated[list[Identifier], Meta(min_length=1, max_length=LEGS_MAX)]
    order_type: Literal["LIMIT", "MARKET"] = "LIMIT"
    time_in_force: Literal["DAY", "GTC", "IOC"] = "DAY"
    price: Decimal | None = None
    client_order_id: Identifier | None = None
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


_decoder: Final = msgspec.json.Decoder(ExitReplaceRequest, strict=True)


def is_exit_replace(body: bytes) -> bool:
    """Whether a body that should be an order is one: no field or value of a single order can hold this."""
    return b'"cancels"' in body[:BODY_BYTES_MAX]


def decode_exit_replace(body: bytes) -> ExitReplaceRequest:
    """Return the exit in one JSON object.

    Raises:
        FieldError: Naming the field, the value it had and what was expected.
    """
    return decode_body(_decoder, body)


def to_exit_replace(request: ExitReplaceRequest, client_order_id: str) -> ExitReplace:
    """Return the wire command.

    Raises:
        FieldError: If price and order type do not fit, or a value is out of range.
    """
    single = NewOrderRequest(
        request.account, request.strategy, request.instrument, request.side, request.quantity, request.order_type,
        request.time_in_force, request.price,
    )  # fmt: skip
    order = to_new_order(single, client_order_id)
    return ExitReplace(
        order.account, client_order_id, order.strategy, order.instrument, order.side, order.order_type,
        order.time_in_force, order.quantity_e9, request.cancels, order.price_e9,
    )  # fmt: skip
