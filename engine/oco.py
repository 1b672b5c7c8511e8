"""OCO groups, of two orders the one cancels the other: ``decide_*`` reads, ``apply_*`` writes (RISK.md A1, OCO group).

The first leg, a LIMIT order, goes to the venue at once. The second, a stop order behind it, waits in the engine as a
SUSPENDED order. When its stop price is reached the first is cancelled; when that is over, fills included, the second
goes out for what is left. So one leg is at the venue at a time, and the group reserves the larger of the two
(``State.regroup``). Which leg waits, and why the engine decides: docs/decisions/0017.

A fill of the first takes as much from the second; when nothing is left of it, it ends. The end of one leg that is no
fill leaves the other as it is; a cancel of the group's id ends both. The first is not cancelled for a second that
could not go out now: while a halt, a venue that is away or the want of a price stands in its way, it waits on.
"""

from __future__ import annotations

from typing import Final

from engine.baskets import TAKEN, leg_id, leg_item, unknown_facts
from engine.breaches import halt_breach
from engine.dedup import payload_hash, value_of
from engine.exit_replaces import why_unsent, without
from engine.group import Group
from engine.order import Order, OutgoingKind, Terms
from engine.orders import Defer, Orders, Replay
from engine.refusals import CHECKS_ALL, ENVELOPE_CHECKS, refused_new
from engine.reports import Reports
from engine.state import State
from protocol.codes import (
    Code,
    OrderStatus,
    OrderType,
    OutcomeKind,
    RetryReason,
    Side,
    TimeInForce,
    TradingState,
)
from protocol.decisions import EngineCancel, NewDecision, OrderClass, Reference
from protocol.oco_records import OcoDecision, OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import NewOco, NewOrder, TermedOrder
from protocol.records import Ordered
from protocol.session import Facts, Item
from protocol.units import INT64_MAX
from risk.gate.combined import with_others
from risk.gate.exposure import Reservation, Route
from risk.gate.gate import refusal_of
from risk.gate.termed import first_late_termed_refusal, first_termed_refusal
from risk.gate.view import View

OK: Final = Code.OK
ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
BUY: Final = Side.BUY
SUSPENDED: Final = OrderStatus.SUSPENDED
STOP: Final = OrderType.STOP
RESTING: Final = frozenset({TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD})
GROUPS_MAX: Final = 1024
"""Groups of which an order is open; each is looked at when one of them changes."""
FINAL: Final = frozenset({Code.OCO_FILLED, Code.TIME_EXPIRE_PAST})


