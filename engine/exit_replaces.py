"""Exits in the place of others: ``decide_*`` reads, ``apply_*`` writes (RISK.md A1, EXIT_REPLACE).

A resting exit of the whole position leaves no room for a second one. An ExitReplace cancels the exits that it names,
waits as a SUSPENDED order until each of them is over, fills included, and sends what then remains.

While it waits it reserves nothing, and needs nothing: it is at no venue, so it can't fill, and each order that it waits
for keeps its own reservation until the venue says that it is over. What it may be is decided when it goes out, on the
book of that moment: at most the position less everything that is pending on its side. So it is an exit then, whatever
was filled, cancelled, refused or accepted in between, and together with all others it can't cross zero. Nothing is
released on a timer: an order that is UNKNOWN is waited for, and one whose cancel was refused is cancelled again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.dedup import payload_hash, value_of
from engine.group import Group
from engine.order import Order, OutgoingKind
from engine.orders import Defer, Orders, Replay
from engine.refusals import CHECKS_ALL, ENVELOPE_CHECKS, passed
from engine.reports import Reports
from engine.state import ENGINE, State
from protocol.codes import (
    AT_NO_VENUE,
    Code,
    OrderStatus,
    OrderType,
    OutcomeKind,
    RetryReason,
    Scope,
    Side,
    TimeInForce,
    TradingState,
)
from protocol.decisions import EngineCancel, ExitDecision, Reference
from protocol.orders import ExitReplace, NewOrder, order_of
from protocol.records import ControlAction, Controlled, ExitReleased, ExitRequested
from protocol.session import Facts, Item
from protocol.units import INT64_MAX
from risk.gate.evidence import facts_of
from risk.gate.exposure import Ledger, Route
from risk.gate.gate import checks_of, late_refusal_of, refusal_of
from risk.gate.ratio_checks import count_message
from risk.gate.view import View

OK: Final = Code.OK
ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
BUY: Final = Side.BUY
SUSPENDED: Final = OrderStatus.SUSPENDED
EXITS_MAX: Final = 1024
"""Exits that wait at a time; each is looked at once a turn."""
CANCELS_MAX: Final = 4096
"""Cancels in one record; the rest stand in the next."""
WAITS_MAX: Final = 64
"""Orders that one exit waits for: those it names, and those that an exit it takes the place of was waiting for."""


class ExitReplaces:
    """Decides and applies ExitReplaces over one State."""

    __slots__ = ("_orders", "_reports", "_state", "_view")

    def __init__(self, state: State, orders: Orders, reports: Reports) -> None:
        self._state = state
        self._orders = orders
        self._reports = reports
        self._view = View()

    # Taken or refused

    def decide_exit(
        self,
        command: ExitReplace,
        item: Item,
        route: Route | Code,
        now_ns: int,
        reference: Reference | None,
    ) -> ExitDecision | Replay | Defer:
        """Say what happens to an ExitReplace; the arguments are those of ``Orders.decide_new``.

        Nothing that stops new risk stops it: it is an exit, or refused.
        """
        if isinstance(route, Code):
            elsewhere = self._state.belongs_elsewhere(command.account) if route is Code.WRONG_SHARD else None
            if route is Code.AUTH_NOT_PERMITTED or elsewhere is not None:
                return ExitDecision(REJECTED, route, checks_passed=1, takes_key=False, facts=elsewhere)
        state = self._state
        dedup = state.dedup
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = dedup.find(low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        if dedup.is_exhausted or (isinstance(route, Code) and dedup.is_full):
            return Defer(RetryReason.DEDUP_FULL)
        if isinstance(route, Code):
            return ExitDecision(REJECTED, route, checks_passed=1, facts=_unknown(route, command))
        venue = state.venues[route.instrument.venue]
        if not venue.ready:
            params = state.params
            assert params is not None
            if now_ns - venue.changed_ns >= params.venue_wait_ns:
                return ExitDecision(REJECTED, Code.VENUE_DOWN, checks_passed=ENVELOPE_CHECKS)
            return Defer(RetryReason.VENUE_NOT_READY)
        named = self._find_named(command, route)
        if isinstance(named, Code):
            return ExitDecision(REJECTED, named, checks_passed=ENVELOPE_CHECKS)
        return self._check(command, item, route, named, now_ns, reference)

    def _decide_known(self, slot: int, item: Item) -> ExitDecision | Replay:
        payload, position, status = self._state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return ExitDecision(REJECTED, Code.CANCELLED_BEFORE_ARRIVAL, checks_passed=ENVELOPE_CHECKS - 1)
        if payload != payload_hash(item.command):
            return ExitDecision(REJECTED, Code.ID_CONFLICT, checks_passed=ENVELOPE_CHECKS - 1, takes_key=False)
        return Replay(position, status)

    def _find_named(self, command: ExitReplace, route: Route) -> list[Order] | Code:
        """Return the named orders that are open, each once, or why they can't be replaced. One that is over is fine."""
        state = self._state
        named: list[Order] = []
        for name in command.cancels:
            low, high, id_key = state.keys.key(command.account, name)
            order = self._orders.find_order(id_key)
            if order is None:
                slot = state.dedup.find(low, high)
                if slot < 0 or state.dedup.entry(slot)[2] is OrderStatus.TOMBSTONE:
                    return Code.ORDER_UNKNOWN
            elif order.route.instrument is not route.instrument or order.side is not command.side:
                return Code.CANCELS_UNRELATED
            elif order not in named:
                named.append(order)
        for order in list(named):
            if order.terms is not None and order.terms.group is not None:
                named += [o for o in self._legs_of(order.terms.group) if o not in named]
        return named

    def _legs_of(self, group: Group) -> list[Order]:
        """Return the open orders of an OCO group: who replaces one of them replaces the group."""
        orders = self._state.orders
        return [orders[order_id] for order_id in (group.first, group.second) if order_id in orders]

    def _check(
        self,
        command: ExitReplace,
        item: Item,
        route: Route,
        named: list[Order],
        now_ns: int,
        reference: Reference | None,
    ) -> ExitDecision:
        """Let it pass the gate as if all that it waits for were over and nothing of that had filled."""
        state = self._state
        waits = self._waits_of(named)
        for most, count in ((EXITS_MAX, len(state.exits) + 1), (WAITS_MAX, len(waits))):
            if count > most:
                facts = Facts(most, count)
                return ExitDecision(REJECTED, Code.COUNT_OPEN_MAX, checks_passed=ENVELOPE_CHECKS, facts=facts)
        held = [
            order for order in named if order.status in AT_NO_VENUE and order.leaves
        ]  # of an OCO group: over at once
        freed = without([*held, *(state.orders[order_id] for order_id in waits)], route, command.side)
        order = order_of(command)
        whole, off_step = divmod(command.quantity_e9, route.instrument.quantity_step_e9)
        if not off_step and whole % route.instrument.lot == 0:
            could = quantity_left(freed, command.side, whole)
            if could > 0:
                order = msgspec.structs.replace(order, quantity_e9=could * route.instrument.quantity_step_e9)
        view = self._look(order, item.created_at_ns, freed, now_ns, reference)
        code = refusal_of(view)
        if code is not OK:
            return ExitDecision(
                REJECTED, code, checks_passed=passed(code, view, checks_of(view)), facts=facts_of(code, view)
            )
        _, _, id_key = state.keys.key(command.account, command.client_order_id)
        order_id = self._orders.order_id(id_key, state.trading_date)
        return ExitDecision(ACCEPTED, OK, order_id, CHECKS_ALL, True, None, self._cancels_of(named), waits)

    def _waits_of(self, named: list[Order]) -> list[str]:
        """Return what has to be over first; of an exit that waits itself, what that one waits for."""
        waits: dict[str, None] = {}
        for order in named:
            if order.status in AT_NO_VENUE:
                waits_for = self._state.exits.get(order.order_id, ())  # nothing: the leg of an OCO group
                waits.update((i, None) for i in waits_for if i in self._state.orders)
            else:
                waits[order.order_id] = None
        return list(waits)

    def _cancels_of(self, named: list[Order]) -> list[EngineCancel]:
        cancels: list[EngineCancel] = []
        seqs: dict[str, int] = {}
        for order in named:
            instrument = order.route.instrument
            names = (order.account, order.client_order_id, order.order_id)
            if order.status in AT_NO_VENUE:
                cancels.append(EngineCancel(*names, 0, 0, OK))
            elif not order.cancel_seq:
                venue = instrument.venue
                seq = seqs[venue] = seqs.get(venue, self._state.venues[venue].last_seq) + 1
                cancels.append(EngineCancel(*names, seq, 0, OK, order.cum * instrument.quantity_step_e9))
        return cancels

    def _look(
        self, order: NewOrder, created_at_ns: int, route: Route, now_ns: int, reference: Reference | None
    ) -> View:
        params = self._state.params
        assert params is not None
        view = self._view
        view.order_age_max_ns = params.order_age_max_ns
        view.skew_max_ns = params.skew_max_ns
        view.look(self._state.book, order, created_at_ns, route, now_ns, reference)
        return view

    def apply_exit(self, record: ExitRequested, command: ExitReplace, position: int, now_ns: int) -> None:
        """Write what ``decide_exit`` decided: its key, the cancels, and the order that waits."""
        decision = record.decision
        if not decision.takes_key:
            return
        state = self._state
        dedup = state.dedup
        accepted = decision.kind is ACCEPTED
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = dedup.find(low, high)
        value = value_of(position, SUSPENDED if accepted else OrderStatus.REJECTED)
        payload = payload_hash(record.item.command)
        if slot < 0:
            slot = -1 - slot
            dedup.insert(slot, low, high, payload, value)
        else:  # the tombstone of a cancel that came first
            dedup.replace(slot, payload, value)
        if not accepted:
            return
        for cancel in decision.cancels:
            if cancel.venue_seq:
                self._orders.cancel_at_venue(state.orders[cancel.order_id], cancel.venue_seq, now_ns)
            else:
                self._reports.apply_unsent(cancel)
        route = state.route(command.account, command.strategy, command.instrument)
        instrument, item = route.instrument, record.item
        price = 0 if command.order_type is OrderType.MARKET else command.price_e9 // instrument.price_step_e9
        order = Order(
            route, command.side, price, 0, 0, command.account, command.client_order_id, decision.order_id,
            command.order_type, command.time_in_force, SUSPENDED, command.quantity_e9 // instrument.quantity_step_e9,
            price, True, 0, now_ns, item.created_at_ns, item.trace_id, slot,
        )  # fmt: skip
        order.source = record.source
        order.is_exit = True
        state.orders[order.order_id] = order
        state.exits[order.order_id] = tuple(decision.waits)
        state.book.suspend(order, now_ns)

    # Sent, or over

    def due(self) -> list[Order]:
        """Return the exits that wait for nothing any more, oldest first."""
        orders = self._state.orders
        return [orders[i] for i, waits in self._state.exits.items() if not any(w in orders for w in waits)]

    def decide_cancels(self) -> Controlled | None:
        """Return the record that cancels again what is waited for and works on; None = there is no such order.

        For an exit in the place of others, or for the second leg of an OCO group. Its cancel was refused, or lost with
        a gateway. What is UNKNOWN is left to the venue's answer first.
        """
        state = self._state
        doomed: dict[str, Order] = {}
        awaited = [order_id for waits in state.exits.values() for order_id in waits]
        awaited += [group.first for group in state.groups.values() if group.triggered]
        for order_id in awaited:
            order = state.orders.get(order_id)
            if order is not None and not order.cancel_seq and order.status is not OrderStatus.UNKNOWN:
                doomed[order_id] = order
        if not doomed:
            return None
        cancels = self._cancels_of(list(doomed.values())[:CANCELS_MAX])
        return Controlled(ControlAction.EXIT_CANCEL, Scope.GLOBAL, "", ENGINE, "an exit waits", True, cancels)

    def decide_release(self, order: Order, now_ns: int, reference: Reference | None) -> ExitReleased:
        """Say what goes out of an exit that is due, on the book as it is now, through the send gate (DESIGN 6.8)."""
        route = order.route
        instrument = route.instrument
        step = instrument.quantity_step_e9
        names = (order.account, order.client_order_id, order.order_id)
        quantity = min(quantity_left(route, order.side, order.quantity), instrument.quantity_max)
        if quantity < order.quantity:
            quantity -= quantity % instrument.lot
        code = OK if quantity > 0 else Code.NOTHING_LEFT
        if code is OK:
            code = self._late_refusal(order, quantity, now_ns, reference)
        if code is not OK:
            cancel = EngineCancel(*names, 0, 0, why_unsent(code))
            return ExitReleased(instrument.venue, 0, *names, reference, code, cancel=cancel)
        return ExitReleased(
            instrument.venue, self._state.venues[instrument.venue].last_seq + 1, *names, reference, OK,
            quantity * step, order.limit_price * instrument.price_step_e9,
            self._view.price * instrument.price_step_e9,
        )  # fmt: skip

    def _late_refusal(self, order: Order, quantity: int, now_ns: int, reference: Reference | None) -> Code:
        is_day = order.time_in_force is TimeInForce.DAY
        if is_day and self._orders.date_of(order.order_id) != self._state.trading_date:
            return Code.DAY_OVER
        instrument = order.route.instrument
        now = NewOrder(
            order.account, order.client_order_id, order.route.strategy.name, instrument.name, order.side,
            order.order_type, order.time_in_force, quantity * instrument.quantity_step_e9,
            order.limit_price * instrument.price_step_e9, True,
        )  # fmt: skip
        view = self._look(now, order.created_at_ns, order.route, now_ns, reference)
        code = late_refusal_of(view)
        if code is not OK:
            return code
        if quantity < instrument.quantity_min and quantity != abs(order.route.ledger.position):
            return Code.QTY_MIN
        return Code.MSG_MALFORMED if view.value_e9 > INT64_MAX else OK

    def decide_again(self, record: ExitReleased, now_ns: int) -> bool:
        """Return whether the recorded release is what is decided now."""
        order = self._state.orders.get(record.order_id)
        if order is None or order not in self.due():
            return False
        return self.decide_release(order, now_ns, record.reference) == record

    def apply_release(self, record: ExitReleased, now_ns: int) -> None:
        """Write what ``decide_release`` decided."""
        if record.cancel is not None:
            self._reports.apply_unsent(record.cancel)
            return
        state = self._state
        order = state.orders[record.order_id]
        instrument = order.route.instrument
        del state.exits[record.order_id]
        order.quantity = record.quantity_e9 // instrument.quantity_step_e9
        state.book.release(order, order.quantity, record.reserved_price_e9 // instrument.price_step_e9)
        order.venue_seq = record.venue_seq
        count_message(order.route, order.limit_price)
        state.set_status(order, OrderStatus.PENDING_NEW)
        state.venues[record.venue].add(record.venue_seq, OutgoingKind.NEW, order, now_ns)


def quantity_left(route: Route, side: Side, quantity: int) -> int:
    """Return how much of the quantity is an exit with everything pending on its side; at most 0 = nothing.

    Where the strategy may only reduce, its own part of the position counts too (RISK.md A1).
    """
    left = min(quantity, -route.ledger.reach(side))
    if route.strategy.state is not TradingState.ACTIVE:
        left = min(left, -route.own.reach(side))
    return left - left % route.instrument.lot if 0 < left < quantity else left


def without(orders: list[Order], route: Route, side: Side) -> Route:
    """Return the route as it would be with these orders over, all of its account, instrument and side."""
    leaves = sum(o.leaves for o in orders)
    own_leaves = sum(o.leaves for o in orders if o.route is route)
    made = Route(
        route.account, route.strategy, route.instrument, _less(route.ledger, side, leaves),
        _less(route.own, side, own_leaves), route.limits,
    )  # fmt: skip
    made.more, made.is_complete = route.more, route.is_complete
    return made


def _less(ledger: Ledger, side: Side, leaves: int) -> Ledger:
    if side is BUY:
        return Ledger(ledger.position, ledger.buy - leaves, ledger.sell)
    return Ledger(ledger.position, ledger.buy, ledger.sell - leaves)


def why_unsent(code: Code) -> Code:
    """Return what a cancel says of an exit that was not sent, as ``Reports.decide_send`` does."""
    if code is Code.STATE_HALTED:
        return Code.UNSENT_KILLED
    return code if code in {Code.NOTHING_LEFT, Code.DAY_OVER} else Code.UNSENT_STALE


def _unknown(code: Code, command: ExitReplace) -> Facts:
    names = {
        Code.ACCOUNT_UNKNOWN: (Scope.ACCOUNT, command.account),
        Code.STRATEGY_UNKNOWN: (Scope.STRATEGY, command.strategy),
        Code.INSTR_UNKNOWN: (Scope.INSTRUMENT, command.instrument),
    }
    scope, key = names.get(code, (Scope.GLOBAL, ""))
    return Facts(scope=scope, key=key)
