"""The control socket: what an operator asks of a running engine (REQ/REP style over DEALER and ROUTER).

Every request carries the token of the file beside the sockets and the operator's name; what changes state is
journaled before it is answered.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from protocol.codes import OrderStatus, Scope
from protocol.explained import Explained
from protocol.money import AccountMoney, Adjust, CompareMoney, MoneyDifference, ShowMoney, ShownFx
from protocol.orders import Name
from protocol.params import LimitChange, LimitName, LimitRow
from protocol.records import FlattenPlan
from protocol.risk_rows import RiskRows

Reason = Annotated[str, Meta(max_length=256)]


class Status(Struct, tag="status", frozen=True, forbid_unknown_fields=True):
    """Ask how the engine is. ``with_hash``: the state's hash too, which reads the whole state and stops orders."""

    with_hash: bool = False


class SetState(Struct, tag="set_state", frozen=True, forbid_unknown_fields=True):
    """``action``: halt, reduce_only, resume or kill (halt and cancel what is open) at one scope."""

    action: str
    scope: Scope
    key: str
    reason: Reason


class Resolve(Struct, tag="resolve", frozen=True, forbid_unknown_fields=True):
    """Say what became of an UNKNOWN order: its final state and, in 1e-9, what was filled and at what average price."""

    order_id: str
    status: OrderStatus
    cum_quantity_e9: int
    avg_price_e9: int
    reason: Reason


class ConfirmClock(Struct, tag="confirm_clock", frozen=True, forbid_unknown_fields=True):
    """Say that the clock is right after a jump; leaves reduce-only."""

    reason: Reason


class StartDrain(Struct, tag="drain", frozen=True, forbid_unknown_fields=True):
    """Finish what is in flight and leave within ``within_ms``."""

    within_ms: int
    reason: Reason


class RollSession(Struct, tag="roll_session", frozen=True, forbid_unknown_fields=True):
    """End the trading day now; ``to_date`` yyyymmdd, 0 = the next trading day of the calendar."""

    to_date: Annotated[int, Meta(ge=0, le=99_991_231)]
    reason: Reason


class Reconcile(Struct, tag="reconcile", frozen=True, forbid_unknown_fields=True):
    """Compare what a venue states with the engine's state; ``venue`` empty = every one. Answered when it was done."""

    venue: str
    reason: Reason


class EnterFill(Struct, tag="enter_fill", frozen=True, forbid_unknown_fields=True):
    """Book a trade that the venue did not report; amounts in 1e-9. Its own report of it later counts no more."""

    order_id: str
    trade_id: Annotated[str, Meta(min_length=1, max_length=64)]
    quantity_e9: int
    price_e9: int
    reason: Reason


class EnterBust(Struct, tag="enter_bust", frozen=True, forbid_unknown_fields=True):
    """Book that the venue took a trade back. Its own report of it later counts no more."""

    order_id: str
    trade_id: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Reason


class ResolveSuspense(Struct, tag="resolve_suspense", frozen=True, forbid_unknown_fields=True):
    """Say whose a fill in suspense is; ``account`` empty: nobody's. ``trade_id`` empty: all beyond the ledger's room.

    ``instrument`` and ``side`` (BUY, SELL) only where the venue did not say them.
    """

    venue: str
    trade_id: str
    reason: Reason
    account: str = ""
    strategy: str = ""
    instrument: str = ""
    side: str = ""


class SuspenseFills(Struct, tag="suspense_fills", frozen=True, forbid_unknown_fields=True):
    """Ask for the fills of orders that nobody knows."""


class BrokerPosition(Struct, array_like=True, frozen=True):
    """One row of a broker's statement; signed quantity, in 1e-9; ``price_e9`` values it, 0 = not known."""

    account: Name
    instrument: Name
    quantity_e9: Annotated[int, Meta(ge=-(2**63 - 1), le=2**63 - 1)]
    price_e9: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class ComparePositions(Struct, tag="compare_positions", frozen=True, forbid_unknown_fields=True):
    """Compare positions with a broker's statement of whole accounts; ``adopt`` journals what differs as theirs."""

    rows: Annotated[list[BrokerPosition], Meta(max_length=10_000)]
    adopt: bool
    reason: Reason


class UnknownOrders(Struct, tag="unknown_orders", frozen=True, forbid_unknown_fields=True):
    """Ask for the orders in state UNKNOWN."""


class SetLimit(Struct, tag="set_limit", frozen=True, forbid_unknown_fields=True):
    """Set one limit in the place of the file's row, from the next order on; ``value`` None lifts it.

    ``value`` as in ``params.LimitRow``: 1e-9 for money and quantities, a plain count for counts.
    """

    name: LimitName
    scope: Scope
    key: str
    value: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None
    reason: Reason
    window_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    reserve_exit: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class ShowLimits(Struct, tag="show_limits", frozen=True, forbid_unknown_fields=True):
    """Ask for every limit row: the file's, and an operator's where there is one."""


class ShowRows(Struct, tag="show_rows", frozen=True, forbid_unknown_fields=True):
    """Ask for all rows of risk parameters as files gave them, and for the trading date they resolve on."""


class ExplainOrder(Struct, tag="explain_order", frozen=True, forbid_unknown_fields=True):
    """Ask what every check would say of an order now; ``command`` is msgpack of a NewOrder, as a sidecar sends it.

    ``created_at_ns`` 0 = now.
    """

    command: Annotated[bytes, Meta(max_length=4_096)]
    source: str
    principal: str
    created_at_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class ApplyRows(Struct, tag="apply_rows", frozen=True, forbid_unknown_fields=True):
    """Put a file's rows in the place of the running ones, all or none; ``is_trial``: only say what would come of it."""

    rows: RiskRows
    file: Annotated[str, Meta(max_length=255)]
    is_trial: bool
    reason: Reason