class Ocos:
    """Decides and applies OCO groups over one State."""

    __slots__ = ("_orders", "_reports", "_state", "_view")

    def __init__(self, state: State, orders: Orders, reports: Reports) -> None:
        self._state = state
        self._orders = orders
        self._reports = reports
        self._view = View()

    # Taken or refused

    def decide_oco(
        self,
        command: NewOco,
        item: Item,
        route: Route | Code,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> OcoDecision | Replay | Defer:
        """Say what happens to a NewOco; the arguments are those of ``Orders.decide_new``, the route is both legs'."""
        for n, leg in enumerate(command.legs, start=1):
            if leg.account != command.account or leg.client_order_id != leg_id(command.client_order_id, n):
                return _refused(Code.MSG_MALFORMED, n, 0, takes_key=False)
        if isinstance(route, Code):
            elsewhere = self._state.belongs_elsewhere(command.account) if route is Code.WRONG_SHARD else None
            if route is Code.AUTH_NOT_PERMITTED or elsewhere is not None:
                return _refused(route, 0, 1, elsewhere, takes_key=False)
        state = self._state
        dedup = state.dedup
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = dedup.find(low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        if dedup.keys + len(command.legs) + 1 > dedup.keys_max:
            return Defer(RetryReason.DEDUP_FULL)
        if isinstance(route, Code):
            return _refused(route, 1, 1, unknown_facts(route, command.legs[0]))
        hindered = self._find_taken(command) or self._find_hindered(command, route, now_ns)
        return hindered or self._check(command, item, route, now_ns, reference, defer)

    def _find_hindered(self, command: NewOco, route: Route, now_ns: int) -> OcoDecision | Defer | None:
        """Return why no such group can be taken, or none now: the venue, its shape, too many."""
        state = self._state
        venue = state.venues[route.instrument.venue]
        if not venue.ready:
            params = state.params
            assert params is not None
            if now_ns - venue.changed_ns >= params.venue_wait_ns:
                return _refused(Code.VENUE_DOWN, 0, ENVELOPE_CHECKS)
            return Defer(RetryReason.VENUE_NOT_READY)
        if not _are_legs(*command.legs):
            return _refused(Code.OCO_LEGS, 0, ENVELOPE_CHECKS)
        if len(state.groups) >= GROUPS_MAX:
            return _refused(Code.COUNT_OPEN_MAX, 0, ENVELOPE_CHECKS, Facts(GROUPS_MAX, len(state.groups) + 1))
        return None

    def _decide_known(self, slot: int, item: Item) -> OcoDecision | Replay:
        payload, position, status = self._state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return _refused(Code.CANCELLED_BEFORE_ARRIVAL, 0, ENVELOPE_CHECKS - 1)
        if payload != payload_hash(item.command):
            return _refused(Code.ID_CONFLICT, 0, ENVELOPE_CHECKS - 1, takes_key=False)
        return Replay(position, OrderStatus.NONE)

    def _find_taken(self, command: NewOco) -> OcoDecision | None:
        """Return the refusal for a leg whose id another order has, or a cancel that came first."""
        state = self._state
        for n, leg in enumerate(command.legs, start=1):
            low, high, _ = state.keys.key(leg.account, leg.client_order_id)
            slot = state.dedup.find(low, high)
            if slot >= 0:
                is_tombstone = state.dedup.entry(slot)[2] is OrderStatus.TOMBSTONE
                code = Code.CANCELLED_BEFORE_ARRIVAL if is_tombstone else Code.ID_CONFLICT
                return _refused(code, n, ENVELOPE_CHECKS - 1, takes_key=is_tombstone)
        return None

    def _check(
        self,
        command: NewOco,
        item: Item,
        route: Route,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> OcoDecision | Defer:
        """Let each leg pass the gate as if it were alone, but for being counted: of the two only one can fill."""
        counted = [Reservation(route, leg.side, 0, 0, 0) for leg in command.legs]
        decided: list[NewDecision] = []
        for index, leg in enumerate(command.legs):
            view = self._look(leg, item.created_at_ns, with_others(counted, index, now_ns), now_ns, reference)
            if defer is not None and not view.is_exit:
                return Defer(defer)
            code = first_termed_refusal(view) if isinstance(leg, TermedOrder) else refusal_of(view)
            if code is not OK:
                refused = refused_new(code, view, leg)
                return _refused(code, index + 1, refused.checks_passed, refused.facts)
            decided.append(self._accept(leg, view, is_first=index == 0))
        return OcoDecision(ACCEPTED, OK, 0, CHECKS_ALL, True, None, decided)

    def _look(self, leg: NewOrder, created_at_ns: int, route: Route, now_ns: int, reference: Reference | None) -> View:
        params = self._state.params
        assert params is not None
        view = self._view
        view.order_age_max_ns = params.order_age_max_ns
        view.skew_max_ns = params.skew_max_ns
        view.look(self._state.book, leg, created_at_ns, route, now_ns, reference)
        if isinstance(leg, TermedOrder):
            view.look_terms(leg.stop_price_e9, leg.expire_at_ns, leg.post_only)
        return view

    def _accept(self, leg: NewOrder, view: View, *, is_first: bool) -> NewDecision:
        state = self._state
        _, _, id_key = state.keys.key(leg.account, leg.client_order_id)
        instrument = view.route.instrument
        after = view.reach * instrument.quantity_step_e9
        limit = view.route.limits.position_e9
        return NewDecision(
            ACCEPTED, OK, self._orders.order_id(id_key, state.trading_date),
            state.venues[instrument.venue].last_seq + 1 if is_first else 0, CHECKS_ALL,
            after if view.side is BUY else -after, limit if limit != INT64_MAX else -1,
            OrderClass.EXIT if view.is_exit else OrderClass.INC,
        )  # fmt: skip

    def apply_oco(self, record: OcoOrdered, command: NewOco, position: int, now_ns: int) -> None:
        """Write what ``decide_oco`` decided: the group's key, the order that goes out, the one that waits."""
        decision = record.decision
        if not decision.takes_key:
            return
        state = self._state
        accepted = decision.kind is ACCEPTED
        self._take_key(command.account, command.client_order_id, payload_hash(record.item.command), value_of(
            position, TAKEN if accepted else OrderStatus.REJECTED
        ))  # fmt: skip
        if not accepted:
            halt_breach(state, decision.code, decision.facts, command.account)
            return
        leg, behind = command.legs
        ordered = Ordered(record.source, leg_item(record.item, leg), record.reference, decision.legs[0], record.seq)
        self._orders.apply_ordered(ordered, leg, position, now_ns)
        first = state.orders[decision.legs[0].order_id]
        if first.terms is None:
            first.terms = Terms()
        second = self._suspend(record, behind, decision.legs[1], position, now_ns)
        is_exit = decision.legs[1].order_class is OrderClass.EXIT
        state.add_group(Group(command.account, command.client_order_id, first.order_id, second.order_id, is_exit))

    def _take_key(self, account: str, client_order_id: str, payload: int, value: int) -> int:
        """Take a dedup key, over the tombstone of a cancel that came first; return its slot."""
        dedup = self._state.dedup
        low, high, _ = self._state.keys.key(account, client_order_id)
        slot = dedup.find(low, high)
        if slot < 0:
            slot = -1 - slot
            dedup.insert(slot, low, high, payload, value)
        else:
            dedup.replace(slot, payload, value)
        return slot

    def _suspend(
        self, record: OcoOrdered, leg: NewOrder | TermedOrder, decided: NewDecision, position: int, now_ns: int
    ) -> Order:
        """Open the leg that waits; what it reserves is the group's to say."""
        assert isinstance(leg, TermedOrder)
        state, item = self._state, record.item
        payload = payload_hash(leg_item(item, leg).command)
        slot = self._take_key(leg.account, leg.client_order_id, payload, value_of(position, SUSPENDED))
        route = state.route(leg.account, leg.strategy, leg.instrument)
        view = self._look(leg, item.created_at_ns, route, now_ns, record.reference)
        order = Order(
            route, leg.side, view.price, 0, 0, route.account.name, leg.client_order_id, decided.order_id,
            leg.order_type, leg.time_in_force, SUSPENDED, view.quantity, 0 if leg.order_type is STOP else view.price,
            leg.reduce_only, 0, now_ns, item.created_at_ns, item.trace_id, slot,
        )  # fmt: skip
        order.source = record.source
        order.is_exit = decided.order_class is OrderClass.EXIT
        expire_at_ns = leg.expire_at_ns if leg.time_in_force is TimeInForce.GTD else 0
        order.terms = Terms(view.stop_price, expire_at_ns, leg.post_only)
        state.orders[order.order_id] = order
        state.book.suspend(order, now_ns)
        return order

    # The stop price is reached

    def waiting(self, group: Group) -> Order | None:
        """Return the group's leg that waits; None if it went out or is over."""
        second = self._state.orders.get(group.second)
        return second if second is not None and second.status is SUSPENDED else None

    def decide_trigger(self, group: Group, now_ns: int, reference: Reference | None) -> OcoTriggered | None:
        """Return the record that begins to let out the leg that waits; None while it waits on."""
        state = self._state
        second = self.waiting(group)
        if second is None or group.triggered or reference is None or not is_reached(second, reference.price_e9):
            return None
        venue = state.venues[second.route.instrument.venue]
        first = state.orders.get(group.first)
        code, _ = self._what_goes(group, second, now_ns, reference, [second] if first is None else [first, second])
        if not venue.ready or code is not OK:
            return None
        cancel = None
        if first is not None and not first.cancel_seq:
            cum_e9 = first.cum * first.route.instrument.quantity_step_e9
            cancel = EngineCancel(
                first.account, first.client_order_id, first.order_id, venue.last_seq + 1, 0, Code.OCO_TRIGGERED, cum_e9
            )
        return OcoTriggered(group.account, group.client_order_id, group.second, reference, cancel)

    def apply_trigger(self, record: OcoTriggered, now_ns: int) -> None:
        """Write what ``decide_trigger`` decided."""
        state = self._state
        state.groups[record.account, record.client_order_id].triggered = True
        state.group_changes += 1
        if record.cancel is not None:
            self._orders.cancel_at_venue(state.orders[record.cancel.order_id], record.cancel.venue_seq, now_ns)

    # Sent, or over

    def due(self, now_ns: int) -> list[Group]:
        """Return the groups whose waiting leg goes out now, or ends: oldest first."""
        return [group for group in self._state.groups.values() if self._is_due(group, now_ns)]

    def _is_due(self, group: Group, now_ns: int) -> bool:
        second = self.waiting(group)
        if second is None:
            return False
        if not group.left(second.quantity) or (group.triggered and group.first not in self._state.orders):
            return True
        terms = second.terms
        assert terms is not None
        return 0 < terms.expire_at_ns <= now_ns

    def decide_release(self, group: Group, now_ns: int, reference: Reference | None) -> OcoReleased:
        """Say what goes out of a group that is due, on the book as it is now, through the send gate (DESIGN 6.8)."""
        second = self._state.orders[group.second]
        terms = second.terms
        assert terms is not None
        instrument = second.route.instrument
        step = instrument.quantity_step_e9
        names = (second.account, second.client_order_id, second.order_id)
        code, quantity = self._what_goes(group, second, now_ns, reference, [second])
        if 0 < terms.expire_at_ns <= now_ns and code is not Code.OCO_FILLED:
            code = Code.TIME_EXPIRE_PAST
        if code is not OK:
            why = code if code in FINAL else why_unsent(code)
            cancel = EngineCancel(*names, 0, 0, why)
            return OcoReleased(instrument.venue, 0, *names, reference, code, cancel=cancel)
        return OcoReleased(
            instrument.venue, self._state.venues[instrument.venue].last_seq + 1, *names, reference, OK,
            quantity * step, second.limit_price * instrument.price_step_e9, second.price * instrument.price_step_e9,
        )  # fmt: skip

    def _what_goes(
        self, group: Group, order: Order, now_ns: int, reference: Reference | None, over: list[Order]
    ) -> tuple[Code, int]:
        """Return how much of the leg that waits may go out, or why none, with ``over`` out of the book.

        An exit is held to it: never more than the position that is left; and where it promised to reduce only, or only
        that is allowed, beside everything else that is pending on its side. Its age counts from now: it was to wait.
        """
        left = group.left(order.quantity)
        if not left:
            return Code.OCO_FILLED, 0
        route = without(over, order.route, order.side)
        quantity = self._bounded(group, order, route, left)
        instrument = route.instrument
        if quantity <= 0:
            return Code.NOTHING_LEFT, 0
        is_day = order.time_in_force is TimeInForce.DAY
        if is_day and self._orders.date_of(order.order_id) != self._state.trading_date:
            return Code.DAY_OVER, 0
        terms = order.terms
        assert terms is not None
        now = TermedOrder(
            order.account, order.client_order_id, route.strategy.name, instrument.name, order.side, order.order_type,
            order.time_in_force, quantity * instrument.quantity_step_e9, order.limit_price * instrument.price_step_e9,
            order.reduce_only, terms.stop_price * instrument.price_step_e9, terms.expire_at_ns, terms.post_only,
        )  # fmt: skip
        view = self._look(now, now_ns, route, now_ns, reference)
        if group.is_exit and view.state is TradingState.ACTIVE:
            view.is_exit = True  # as it was taken: what came later may be pending beside it
        code = first_late_termed_refusal(view)
        if code is OK and quantity < instrument.quantity_min and quantity != abs(route.ledger.position):
            code = Code.QTY_MIN
        return code, quantity

    def _bounded(self, group: Group, order: Order, route: Route, left: int) -> int:
        """Return how much of what is left may go out, in whole lots."""
        side = order.side
        quantity = left
        if group.is_exit:
            position = route.ledger.position
            quantity = min(quantity, max(0, -position if side is BUY else position))
        state = max(self._state.book.state, route.account.state, route.strategy.state, route.instrument.state)
        if order.reduce_only or (group.is_exit and state is not TradingState.ACTIVE):
            quantity = min(quantity, -route.ledger.reach(side))
            if route.strategy.state is not TradingState.ACTIVE:
                quantity = min(quantity, -route.own.reach(side))
        return quantity if quantity == order.quantity else quantity - quantity % route.instrument.lot

    def decide_again(self, record: OcoTriggered | OcoReleased, now_ns: int) -> bool:
        """Return whether what is recorded of a group is what is decided now."""
        state = self._state
        order = state.orders.get(record.order_id)
        group = order.terms.group if order is not None and order.terms is not None else None
        if group is None:
            return False
        if isinstance(record, OcoTriggered):
            return self.decide_trigger(group, now_ns, record.reference) == record
        return self._is_due(group, now_ns) and self.decide_release(group, now_ns, record.reference) == record

    def apply_release(self, record: OcoReleased, now_ns: int) -> None:
        """Write what ``decide_release`` decided. The age of an order that went out counts from here."""
        if record.cancel is not None:
            self._reports.apply_unsent(record.cancel)
            return
        state = self._state
        order = state.orders[record.order_id]
        instrument = order.route.instrument
        order.quantity = record.quantity_e9 // instrument.quantity_step_e9
        order.price = record.reserved_price_e9 // instrument.price_step_e9
        state.book.hold(order, order.quantity, instrument.value_e9(order.quantity, order.price))
        order.created_at_ns = now_ns
        order.venue_seq = record.venue_seq
        state.group_changes += 1
        state.set_status(order, OrderStatus.PENDING_NEW)
        state.venues[record.venue].add(record.venue_seq, OutgoingKind.NEW, order, now_ns)


def is_reached(order: Order, price_e9: int) -> bool:
    """Whether a price is the stop price of an order, or beyond it."""
    terms = order.terms
    assert terms is not None
    stop_price_e9 = terms.stop_price * order.route.instrument.price_step_e9
    return price_e9 >= stop_price_e9 if order.side is BUY else price_e9 <= stop_price_e9


def _are_legs(first: NewOrder, second: NewOrder) -> bool:
    """Whether two orders make a group: a limit order, and a stop order behind its price, that both rest."""
    if not isinstance(second, TermedOrder) or second.order_type not in {STOP, OrderType.STOP_LIMIT}:
        return False
    same = (first.strategy, first.instrument, first.side) == (second.strategy, second.instrument, second.side)
    rest = first.time_in_force in RESTING and second.time_in_force in RESTING
    gap_e9 = first.price_e9 - second.stop_price_e9
    return same and rest and first.order_type is OrderType.LIMIT and (gap_e9 < 0 if first.side is BUY else gap_e9 > 0)


def _refused(code: Code, leg: int, checks: int, facts: Facts | None = None, *, takes_key: bool = True) -> OcoDecision:
    return OcoDecision(REJECTED, code, leg, checks, takes_key, facts)
