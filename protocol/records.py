"""What the journal holds. The batch frame that carries it, on disk and on the PUB stream alike: ``protocol.frames``.

One record = one input as received + what was decided about it (DECISIONS 1). Records have no number of their
own: the frame says the number of its first one. Record Structs are ``array_like`` with append-only fields.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Raw, Struct

from protocol.codes import (
    Code,
    Mode,
    OrderStatus,
    OrderType,
    OutcomeKind,
    ReferenceSource,
    Scope,
    Side,
    TimeInForce,
)
from protocol.params import LimitChange
from protocol.replaces import ReplaceDecision, ReplaceUnsent
from protocol.rolls import KeysRetired, SessionRolled
from protocol.session import Facts, Instance, Item
from protocol.statement import Reconciled
from protocol.venue import Capabilities

RECORD_BYTES_MAX: Final = 4 << 20
FORMAT_VERSION: Final = 1


class OrderClass(IntEnum):
    """RISK.md A1. DECISIONS 27: until weights exist, INC = not EXIT and Δ > 0."""

    EXIT = 1
    INC = 2


class ControlAction(IntEnum):
    """What an operator, or the engine itself, did to a scope."""

    HALT = 1
    REDUCE_ONLY = 2
    RESUME = 3
    KILL = 4
    DRAIN = 5
    RESOLVE = 6
    CONFIRM_CLOCK = 7
    FLATTEN = 11  # reduce-only, cancel what is open, exit what is held
    FLATTEN_CANCEL = 12  # what came since, or whose cancel was refused
    FLATTEN_END = 13  # ``reason``: flat, deadline, …
    EXIT_CANCEL = 14  # again, of orders that an exit waits for and whose cancel was refused or lost
    DISCONNECT = 10  # a source was away too long: what came through it is cancelled


class ReportEffect(IntEnum):
    """What a venue report did."""

    APPLIED = 1
    DUPLICATE = 2
    ORDER_UNKNOWN = 3
    OVERFILL = 4
    REFUSED = 5  # a transition that the table does not have: recorded, counted, nothing changed


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


class AcceptedCut(Struct, array_like=True, frozen=True):
    """An operator let the journal end at ``last_seq`` though others had seen more (DESIGN 6.2, DECISIONS 4).

    ``seen``: (who, up to which record; -1 = could not be asked). ``cut_bytes``: of a frame that was torn, 0 = none.
    """

    last_seq: int
    cut_bytes: int
    seen: list[tuple[str, int]]
    reason: str
    operator: str
    accepted_at_ns: int


class Started(Struct, array_like=True, tag=1, frozen=True):
    """An engine took the journal. ``order_id_key`` stands in the first one only; ``trading_date`` is yyyymmdd."""

    epoch: int
    instance: Instance
    mode: Mode
    shard: int
    trading_date: int
    format_version: int
    release: str
    order_id_key: bytes = b""
    accepted_cut: AcceptedCut | None = None


class ParamsSet(Struct, array_like=True, tag=2, frozen=True):
    """The parameters from here on: msgpack ``params.Params``. ``changed``: the one limit an operator changed."""

    content: bytes
    content_hash: bytes
    changed: LimitChange | None = None


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


class Ordered(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """A NewOrder came and was decided. ``seq``: the record's own number, for a reader that comes by position."""

    source: str
    item: Item
    reference: Reference | None
    decision: NewDecision
    seq: int = 0


class CancelDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a CancelOrder.

    ``venue_seq`` 0: nothing goes to the venue. ``voids_seq`` > 0: the order was not yet sent, its number becomes VOID.
    ``order_client_order_id``: the id under which the order came first, where the cancel named another one.
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


