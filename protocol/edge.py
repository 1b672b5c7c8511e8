"""Orders as people and programs write them: JSON objects with FIX names and decimal strings.

The JSON Schema (``protocol.schema``) and the OpenAPI document come from these Structs. Unknown fields are refused; a
JSON number for a price or a quantity is refused, because a number has already lost its decimals (DECISIONS 8).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, Side, TimeInForce
from protocol.errors import FieldError
from protocol.orders import (
    CancelOrder,
    Command,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    TermedOrder,
    TrimmableOrder,
)
from protocol.paper import paper_name
from protocol.session import Outcome
from protocol.texts import outcome_text
from protocol.units import format_e9, parse_e9

BODY_BYTES_MAX: Final = 1 << 20
ORDERS_MAX: Final = 500
VALUE_CHARS_MAX: Final = 64

Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9._:/@+\-]+$(?!\n)",
        description="1 to 64 of A-Z a-z 0-9 . _ : / @ + -",
    ),
]
Decimal = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=24,
        pattern=r"^-?\d{1,10}(\.\d{1,9})?$(?!\n)",
        description="A decimal string, at most 9 decimals",
    ),
]


class NewOrderRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new order.

    ``price`` is needed for LIMIT and STOP_LIMIT, ``stop_price`` for STOP and STOP_LIMIT, ``expire_at_ns`` for GTD; none
    is allowed where it has no meaning. ``post_only``, for LIMIT: rather refused by the venue than to take.
    ``allow_trim``: the risk service may let fewer lots go.
    """

    account: Identifier
    strategy: Identifier
    instrument: Identifier
    side: Literal["BUY", "SELL"]
    quantity: Decimal
    order_type: Literal["LIMIT", "MARKET", "STOP", "STOP_LIMIT"] = "LIMIT"
    time_in_force: Literal["DAY", "GTC", "IOC", "FOK", "GTD"] = "DAY"
    price: Decimal | None = None
    client_order_id: Identifier | None = None
    reduce_only: bool = False
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    stop_price: Decimal | None = None
    expire_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    post_only: bool = False
    allow_trim: bool = False


class PlainRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A LIMIT order as most are, before its texts are looked at: for ``sidecars.core.plain`` only, never a schema.

    What is not given is UNSET, so that it can be counted.
    """

    account: str
    strategy: str
    instrument: str
    side: Literal["BUY", "SELL"]
    quantity: str
    price: str
    order_type: Literal["LIMIT"] | UnsetType = UNSET
    time_in_force: Literal["DAY", "GTC", "IOC", "FOK"] | UnsetType = UNSET
    client_order_id: str | UnsetType = UNSET
    reduce_only: bool | UnsetType = UNSET
    created_at_ns: int | UnsetType = UNSET


class ReplaceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Other terms for an order that works; what is left out stays as it is.

    ``quantity`` is the new total, what has filled included. ``client_order_id`` is the request's own and names the
    order too from then on.
    """

    quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    client_order_id: Identifier | None = None
    created_at_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class OrderResponse(Struct, frozen=True, omit_defaults=False):
    """What became of a command (DECISIONS 14). A replay adds ``duplicate_of`` and ``order_state``.

    ``legs``: the ids of the orders of a basket or an OCO group.
    """

    outcome: str
    client_order_id: str
    account: str
    code: str
    text: str
    order_id: str | None
    checks_passed: int
    position_after: str | None
    position_limit: str | None
    trace_id: str
    seq: int
    mode: str
    durable_in_us: int | None = None
    duplicate_of: str | UnsetType = UNSET
    order_state: str | UnsetType = UNSET
    legs: list[str] | UnsetType = UNSET
    http_status: int | UnsetType = UNSET


class ErrorBody(Struct, frozen=True):
    """What was wrong with a request: a stable code, a line for a person, the field where there is one."""

    code: str
    text: str
    field: str | None = None


class ErrorResponse(Struct, frozen=True):
    """The one shape of every error answer."""

    error: ErrorBody


