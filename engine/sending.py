"""What a numbered command of the outbox is on the wire."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from engine.order import Order, Outgoing, OutgoingKind, Terms
from protocol.venue import Query, SendCancel, SendNew, SendReplace, VenueCommand, Void

NEW: Final = OutgoingKind.NEW
CANCEL: Final = OutgoingKind.CANCEL
REPLACE: Final = OutgoingKind.REPLACE
QUERY: Final = OutgoingKind.QUERY


def command_of(outgoing: Outgoing) -> VenueCommand:
    """Return the message; one is made per command, when it leaves."""
    order = outgoing.order
    kind = outgoing.kind
    if kind is NEW:
        instrument = order.route.instrument
        new = SendNew(
            outgoing.seq, order.order_id, order.account, instrument.name, order.side, order.order_type,
            order.time_in_force, (order.quantity - order.cum) * instrument.quantity_step_e9,
            order.limit_price * instrument.price_step_e9, order.trace_id,
        )  # fmt: skip
        return new if order.terms is None else _termed(new, order, order.terms)
    if kind is CANCEL:
        return SendCancel(outgoing.seq, order.order_id, order.trace_id)
    if kind is REPLACE:
        return _replace(outgoing)
    if kind is QUERY:
        return Query(outgoing.seq, order.order_id, order.trace_id)
    return Void(outgoing.seq)


def _termed(new: SendNew, order: Order, terms: Terms) -> SendNew:
    stop_price_e9 = terms.stop_price * order.route.instrument.price_step_e9
    return replace(new, stop_price_e9=stop_price_e9, expire_at_ns=terms.expire_at_ns, post_only=terms.post_only)


def _replace(outgoing: Outgoing) -> SendReplace:
    order = outgoing.order
    terms = order.terms
    assert terms is not None
    asked = terms.replacement
    assert asked is not None
    assert asked.seq == outgoing.seq
    instrument = order.route.instrument
    return SendReplace(
        outgoing.seq, order.order_id, asked.quantity * instrument.quantity_step_e9,
        asked.price * instrument.price_step_e9, asked.stop_price * instrument.price_step_e9, order.trace_id,
    )  # fmt: skip
