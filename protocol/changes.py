"""Cancels and replaces as messages: what HTTP says with its method and path, a broker's message says in its body.

Same rules as orders (``protocol.edge``): FIX names, decimal strings, unknown fields refused. The order that is meant
stands in ``cancel_client_order_id`` or ``replace_client_order_id``, names that no order has.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol.edge import BODY_BYTES_MAX, Decimal, Identifier, ReplaceRequest, decode_body, to_replace
from protocol.orders import CancelOrder, ReplaceOrder

_CANCEL: Final = b'"cancel_client_order_id"'
_REPLACE: Final = b'"replace_client_order_id"'


class CancelMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """Cancel what of an order still works; it may come before the order."""

    account: Identifier
    cancel_client_order_id: Identifier
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class ReplaceMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """Other terms for an order that works; what is left out stays as it is."""

    account: Identifier
    replace_client_order_id: Identifier
    quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    client_order_id: Identifier | None = None
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


_cancel_decoder: Final = msgspec.json.Decoder(CancelMessage, strict=True)
_replace_decoder: Final = msgspec.json.Decoder(ReplaceMessage, strict=True)


def is_cancel(body: bytes) -> bool:
    """Whether a message is one: no field or value of an order can hold this."""
    return _CANCEL in body[:BODY_BYTES_MAX]


def is_replace(body: bytes) -> bool:
    """Whether a message is one."""
    return _REPLACE in body[:BODY_BYTES_MAX]


def decode_cancel(body: bytes) -> CancelMessage:
    """Return the cancel in one JSON object.

    Raises:
        FieldError: Naming the field, the value it had and what was expected.
    """
    return decode_body(_cancel_decoder, body)


def decode_replace_message(body: bytes) -> ReplaceMessage:
    """Return the replace in one JSON object; raises as ``decode_cancel``."""
    return decode_body(_replace_decoder, body)


def cancel_of(message: CancelMessage) -> CancelOrder:
    """Return the wire command."""
    return CancelOrder(message.account, message.cancel_client_order_id)


def replace_of(message: ReplaceMessage, client_order_id: str) -> ReplaceOrder:
    """Return the wire command.

    Raises:
        FieldError: If nothing is asked for, or a value is out of range.
    """
    terms = ReplaceRequest(message.quantity, message.price, message.stop_price)
    return to_replace(terms, message.account, message.replace_client_order_id, client_order_id)
