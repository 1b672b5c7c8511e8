"""Baskets: several orders admitted or refused as one; ``decide_basket`` reads, ``apply_basket`` writes.

Each leg is checked against the book with all the others in it (``risk.gate.combined``), so a straddle, a spread or a
roll is judged by what it comes to, whatever the order of its legs. Accepted legs are orders like any other from then
on, each under its own id, ``<basket>/<n>``. The basket's own id only answers repeats of the basket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw

from engine.breaches import halt_breach
from engine.dedup import payload_hash, value_of
from engine.orders import Defer, Orders, Replay
from engine.permit import Permit
from engine.refusals import CHECKS_ALL, ENVELOPE_CHECKS, passed
from engine.state import State
from protocol.codes import Code, OrderStatus, OutcomeKind, RetryReason, Scope, Side
from protocol.decisions import BasketDecision, NewDecision, OrderClass, Reference
from protocol.orders import NewBasket, NewOrder
from protocol.records import BasketOrdered, Ordered
from protocol.session import Facts, Item
from protocol.units import INT64_MAX
from risk.gate.combined import with_others
from risk.gate.evidence import facts_of
from risk.gate.exposure import Reservation, Route
from risk.gate.gate import checks_of, refusal_of
from risk.gate.view import View

OK: Final = Code.OK
ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
BUY: Final = Side.BUY
# The basket's own key answers repeats and may leave with the day: its legs have keys of their own, which stay while
# they are open and refuse the basket as a whole if it comes again after all.
TAKEN: Final = OrderStatus.FILLED
_encode: Final = msgspec.msgpack.Encoder().encode


class Baskets:
    """Decides and applies baskets over one State."""

    __slots__ = ("_orders", "_state")

    def __init__(self, state: State, orders: Orders) -> None:
        self._state = state
        self._orders = orders

    def find_routes(self, permit: Permit | None, command: NewBasket) -> list[Route] | BasketDecision:
        """Return where each leg goes, or the refusal of the whole."""
        routes: list[Route] = []
        for n, leg in enumerate(command.legs, start=1):
            if leg.account != command.account or leg.client_order_id != leg_id(command.client_order_id, n):
                return _refused(Code.MSG_MALFORMED, n, 0, takes_key=False)
            route = self._orders.find_route(permit, leg)
            if isinstance(route, Code):
                elsewhere = self._state.belongs_elsewhere(leg.account) if route is Code.WRONG_SHARD else None
                takes_key = route is not Code.AUTH_NOT_PERMITTED and elsewhere is None
                return _refused(route, n, 1, elsewhere or unknown_facts(route, leg), takes_key=takes_key)
            routes.append(route)
        return routes

    def decide_basket(
        self,
        command: NewBasket,
        item: Item,
        routes: list[Route] | BasketDecision,
        now_ns: int,
        references: Sequence[Reference | None],
        defer: RetryReason | None,
    ) -> BasketDecision | Replay | Defer:
        """Say what happens to a basket; the arguments are those of ``decide_new``, one reference a leg."""
        state = self._state
        dedup = state.dedup
        if isinstance(routes, BasketDecision) and not routes.takes_key:
            return routes
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = dedup.find(low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        if dedup.keys + len(command.legs) + 1 > dedup.keys_max:
            return Defer(RetryReason.DEDUP_FULL)
        if isinstance(routes, BasketDecision):
            return routes
        for n, leg in enumerate(command.legs, start=1):
            low, high, _ = state.keys.key(leg.account, leg.client_order_id)
            slot = dedup.find(low, high)
            if slot >= 0:
                is_tombstone = dedup.entry(slot)[2] is OrderStatus.TOMBSTONE
                code = Code.CANCELLED_BEFORE_ARRIVAL if is_tombstone else Code.ID_CONFLICT
                return _refused(code, n, ENVELOPE_CHECKS - 1, takes_key=is_tombstone)
        for n, route in enumerate(routes, start=1):
            venue = state.venues[route.instrument.venue]
            if not venue.ready:
                params = state.params
                assert params is not None
                if now_ns - venue.changed_ns >= params.venue_wait_ns:
                    return _refused(Code.VENUE_DOWN, n, ENVELOPE_CHECKS)
                return Defer(RetryReason.VENUE_NOT_READY)
        return self._check(command, item, routes, now_ns, references, defer)

    def _decide_known(self, slot: int, item: Item) -> BasketDecision | Replay:
        payload, position, status = self._state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return _refused(Code.CANCELLED_BEFORE_ARRIVAL, 0, ENVELOPE_CHECKS - 1)
        if payload != payload_hash(item.command):
            return _refused(Code.ID_CONFLICT, 0, ENVELOPE_CHECKS - 1, takes_key=False)
        return Replay(position, OrderStatus.NONE)

    def _check(
        self,
        command: NewBasket,
        item: Item,
        routes: list[Route],
        now_ns: int,
        references: Sequence[Reference | None],
        defer: RetryReason | None,
    ) -> BasketDecision | Defer:
        """Let every leg pass the gate with all the others in the book."""
        views = [
            self._look(leg, item, route, now_ns, reference)
            for leg, route, reference in zip(command.legs, routes, references, strict=True)
        ]
        held = [Reservation(v.route, v.side, v.price, v.quantity, v.value_e9) for v in views]
        seqs: dict[str, int] = {}
        decided: list[NewDecision] = []
        for index, leg in enumerate(command.legs):
            view = self._look(leg, item, with_others(held, index, now_ns), now_ns, references[index])
            if defer is not None and not view.is_exit:
                return Defer(defer)
            code = refusal_of(view)
            if code is not OK:
                return _refused(code, index + 1, passed(code, view, checks_of(view)), facts_of(code, view))
            decided.append(self._accept(leg, view, seqs))
        return BasketDecision(ACCEPTED, OK, 0, CHECKS_ALL, True, None, decided)

    def _look(self, leg: NewOrder, item: Item, route: Route, now_ns: int, reference: Reference | None) -> View:
        params = self._state.params
        assert params is not None
        view = View()
        view.order_age_max_ns = params.order_age_max_ns
        view.skew_max_ns = params.skew_max_ns
        view.look(self._state.book, leg, item.created_at_ns, route, now_ns, reference)
        return view

    def _accept(self, leg: NewOrder, view: View, seqs: dict[str, int]) -> NewDecision:
        state = self._state
        _, _, id_key = state.keys.key(leg.account, leg.client_order_id)
        instrument = view.route.instrument
        seq = seqs[instrument.venue] = seqs.get(instrument.venue, state.venues[instrument.venue].last_seq) + 1
        after = view.reach * instrument.quantity_step_e9
        limit = view.route.limits.position_e9
        return NewDecision(
            ACCEPTED, OK, self._orders.order_id(id_key, state.trading_date), seq, CHECKS_ALL,
            after if view.side is BUY else -after, limit if limit != INT64_MAX else -1,
            OrderClass.EXIT if view.is_exit else OrderClass.INC,
        )  # fmt: skip

    def apply_basket(self, record: BasketOrdered, command: NewBasket, position: int, now_ns: int) -> None:
        """Write what ``decide_basket`` decided: the basket's key, then each leg as an order of its own."""
        decision = record.decision
        if not decision.takes_key:
            return
        state = self._state
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = state.dedup.find(low, high)
        value = value_of(position, TAKEN if decision.kind is ACCEPTED else OrderStatus.REJECTED)
        payload = payload_hash(record.item.command)
        if slot < 0:
            state.dedup.insert(-1 - slot, low, high, payload, value)
        else:  # the tombstone of a cancel that came first
            state.dedup.replace(slot, payload, value)
        if decision.kind is not ACCEPTED:
            halt_breach(state, decision.code, decision.facts, command.account)
        for leg, reference, decided in zip(command.legs, record.references, decision.legs, strict=False):
            ordered = Ordered(record.source, leg_item(record.item, leg), reference, decided, record.seq)
            self._orders.apply_ordered(ordered, leg, position, now_ns)


def leg_id(client_order_id: str, n: int) -> str:
    """Return the id of a basket's n-th leg, counted from 1."""
    return f"{client_order_id}/{n}"


def leg_item(item: Item, leg: NewOrder) -> Item:
    """Return the item as if the leg had come alone; what identifies its content is its own bytes."""
    return msgspec.structs.replace(item, command=Raw(_encode(leg)))


def _refused(
    code: Code, leg: int, checks: int, facts: Facts | None = None, *, takes_key: bool = True
) -> BasketDecision:
    return BasketDecision(REJECTED, code, leg, checks, takes_key, facts)


def unknown_facts(code: Code, leg: NewOrder) -> Facts:
    """Return what was unknown, as a single order's refusal names it."""
    names = {
        Code.ACCOUNT_UNKNOWN: (Scope.ACCOUNT, leg.account),
        Code.STRATEGY_UNKNOWN: (Scope.STRATEGY, leg.strategy),
        Code.INSTR_UNKNOWN: (Scope.INSTRUMENT, leg.instrument),
    }
    scope, key = names.get(code, (Scope.GLOBAL, ""))
    return Facts(scope=scope, key=key)
