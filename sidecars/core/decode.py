"""Bodies into commands and which outcomes a person must see, the same for every source.

Rule: what can't be decoded is permanent (R8): it is named field by field and dead-lettered, never sent to the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from protocol.baskets import BasketRequest, decode_basket, is_basket, leg_bodies, to_basket
from protocol.changes import cancel_of, decode_cancel, decode_replace_message, is_cancel, is_replace, replace_of
from protocol.codes import Code, OutcomeKind
from protocol.edge import NewOrderRequest, ReplaceRequest, decode_new_order, decode_replace, to_new_order
from protocol.errors import FieldError
from protocol.exits import decode_exit_replace, is_exit_replace, to_exit_replace
from protocol.oco import OcoRequest, decode_oco, is_oco, oco_bodies, to_oco
from protocol.orders import CancelOrder, Command, NewBasket, NewOco, NewOrder, ReplaceOrder
from protocol.session import Outcome
from sidecars.core.envelopes import Item, may_be_event, open_message
from sidecars.core.identity import derive_id
from sidecars.core.plain import read_plain
from sidecars.core.source import Delivery

# No value of a valid order can hold a quote, so a quote before a colon ends a name.
_NAME_END: Final = re.compile(rb'"\s*:')
_NAME: Final = re.compile(rb'"([a-z_]+)"\s*:')
# Refusals that a person must see: copied to the dead letters before they are settled (DECISIONS 11).
DEAD_LETTER_CODES: Final = frozenset({Code.AUTH_NOT_PERMITTED, Code.ID_CONFLICT, Code.WRONG_SHARD})


def decode_request(body: bytes) -> NewOrderRequest:
    """Return the order in one JSON object; a name that stands twice is refused, because readers differ on which counts.

    Raises:
        FieldError: Naming the field, the value it had and what was expected.
    """
    request = decode_new_order(body)
    _require_once(body)
    return request


def decode_replace_request(body: bytes) -> ReplaceRequest:
    """Return the replace in one JSON object; raises as ``decode_request``."""
    request = decode_replace(body)
    _require_once(body)
    return request


def decode_basket_request(body: bytes) -> BasketRequest:
    """Return the basket in one JSON object; raises as ``decode_request``."""
    request = decode_basket(body)
    _require_each_once(body, leg_bodies(body))
    return request


def decode_oco_request(body: bytes) -> OcoRequest:
    """Return the OCO group in one JSON object; raises as ``decode_request``."""
    request = decode_oco(body)
    _require_each_once(body, oco_bodies(body))
    return request


def decode_command(body: bytes, find_id: Callable[[str | None], str]) -> tuple[Command, int | None]:
    """Return the order, basket, OCO group or exit of a body, and when it was made if it says so.

    Args:
        body: One JSON object; with ``legs`` it is a basket, with ``oco`` a group, with ``cancels`` an exit in the place
            of those.
        find_id: Returns the id to use, given the body's own.

    Raises:
        FieldError: Naming the field, the value it had and what was expected.
    """
    return read_plain(body, find_id) or _decode_any(body, find_id)


def _decode_any(body: bytes, find_id: Callable[[str | None], str]) -> tuple[Command, int | None]:
    if is_basket(body):
        basket = decode_basket_request(body)
        return to_basket(basket, find_id(basket.client_order_id)), basket.created_at_ns
    if is_oco(body):
        group = decode_oco_request(body)
        return to_oco(group, find_id(group.client_order_id)), group.created_at_ns
    if is_exit_replace(body):
        exit_request = decode_exit_replace(body)
        _require_once(body)
        return to_exit_replace(exit_request, find_id(exit_request.client_order_id)), exit_request.created_at_ns
    request = decode_request(body)
    return to_new_order(request, find_id(request.client_order_id)), request.created_at_ns


def _require_each_once(body: bytes, legs: list[bytes]) -> None:
    """Look at each leg, and at what is around them, for itself."""
    for leg in legs:
        _require_once(leg)
        body = body.replace(leg, b"", 1)
    _require_once(body)


def _require_once(body: bytes) -> None:
    names = _NAME.findall(body)
    if len(set(names)) != len(_NAME_END.findall(body)):
        twice = next((n for i, n in enumerate(names) if n in names[:i]), b"body")
        raise FieldError(twice.decode("ascii"), "a field given twice", "each field once, its name in plain letters")


def items_of(delivery: Delivery, body_bytes_max: int) -> tuple[Sequence[Item], bool]:
    """Return the orders of a delivery, not read yet, and whether it is a batch.

    Raises:
        FieldError: If it is too large, or its envelope can't be opened.
    """
    body = delivery.body
    if len(body) > body_bytes_max:
        raise FieldError("body", f"{len(body)} bytes", f"at most {body_bytes_max} bytes")
    return open_message(body, derived_id_of(delivery), delivery.content_type, delivery.attributes)


def derived_id_of(delivery: Delivery) -> str:
    """Return the id for a body that has none; empty if there is none."""
    parts = delivery.derived_from
    return derive_id(*parts) if parts else delivery.derived_id


def decode_delivery(delivery: Delivery) -> Command:
    """Return the command of a delivery.

    Raises:
        FieldError: If the body is no order, or has no id and the source can derive none, or nobody says when it was
            made.
    """
    if delivery.command is not None:
        return delivery.command
    return _made(delivery, *_decode_message(delivery.body, _Finder(delivery)))


def read_delivery(delivery: Delivery) -> NewOrder | None:
    """Return the order of a delivery that surely is a plain one without an envelope; None = ``decode`` it.

    Raises:
        FieldError: As ``decode_delivery`` does.
    """
    if delivery.command is not None or delivery.refused or may_be_event(delivery.content_type, delivery.attributes):
        return None
    found = read_plain(delivery.body, _Finder(delivery))
    if found is None:
        return None
    command, created_at_ns = found
    _made(delivery, command, created_at_ns)
    return command


class _Finder:
    """Finds the id of a delivery's order."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __call__(self, own: str | None) -> str:
        client_order_id = own or derived_id_of(self._delivery)
        if not client_order_id:
            text = "an id, because this source has no stable one to derive it from"
            raise FieldError("client_order_id", "absent", text)
        return client_order_id


