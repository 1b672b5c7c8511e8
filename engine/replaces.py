"""Replaces of orders that work: ``decide_replace`` reads, ``apply_replace`` writes (FIX OrderCancelReplaceRequest).

One at a time an order: until the venue answers, both terms may be working, so the book reserves the worst of them
(RISK.md A1). The order keeps its order_id and what has filled; the id of the replace becomes another name of it, so a
cancel or a later replace may use any of them. A replace takes a key in the dedup map as an order does: repeated, it is
answered with its first outcome.
"""

from __future__ import annotations

from typing import Final

from engine.breaches import halt_breach, reduce_ratio
from engine.dedup import payload_hash, value_of
from engine.order import Order, OutgoingKind, Replacement, Terms
from engine.orders import Defer, Orders, Replay
from engine.permit import Permit
from engine.refusals import ENVELOPE_CHECKS
from engine.state import State
from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, RetryReason, Scope, Side, TimeInForce
from protocol.decisions import Reference
from protocol.orders import NewOrder, ReplaceOrder
from protocol.paper import is_paper
from protocol.records import ReplaceRequested
from protocol.replaces import ReplaceDecision
from protocol.session import Facts, Item
from protocol.texts import pack_kind
from protocol.units import INT64_MAX
from risk.gate.evidence import facts_of
from risk.gate.ratio_checks import count_message
from risk.gate.replace import REPLACE_CHECKS, Change, first_replace_refusal
from risk.gate.view import View