_new_decoder: Final = msgspec.json.Decoder(NewOrderRequest, strict=True)
_replace_decoder: Final = msgspec.json.Decoder(ReplaceRequest, strict=True)
_Request = TypeVar("_Request", bound=Struct)
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_EXPECTED: Final = {
    "quantity": 'a decimal string such as "0.01"',
    "price": 'a decimal string such as "61800.5"',
    "side": '"BUY" or "SELL"',
    "order_type": '"LIMIT", "MARKET", "STOP" or "STOP_LIMIT"',
    "time_in_force": '"DAY", "GTC", "IOC", "FOK" or "GTD"',
    "expire_at_ns": "a whole number of nanoseconds since 1970 (UTC)",
    "post_only": "true or false",
    "allow_trim": "true or false",
    "stop_price": 'a decimal string such as "61800.5"',
    "reduce_only": "true or false",
    "created_at_ns": "a whole number of nanoseconds since 1970 (UTC)",
}


def decode_new_order(body: bytes) -> NewOrderRequest:
    """Return the order in one JSON object.

    Raises:
        FieldError: Naming the field, the value it had and what was expected.
    """
    return decode_body(_new_decoder, body)


def decode_replace(body: bytes) -> ReplaceRequest:
    """Return the replace in one JSON object; raises as ``decode_new_order``."""
    return decode_body(_replace_decoder, body)


def decode_body(decoder: msgspec.json.Decoder[_Request], body: bytes) -> _Request:
    """Return what one JSON object says; FieldError names the field, the value it had and what was expected."""
    if len(body) > BODY_BYTES_MAX:
        raise FieldError("body", f"{len(body)} bytes", f"at most {BODY_BYTES_MAX} bytes")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        raise _field_error(str(e), body, decoder.type) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise FieldError(
            "body", _shown(body[:VALUE_CHARS_MAX].decode("utf-8", "replace")), f"a JSON object ({e})"
        ) from e


def to_new_order(request: NewOrderRequest, client_order_id: str) -> NewOrder:
    """Return the wire command; ``client_order_id`` is the body's own, or the one derived by the sidecar.

    Raises:
        FieldError: If price and order type do not fit, or a value is out of range.
    """
    quantity_e9 = parse_e9(request.quantity, "quantity")
    if quantity_e9 <= 0:
        raise FieldError("quantity", request.quantity, "a decimal string above 0")
    kind = request.order_type
    price_e9 = _price(request.price, "price", kind, is_needed=kind in {"LIMIT", "STOP_LIMIT"})
    stop_price_e9 = _price(request.stop_price, "stop_price", kind, is_needed=kind in {"STOP", "STOP_LIMIT"})
    is_dated = request.time_in_force == "GTD"
    if is_dated != (request.expire_at_ns is not None):
        raise FieldError(
            "expire_at_ns", str(request.expire_at_ns or "absent"), "a time for GTD orders, and for no others"
        )
    if request.post_only and (kind != "LIMIT" or request.time_in_force in {"IOC", "FOK"}):
        raise FieldError("post_only", "true", "false, but for LIMIT orders that may rest")
    fields = (
        request.account,
        client_order_id,
        request.strategy,
        request.instrument,
        Side[request.side],
        OrderType[request.order_type],
        TimeInForce[request.time_in_force],
        quantity_e9,
        price_e9,
        request.reduce_only,
    )
    if request.allow_trim:
        return TrimmableOrder(*fields, stop_price_e9, request.expire_at_ns or 0, request.post_only)
    if not (stop_price_e9 or is_dated or request.post_only):
        return NewOrder(*fields)  # the bytes of a plain order never change, so its payload hash does not
    return TermedOrder(*fields, stop_price_e9, request.expire_at_ns or 0, request.post_only)


def _price(text: str | None, name: str, kind: str, *, is_needed: bool) -> int:
    if is_needed == (text is not None):
        return 0 if text is None else parse_e9(text, name)
    if is_needed:
        raise FieldError(name, "null", f'a decimal string such as "61800.5" for a {kind} order')
    raise FieldError(name, str(text), f"no {name} for a {kind} order; leave it out or use another order_type")


