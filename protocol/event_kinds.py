"""The kinds of events: what a reader of the journal or of the PUB stream is told. Made by ``protocol.events``.

An event is (seq, n): the record's number and its place in it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from protocol.amend_events import AmendEvent, SuspenseEvent
from protocol.codes import Code, ExecType, Liquidity, OrderStatus, OrderType, Scope, Side, TimeInForce
from protocol.decisions import Reference
from protocol.records import ControlAction
from protocol.session import Facts


class OrderEvent(Struct, array_like=True, tag=1, frozen=True):
    """A new order was taken (PENDING_NEW; SUSPENDED, HELD: it waits) or refused (REJECTED, ``code`` and ``facts``)."""

    seq: int
    n: int
    at_ns: int
    exec_type: ExecType
    account: str
    client_order_id: str
    order_id: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity_e9: int
    price_e9: int
    reduce_only: bool
    status: OrderStatus
    code: Code
    facts: Facts | None
    reference: Reference | None
    source: str
    principal: str
    created_at_ns: int
    trace_id: bytes
    takes_key: bool = True


class StatusEvent(Struct, array_like=True, tag=2, frozen=True):
    """An order changed without a fill, or a cancel was refused; ``facts`` may say why.

    ``quantity_e9`` and ``price_e9`` are its terms from here on; 0 where no report says them. ``order_id`` is empty for
    a tombstone or a refused cancel of no order.
    """

    seq: int
    n: int
    at_ns: int
    exec_type: ExecType
    account: str
    client_order_id: str
    order_id: str
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
    code: Code
    venue: str = ""
    venue_order_id: str = ""
    exch_ns: int = 0
    changes_order: bool = True
    facts: Facts | None = None
    quantity_e9: int = 0
    price_e9: int = 0


class TradeEvent(Struct, array_like=True, tag=3, frozen=True):
    """A fill. ``position_e9`` is the filled position of (account, instrument) after it.

    ``quantity_e9`` and ``price_e9`` are the order's terms where the fill says that they changed, else 0.
    """

    seq: int
    n: int
    at_ns: int
    account: str
    client_order_id: str
    order_id: str
    strategy: str
    instrument: str
    side: Side
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
    value_e9: int
    last_quantity_e9: int
    last_price_e9: int
    trade_id: str
    venue: str
    venue_order_id: str
    liquidity: Liquidity
    fee_e9: int
    currency: str
    exch_ns: int
    position_e9: int
    trace_id: bytes
    quantity_e9: int = 0
    price_e9: int = 0


class ControlEvent(Struct, array_like=True, tag=4, frozen=True):
    """An operator or the engine changed the state of a scope."""

    seq: int
    n: int
    at_ns: int
    action: ControlAction
    scope: Scope
    key: str
    operator: str
    reason: str
    automatic: bool


class AdjustEvent(Struct, array_like=True, tag=5, frozen=True):
    """A position or cash was set from outside."""

    seq: int
    n: int
    at_ns: int
    account: str
    instrument: str
    quantity_e9: int
    price_e9: int
    cash_e9: str
    currency: str
    reason: str


class SystemEvent(Struct, array_like=True, tag=6, frozen=True):
    """Something about the engine itself: ``kind`` is the record's name, ``text`` says what."""

    seq: int
    n: int
    at_ns: int
    kind: str
    text: str


class ReplaceEvent(Struct, array_like=True, tag=7, frozen=True):
    """Other terms were asked of an order: sent (PENDING_REPLACE), or refused (REPLACE_REJECT, ``code`` says why).

    ``client_order_id`` is the request's own, ``order_client_order_id`` the one under which the order came first; empty
    where no order was meant. ``cancels``: what is left of the order is cancelled instead (PENDING_CANCEL).
    """

    seq: int
    n: int
    at_ns: int
    exec_type: ExecType
    account: str
    client_order_id: str
    orig_client_order_id: str
    order_client_order_id: str
    order_id: str
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
    quantity_e9: int
    price_e9: int
    code: Code
    facts: Facts | None
    reference: Reference | None
    source: str
    principal: str
    trace_id: bytes
    takes_key: bool


Event = (
    ReplaceEvent | OrderEvent | StatusEvent | TradeEvent | ControlEvent | AdjustEvent | SystemEvent | AmendEvent
    | SuspenseEvent
)  # fmt: skip

event_encoder: Final = msgspec.msgpack.Encoder()