def _made(delivery: Delivery, command: Command, created_at_ns: int | None) -> Command:
    if created_at_ns is not None:
        delivery.created_at_ns = created_at_ns
    elif delivery.created_at_ns <= 0 and not isinstance(command, CancelOrder):  # nothing but identity stops a cancel
        text = "a time in the order, its event or from the broker: how old it is decides whether it may be sent"
        raise FieldError("created_at_ns", "absent", text)
    if delivery.reply_to:
        delivery.command = command  # the reply names the order
    return command


def _decode_message(body: bytes, find_id: Callable[[str | None], str]) -> tuple[Command, int | None]:
    """Return what ``decode_command`` does, and cancels and replaces too, which HTTP tells by its methods."""
    plain = read_plain(body, find_id)
    if plain is not None:
        return plain
    if is_cancel(body):
        cancel = decode_cancel(body)
        _require_once(body)
        return cancel_of(cancel), cancel.created_at_ns
    if is_replace(body):
        replace = decode_replace_message(body)
        _require_once(body)
        return replace_of(replace, find_id(replace.client_order_id)), replace.created_at_ns
    return _decode_any(body, find_id)


def may_use_reserve(command: Command) -> bool:
    """Whether the reserved credits are open to it: cancels and reduce-only orders (DECISIONS 12)."""
    if type(command) is NewOrder:
        return command.reduce_only
    return isinstance(command, CancelOrder) or not new_risk(command)


def new_risk(command: Command) -> int:
    """Return how many of the command's orders may add risk: what is not reduce-only."""
    match command:
        case NewBasket() | NewOco():
            return sum(not leg.reduce_only for leg in command.legs)
        case NewOrder():
            return 0 if command.reduce_only else 1
        case ReplaceOrder():
            return 1
        case _:
            return 0


def is_for_people(outcome: Outcome) -> bool:
    """Whether the outcome goes to the dead letters too."""
    return outcome.kind is OutcomeKind.REJECTED and outcome.code in DEAD_LETTER_CODES
