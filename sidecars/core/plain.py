"""The order that most messages carry, read at a tenth of the cost; whatever is not surely one is left to ``decode``.

Rule: what is read here ``decode`` would read, with the same result (a property holds them equal); nothing is refused.
Where the time goes otherwise: an expression for every text, and two over the body for a name that stands twice. Here
the names are looked at together, and a body without escapes that has as many colons as fields has each field once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET

from protocol.codes import OrderType, Side, TimeInForce
from protocol.edge import PlainRequest
from protocol.errors import NOT_DECODED, FieldError
from protocol.orders import NewOrder
from protocol.units import parse_e9

FIELDS_NEEDED: Final = 6  # of a LIMIT order
CREATED_AT_NS_MAX: Final = 2**63 - 1
_NAME: Final = r"[A-Za-z0-9._:/@+\-]{1,64}"
# A name with a space in it would be one more: so they are counted, too.
_are_three: Final = re.compile(rf"{_NAME}(?: {_NAME}){{2}}", re.ASCII).fullmatch
_are_four: Final = re.compile(rf"{_NAME}(?: {_NAME}){{3}}", re.ASCII).fullmatch
_decode: Final = msgspec.json.Decoder(PlainRequest).decode
_SIDES: Final = {side.name: side for side in Side}
_TIMES: Final = {time.name: time for time in TimeInForce}


def read_plain(body: bytes, find_id: Callable[[str | None], str]) -> tuple[NewOrder, int | None] | None:
    """Return a LIMIT order of a body and when it was made if it says so; None where that is not certain.

    Args:
        body: As it came.
        find_id: Returns the id to use, given the body's own.

    Raises:
        FieldError: Only as ``find_id`` does.
    """
    if b"\\" in body:
        return None
    try:
        order = _decode(body)
        quantity_e9 = parse_e9(order.quantity, "quantity")
        price_e9 = parse_e9(order.price, "price")
    except NOT_DECODED:
        return None
    except FieldError:
        return None
    fields = FIELDS_NEEDED
    own_id, created_at_ns = order.client_order_id, order.created_at_ns
    if own_id is UNSET:
        names = _are_three(f"{order.account} {order.strategy} {order.instrument}")
    else:
        fields += 1
        names = _are_four(f"{order.account} {order.strategy} {order.instrument} {own_id}")
    if created_at_ns is not UNSET:
        fields += 1
        if not 1 <= created_at_ns <= CREATED_AT_NS_MAX:
            return None
    fields += (order.order_type is not UNSET) + (order.time_in_force is not UNSET) + (order.reduce_only is not UNSET)
    if body.count(b":") != fields or quantity_e9 <= 0 or names is None:
        return None
    command = NewOrder(
        order.account,
        find_id(None if own_id is UNSET else own_id),
        order.strategy,
        order.instrument,
        _SIDES[order.side],
        OrderType.LIMIT,
        TimeInForce.DAY if order.time_in_force is UNSET else _TIMES[order.time_in_force],
        quantity_e9,
        price_e9,
        False if order.reduce_only is UNSET else order.reduce_only,
    )
    return command, None if created_at_ns is UNSET else created_at_ns
