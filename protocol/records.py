"""The records that the journal holds. The batch frame that carries them, on disk and on PUB alike: ``protocol.frames``.

One record = one input as received + what was decided about it (DECISIONS 1; the second part: ``protocol.decisions``).
Records have no number of their own: the frame says the number of its first one. Record Structs are ``array_like`` with
append-only fields.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Raw, Struct

from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import Code, Mode, Scope
from protocol.decisions import (
    BasketDecision,
    CancelDecision,
    EngineCancel,
    ExitDecision,
    NewDecision,
    Reference,
    ReportDecision,
)
from protocol.held_records import HoldTimed, OrderHeld, RiskChanged, RiskDecided
from protocol.marks import Marked
from protocol.money import CollateralAdjusted, FxMarked
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.paper import PaperOrdered
from protocol.params import LimitChange, RowsApplied
from protocol.replaces import ReplaceDecision, ReplaceUnsent
from protocol.rolls import KeysRetired, SessionRolled
from protocol.session import Instance, Item
from protocol.statement import Reconciled
from protocol.venue import Capabilities

RECORD_BYTES_MAX: Final = 4 << 20
FORMAT_VERSION: Final = 1


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
    EXIT_STALE = 15  # exits of more than is left, after a position shrank outside them
    EXIT_CANCEL = 14  # again, of orders that an exit waits for and whose cancel was refused or lost
    DISCONNECT = 10  # a source was away too long: what came through it is cancelled


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
    """An engine took the journal. ``order_id_key`` stands in the first one only; ``trading_date`` is yyyymmdd.

    ``books_money``: from here on fills are booked as money; releases before that did not, and their state stays so.
    """

    epoch: int
    instance: Instance
    mode: Mode
    shard: int
    trading_date: int
    format_version: int
    release: str
    order_id_key: bytes = b""
    accepted_cut: AcceptedCut | None = None
    books_money: bool = False


class ParamsSet(Struct, array_like=True, tag=2, frozen=True):
    """The parameters from here on: msgpack ``params.Params``.

    ``changed``: the one limit an operator changed; ``applied``: who applied the rows of a file.
    """

    content: bytes
    content_hash: bytes
    changed: LimitChange | None = None
    applied: RowsApplied | None = None


class Ordered(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """A NewOrder came and was decided. ``seq``: the record's own number, for a reader that comes by position."""

    source: str
    item: Item
    reference: Reference | None
    decision: NewDecision
    seq: int = 0


class CancelRequested(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """A CancelOrder came and was decided."""

    source: str
    item: Item
    decision: CancelDecision


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


class ClockUnsynced(Struct, array_like=True, tag=95, frozen=True):
    """What the kernel said of the clock was too far off, or too long ago: the engine is in reduce-only.

    Attributes:
        offset_ns: Of the newest sample; 0 if there was none since the start.
        age_ns: Of that sample.
        offset_max_ns: What was allowed then; ``age_max_ns`` likewise.
    """

    offset_ns: int
    age_ns: int
    offset_max_ns: int
    age_max_ns: int


class Adjusted(Struct, array_like=True, tag=10, frozen=True):
    """Account truth from outside: positions and cash. ``quantity_e9`` and ``cash_e9`` are set, not added.

    ``was_e9``: what the position or the cash was before; empty where nobody compared.
    """

    account: str
    instrument: str
    quantity_e9: int
    price_e9: int
    cash_e9: str
    currency: str
    reason: str
    operator: str = ""
    was_e9: str = ""


class Failed(Struct, array_like=True, tag=11, frozen=True):
    """``decide`` raised on this input; answered REJECTED(INTERNAL), its account is in reduce-only (DESIGN 6.12)."""

    source: str
    item: Item
    account: str
    text: str
    seq: int = 0


class Queried(Struct, array_like=True, tag=12, frozen=True):
    """Orders in doubt: UNKNOWN until the venue answers the numbered queries (order_id, venue_seq).

    Sent without a report before a reconnect; or, ``is_of_cum``, the venue counts another filled quantity of them.
    """

    venue: str
    queries: list[tuple[str, int]]
    is_of_cum: bool = False


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


class BasketOrdered(Struct, array_like=True, tag=60, frozen=True, gc=False):
    """A NewBasket came and was decided; one reference a leg."""

    source: str
    item: Item
    references: list[Reference | None]
    decision: BasketDecision
    seq: int = 0


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
    | ClockUnsynced
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
    | OcoOrdered
    | OcoTriggered
    | OcoReleased
    | TradeAmended
    | SuspenseResolved
    | CollateralAdjusted
    | FxMarked
    | OrderHeld
    | PaperOrdered
    | RiskDecided
    | HoldTimed
    | RiskChanged
    | Marked
)

record_encoder: Final = msgspec.msgpack.Encoder()
record_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)