OK: Final = Code.OK
ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
BUY: Final = Side.BUY
# What never rests has no terms to change by the time a replace could come.
IMMEDIATE: Final = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class Replaces:
    """Decides and applies replaces over one State."""

    __slots__ = ("_orders", "_state", "_view")

    def __init__(self, state: State, orders: Orders) -> None:
        self._state = state
        self._orders = orders
        self._view = View()

    def find_order(self, command: ReplaceOrder) -> Order | None:
        """Return the open order that is meant, by any of its ids."""
        _, _, id_key = self._state.keys.key(command.account, command.orig_client_order_id)
        return self._orders.find_order(id_key)

    def decide_replace(
        self,
        command: ReplaceOrder,
        item: Item,
        permit: Permit | None,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> ReplaceDecision | Replay | Defer:
        """Say what happens to a replace; the arguments are those of ``decide_new``."""
        state = self._state
        if permit is None or not permit.may_use(command.account):
            return ReplaceDecision(REJECTED, Code.AUTH_NOT_PERMITTED, checks_passed=1, takes_key=False)
        elsewhere = state.belongs_elsewhere(command.account)
        if elsewhere is not None:
            return ReplaceDecision(REJECTED, Code.WRONG_SHARD, checks_passed=1, takes_key=False, facts=elsewhere)
        order = self.find_order(command)
        if order is not None and not permit.may_trade(command.account, order.route.strategy.name):
            return ReplaceDecision(REJECTED, Code.AUTH_NOT_PERMITTED, checks_passed=1, takes_key=False)
        if command.account not in state.accounts:
            return ReplaceDecision(REJECTED, Code.ACCOUNT_UNKNOWN, checks_passed=2, takes_key=False)
        low, high, _ = state.keys.key(command.account, command.client_order_id)
        slot = state.dedup.find(low, high)
        if slot >= 0:
            return self._decide_known(slot, item)
        if state.dedup.is_exhausted:
            return Defer(RetryReason.DEDUP_FULL)
        if order is None:
            return self._decide_unfound(command)
        refused = self._state_refusal(order)
        if refused is not OK:
            return _refused(order, refused, ENVELOPE_CHECKS, _state_facts(order, refused))
        return self._decide_terms(command, item, order, now_ns, reference, defer)

    def _decide_known(self, slot: int, item: Item) -> ReplaceDecision | Replay:
        payload, position, status = self._state.dedup.entry(slot)
        if status is OrderStatus.TOMBSTONE:
            return ReplaceDecision(REJECTED, Code.CANCELLED_BEFORE_ARRIVAL, checks_passed=ENVELOPE_CHECKS - 1)
        if payload != payload_hash(item.command):
            return ReplaceDecision(REJECTED, Code.ID_CONFLICT, checks_passed=ENVELOPE_CHECKS - 1, takes_key=False)
        return Replay(position, status)

    def _decide_unfound(self, command: ReplaceOrder) -> ReplaceDecision | Defer:
        state = self._state
        if state.dedup.is_full:
            return Defer(RetryReason.DEDUP_FULL)
        low, high, _ = state.keys.key(command.account, command.orig_client_order_id)
        slot = state.dedup.find(low, high)
        status = state.dedup.entry(slot)[2] if slot >= 0 else OrderStatus.NONE
        is_over = slot >= 0 and status is not OrderStatus.TOMBSTONE
        code = Code.ORDER_TERMINAL if is_over else Code.ORDER_UNKNOWN
        return ReplaceDecision(REJECTED, code, status=status, checks_passed=ENVELOPE_CHECKS)

    def _state_refusal(self, order: Order) -> Code:
        if is_paper(order.account):
            return Code.PAPER_UNSUPPORTED
        if order.status is OrderStatus.SUSPENDED:
            return Code.ORDER_SUSPENDED
        if order.status is OrderStatus.HELD:
            return Code.ORDER_HELD
        if order.status is OrderStatus.UNKNOWN:
            return Code.ORDER_IN_DOUBT
        if order.cancel_seq:
            return Code.CANCEL_PENDING
        if order.terms is not None and order.terms.replacement is not None:
            return Code.REPLACE_PENDING
        if order.order_type is OrderType.MARKET or order.time_in_force in IMMEDIATE:
            return Code.TYPE_UNSUPPORTED
        able = order.route.instrument.capabilities
        return OK if able is None or able.replace else Code.TYPE_UNSUPPORTED

    def _decide_terms(
        self,
        command: ReplaceOrder,
        item: Item,
        order: Order,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> ReplaceDecision | Defer:
        instrument = order.route.instrument
        venue = self._state.venues[instrument.venue]
        step = instrument.quantity_step_e9
        total_e9 = command.quantity_e9 or order.quantity * step
        cum_e9 = order.cum * step
        if total_e9 < cum_e9:
            facts = Facts(cum_e9, total_e9)
            return _refused(order, Code.QTY_BELOW_FILLED, ENVELOPE_CHECKS, facts)
        price_e9, stop_price_e9 = _prices(command, order)
        if total_e9 == cum_e9:  # nothing would be left: the rest is cancelled, whatever may stop a replace
            return ReplaceDecision(
                ACCEPTED, OK, order.client_order_id, order.order_id, venue.last_seq + 1, OrderStatus.PENDING_CANCEL,
                total_e9, price_e9, stop_price_e9, order.leaves * step, cum_e9, True, REPLACE_CHECKS,
            )  # fmt: skip
        change = self._look(command, item, order, total_e9, price_e9, stop_price_e9, now_ns, reference)
        deferred = self._defer(change, order, now_ns, defer)
        if deferred is not None:
            return deferred
        view = self._view
        code, passed = first_replace_refusal(view, change)
        if code is not OK:
            return _refused(order, code, ENVELOPE_CHECKS + passed, facts_of(code, view))
        after = view.reach * step
        limit = order.route.limits.position_e9
        return ReplaceDecision(
            ACCEPTED, OK, order.client_order_id, order.order_id, venue.last_seq + 1, OrderStatus.PENDING_REPLACE,
            total_e9, price_e9, stop_price_e9, (order.quantity - order.cum) * step, cum_e9, False,
            ENVELOPE_CHECKS + passed, after if order.side is BUY else -after,
            limit if limit != INT64_MAX else -1,
        )  # fmt: skip

    def _look(
        self,
        command: ReplaceOrder,
        item: Item,
        order: Order,
        total_e9: int,
        price_e9: int,
        stop_price_e9: int,
        now_ns: int,
        reference: Reference | None,
    ) -> Change:
        """Take the new terms into the view, with Δ as its quantity."""
        instrument = order.route.instrument
        params = self._state.params
        assert params is not None
        view = self._view
        view.order_age_max_ns = params.order_age_max_ns
        view.skew_max_ns = params.skew_max_ns
        total, off_quantity = divmod(total_e9, instrument.quantity_step_e9)
        added = max(0, total - order.quantity)
        probe = NewOrder(
            order.account, command.client_order_id, order.route.strategy.name, instrument.name, order.side,
            order.order_type, order.time_in_force, added * instrument.quantity_step_e9, price_e9, order.reduce_only,
        )  # fmt: skip
        view.look(self._state.book, probe, item.created_at_ns, order.route, now_ns, reference)
        view.look_terms(stop_price_e9, 0, False)
        price = view.price
        leaves = max(total, order.quantity) - order.cum
        reserved_e9 = max(instrument.value_e9(leaves, order.price), instrument.value_e9(leaves, price))
        is_bolder = price > order.price if order.side is BUY else price < order.price
        return Change(
            total,
            total_e9,
            off_quantity,
            added > 0,
            not added and not is_bolder,
            instrument.value_e9(total, price),
            reserved_e9 - order.reserved_value_e9,
        )

    def _defer(
        self, change: Change, order: Order, now_ns: int, defer: RetryReason | None
    ) -> Defer | ReplaceDecision | None:
        """Return why it can't be taken now: no venue, no room, or no new risk in this session."""
        state = self._state
        is_new_risk = change.is_larger and not self._view.is_exit
        if state.dedup.is_full and is_new_risk:
            return Defer(RetryReason.DEDUP_FULL)
        venue = state.venues[order.route.instrument.venue]
        if not venue.ready:
            params = state.params
            assert params is not None
            if now_ns - venue.changed_ns >= params.venue_wait_ns:
                return _refused(order, Code.VENUE_DOWN, ENVELOPE_CHECKS)
            return Defer(RetryReason.VENUE_NOT_READY)
        if defer is not None and is_new_risk:
            return Defer(defer)
        return None

    def apply_replace(self, record: ReplaceRequested, command: ReplaceOrder, position: int, now_ns: int) -> None:
        """Write what ``decide_replace`` decided."""
        decision = record.decision
        if not decision.takes_key:
            return
        state = self._state
        key = state.keys.key(command.account, command.client_order_id)
        low, high, _ = key
        slot = state.dedup.find(low, high)
        accepted = decision.kind is ACCEPTED
        value = value_of(position, decision.status if accepted else OrderStatus.REJECTED)
        payload = payload_hash(record.item.command)
        if slot < 0:
            state.dedup.insert(-1 - slot, low, high, payload, value)
        else:  # the tombstone of a cancel that came first
            state.dedup.replace(slot, payload, value)
        if not accepted:
            halt_breach(state, decision.code, decision.facts, command.account)
            if decision.code is Code.RATIO_OTR and decision.facts is not None:
                strategy = state.orders[decision.order_id].route.strategy.name
                reduce_ratio(state, strategy, decision.facts.expected, decision.facts.actual)
            return
        order = state.orders[decision.order_id]
        if order.terms is None:
            order.terms = Terms()
        state.rename(order, key)
        if decision.cancels:
            self._orders.cancel_at_venue(order, decision.venue_seq, now_ns)
        else:
            self._send(order, command, decision, key, now_ns)

    def _send(
        self,
        order: Order,
        command: ReplaceOrder,
        decision: ReplaceDecision,
        key: tuple[int, int, bytes],
        now_ns: int,
    ) -> None:
        """Number the replace and reserve the worst of both terms."""
        state = self._state
        route = order.route
        instrument = route.instrument
        terms = order.terms
        assert terms is not None
        quantity = decision.quantity_e9 // instrument.quantity_step_e9
        price = decision.price_e9 // instrument.price_step_e9
        stop_price = decision.stop_price_e9 // instrument.price_step_e9
        replacement = Replacement(decision.venue_seq, command.client_order_id, key, quantity, price, stop_price)
        added = quantity - order.quantity
        replacement.is_flip = order.is_exit and added > 0 and not route.ledger.is_exit(order.side, added)
        reserved = replacement.price_reserved(order)
        if replacement.is_bolder(order):
            state.book.charge(order, now_ns)  # what only takes away is counted no more than a cancel
        count_message(route, price)
        terms.replacement = replacement
        leaves = max(quantity, order.quantity) - order.cum
        worst = max(order.price, reserved, key=lambda p: instrument.value_e9(leaves, p))
        state.book.set_terms(order, leaves, worst)
        if terms.group is not None:
            state.regroup(order)
        state.set_status(order, OrderStatus.PENDING_REPLACE)
        state.venues[instrument.venue].add(decision.venue_seq, OutgoingKind.REPLACE, order, now_ns)


def _prices(command: ReplaceOrder, order: Order) -> tuple[int, int]:
    """Return limit and stop price asked for, in 1e-9; what the command leaves out is as it is."""
    step = order.route.instrument.price_step_e9
    price_e9 = 0 if order.order_type is OrderType.STOP else command.price_e9 or order.limit_price * step
    if order.terms is None or not order.terms.stop_price:
        return price_e9, 0
    return price_e9, command.stop_price_e9 or order.terms.stop_price * step


def _state_facts(order: Order, code: Code) -> Facts | None:
    if code is not Code.TYPE_UNSUPPORTED:
        return None
    packed = pack_kind(order.order_type, order.time_in_force, replaced=True)
    return Facts(0, packed, Scope.INSTRUMENT, order.route.instrument.name)


def _refused(order: Order, code: Code, passed: int, facts: Facts | None = None) -> ReplaceDecision:
    step = order.route.instrument.quantity_step_e9
    return ReplaceDecision(
        REJECTED, code, order.client_order_id, order.order_id, status=order.status,
        leaves_quantity_e9=(order.quantity - order.cum) * step, cum_quantity_e9=order.cum * step, checks_passed=passed,
        facts=facts,
    )  # fmt: skip
