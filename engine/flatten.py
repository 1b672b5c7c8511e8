"""Flatten a scope: reduce-only, cancel what is open there, then exits until its positions are 0 or the time is over.

``decide_*`` reads, ``apply_*`` writes. A flatten is state, so an engine that dies in the middle goes on with it after
its start, until the deadline. Its exits are orders like any other, made by the engine: source and principal ``engine``,
the ids derived from the flatten's own (``<flatten_id>-<number>``), decided by the gate on what is pending then. So
together they can't cross zero (RISK.md A1) and none is sent twice, whatever died in between.

One exit a position at a time: a LIMIT order, immediate or cancel, at the slippage allowed and never outside the collar,
sliced by the contract's largest quantity and the order value limit; what it leaves, the next one takes at the price of
then. Shorts are bought back first. Longs, and positions with other orders still open, wait for half the time at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from engine.controls import CANCELS_MAX, Controls, is_in
from engine.flatten_plan import Flatten
from engine.order import Order
from engine.orders import Orders
from engine.refusals import CHECKS_ALL
from engine.state import ENGINE, State
from protocol.codes import Code, OrderType, OutcomeKind, Scope, Side, TimeInForce, TradingState
from protocol.decisions import NewDecision, OrderClass, Reference
from protocol.orders import NewOrder
from protocol.records import ControlAction, Controlled, FlattenPlan
from protocol.session import TRACE_ID_BYTES, Item
from protocol.units import INT64_MAX
from risk.gate.evidence import facts_of
from risk.gate.exposure import InstrumentState, Ledger, Route
from risk.gate.gate import refusal_of
from risk.gate.more import BP
from risk.gate.view import View

CHILDREN_MAX: Final = 10_000
FLATTENS_MAX: Final = 16
ID_CHARS_MAX: Final = 48  # a child's id is longer by its number
WITHIN_NS_MAX: Final = 3_600_000_000_000
_STOPPING: Final = frozenset({ControlAction.HALT, ControlAction.KILL, ControlAction.RESUME})
_encode: Final = msgspec.msgpack.Encoder().encode


class Target(NamedTuple):
    """One position to bring to 0: of an account, or of a strategy within it (``own``)."""

    account: str
    instrument: InstrumentState
    position: int
    ledger: Ledger
    own: Route | None


class Flattens:
    """Decides and applies flattens over one State."""

    def __init__(self, state: State, orders: Orders, controls: Controls) -> None:
        self._state = state
        self._orders = orders
        self._controls = controls
        self._view = View()

    # Begin, cancel, end

    def refusal(self, plan: FlattenPlan) -> str:
        """Return why a flatten can't begin; empty if it can."""
        if len(self._state.flattens) >= FLATTENS_MAX:
            return (
                f"at most {FLATTENS_MAX} flattens at a time, {FLATTENS_MAX} are under way; wait, or kill their scopes"
            )
        if not (0 < len(plan.flatten_id) <= ID_CHARS_MAX and 0 < plan.within_ns <= WITHIN_NS_MAX):
            return (
                f"flatten expected an id of 1 to {ID_CHARS_MAX} characters and a time up to {WITHIN_NS_MAX} ns, was "
                f"{plan.flatten_id[:ID_CHARS_MAX]!r} within {plan.within_ns} ns"
            )
        if plan.flatten_id in self._state.flattens or plan.flatten_id in self._state.flattened:
            return f"flatten {plan.flatten_id} was asked for before; ask what became of it"
        return ""

    def decide_start(
        self, plan: FlattenPlan, scope: Scope, key: str, operator: str, reason: str, unsent_from: dict[str, int]
    ) -> Iterator[Controlled]:
        """Yield the records of the beginning. Each must be applied before the next is drawn."""
        first = self._doomed(scope, key)[:CANCELS_MAX]
        cancels = self._controls.cancels_of(first, unsent_from, Code.OK)
        yield Controlled(ControlAction.FLATTEN, scope, key, operator, reason, False, cancels, flatten=plan)
        yield from self.decide_cancels(self._state.flattens[plan.flatten_id], unsent_from)

    def decide_cancels(self, flatten: Flatten, unsent_from: dict[str, int]) -> Iterator[Controlled]:
        """Yield the cancels of what is open in the scope and not being cancelled: what came since, or was refused."""
        doomed = self._doomed(flatten.scope, flatten.key)
        for start in range(0, len(doomed), CANCELS_MAX):
            cancels = self._controls.cancels_of(doomed[start : start + CANCELS_MAX], unsent_from, Code.OK)
            reason = f"flatten {flatten.flatten_id}"
            yield Controlled(
                ControlAction.FLATTEN_CANCEL, flatten.scope, flatten.key, ENGINE, reason, True, cancels,
                flatten=flatten.plan,
            )  # fmt: skip

    def decide_end(self, flatten: Flatten, now_ns: int, unsent_from: dict[str, int]) -> Controlled | None:
        """Return the record of its end: flat, late, or too many exits; None while it goes on."""
        why = self._why_over(flatten, now_ns)
        if not why:
            return None
        cancels = self._controls.cancels_of(self._working(flatten.flatten_id), unsent_from, Code.OK)
        return Controlled(
            ControlAction.FLATTEN_END, flatten.scope, flatten.key, ENGINE, why, True, cancels, flatten=flatten.plan
        )

    def _why_over(self, flatten: Flatten, now_ns: int) -> str:
        if not self.targets(flatten.scope, flatten.key) and not self.open_orders(flatten.scope, flatten.key):
            return "flat"
        if now_ns >= flatten.deadline_ns:
            return "deadline"
        if flatten.children >= CHILDREN_MAX:
            return f"{CHILDREN_MAX} exits were not enough"
        return ""

    def is_decided_again(self, record: Controlled, now_ns: int) -> bool:
        """Return whether the record of a flatten is what is decided now (``Controls.is_decided_again``)."""
        assert record.flatten is not None
        if record.action is ControlAction.FLATTEN_END:
            flatten = self._state.flattens[record.flatten.flatten_id]
            chosen = self._working(flatten.flatten_id)
            if record.reason != self._why_over(flatten, now_ns):
                return False
        else:
            chosen = self._doomed(record.scope, record.key)[:CANCELS_MAX]
        return [o.order_id for o in chosen] == [c.order_id for c in record.cancels]

    def apply(self, record: Controlled, now_ns: int) -> None:
        """Write what a control is to flattens; its cancels are ``Controls.apply_controlled``'s.

        An operator's halt, kill or resume stops every flatten of anything in its scope.
        """
        state = self._state
        plan = record.flatten
        if record.action is ControlAction.FLATTEN:
            assert plan is not None
            state.flattens[plan.flatten_id] = Flatten(plan, record.scope, record.key, record.operator, now_ns)
            state.take_engine_strategy()
        elif record.action is ControlAction.FLATTEN_END:
            assert plan is not None
            state.end_flatten(state.flattens[plan.flatten_id], record.reason, now_ns)
        elif state.flattens and record.action in _STOPPING:
            why = f"{record.action.name.lower()} by {record.operator}: {record.reason}"
            for flatten in list(state.flattens.values()):
                if _overlap(flatten.scope, flatten.key, record.scope, record.key):
                    state.end_flatten(flatten, why, now_ns)

    def _doomed(self, scope: Scope, key: str) -> list[Order]:
        """Return the open orders of the scope, the engine's own aside, that are not being cancelled; newest first.

        Exits go too: what rests keeps the way out for itself, at a price of its own.
        """
        return [
            o for o in reversed(self._state.orders.values())
            if o.source != ENGINE and not o.cancel_seq and is_in(o, scope, key)
        ]  # fmt: skip

    def _working(self, flatten_id: str) -> list[Order]:
        return [o for o in self.children(flatten_id) if not o.cancel_seq]

    # What is open, what is left

    def children(self, flatten_id: str) -> list[Order]:
        """Return the flatten's exits that are open."""
        return [
            o for o in self._state.orders.values()
            if o.source == ENGINE and o.client_order_id.rpartition("-")[0] == flatten_id
        ]  # fmt: skip

    def open_orders(self, scope: Scope, key: str) -> list[Order]:
        """Return every open order of the scope."""
        return [o for o in self._state.orders.values() if is_in(o, scope, key)]

    def targets(self, scope: Scope, key: str) -> list[Target]:
        """Return what is not flat in the scope: shorts first, then longs."""
        state = self._state
        found: list[Target] = []
        if scope is Scope.STRATEGY:
            for (account, strategy, _), route in state.routes.items():
                if strategy == key and route.own.position:
                    found.append(Target(account, route.instrument, route.own.position, route.ledger, route))
        else:
            for (account, instrument), ledger in state.book.ledgers.items():
                name = account if scope is Scope.ACCOUNT else instrument
                if ledger.position and (scope is Scope.GLOBAL or name == key):
                    found.append(Target(account, state.instruments[instrument], ledger.position, ledger, None))
        return sorted(found, key=lambda t: t.position > 0)

    # Exits

    def wait_for(self, flatten: Flatten, target: Target, now_ns: int) -> str:
        """Return what the exit of a target waits for; empty if it need not wait."""
        orders = [
            o for o in self._state.orders.values()
            if o.account == target.account and o.route.instrument is target.instrument
        ]  # fmt: skip
        if any(o.source == ENGINE for o in orders):
            return "an exit is working"
        if not self._state.venues[target.instrument.venue].ready:
            return f"venue {target.instrument.venue} is not ready"
        if now_ns >= flatten.patience_ns:
            return ""
        if orders:
            return f"{len(orders)} orders are being cancelled"
        if target.position > 0 and any(t.position < 0 for t in self.targets(flatten.scope, flatten.key)):
            return "shorts are bought back first"
        return ""

    def make_child(self, flatten: Flatten, target: Target, reference: Reference | None) -> NewOrder | str:
        """Return the next exit of a target, or why there can be none."""
        if reference is None:
            return "no fresh price"
        instrument = target.instrument
        side = Side.BUY if target.position < 0 else Side.SELL
        price = worst_price(instrument, side, reference.price_e9, flatten.slippage_bp)
        if price <= 0:
            return f"the price at the slippage allowed is {price}"
        route, room = self._route(target, side)
        quantity = min(room, instrument.quantity_max)
        cap = min(route.limits.order_value_e9, INT64_MAX)
        quantity = max(largest_within(instrument, price, cap, quantity), min(quantity, instrument.lot))
        quantity -= quantity % instrument.lot
        if quantity <= 0:
            return f"{room} steps are left to exit, the lot is {instrument.lot}"
        return NewOrder(
            target.account, self._next_id(flatten, target.account), route.strategy.name, instrument.name, side,
            OrderType.LIMIT, TimeInForce.IOC, quantity * instrument.quantity_step_e9,
            price * instrument.price_step_e9, True,
        )  # fmt: skip

    def _route(self, target: Target, side: Side) -> tuple[Route, int]:
        """Return whose exit it is, and how much it may be: the strategy with the largest part of the position.

        What no strategy has, an opening position for instance, goes under the engine's own name.
        """
        room = _room(target.ledger, side)
        if target.own is not None:
            return target.own, min(room, _room(target.own.own, side))
        state = self._state
        routes = [
            route for (account, _, name), route in state.routes.items()
            if account == target.account and name == target.instrument.name and _room(route.own, side) > 0
        ]  # fmt: skip
        if routes:
            best = max(routes, key=lambda r: _room(r.own, side))
            return best, min(room, _room(best.own, side))
        return state.route(target.account, ENGINE, target.instrument.name), room

    def _next_id(self, flatten: Flatten, account: str) -> str:
        """Return the next derived id; one that somebody else took is passed over."""
        state = self._state
        number = flatten.children + 1
        while True:
            name = f"{flatten.flatten_id}-{number}"
            low, high, _ = state.keys.key(account, name)
            if state.dedup.find(low, high) < 0:
                return name
            number += 1

    def item(self, order: NewOrder, now_ns: int) -> Item:
        """Return how an exit came: from the engine itself."""
        trace = blake2b(f"{order.account}\0{order.client_order_id}".encode(), digest_size=TRACE_ID_BYTES).digest()
        number = int(order.client_order_id.rpartition("-")[2])
        return Item(number, ENGINE, 0, 0, "", ENGINE, trace, now_ns, Raw(_encode(order)))

    def decide_child(self, order: NewOrder, item: Item, now_ns: int, reference: Reference | None) -> NewDecision:
        """Say what happens to an exit of a flatten: the gate's word, with the halts that the operator overrode."""
        state = self._state
        flatten = state.flattens[order.client_order_id.rpartition("-")[0]]
        route = state.route(order.account, order.strategy, order.instrument)
        view = self._view
        assert state.params is not None
        view.order_age_max_ns, view.skew_max_ns = state.params.order_age_max_ns, state.params.skew_max_ns
        view.look(state.book, order, item.created_at_ns, route, now_ns, reference)
        if view.state is TradingState.HALTED and not self._is_halted(flatten, route):
            view.state = TradingState.REDUCING
        code = Code.INTERNAL if state.dedup.is_exhausted else refusal_of(view)
        if code is not Code.OK:
            return NewDecision(OutcomeKind.REJECTED, code, facts=facts_of(code, view))
        _, _, id_key = state.keys.key(order.account, order.client_order_id)
        limit = route.limits.position_e9
        after = view.reach * route.instrument.quantity_step_e9
        return NewDecision(
            OutcomeKind.ACCEPTED, Code.OK, self._orders.order_id(id_key, state.trading_date),
            state.venues[route.instrument.venue].last_seq + 1, CHECKS_ALL, after if view.side is Side.BUY else -after,
            limit if limit != INT64_MAX else -1, OrderClass.EXIT,
        )  # fmt: skip

    def _is_halted(self, flatten: Flatten, route: Route) -> bool:
        """Whether a halt stands that the operator did not override by asking for this flatten."""
        if flatten.plan.overrides_halts or flatten.scope is Scope.GLOBAL:
            return False
        scopes = {
            (Scope.GLOBAL, ""): self._state.book.state,
            (Scope.ACCOUNT, route.account.name): route.account.state,
            (Scope.STRATEGY, route.strategy.name): route.strategy.state,
            (Scope.INSTRUMENT, route.instrument.name): route.instrument.state,
        }
        scopes.pop((flatten.scope, flatten.key), None)
        return TradingState.HALTED in scopes.values()

    def apply_child(self, order: NewOrder) -> None:
        """Write that an exit of a flatten was made; the order itself is ``Orders.apply_ordered``'s."""
        flatten_id, _, number = order.client_order_id.rpartition("-")
        self._state.flattens[flatten_id].children = int(number)


