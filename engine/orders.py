"""New orders and cancels: ``decide_*`` reads, ``apply_*`` writes (DESIGN section 7).

The hot path. ``decide_new`` leaves what it looked up (key, slot, view) in the scratch of the ``Orders`` object, and
``apply_ordered`` of the same decision takes it from there; recovery calls ``apply_ordered`` alone, which looks it up.
Fields of what was decoded are read once and all together (``take_item``, ``View.take``): compiled, each by itself would
be a generic look-up of some hundred instructions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from engine.breaches import halt_breach, halt_loop
from engine.dedup import NO_PAYLOAD, ORDER_ID_BYTES, payload_hash, value_of
from engine.group import Group
from engine.order import Order, OutgoingKind, Terms
from engine.paper_scopes import is_paper_key
from engine.permit import Permit
from engine.refusals import CHECKS_ALL, COMPLETE_CHECKS_ALL, ENVELOPE_CHECKS, refused_new
from engine.state import State
from engine.venue_state import VenueState
from protocol.codes import Code, Mode, OrderStatus, OrderType, OutcomeKind, RetryReason, Scope, Side
from protocol.decisions import CancelDecision, EngineCancel, NewDecision, OrderClass, Reference
from protocol.orders import CancelOrder, NewOrder, TermedOrder
from protocol.records import CancelRequested, Ordered
from protocol.session import Facts, Item
from protocol.units import INT64_MAX
from risk.gate.exposure import Route
from risk.gate.fused import first_complete_refusal, first_refusal
from risk.gate.ratio_checks import count_message, count_new
from risk.gate.remembering import remember
from risk.gate.termed import GTD, STOP, first_termed_refusal
from risk.gate.view import View

ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
OK: Final = Code.OK
BUY: Final = Side.BUY
EXIT: Final = OrderClass.EXIT
INC: Final = OrderClass.INC
PENDING_NEW: Final = OrderStatus.PENDING_NEW
SUSPENDED: Final = OrderStatus.SUSPENDED
HELD: Final = OrderStatus.HELD
CANCELED: Final = OrderStatus.CANCELED
PENDING_NEW_BITS: Final = value_of(0, OrderStatus.PENDING_NEW)
REJECTED_BITS: Final = value_of(0, OrderStatus.REJECTED)
NEW: Final = OutgoingKind.NEW
MARKET: Final = OrderType.MARKET
# Names of their own: compiled, what another module holds is looked up at each use.
_new_order: Final[type[NewOrder]] = NewOrder
_decided: Final[type[NewDecision]] = NewDecision
DATE_DIGITS: Final = 7


class Replay(NamedTuple):
    """The key is known with the same content: answer the outcome of the record at ``position``."""

    position: int
    status: OrderStatus


class Defer(NamedTuple):
    """Not taken, nothing journaled: the session is told to come again."""

    reason: RetryReason


class Breach(NamedTuple):
    """The gate refuses it with a code that ``Holds`` or ``Papers`` goes on with, or its key is paper."""

    code: Code
    view: View
    id_key: bytes


class Orders:
    """Decides and applies commands over one State."""

    __slots__ = (
        "_command", "_created_at_ns", "_digest", "_prefix", "_slot", "_state", "_suffix", "_suffix_date", "_trace_id",
        "_venue", "_venue_seq", "accepted", "after_e9", "checks_passed", "limit_e9", "new_id", "taken", "view",
    )  # fmt: skip

    def __init__(self, state: State) -> None:
        self._state = state
        self.view = View()
        # How the order came that ``take`` got.
        self.taken: Item | None = None
        self._created_at_ns, self._trace_id = 0, b""
        self._command: Any = b""
        # What decide_new looked up for the order it just accepted, and said of it.
        self.accepted: NewDecision | None = None
        self.after_e9 = self.limit_e9 = self.checks_passed = self._venue_seq = self._slot = 0
        self._digest, self.new_id = b"", ""
        self._venue: VenueState | None = None
        self._prefix = "P-"
        self._suffix = ""
        self._suffix_date = 0

    def take_identity(self) -> None:
        """Take the mode from the state; after the first record."""
        self._prefix = "P-" if self._state.mode is Mode.PAPER else ""
        self._venue = None

    def take_params(self) -> None:
        """Take what is the same for every order from the parameters; after they changed."""
        params = self._state.params
        assert params is not None
        self.view.order_age_max_ns = params.order_age_max_ns
        self.view.skew_max_ns = params.skew_max_ns

    def order_id(self, key: bytes, trading_date: int, leg: int = 0, attempt: int = 0) -> str:
        """Return the id of (account, client_order_id, leg, trading date, attempt) (DESIGN 6.7).

        ``key`` is 12 bytes of the keyed hash of the first two; the others stand behind it in hexadecimal: leg below
        16 and attempt below 256 in three digits, so that the id has at most 36 characters (Binance's bound).
        """
        if trading_date != self._suffix_date:
            self._suffix_date = trading_date
            self._suffix = f"{trading_date:0{DATE_DIGITS}x}"
        order_id = f"{self._prefix}{key.hex()}{self._suffix}"
        if not leg and not attempt:
            return order_id
        assert 0 <= leg < 16
        assert 0 <= attempt < 256
        return f"{order_id}{leg:x}{attempt:02x}"

    def date_of(self, order_id: str) -> int:
        """Return the trading date of acceptance that an order's id holds."""
        start = len(self._prefix) + 2 * ORDER_ID_BYTES
        return int(order_id[start : start + DATE_DIGITS], 16)

    def dates_of(self, order_ids: Iterable[str]) -> list[int]:
        """Return the trading dates of acceptance of some orders, each once, newest first."""
        start = len(self._prefix) + 2 * ORDER_ID_BYTES
        found = {order_id[start : start + DATE_DIGITS] for order_id in order_ids}
        return sorted({int(digits, 16) for digits in found}, reverse=True)

    def take_item(self, item: Item, created_at_ns: int, trace_id: bytes, command: Raw) -> None:
        """Take how the next order came: the fields of the item that deciding and applying need."""
        self.taken = item
        self._created_at_ns, self._trace_id, self._command = created_at_ns, trace_id, command

    def find_route(self, permit: Permit | None, order: NewOrder) -> Route | Code:
        """Return where the order goes, or why it goes nowhere.

        Args:
            permit: Of (source, principal); None = the source may not speak for the principal.
            order: Its account, strategy and instrument.
        """
        if permit is None or not permit.may_trade(order.account, order.strategy):
            return Code.AUTH_NOT_PERMITTED
        state = self._state
        if state.belongs_elsewhere(order.account) is not None:  # routes are remembered, so the hot path never asks
            return Code.WRONG_SHARD
        if order.account not in state.listed[0]:
            return Code.ACCOUNT_UNKNOWN
        if order.strategy not in state.listed[1]:
            return Code.STRATEGY_UNKNOWN
        if order.instrument not in state.instruments:
            return Code.INSTR_UNKNOWN
        # A route is a look-up kept, no state of its own until an order is applied to it.
        route = state.route(order.account, order.strategy, order.instrument)
        if is_paper_key(state.routes, order):
            return Code.PAPER_KEY
        permit.remember(route)
        return route

    def decide_new(
        self,
        order: NewOrder,
        item: Item,
        route: Route | Code,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> NewDecision | Replay | Defer | Breach:
        """Say what happens to a new order.

        Args:
            order: The command.
            item: How it came; its command's bytes are what the payload hash covers.
            route: What ``find_route`` found.
            now_ns: The batch's clock read, UTC nanoseconds.
            reference: Price the order is checked against; None = no fresh one.
            defer: Why new risk can't be taken now (drain, disk, session in RETRY); exits pass.
        """
        if type(route) is not Route:
            assert isinstance(route, Code)
            return self._refuse_unrouted(order, item, route)
        self.accepted = None
        if self.taken is not item:
            self.take_item(item, item.created_at_ns, item.trace_id, item.command)
        view = self.view
        if view.taken is not order:
            view.take(order)
        state = self._state
        dedup = state.dedup
        self._digest, low, high, id_key = state.keys.parts(view.account_name, view.client_order_id)
        slot = dedup.find_parts(self._digest, low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        view.look(state.book, order, self._created_at_ns, route, now_ns, reference)
        is_plain = type(order) is _new_order
        if not is_plain:
            _look_terms(view, order)
        instrument = route.instrument
        venue = self._venue
        if venue is None or venue.name != instrument.venue:
            venue = self._venue = state.venues[instrument.venue]
        if defer is not None or dedup.keys >= dedup.keys_max or not venue.ready:
            deferred = self.deferred(view, venue, defer)
            if deferred is not None:
                return deferred
        if is_plain:
            code = first_complete_refusal(view) if route.is_complete else first_refusal(view)
        else:
            code = first_termed_refusal(view)
        if code is not OK:
            return Breach(code, view, id_key) if code in state.risk.routed else refused_new(code, view, order)
        self._slot = slot
        order_id = self.new_id = self.order_id(id_key, state.trading_date)
        after_e9 = view.reach * instrument.quantity_step_e9
        limit_e9 = route.limits.position_e9
        self.after_e9 = after_e9 = after_e9 if view.side is BUY else -after_e9
        self.limit_e9 = limit_e9 = limit_e9 if limit_e9 != INT64_MAX else -1
        self.checks_passed = checks = COMPLETE_CHECKS_ALL if route.is_complete else CHECKS_ALL
        self._venue_seq = venue_seq = venue.last_seq + 1
        decided = self.accepted = _decided(
            ACCEPTED, OK, order_id, venue_seq, checks, after_e9, limit_e9, EXIT if view.is_exit else INC
        )
        return decided

    def apply_ordered(self, record: Ordered, order: NewOrder, position: int, now_ns: int) -> None:
        """Write what ``decide_new`` decided."""
        decision = record.decision
        view = self.view
        if decision is self.accepted:  # what it says and where it goes was left here
            self.accepted = None
            self._open(record.source, order, self._trace_id, view.is_exit, position, now_ns)
            return
        if not decision.takes_key:
            return
        item, state = record.item, self._state
        self.take_item(item, item.created_at_ns, item.trace_id, item.command)
        self._digest, low, high, _ = state.keys.parts(order.account, order.client_order_id)
        self._slot = state.dedup.find_parts(self._digest, low, high)
        if decision.kind is not ACCEPTED:
            self._take_key(position | REJECTED_BITS)
            if decision.code is Code.LOOP_INTENT or decision.code is Code.RATIO_OTR:
                halt_loop(state, order, decision.code, decision.facts)
            elif state.risk.halts and not is_paper_key(state.routes, order):
                halt_breach(state, decision.code, decision.facts, order.account)
            return
        route = state.route(order.account, order.strategy, order.instrument)
        self._venue = state.venues[route.instrument.venue]
        view.look(state.book, order, item.created_at_ns, route, now_ns, record.reference)
        if type(order) is not _new_order:
            _look_terms(view, order)
        self.new_id, self._venue_seq = decision.order_id, decision.venue_seq
        self._open(record.source, order, item.trace_id, decision.order_class is EXIT, position, now_ns)

    def _take_key(self, value: int) -> int:
        """Give the key in hand its command's hash and a value; return its slot."""
        slot = self._slot
        if slot < 0:
            slot = -1 - slot
            self._state.dedup.take(slot, self._digest, self._command, value)
        else:  # the tombstone of a cancel that came first; or, in a table of another size, a key that had left already
            self._state.dedup.replace(slot, payload_hash(self._command), value)
        return slot

    def _open(self, source: str, order: NewOrder, trace_id: bytes, is_exit: bool, position: int, now_ns: int) -> None:
        """Open the order in hand: in the view, in the dedup table, at its venue."""
        view, venue, state, venue_seq = self.view, self._venue, self._state, self._venue_seq
        assert venue is not None
        slot = self._take_key(position | PENDING_NEW_BITS)
        route, price, order_id = view.route, view.price, self.new_id
        opened = Order(
            route, view.side, price, view.quantity, view.value_e9, route.account.name, view.client_order_id,
            order_id, view.order_type, view.time_in_force, PENDING_NEW, view.quantity,
            price if view.order_type is not MARKET else 0, view.reduce_only, venue_seq, now_ns,
            view.created_at_ns, trace_id, slot,
        )  # fmt: skip
        opened.source = source
        if is_exit:
            opened.is_exit = True
        if type(order) is not _new_order:
            _take_terms(opened, view)
        state.orders[order_id] = opened
        state.book.open(opened, now_ns)
        venue.add(venue_seq, NEW, opened, now_ns)
        if route.is_complete:
            remember(view, now_ns)
            count_new(view)

    def decide_cancel(self, command: CancelOrder, permit: Permit | None) -> CancelDecision | Defer:
        """Say what happens to a cancel: idempotent by state, never refused by a limit (DECISIONS 10, RISK.md A7.3)."""
        if permit is None or not permit.may_use(command.account):
            return CancelDecision(REJECTED, Code.AUTH_NOT_PERMITTED)
        state = self._state
        if state.shards is not None and (elsewhere := state.belongs_elsewhere(command.account)) is not None:
            return CancelDecision(REJECTED, Code.WRONG_SHARD, facts=elsewhere)
        if command.account not in state.accounts:
            return CancelDecision(REJECTED, Code.ACCOUNT_UNKNOWN)
        low, high, id_key = state.keys.key(command.account, command.orig_client_order_id)
        order = self.find_order(id_key)
        if order is not None:
            return self._decide_live_cancel(order, command.orig_client_order_id)
        if state.groups and (command.account, command.orig_client_order_id) in state.groups:
            return self._decide_group_cancel(state.groups[command.account, command.orig_client_order_id])
        slot = state.dedup.find(low, high)
        if slot < 0:
            if state.dedup.is_exhausted:
                return Defer(RetryReason.DEDUP_FULL)
            return CancelDecision(ACCEPTED, Code.TOMBSTONE, status=OrderStatus.TOMBSTONE)
        _, _, status = state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return CancelDecision(ACCEPTED, Code.TOMBSTONE, status=status)
        return CancelDecision(REJECTED, Code.ORDER_TERMINAL, status=status)

    def find_order(self, id_key: bytes) -> Order | None:
        """Return the open order that the keyed hash of (account, client_order_id) names, first id or a later one."""
        state = self._state
        # An open order is found by its id, which holds its trading date: today's at once, a carried one below.
        order = state.orders.get(self.order_id(id_key, state.trading_date))
        if order is None and state.renamed:
            order = state.renamed.get(id_key)
        if order is None:
            for trading_date in state.day.past_dates:
                order = state.orders.get(self.order_id(id_key, trading_date))
                if order is not None:
                    break
        return order

    def _decide_live_cancel(self, order: Order, named: str) -> CancelDecision:
        step = order.route.instrument.quantity_step_e9
        leaves_e9, cum_e9 = (order.quantity - order.cum) * step, order.cum * step
        first = "" if named == order.client_order_id else order.client_order_id
        if order.status is SUSPENDED or order.status is HELD:  # at no venue: over at once
            return CancelDecision(ACCEPTED, OK, order.order_id, 0, CANCELED, order_client_order_id=first)
        if order.cancel_seq:
            return CancelDecision(ACCEPTED, OK, order.order_id, 0, order.status, 0, leaves_e9, cum_e9, None, first)
        venue = self._state.venues[order.route.instrument.venue]
        status = order.status if order.status is OrderStatus.UNKNOWN else OrderStatus.PENDING_CANCEL
        seq = venue.last_seq + 1
        return CancelDecision(ACCEPTED, OK, order.order_id, seq, status, 0, leaves_e9, cum_e9, None, first)

    def _decide_group_cancel(self, group: Group) -> CancelDecision:
        """Cancel what is open of an OCO group: the leg at the venue there, the one that waits is over at once."""
        state = self._state
        first, second = state.orders.get(group.first), state.orders.get(group.second)
        order = first or second
        assert order is not None, f"group {group.client_order_id} has no open order"
        decision = self._decide_live_cancel(order, group.client_order_id)
        if first is None or second is None:
            return decision
        other = EngineCancel(second.account, second.client_order_id, second.order_id, 0, 0, OK)
        return replace(decision, other=other)

    def apply_cancel(self, record: CancelRequested, command: CancelOrder, position: int, now_ns: int) -> None:
        """Write what ``decide_cancel`` decided."""
        decision, state = record.decision, self._state
        if decision.kind is not ACCEPTED:
            return
        if decision.code is Code.TOMBSTONE:
            low, high, _ = state.keys.key(command.account, command.orig_client_order_id)
            slot = state.dedup.find(low, high)
            if slot < 0:
                state.dedup.insert(-1 - slot, low, high, NO_PAYLOAD, value_of(position, OrderStatus.TOMBSTONE))
            return
        if decision.other is not None:
            self._end_waiting(decision.other.order_id)
        if decision.status is CANCELED:
            self._end_waiting(decision.order_id)
        elif decision.venue_seq:
            self.cancel_at_venue(state.orders[decision.order_id], decision.venue_seq, now_ns)

    def _end_waiting(self, order_id: str) -> None:
        state, order = self._state, self._state.orders[order_id]
        state.set_status(order, CANCELED)
        state.close(order)

    def cancel_at_venue(self, order: Order, venue_seq: int, now_ns: int) -> None:
        """Number a cancel and put the order into PENDING_CANCEL (an UNKNOWN one stays UNKNOWN)."""
        state = self._state
        order.cancel_seq = venue_seq
        count_message(order.route, order.limit_price)
        if order.status is not OrderStatus.UNKNOWN:
            state.set_status(order, OrderStatus.PENDING_CANCEL)
        state.venues[order.route.instrument.venue].add(venue_seq, OutgoingKind.CANCEL, order, now_ns)

    def _refuse_unrouted(self, order: NewOrder, item: Item, code: Code) -> NewDecision | Replay | Defer | Breach:
        if code is Code.AUTH_NOT_PERMITTED:
            return NewDecision(REJECTED, code, checks_passed=1, takes_key=False)
        if code is Code.WRONG_SHARD:  # no key: the right shard decides this very order
            elsewhere = self._state.belongs_elsewhere(order.account)
            return NewDecision(REJECTED, code, checks_passed=1, takes_key=False, facts=elsewhere)
        low, high, id_key = self._state.keys.key(order.account, order.client_order_id)
        slot = self._state.dedup.find(low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        if code is Code.PAPER_KEY:
            return Breach(code, self.view, id_key)
        if self._state.dedup.is_full:  # the reserve is for cancels and exits, not for refusals
            return Defer(RetryReason.DEDUP_FULL)
        passed, scope, key = {
            Code.ACCOUNT_UNKNOWN: (2, Scope.ACCOUNT, order.account),
            Code.STRATEGY_UNKNOWN: (3, Scope.STRATEGY, order.strategy),
            Code.INSTR_UNKNOWN: (4, Scope.INSTRUMENT, order.instrument),
        }[code]
        return NewDecision(REJECTED, code, checks_passed=passed, facts=Facts(scope=scope, key=key))

    def _decide_known(self, slot: int, item: Item) -> NewDecision | Replay:
        payload, position, status = self._state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return NewDecision(REJECTED, Code.CANCELLED_BEFORE_ARRIVAL, checks_passed=ENVELOPE_CHECKS - 1)
        if payload != payload_hash(item.command):
            return NewDecision(REJECTED, Code.ID_CONFLICT, checks_passed=ENVELOPE_CHECKS - 1, takes_key=False)
        return Replay(position, status)

    def deferred(self, view: View, venue: VenueState, defer: RetryReason | None) -> Defer | NewDecision | None:
        """Return why an order can't be decided now, or not any more; None = it can."""
        if self._state.dedup.is_full and (not view.is_exit or self._state.dedup.is_exhausted):
            return Defer(RetryReason.DEDUP_FULL)  # first: a refusal takes a key too
        if not venue.ready:
            params = self._state.params
            assert params is not None
            if view.now_ns - venue.changed_ns >= params.venue_wait_ns:
                return NewDecision(REJECTED, Code.VENUE_DOWN, checks_passed=ENVELOPE_CHECKS)
            return Defer(RetryReason.VENUE_NOT_READY)
        if defer is not None and not view.is_exit:
            return Defer(defer)
        return None


def _look_terms(view: View, order: NewOrder) -> None:
    assert isinstance(order, TermedOrder)
    view.look_terms(order.stop_price_e9, order.expire_at_ns, order.post_only)


def _take_terms(opened: Order, view: View) -> None:
    """Give an order what few have."""
    opened.terms = Terms(view.stop_price, view.expire_at_ns if view.time_in_force is GTD else 0, view.post_only)
    if view.order_type is STOP:
        opened.limit_price = 0
