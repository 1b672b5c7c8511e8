"""What was decided about an input: the parts of the journal's records that say what became of it.

The records themselves, one for each input, are in ``protocol.records``; what is decided about other terms of an order
is in ``protocol.replaces``. These Structs are ``array_like`` with append-only fields, as the records are.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, ReferenceSource, Side, TimeInForce
from protocol.session import Facts


class OrderClass(IntEnum):
    """RISK.md A1. DECISIONS 27: until weights exist, INC = not EXIT and Δ > 0."""

    EXIT = 1
    INC = 2


class ReportEffect(IntEnum):
    """What a venue report did."""

    APPLIED = 1
    DUPLICATE = 2
    ORDER_UNKNOWN = 3
    OVERFILL = 4
    REFUSED = 5  # a transition that the table does not have: recorded, counted, nothing changed
    TRADE_UNKNOWN = 6  # takes back or corrects a trade that is not remembered here
    CUM_DIFFERS = 7  # applied, and the venue counts another filled quantity than is counted here with it


BOOKED: Final = frozenset({ReportEffect.APPLIED, ReportEffect.OVERFILL, ReportEffect.CUM_DIFFERS})
"""Effects of reports that changed the order; a fill among them is in the position."""


class ReplaceAnswer(IntEnum):
    """What a report said of the replace that was unanswered."""

    NONE = 0
    TAKEN = 1  # the new terms work
    REFUSED = 2  # the old ones work on


class Reference(Struct, array_like=True, frozen=True, gc=False):
    """The price an order was checked against: value, age on the engine's clock, source."""

    price_e9: int
    age_ns: int
    source: ReferenceSource


class NewDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a NewOrder. ``takes_key`` False: refused without taking the dedup key (DECISIONS 11)."""

    kind: OutcomeKind
    code: Code
    order_id: str = ""
    venue_seq: int = 0
    checks_passed: int = 0
    position_after_e9: int = 0
    position_limit_e9: int = -1
    order_class: OrderClass = OrderClass.INC
    takes_key: bool = True
    facts: Facts | None = None


class CancelDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a CancelOrder.

    ``venue_seq`` 0: nothing goes to the venue. ``voids_seq`` > 0: the order was not yet sent, its number becomes VOID.
    ``order_client_order_id``: the id under which the order came first, where the cancel named another one.
    ``other``: the leg that waited, where the cancel named its OCO group.
    """

    kind: OutcomeKind
    code: Code
    order_id: str = ""
    venue_seq: int = 0
    status: OrderStatus = OrderStatus.NONE
    voids_seq: int = 0
    leaves_quantity_e9: int = 0
    cum_quantity_e9: int = 0
    facts: Facts | None = None
    order_client_order_id: str = ""
    other: EngineCancel | None = None


class ReportDecision(Struct, array_like=True, frozen=True, gc=False):
    """What a report did, with the order it did it to.

    ``value_e9``: sum of last_quantity x last_price x multiplier over all fills, in 1e-9 of the currency.
    ``position_e9``: filled position of (account, instrument) after the report. Quantity and prices are the order's
    terms after it.
    """

    effect: ReportEffect
    account: str = ""
    client_order_id: str = ""
    strategy: str = ""
    instrument: str = ""
    side: Side = Side.BUY
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.DAY
    quantity_e9: int = 0
    price_e9: int = 0
    status: OrderStatus = OrderStatus.NONE
    leaves_quantity_e9: int = 0
    cum_quantity_e9: int = 0
    value_e9: int = 0
    position_e9: int = 0
    trace_id: bytes = b""
    stop_price_e9: int = 0
    replace_answer: ReplaceAnswer = ReplaceAnswer.NONE


class EngineCancel(Struct, array_like=True, frozen=True, gc=False):
    """An order that the engine cancels by itself.

    ``venue_seq`` > 0: a cancel goes to the venue under it; 0: never sent, the order's number ``voids_seq`` is VOID.
    Both: the cancel goes, and the order's replace under ``voids_seq``, not yet sent, does not.
    """

    account: str
    client_order_id: str
    order_id: str
    venue_seq: int
    voids_seq: int
    code: Code
    cum_quantity_e9: int = 0


class BasketDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a NewBasket. Refused: ``leg`` is the first that was (from 1; 0 = the whole), ``legs`` is empty."""

    kind: OutcomeKind
    code: Code
    leg: int = 0
    checks_passed: int = 0
    takes_key: bool = True
    facts: Facts | None = None
    legs: list[NewDecision] = []


class ExitDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of an ExitReplace. ``waits``: ids of the orders that must be over before it goes out."""

    kind: OutcomeKind
    code: Code
    order_id: str = ""
    checks_passed: int = 0
    takes_key: bool = True
    facts: Facts | None = None
    cancels: list[EngineCancel] = []
    waits: list[str] = []