def worst_price(instrument: InstrumentState, side: Side, reference_e9: int, slippage_bp: int) -> int:
    """Return the worst price in steps that an exit takes: at the slippage, inside the collar, on a tick; 0 = none.

    ``slippage_bp`` -1: as far as the collar lets.
    """
    collar_bp = instrument.collar_buy_bp - BP
    bp = collar_bp if slippage_bp < 0 else min(slippage_bp, collar_bp)
    tick = instrument.tick
    if side is Side.BUY:
        return reference_e9 * (BP + bp) // instrument.collar_divisor // tick * tick
    return -(-reference_e9 * (BP - bp) // (instrument.collar_divisor * tick)) * tick


def largest_within(instrument: InstrumentState, price: int, cap_e9: int, quantity: int) -> int:
    """Return the largest quantity up to ``quantity`` whose value is at most ``cap_e9``; values grow with quantity."""
    if instrument.value_e9(quantity, price) <= cap_e9:
        return quantity
    low, high = 0, quantity
    while low + 1 < high:
        middle = (low + high) // 2
        if instrument.value_e9(middle, price) <= cap_e9:
            low = middle
        else:
            high = middle
    return low


def _room(ledger: Ledger, side: Side) -> int:
    """Return how much of the side is still an exit, with everything pending of that side (RISK.md A1)."""
    return -ledger.position - ledger.buy if side is Side.BUY else ledger.position - ledger.sell


def _overlap(scope: Scope, key: str, other: Scope, other_key: str) -> bool:
    """Whether an order can be in both: only two different keys of one kind have none in common."""
    return scope is not other or key == other_key