def to_replace(request: ReplaceRequest, account: str, orig_client_order_id: str, client_order_id: str) -> ReplaceOrder:
    """Return the wire command.

    Raises:
        FieldError: If nothing is asked for, or a value is out of range.
    """
    if request.quantity is None and request.price is None and request.stop_price is None:
        raise FieldError("quantity", "absent", "a new quantity, price or stop_price")
    values = [
        0 if text is None else parse_e9(text, name)
        for name, text in (
            ("quantity", request.quantity), ("price", request.price), ("stop_price", request.stop_price)
        )
    ]  # fmt: skip
    for name, text, value in zip(
        ("quantity", "price", "stop_price"), (request.quantity, request.price, request.stop_price), values, strict=True
    ):
        if text is not None and value <= 0:
            raise FieldError(name, text, "a decimal string above 0")
    return ReplaceOrder(account, client_order_id, orig_client_order_id, *values)


def to_response(outcome: Outcome, command: Command, trace_id: bytes, mode: str, durable_after_ns: int) -> OrderResponse:
    """Return the outcome as the caller sees it; a duplicate repeats the first answer and says so."""
    shown = outcome.first if outcome.kind is OutcomeKind.DUPLICATE and outcome.first is not None else outcome
    is_replay = shown is not outcome
    client_order_id = command.orig_client_order_id if isinstance(command, CancelOrder) else command.client_order_id
    legs = [leg.client_order_id for leg in command.legs] if isinstance(command, NewBasket | NewOco) else None
    return OrderResponse(
        outcome=shown.kind.name,
        client_order_id=client_order_id,
        account=paper_name(command.account) if shown.kind is OutcomeKind.PAPER else command.account,
        code=shown.code.name,
        text=outcome_text(shown),
        order_id=shown.order_id or None,
        checks_passed=shown.checks_passed,
        position_after=None if shown.position_limit_e9 < 0 else format_e9(shown.position_after_e9),
        position_limit=None if shown.position_limit_e9 < 0 else format_e9(shown.position_limit_e9),
        trace_id=trace_id.hex(),
        seq=shown.record_seq,
        mode=mode,
        durable_in_us=None if is_replay else durable_after_ns // 1_000,
        duplicate_of=client_order_id if is_replay else UNSET,
        order_state=outcome.order_status.name if is_replay and legs is None else UNSET,
        legs=UNSET if legs is None else legs,
    )


# INTERNAL is no fault of the caller's; it is journaled, so a repeat hears the same.
_REFUSED_STATUS: Final = {
    Code.AUTH_NOT_PERMITTED: 403, Code.ID_CONFLICT: 409, Code.WRONG_SHARD: 421, Code.INTERNAL: 500,
}  # fmt: skip


def http_status(outcome: Outcome) -> int:
    """Return the HTTP status of an outcome (DESIGN section 5); a duplicate has that of the first answer."""
    shown = outcome.first if outcome.kind is OutcomeKind.DUPLICATE and outcome.first is not None else outcome
    if shown.kind is OutcomeKind.REJECTED:
        return _REFUSED_STATUS.get(shown.code, 422)
    if shown.kind in {OutcomeKind.HELD, OutcomeKind.PAPER} or shown.code is Code.TOMBSTONE:
        return 202
    return 201


def status_name(status: OrderStatus) -> str:
    """Return the FIX name of an order state."""
    return status.name


def _field_error(message: str, body: bytes, kind: type[Struct]) -> FieldError:
    match = _AT.match(message)
    assert match is not None
    what, path = match.group("what"), (match.group("path") or "").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        name = unknown.group(1)
        return FieldError(
            _shown(name),
            _shown(_value(body, name)),
            f"no such field; known: {', '.join(kind.__struct_fields__)}",
        )
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        name = missing.group(1)
        return FieldError(name, "absent", _EXPECTED.get(name, "a value"))
    expected = _EXPECTED.get(path) or re.sub(r", got .*$", "", what.removeprefix("Expected "))
    if not path:
        return FieldError("body", _shown(body[:VALUE_CHARS_MAX].decode("utf-8", "replace")), "a JSON object")
    return FieldError(path, _shown(_value(body, path)), expected)


def _value(body: bytes, name: str) -> str:
    try:
        raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get(name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "unreadable"  # a field was refused before the rest was seen to be no JSON
    if raw is None:
        return "absent"
    return bytes(raw).decode("utf-8", "replace").strip('"')


def _shown(text: str) -> str:
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"