class CheckState(Struct, tag="check_state", frozen=True, forbid_unknown_fields=True):
    """Journal the hash of the whole state, for the follower to compare; reads the whole state and stops orders."""

    reason: Reason


class StartFlatten(Struct, tag="flatten", frozen=True, forbid_unknown_fields=True):
    """Bring every position of a scope to 0 (``records.FlattenPlan``). Asking again with the id begins nothing new."""

    plan: FlattenPlan  # its bounds: ``engine.flatten``
    scope: Scope
    key: str
    reason: Reason


class AwaitFlatten(Struct, tag="await_flatten", frozen=True, forbid_unknown_fields=True):
    """Ask what became of a flatten; answered when it is over, or after ``wait_ms`` without a result."""

    flatten_id: Name
    wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0


ControlLook = Status | UnknownOrders | ShowLimits | ShowRows | ExplainOrder | AwaitFlatten | SuspenseFills | ShowMoney
"""What changes nothing."""
ControlAct = (
    CheckState
    | SetState
    | Resolve
    | ConfirmClock
    | StartDrain
    | SetLimit
    | ApplyRows
    | StartFlatten
    | RollSession
    | Reconcile
    | EnterFill
    | EnterBust
    | ResolveSuspense
    | ComparePositions
    | Adjust
    | CompareMoney
)
ControlBody = ControlLook | ControlAct


class ControlRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One request; ``token`` proves the right to ask."""

    token: str
    operator: Name
    body: ControlBody


class HaltedScope(Struct, frozen=True):
    """A scope that is not ACTIVE."""

    scope: str
    key: str
    state: str
    reason: str
    operator: str


class VenueStatus(Struct, frozen=True):
    """A venue as the engine sees it."""

    venue: str
    ready: bool
    received_seq: int
    last_seq: int
    unreported: int


class SessionStatus(Struct, frozen=True):
    """A sidecar session."""

    source: str
    sidecar: str
    in_retry: bool


class EngineStatus(Struct, frozen=True):
    """How the engine is. Durations in ns, of the last five seconds."""

    mode: str
    shard: int
    epoch: int
    seq: int
    durable_seq: int
    state_hash: str
    draining: bool
    uptime_ns: int
    recovered_records: int
    recovery_ns: int
    accepted: int
    rejected: int
    duplicates: int
    cancels: int
    fills: int
    failed: int
    rejected_by_code: dict[str, int]
    open_orders: int
    unknown_orders: int
    dedup_keys: int
    dedup_keys_max: int
    trading_date: int
    halted: list[HaltedScope]
    venues: list[VenueStatus]
    sessions: list[SessionStatus]
    receive_to_durable_ns: dict[str, int]
    sync_ns: dict[str, int]
    table_reads: dict[str, int]
    suspense_fills: int = 0
    held_orders: int = 0
    risk_ready: bool = False


class UnknownOrder(Struct, frozen=True):
    """An order that was sent and nobody answered for."""

    order_id: str
    account: str
    client_order_id: str
    instrument: str
    side: str
    quantity_e9: int
    cum_quantity_e9: int


class SuspenseFill(Struct, frozen=True):
    """A fill of an order that nobody knows; empty is what the venue did not say."""

    venue: str
    trade_id: str
    order_id: str
    account: str
    instrument: str
    side: str
    quantity_e9: int
    price_e9: int


class ShownLimit(Struct, frozen=True):
    """One limit: what the file says, what an operator said since; the operator's is the one in force."""

    name: LimitName
    scope: Scope
    key: str
    row: LimitRow | None
    change: LimitChange | None


class LeftOver(Struct, frozen=True):
    """A position that a flatten could not bring to 0: signed, in 1e-9, and what it waited for last."""

    account: str
    instrument: str
    quantity_e9: int | str
    why: str


class FlattenResult(Struct, frozen=True):
    """How a flatten ended: ``why`` is flat, deadline, or who stopped it. ``exits``: orders it made."""

    flatten_id: str
    why: str
    exits: int
    open_orders: int
    left: list[LeftOver]


class VenueReconciled(Struct, frozen=True):
    """What came of the comparison with one venue; ``failed`` says why there was none. ``positions`` -1 = not stated."""

    venue: str
    seq: int
    received_seq: int
    report_seq: int
    orders: int
    fills: int
    positions: int
    differences: list[str]
    more: int
    failed: str = ""


class PositionDifference(Struct, array_like=True, frozen=True):
    """A position that a broker states otherwise; amounts in 1e-9. ``is_stated`` False: the statement lacks the row."""

    account: str
    instrument: str
    ours_e9: int
    theirs_e9: int
    is_stated: bool = True


class ControlReply(Struct, frozen=True):
    """``ok`` and a line for a person; the rest by request."""

    ok: bool
    text: str
    seq: int = 0
    cancels: int = 0
    status: EngineStatus | None = None
    unknown: list[UnknownOrder] | None = None
    limits: list[ShownLimit] | None = None
    flatten: FlattenResult | None = None
    reconciled: list[VenueReconciled] | None = None
    positions: list[PositionDifference] | None = None
    suspense: list[SuspenseFill] | None = None
    suspense_more: int = 0
    accounts: list[AccountMoney] | None = None
    fx: list[ShownFx] | None = None
    money: list[MoneyDifference] | None = None
    rows: RiskRows | None = None
    trading_date: int = 0
    lines: list[str] | None = None
    explained: list[Explained] | None = None


request_decoder: msgspec.msgpack.Decoder[ControlRequest] = msgspec.msgpack.Decoder(ControlRequest)
reply_decoder: msgspec.msgpack.Decoder[ControlReply] = msgspec.msgpack.Decoder(ControlReply)