class CancelRequested(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """A CancelOrder came and was decided."""

    source: str
    item: Item
    decision: CancelDecision


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


class Reported(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """A venue report came. ``report`` is msgpack ``venue.Report`` as received."""

    venue: str
    report: Raw
    decision: ReportDecision


class VenueChanged(Struct, array_like=True, tag=6, frozen=True):
    """A gateway became READY (``ready``) or was lost. ``received_seq`` is the gateway's durable watermark.

    ``capabilities``: what its venue takes, as it said in its HELLO; None = as before.
    """

    venue: str
    ready: bool
    gateway_instance: bytes
    received_seq: int
    capabilities: Capabilities | None = None


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


class SendDecided(Struct, array_like=True, tag=7, frozen=True, gc=False):
    """A late send passed the send gate (``cancel`` None) or the order was cancelled unsent (DESIGN 6.8)."""

    venue: str
    venue_seq: int
    order_id: str
    code: Code
    cancel: EngineCancel | None = None


class FlattenPlan(Struct, array_like=True, frozen=True):
    """What an operator asked of a flatten.

    Attributes:
        flatten_id: Chosen by who asks, at random: its exits' ids derive from it, and asking twice is one flatten.
        slippage_bp: From the price of the moment, basis points, never beyond the collar; -1 = the collar.
        overrides_halts: Exits pass halts of other scopes too; one of its own scope they always pass.
    """

    flatten_id: str
    within_ns: int
    slippage_bp: int = -1
    overrides_halts: bool = False


class Controlled(Struct, array_like=True, tag=8, frozen=True):
    """A control took effect. ``automatic``: the engine itself did it.

    ``resolved`` for RESOLVE: the final state. For DISCONNECT ``key`` is the source and ``away_ns`` how long it is away;
    ``flatten`` stands in every record of one.
    """

    action: ControlAction
    scope: Scope
    key: str
    operator: str
    reason: str
    automatic: bool
    cancels: list[EngineCancel]
    resolved: ReportDecision | None = None
    away_ns: int = 0
    flatten: FlattenPlan | None = None


class Clocked(Struct, array_like=True, tag=9, frozen=True):
    """The wall clock jumped forward by ``jump_ns``; the engine is in reduce-only until an operator confirms."""

    jump_ns: int


class Adjusted(Struct, array_like=True, tag=10, frozen=True):
    """Account truth from outside: opening positions and cash. ``quantity_e9`` and ``cash_e9`` are set, not added."""

    account: str
    instrument: str
    quantity_e9: int
    price_e9: int
    cash_e9: str
    currency: str
    reason: str
    operator: str = ""


class Failed(Struct, array_like=True, tag=11, frozen=True):
    """``decide`` raised on this input; answered REJECTED(INTERNAL), its account is in reduce-only (DESIGN 6.12)."""

    source: str
    item: Item
    account: str
    text: str
    seq: int = 0


class Queried(Struct, array_like=True, tag=12, frozen=True):
    """Orders sent without a report: UNKNOWN until the venue answers the numbered queries (order_id, venue_seq)."""

    venue: str
    queries: list[tuple[str, int]]


class FillEntered(Struct, array_like=True, tag=44, frozen=True):
    """An operator booked a trade that the venue did not report. ``report`` is msgpack ``venue.Report``, number 0."""

    venue: str
    operator: str
    reason: str
    report: Raw
    decision: ReportDecision


class StateChecked(Struct, array_like=True, tag=50, frozen=True):
    """The engine's own hash of its whole state as the records before this one left it; changes nothing.

    ``layout``: of the fields that are hashed; a replica can compare under the same one only. ``why``: who asked for it.
    """

    state_hash: str
    layout: str
    why: str = ""


class DayOrdersExpired(Struct, array_like=True, tag=41, frozen=True):
    """One step after a roll: of the next ``looked_at`` DAY orders of earlier dates these still worked."""

    looked_at: int
    cancels: list[EngineCancel]


class ReplaceRequested(Struct, array_like=True, tag=20, frozen=True, gc=False):
    """A ReplaceOrder came and was decided."""

    source: str
    item: Item
    reference: Reference | None
    decision: ReplaceDecision
    seq: int = 0


class BasketDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a NewBasket. Refused: ``leg`` is the first that was (from 1; 0 = the whole), ``legs`` is empty."""

    kind: OutcomeKind
    code: Code
    leg: int = 0
    checks_passed: int = 0
    takes_key: bool = True
    facts: Facts | None = None
    legs: list[NewDecision] = []


class BasketOrdered(Struct, array_like=True, tag=60, frozen=True, gc=False):
    """A NewBasket came and was decided; one reference a leg."""

    source: str
    item: Item
    references: list[Reference | None]
    decision: BasketDecision
    seq: int = 0


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


class ExitRequested(Struct, array_like=True, tag=61, frozen=True, gc=False):
    """An ExitReplace came and was decided."""

    source: str
    item: Item
    reference: Reference | None
    decision: ExitDecision
    seq: int = 0


class ExitReleased(Struct, array_like=True, tag=62, frozen=True, gc=False):
    """What an exit waited for is over: it goes out (``cancel`` None), or ends unsent.

    It has ``quantity_e9`` from here on; ``reserved_price_e9`` is the worst that it could trade at.
    """

    venue: str
    venue_seq: int
    account: str
    client_order_id: str
    order_id: str
    reference: Reference | None
    code: Code
    quantity_e9: int = 0
    price_e9: int = 0
    reserved_price_e9: int = 0
    cancel: EngineCancel | None = None


Record = (
    Started
    | ParamsSet
    | Ordered
    | CancelRequested
    | Reported
    | VenueChanged
    | SendDecided
    | Controlled
    | Clocked
    | Adjusted
    | Failed
    | Queried
    | StateChecked
    | SessionRolled
    | DayOrdersExpired
    | KeysRetired
    | ReplaceRequested
    | ReplaceUnsent
    | BasketOrdered
    | Reconciled
    | FillEntered
    | ExitRequested
    | ExitReleased
)

record_encoder: Final = msgspec.msgpack.Encoder()
record_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)
