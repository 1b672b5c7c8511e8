"""Held orders: ``decide_*`` reads, ``apply_*`` writes (DESIGN 6.13, RISK.md B1).

An order that only checks routed to the risk service refuse is HELD: it has its key and its reservations as if it were
sent, and is at no venue. Then the first of these in the journal ends the hold, and whatever comes after it is late: an
answer of the service, its deadline, the loss of the service, a cancel or kill. Approved, it passes the checks again
that time may have changed, but for what was approved (DECISIONS 35), and goes out.

An exit is held for a bounded time and then sent, whatever the service says: a REJECT of it is advice (DECISIONS 33).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import structs

from engine.breaches import halt_breach
from engine.dedup import payload_hash, value_of
from engine.hold import Hold
from engine.order import Order, OutgoingKind, Terms
from engine.orders import Orders
from engine.refusals import CHECKS_ALL, refused_new
from engine.state import State
from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, Scope, Side, TimeInForce
from protocol.decisions import NewDecision, OrderClass, Reference
from protocol.held_records import HoldDecision, HoldEffect, HoldTimed, OrderHeld, RiskChanged, RiskDecided
from protocol.orders import NewOrder, TermedOrder, TrimmableOrder
from protocol.params import OnDeadline, RiskParams
from protocol.risk import RiskAnswer, Verdict
from protocol.session import Facts
from protocol.units import INT64_MAX
from risk.gate.evidence import facts_of
from risk.gate.flow import Signature, signature
from risk.gate.forward import forwarded, late_refusal
from risk.gate.ratio_checks import count_message
from risk.gate.view import View

OK: Final = Code.OK
HELD: Final = OrderStatus.HELD
BUY: Final = Side.BUY
REJECTED: Final = OutcomeKind.REJECTED
HOLDS_MAX: Final = 4096
"""Held orders in all: each is looked at when a deadline is near."""


class Held(NamedTuple):
    """A new order is held: what its record says."""

    decision: NewDecision
    codes: tuple[Code, ...]
    deadline_ns: int


class Holds:
    """Decides and applies holds over one State."""

    __slots__ = ("_orders", "_state", "_view")

    def __init__(self, state: State, orders: Orders) -> None:
        self._state = state
        self._orders = orders
        self._view = View()

    # Held or refused

    def decide_hold(self, code: Code, view: View, order: NewOrder, id_key: bytes) -> NewDecision | Held:
        """Say whether an order that the gate refuses with ``code`` is held, or refused after all."""
        is_termed = isinstance(order, TermedOrder)
        codes, refused = forwarded(view, self._state.risk.forwards, is_termed=is_termed)
        if not codes:
            return refused_new(refused if refused is not OK else code, view, order)
        rules = self._rules
        account = view.route.account.name
        holds, orders = self._state.risk.holds, self._state.orders
        held = sum(1 for order_id in holds if orders[order_id].account == account)
        if (held >= rules.held_max and not view.is_exit) or len(holds) >= HOLDS_MAX:
            facts = Facts(rules.held_max, held + 1, Scope.ACCOUNT, account)
            return NewDecision(REJECTED, Code.RISK_PENDING_MAX, checks_passed=CHECKS_ALL, facts=facts)
        hold_ns = rules.exit_hold_ns if view.is_exit else rules.deadline_ns
        if self._state.risk.is_away(view.now_ns, rules.away_ns):
            action = OnDeadline.PASS if view.is_exit else self._on_deadline(codes)
            if action is OnDeadline.REJECT:
                facts = facts_of(codes[0], view)
                return NewDecision(REJECTED, Code.RISK_UNAVAILABLE, checks_passed=CHECKS_ALL, facts=facts)
            hold_ns = rules.hold_max_ns if action is OnDeadline.HOLD else 0
        deadline_ns = view.now_ns + hold_ns
        instrument = view.route.instrument
        after = view.reach * instrument.quantity_step_e9
        limit = view.route.limits.position_e9
        decision = NewDecision(
            OutcomeKind.HELD, codes[0], self._orders.order_id(id_key, self._state.trading_date), 0, CHECKS_ALL,
            after if view.side is BUY else -after, limit if limit != INT64_MAX else -1,
            OrderClass.EXIT if view.is_exit else OrderClass.INC,
            facts=structs.replace(facts_of(codes[0], view), deadline_ns=deadline_ns),
        )  # fmt: skip
        return Held(decision, codes, deadline_ns)

    @property
    def _rules(self) -> RiskParams:
        params = self._state.params
        assert params is not None
        rules = params.risk
        return RiskParams(()) if rules is None else rules

    def _on_deadline(self, codes: tuple[Code, ...]) -> OnDeadline:
        """Return the strictest word on any of the codes."""
        rows = dict(self._rules.on_deadline)
        found = {rows.get(code, OnDeadline.REJECT) for code in codes}
        for action in (OnDeadline.REJECT, OnDeadline.HOLD):
            if action in found:
                return action
        return OnDeadline.PASS

    def apply_held(self, record: OrderHeld, order: NewOrder, position: int, now_ns: int) -> None:
        """Write what ``decide_hold`` decided: the key, the order and what is reserved for it."""
        state, item, decision = self._state, record.item, record.decision
        low, high, _ = state.keys.key(order.account, order.client_order_id)
        slot = state.dedup.take_key(low, high, payload_hash(item.command), value_of(position, HELD))
        route = state.route(order.account, order.strategy, order.instrument)
        view = self._look(order, item.created_at_ns, route.instrument.name, now_ns, record.reference)
        is_stop = order.order_type is OrderType.STOP
        opened = Order(
            route, order.side, view.price, 0, 0, route.account.name, order.client_order_id, decision.order_id,
            order.order_type, order.time_in_force, HELD, view.quantity,
            0 if is_stop or order.order_type is OrderType.MARKET else view.price, order.reduce_only, 0, now_ns,
            item.created_at_ns, item.trace_id, slot,
        )  # fmt: skip
        opened.source = record.source
        opened.is_exit = decision.order_class is OrderClass.EXIT
        hold = Hold(decision.order_id, tuple(record.codes), now_ns, record.deadline_ns)
        if isinstance(order, TermedOrder):
            expire_at_ns = order.expire_at_ns if order.time_in_force is TimeInForce.GTD else 0
            opened.terms = Terms(view.stop_price, expire_at_ns, order.post_only)
            hold.allows_trim = isinstance(order, TrimmableOrder)
        state.orders[opened.order_id] = opened
        state.risk.holds[opened.order_id] = hold
        state.book.take(opened, view.quantity, view.value_e9)

    def _look(
        self, order: NewOrder, created_at_ns: int, instrument: str, now_ns: int, reference: Reference | None
    ) -> View:
        state, view = self._state, self._view
        params = state.params
        assert params is not None
        view.order_age_max_ns, view.skew_max_ns = params.order_age_max_ns, params.skew_max_ns
        route = state.route(order.account, order.strategy, instrument)
        view.look(state.book, order, created_at_ns, route, now_ns, reference)
        if isinstance(order, TermedOrder):
            view.look_terms(order.stop_price_e9, order.expire_at_ns, order.post_only)
        return view

    # The service's word

    def decide_answer(self, answer: RiskAnswer, now_ns: int, reference: Reference | None) -> RiskDecided | None:
        """Return what an answer does; None = not worth a record: it is about no hold, or was said before."""
        state = self._state
        hold = state.risk.holds.get(answer.order_id)
        order = state.orders.get(answer.order_id) or state.closed.get(answer.order_id)
        if hold is None or order is None:
            end = state.risk.ends.get(answer.order_id)
            if end is None or end.is_late or order is None:
                return None
            decision = HoldDecision(HoldEffect.LATE, Code.RISK_DECISION_LATE)
        elif answer.asked != hold.asked:
            return None  # of an earlier question
        else:
            decision = self._judge(hold, order, answer, now_ns, reference)
        venue = order.route.instrument.venue
        return RiskDecided(order.account, order.client_order_id, venue, reference, answer, decision)

    def _judge(
        self, hold: Hold, order: Order, answer: RiskAnswer, now_ns: int, reference: Reference | None
    ) -> HoldDecision:
        if answer.verdict is Verdict.REJECT:
            if order.is_exit:
                return self._send(hold, order, order.quantity, Code.RISK_REJECTED, now_ns, reference)
            return HoldDecision(HoldEffect.REJECTED, Code.RISK_REJECTED)
        if answer.valid_until_ns < now_ns and not order.is_exit:
            if hold.asked > 1:
                return HoldDecision(HoldEffect.REJECTED, Code.RISK_DECISION_STALE)
            return HoldDecision(HoldEffect.WAITS, Code.RISK_DECISION_STALE, deadline_ns=hold.deadline_ns)
        if answer.verdict is Verdict.APPROVE or order.is_exit:
            return self._send(hold, order, order.quantity, OK, now_ns, reference)
        quantity = self._trimmed(hold, order, answer.quantity_e9)
        if not quantity:
            return HoldDecision(HoldEffect.REJECTED, Code.RISK_TRIM_REFUSED)
        return self._send(hold, order, quantity, Code.RISK_TRIMMED, now_ns, reference)

    def _trimmed(self, hold: Hold, order: Order, quantity_e9: int) -> int:
        """Return the steps that an order is trimmed to; 0 = it can't be: not asked for, no whole lots, too few."""
        instrument = order.route.instrument
        quantity, off_step = divmod(quantity_e9, instrument.quantity_step_e9)
        least = max(1, instrument.quantity_min)
        is_fine = hold.allows_trim and not off_step and not quantity % instrument.lot
        return quantity if is_fine and least <= quantity < order.quantity else 0

    def _send(
        self, hold: Hold, order: Order, quantity: int, code: Code, now_ns: int, reference: Reference | None
    ) -> HoldDecision:
        """Let it go out if the checks pass again, but for those that were approved."""
        refused = self._late_refusal(hold, order, now_ns, reference)
        if refused is not OK:
            return HoldDecision(HoldEffect.REJECTED, refused)
        instrument = order.route.instrument
        seq = self._state.venues[instrument.venue].last_seq + 1
        quantity_e9, price_e9 = quantity * instrument.quantity_step_e9, order.limit_price * instrument.price_step_e9
        return HoldDecision(HoldEffect.SENT, code, seq, quantity_e9, price_e9=price_e9)

    def _late_refusal(self, hold: Hold, order: Order, now_ns: int, reference: Reference | None) -> Code:
        is_day = order.time_in_force is TimeInForce.DAY
        if is_day and self._orders.date_of(order.order_id) != self._state.trading_date:
            return Code.DAY_OVER
        route, terms = order.route, order.terms
        # Quantity 0: its own leaves are in B or S already. Its age counts from now: it was to wait.
        price_e9 = order.limit_price * route.instrument.price_step_e9
        again = NewOrder(
            order.account, order.client_order_id, route.strategy.name, route.instrument.name, order.side,
            order.order_type, order.time_in_force, 0, price_e9, order.reduce_only,
        )  # fmt: skip
        if terms is not None:
            stop_price_e9 = terms.stop_price * route.instrument.price_step_e9
            again = TermedOrder(
                again.account, again.client_order_id, again.strategy, again.instrument, again.side, again.order_type,
                again.time_in_force, 0, price_e9, again.reduce_only, stop_price_e9, terms.expire_at_ns, terms.post_only,
            )  # fmt: skip
        view = self._look(again, now_ns, route.instrument.name, now_ns, reference)
        return late_refusal(view, hold.codes, is_termed=terms is not None)

    # Time, and the loss of the service

    def due(self, now_ns: int) -> list[Hold]:
        """Return the holds whose time is over, oldest first; all while nobody is there to answer."""
        holds = self._state.risk.holds
        if self._state.risk.is_away(now_ns, self._rules.away_ns):
            return [h for h in holds.values() if not h.is_extended or h.deadline_ns <= now_ns]
        return [h for h in holds.values() if h.deadline_ns <= now_ns]

    def decide_timer(self, hold: Hold, now_ns: int, reference: Reference | None) -> HoldTimed:
        """Say what happens to a hold that is due (RISK.md B1, ``on_deadline``)."""
        rules = self._rules
        order = self._state.orders[hold.order_id]
        is_away = self._state.risk.is_away(now_ns, rules.away_ns)
        code = Code.RISK_UNAVAILABLE if is_away else Code.RISK_DEADLINE
        action = OnDeadline.PASS if order.is_exit else self._on_deadline(hold.codes)
        until_ns = hold.held_ns + rules.hold_max_ns
        is_small = order.is_exit or order.reserved_value_e9 <= rules.pass_value_max_e9
        if action is OnDeadline.HOLD and not hold.is_extended and until_ns > now_ns:
            decision = HoldDecision(HoldEffect.WAITS, code, deadline_ns=until_ns)
        elif action is OnDeadline.PASS and is_small:
            decision = self._send(hold, order, order.quantity, code, now_ns, reference)
        else:
            decision = HoldDecision(HoldEffect.EXPIRED, code)
        venue = order.route.instrument.venue
        return HoldTimed(
            order.account, order.client_order_id, order.order_id, venue, reference, code, decision
        )  # fmt: skip

    # Applied

    def apply_answer(self, record: RiskDecided, now_ns: int) -> None:
        """Write what an answer did."""
        self._apply(record.order_id, record.decision, now_ns)

    def apply_timer(self, record: HoldTimed, now_ns: int) -> None:
        """Write what the end of its time did to a hold."""
        self._apply(record.order_id, record.decision, now_ns)

    def _apply(self, order_id: str, decision: HoldDecision, now_ns: int) -> None:
        state = self._state
        effect = decision.effect
        if effect is HoldEffect.LATE:
            state.risk.ends[order_id] = state.risk.ends[order_id]._replace(is_late=True)
            return
        hold, order = state.risk.holds[order_id], state.orders[order_id]
        if effect is HoldEffect.WAITS:
            if decision.code is Code.RISK_DECISION_STALE:
                hold.asked += 1
            else:
                hold.is_extended = True
            hold.deadline_ns = decision.deadline_ns
        elif effect is HoldEffect.SENT:
            state.risk.end(order.order_id, decision.code, is_sent=True)
            self._release(order, decision, now_ns)
        else:
            state.risk.end(order.order_id, decision.code)
            halt_breach(state, decision.code, None, order.account)
            state.book.set_leaves(order, 0)
            rejected = effect is HoldEffect.REJECTED
            state.set_status(order, OrderStatus.REJECTED if rejected else OrderStatus.EXPIRED)
            state.close(order)

    def _release(self, order: Order, decision: HoldDecision, now_ns: int) -> None:
        """Put an approved order into the outbox; only now does it count against rates."""
        state = self._state
        quantity = decision.quantity_e9 // order.route.instrument.quantity_step_e9
        order.quantity = quantity
        state.book.set_leaves(order, quantity)
        state.book.charge(order, now_ns)
        order.created_at_ns = now_ns
        order.venue_seq = decision.venue_seq
        state.set_status(order, OrderStatus.PENDING_NEW)
        if order.route.is_complete:
            order.route.more.take(order.side, _signature(order), now_ns)
            count_message(order.route, order.limit_price)
        venue = state.venues[order.route.instrument.venue]
        venue.add(decision.venue_seq, OutgoingKind.NEW, order, now_ns)

    def apply_changed(self, record: RiskChanged) -> None:
        """Write that a service is there, or gone."""
        risk = self._state.risk
        risk.ready = record.ready
        risk.instance_epoch = record.instance_epoch
        risk.changed_ns = 0

    def decide_again(self, record: RiskDecided | HoldTimed, now_ns: int) -> bool:
        """Return whether what is recorded of a hold is what is decided now."""
        if isinstance(record, RiskDecided):
            return self.decide_answer(record.answer, now_ns, record.reference) == record
        hold = self._state.risk.holds.get(record.order_id)
        return hold is not None and self.decide_timer(hold, now_ns, record.reference) == record


def _signature(order: Order) -> Signature:
    """Return the economic terms of an order that goes out."""
    instrument, terms = order.route.instrument, order.terms
    stop_price = terms.stop_price if terms is not None else 0
    step_e9 = instrument.price_step_e9
    return signature(
        order.side, order.order_type, order.time_in_force, order.quantity * instrument.quantity_step_e9,
        order.limit_price * step_e9, stop_price * step_e9,
    )  # fmt: skip
