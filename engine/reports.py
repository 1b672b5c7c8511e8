"""Venue reports, the send gate, queries: ``decide_*`` reads, ``apply_*`` writes.

Rules of DESIGN 6: reports are taken in the gateway's order and once (9), fills once per (venue, trade_id), an order
without an answer is UNKNOWN and stays reserved (6), a late send is checked again (8).
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from engine.breaches import halt_overfilled
from engine.described import agrees, described, is_credible, unchanged
from engine.differing import compared, effect_of_cum, note_differing
from engine.drift import find_late, note_drift
from engine.fees import book_trade, pay_value
from engine.order import Order, Outgoing, OutgoingKind, Replacement
from engine.order_state import Happening, happening_of, next_status
from engine.orders import Orders
from engine.state import State
from engine.suspense import Suspense
from engine.terms import AMENDING, TermReports, void
from engine.venue_state import VenueState
from protocol.codes import TERMINAL, Code, ExecType, OrderStatus, Side, TimeInForce
from protocol.decisions import BOOKED, EngineCancel, Reference, ReportDecision, ReportEffect
from protocol.orders import NewOrder
from protocol.records import Queried, SendDecided, VenueChanged
from protocol.replaces import ReplaceUnsent
from protocol.venue import Report
from risk.gate.gate import late_refusal_of
from risk.gate.termed import first_late_termed_refusal
from risk.gate.view import View
from risk.gate.watch import Watch

OK: Final = Code.OK
PENDING_NEW: Final = OrderStatus.PENDING_NEW
NEW: Final = OutgoingKind.NEW
CANCEL: Final = OutgoingKind.CANCEL
MANUAL_MAX: Final = 10_000
VOID: Final = OutgoingKind.VOID
DAY: Final = TimeInForce.DAY
TRADE: Final = ExecType.TRADE
BUY: Final = Side.BUY
APPLIED: Final = ReportEffect.APPLIED


class Reports:
    """Decides and applies what venues say over one State."""

    __slots__ = ("_orders", "_state", "_suspense", "_terms")

    def __init__(self, state: State, orders: Orders) -> None:
        self._state = state
        self._orders = orders
        self._suspense = Suspense(state)
        self._terms = TermReports(state)

    def decide_report(self, venue: VenueState, report: Report) -> ReportDecision:
        """Say what a report does. The caller has seen to ``report_seq`` being the next one."""
        state = self._state
        order = state.orders.get(report.order_id) or state.closed.get(report.order_id)
        if order is None or order.route.instrument.venue != venue.name:  # another venue's order is none of this one's
            return ReportDecision(ReportEffect.ORDER_UNKNOWN)
        if report.details is not None and report.exec_type is not TRADE:
            if report.last_quantity_e9:
                return unchanged(order, ReportEffect.REFUSED)  # a fill is a TRADE
            return self._terms.decide_detailed(order, report, report.details)
        quantity_e9 = report.last_quantity_e9
        if quantity_e9 and report.trade_id in venue.trade_ids:
            return unchanged(order, ReportEffect.DUPLICATE)
        step = order.route.instrument.quantity_step_e9
        filled, off_step = divmod(quantity_e9, step)
        cum = order.cum + filled
        cum_e9 = cum * step
        if (
            off_step
            or (quantity_e9 and not is_credible(report, order, cum_e9))
            or (report.exec_type is ExecType.ORDER_STATUS and not agrees(report, order))
        ):
            return unchanged(order, ReportEffect.REFUSED)
        if order.terms is not None:
            termed = self._terms.decide_termed(order, order.terms, report, filled, cum)
            return compared(_kept_back(venue, report, termed), report, cum_e9)
        if cum > order.quantity:
            if report.exec_type in AMENDING:  # it does not say which trade it means
                return unchanged(order, ReportEffect.REFUSED)
            return described(order, ReportEffect.OVERFILL, OrderStatus.FILLED, 0, cum, filled, report)
        happening = happening_of(report.exec_type, report.status, leaves_nothing=cum == order.quantity)
        status = None if happening is None else next_status(order.status, happening, is_filled_partly=cum > 0)
        if status is PENDING_NEW and report.order_id in venue.doubted:
            status = OrderStatus.UNKNOWN  # it was there once: not found is no leave to send it again
        if status is None:
            return unchanged(order, ReportEffect.REFUSED)
        leaves = 0 if status in TERMINAL else order.quantity - cum
        effect = APPLIED if report.cum_quantity_e9 == cum_e9 else effect_of_cum(report)
        return described(order, effect, status, leaves, cum, filled, report)

    def apply_report(self, venue: VenueState, report: Report, decision: ReportDecision, now_ns: int) -> None:
        """Write what ``decide_report`` decided."""
        state = self._state
        venue.report_seq = report.report_seq
        awaiting = venue.awaiting
        answered = awaiting.get(report.venue_seq)
        if answered is not None and answered.order.order_id == report.order_id:  # else another order would be forgotten
            del awaiting[report.venue_seq]
        effect = decision.effect
        if effect is not APPLIED and effect not in BOOKED:
            if effect is ReportEffect.ORDER_UNKNOWN and report.last_quantity_e9:
                self._suspense.take(venue, report)
            return
        order = state.orders.get(report.order_id)
        if order is None:
            order = find_late(state, report)
        if report.last_quantity_e9:
            route = order.route
            filled = report.last_quantity_e9 // route.instrument.quantity_step_e9
            state.book.fill(order, filled)
            venue.remember_trade(report.trade_id, book_trade(state, order, filled, report))
        if order.route.watch is not None:
            self._count(order, order.route.watch, report, decision.status, now_ns)
        was_stale = bool(state.stale) and report.last_quantity_e9 > 0 and order.order_id in state.stale
        self.set_order(venue, order, decision)
        if was_stale:
            note_drift(state, order.route.ledger)  # what it filled before its cancel came is gone for the others
        if effect is not APPLIED:
            self._apply_doubtful(venue, order, effect)
        if report.exec_type is ExecType.NOT_FOUND:
            _note_not_found(venue, order)
            return
        knows_nothing = report.exec_type is ExecType.CANCEL_REJECT and report.status is OrderStatus.NONE
        if venue.not_found and not knows_nothing:
            venue.not_found.pop(order.order_id, None)  # the venue has it after all: never sent again
        # It works, and its cancel was refused or got lost: a later cancel is sent again. Not while UNKNOWN: if the
        # venue never saw the order, whoever cancelled or killed it must not find it sent again.
        if (
            order.cancel_seq
            and order.status is not OrderStatus.UNKNOWN
            and order.status not in TERMINAL
            and order.order_id not in venue.not_found
            and (report.exec_type is ExecType.CANCEL_REJECT or order.cancel_seq not in awaiting)
        ):
            order.cancel_seq = 0

    def _count(self, order: Order, watch: Watch, report: Report, status: OrderStatus, now_ns: int) -> None:
        """Count a fill, a refusal, or that the venue took an order, before the order is set."""
        if report.last_quantity_e9:
            filled = report.last_quantity_e9 // order.route.instrument.quantity_step_e9
            watch.take_fill(filled if order.side is BUY else -filled, now_ns)
        if status is OrderStatus.REJECTED and order.status is not OrderStatus.REJECTED:
            watch.take_reject()
        elif report.exec_type is ExecType.NEW or report.exec_type is TRADE:
            # The acknowledgement may come behind a cancel on its way or a doubt, or a fill before it.
            is_late = report.exec_type is ExecType.NEW and order.cum == 0 and order.status is not OrderStatus.NEW
            watch.take_order(is_first=is_late or order.status is PENDING_NEW)
        self._state.halt_watched(order.route, now_ns)

    def _apply_doubtful(self, venue: VenueState, order: Order, effect: ReportEffect) -> None:
        """Write what follows where a booked report can't be all: more than was ordered, or another sum than here."""
        if effect is ReportEffect.CUM_DIFFERS:
            note_differing(self._state, venue, order)
            return
        halt_overfilled(self._state, order.route, order.order_id)
        note_drift(self._state, order.route.ledger)

    def set_order(self, venue: VenueState, order: Order, decision: ReportDecision) -> None:
        """Write what the order is after a report."""
        state = self._state
        step = order.route.instrument.quantity_step_e9
        order.cum = decision.cum_quantity_e9 // step
        order.value_e9 = decision.value_e9
        status = decision.status
        if order.terms is not None:
            self._terms.apply_termed(venue, order, order.terms, decision)
        else:
            state.book.set_leaves(order, decision.leaves_quantity_e9 // step)
        if status is not order.status:
            if order.terms is not None:
                state.set_status(order, status)
            else:
                order.status = status
                if order.slot >= 0:
                    state.dedup.set_state(order.slot, status)
                else:
                    state.restate_closed(order)
        if status in TERMINAL:
            void(venue, order)
            state.close(order)

    def decide_entered(self, report: Report) -> ReportDecision | str:
        """Say what a trade does that an operator enters, or why it can't be taken; it is a report without a number."""
        state = self._state
        order = state.orders.get(report.order_id) or state.closed.get(report.order_id)
        if order is None:
            return f"order {report.order_id} expected one that is open or was closed a short while ago, was neither"
        instrument = order.route.instrument
        venue = state.venues[instrument.venue]
        if not report.trade_id or report.last_quantity_e9 < 1 or report.last_price_e9 < instrument.price_step_e9:
            return (
                f"fill expected a trade id, a quantity above 0 and a price of at least one step of "
                f"{instrument.price_step_e9} e9, was {report.trade_id!r}, {report.last_quantity_e9} e9 at "
                f"{report.last_price_e9} e9"
            )
        if len(venue.manual_trades) >= MANUAL_MAX:
            return f"venue {venue.name} expected at most {MANUAL_MAX} trades entered by hand, was one more"
        decision = self.decide_report(venue, report)
        if decision.effect is not ReportEffect.APPLIED:
            step, open_e9 = instrument.quantity_step_e9, (order.quantity - order.cum) * instrument.quantity_step_e9
            return (
                f"fill of order {report.order_id} expected a trade that is not booked yet, of at most {open_e9} e9 in "
                f"steps of {step} e9, was {decision.effect.name}"
            )
        if order.status is OrderStatus.UNKNOWN and decision.status not in TERMINAL:
            # A part of the answer does not end the doubt about the rest.
            return structs.replace(decision, status=OrderStatus.UNKNOWN)
        return decision

    def apply_entered(self, venue: VenueState, report: Report, decision: ReportDecision, now_ns: int) -> None:
        """Write a trade entered by hand; the venue's own report of it will be a duplicate."""
        state = self._state
        order = state.orders.get(report.order_id) or state.closed[report.order_id]
        filled = report.last_quantity_e9 // order.route.instrument.quantity_step_e9
        state.book.fill(order, filled)
        venue.manual_trades[report.trade_id] = None
        if order.route.watch is not None:
            self._count(order, order.route.watch, report, decision.status, now_ns)
        venue.remember_trade(report.trade_id, book_trade(state, order, filled, report))
        self.set_order(venue, order, decision)
        note_drift(state, order.route.ledger)

    def apply_resolved(self, order_id: str, decision: ReportDecision) -> None:
        """Write an operator's word on an UNKNOWN order; what it filled moves the position."""
        order = self._state.orders[order_id]
        venue = self._state.venues[order.route.instrument.venue]
        step = order.route.instrument.quantity_step_e9
        filled = decision.cum_quantity_e9 // step - order.cum
        if filled:
            self._state.book.fill(order, filled)
            pay_value(self._state, order, decision.value_e9 - order.value_e9)
        venue.not_found.pop(order_id, None)
        self.set_order(venue, order, decision)
        if filled:
            note_drift(self._state, order.route.ledger)

    # The send gate

    def decide_send(self, order: Order, venue_seq: int, now_ns: int, reference: Reference | None) -> SendDecided:
        """Say whether an order not yet sent may still go (DESIGN 6.8)."""
        code = self._late_refusal(order, now_ns, reference)
        venue = order.route.instrument.venue
        if code is OK:
            return SendDecided(venue, venue_seq, order.order_id, OK)
        why = Code.UNSENT_KILLED if order.cancel_seq or code is Code.STATE_HALTED else Code.UNSENT_STALE
        cancel = EngineCancel(
            order.account, order.client_order_id, order.order_id, 0, venue_seq, why,
            order.cum * order.route.instrument.quantity_step_e9,
        )  # fmt: skip
        return SendDecided(venue, venue_seq, order.order_id, code, cancel)

    def _late_refusal(
        self, order: Order, now_ns: int, reference: Reference | None, asked: Replacement | None = None
    ) -> Code:
        if order.cancel_seq:
            return Code.UNSENT_KILLED
        if order.time_in_force is DAY and self._orders.date_of(order.order_id) != self._state.trading_date:
            return Code.DAY_OVER
        params = self._state.params
        assert params is not None
        view = View()
        view.order_age_max_ns = params.order_age_max_ns
        view.skew_max_ns = params.skew_max_ns
        route = order.route
        # Quantity 0: its own leaves are in B or S already.
        price = order.limit_price if asked is None else asked.price
        again = NewOrder(
            order.account, order.client_order_id, route.strategy.name, route.instrument.name, order.side,
            order.order_type, order.time_in_force, 0, price * route.instrument.price_step_e9, order.reduce_only,
        )  # fmt: skip
        view.look(self._state.book, again, order.created_at_ns, route, now_ns, reference)
        terms = order.terms
        if terms is None:
            return late_refusal_of(view)
        stop_price = terms.stop_price if asked is None else asked.stop_price
        view.look_terms(stop_price * route.instrument.price_step_e9, terms.expire_at_ns, terms.post_only)
        return first_late_termed_refusal(view)

    def apply_send(self, record: SendDecided, now_ns: int) -> None:
        """Write what ``decide_send`` decided."""
        venue = self._state.venues[record.venue]
        order = self._state.orders[record.order_id]
        waiting = venue.awaiting.get(record.venue_seq)
        if waiting is not None and waiting.kind is OutgoingKind.REPLACE:
            waiting.at_ns = now_ns
            return
        again = record.venue_seq != order.venue_seq
        if again:
            venue.not_found.pop(record.order_id, None)
        if record.cancel is not None:
            self.apply_unsent(record.cancel)
        elif again:
            order.venue_seq = record.venue_seq
            venue.add(record.venue_seq, NEW, order, now_ns)
        else:
            venue.awaiting[record.venue_seq].at_ns = now_ns  # as fresh as if accepted now

    def apply_unsent(self, cancel: EngineCancel) -> None:
        """Close an order that was never sent; its numbers become VOID."""
        state = self._state
        order = state.orders[cancel.order_id]
        venue = state.venues[order.route.instrument.venue]
        void(venue, order)
        if order.terms is not None:
            order.terms.replacement = None
        if order.status is not OrderStatus.SUSPENDED:  # what waits has no leaves of its own to give back: State.close
            state.book.set_leaves(order, 0)
        if state.risk.holds and order.order_id in state.risk.holds:
            state.risk.end(order.order_id, cancel.code if cancel.code is not OK else Code.HELD_CANCELLED)
        state.set_status(order, OrderStatus.CANCELED)
        state.close(order)

    def decide_send_replace(
        self, order: Order, venue_seq: int, now_ns: int, reference: Reference | None
    ) -> SendDecided | ReplaceUnsent:
        """Say whether a replace not yet sent may still go: what takes away always, else as the send gate says."""
        terms = order.terms
        assert terms is not None
        asked = terms.replacement
        assert asked is not None
        venue = order.route.instrument.venue
        code = OK
        if asked.is_bolder(order):
            code = self._late_refusal(order, now_ns, reference, asked)
        if code is OK:
            return SendDecided(venue, venue_seq, order.order_id, OK)
        return self._terms.decide_unsent(order, venue_seq, code)

    def refuse_replace(self, order: Order) -> None:
        """Write that an order's replace will not go out, because the order itself is cancelled."""
        venue = self._state.venues[order.route.instrument.venue]
        self._terms.refuse(venue, order, order.quantity - order.cum)

    def apply_unsent_replace(self, record: ReplaceUnsent) -> None:
        """Write that a replace does not go out: the old terms work on."""
        state = self._state
        order = state.orders[record.order_id]
        venue = state.venues[record.venue]
        self._terms.refuse(venue, order, record.leaves_quantity_e9 // order.route.instrument.quantity_step_e9)
        state.set_status(order, record.status)
        if record.status in TERMINAL:
            void(venue, order)
            state.close(order)

    # Venue sessions

    def decide_unknown(self, venue: VenueState, received_seq: int) -> Queried | None:
        """Return the numbered queries for what the gateway holds and has not reported on; None = nothing open.

        What the venue said it never saw is decided next, not doubted again because of a cancel that came too late.
        """
        doubtful: dict[str, Order] = {}
        for outgoing in venue.awaiting.values():
            if outgoing.seq <= received_seq and outgoing.kind is not VOID and outgoing.order.status not in TERMINAL:
                doubtful[outgoing.order.order_id] = outgoing.order
        for order_id in venue.not_found:
            doubtful.pop(order_id, None)
        if not doubtful:
            return None
        queries = [(order_id, venue.last_seq + n) for n, order_id in enumerate(doubtful, start=1)]
        return Queried(venue.name, queries)

    def apply_queried(self, record: Queried, now_ns: int) -> None:
        """Write: the orders are UNKNOWN until their queries are answered."""
        state = self._state
        venue = state.venues[record.venue]
        asked = {order_id for order_id, _ in record.queries}
        first = record.queries[0][1]
        for seq in [
            o.seq for o in venue.awaiting.values() if o.order.order_id in asked and o.seq <= venue.received_seq
        ]:
            del venue.awaiting[seq]
        assert first == venue.last_seq + 1
        for order_id, seq in record.queries:
            order = state.orders[order_id]
            status = next_status(order.status, Happening.LOST, is_filled_partly=order.cum > 0)
            if status is not None:
                state.set_status(order, status)
            venue.add(seq, OutgoingKind.QUERY, order, now_ns)

    def apply_venue(self, record: VenueChanged, now_ns: int) -> None:
        """Write that a gateway is READY or lost."""
        venue = self._state.venues[record.venue]
        venue.ready = record.ready
        venue.changed_ns = now_ns
        venue.gateway_instance = record.gateway_instance
        venue.received_seq = record.received_seq
        if record.capabilities is not None:
            self._state.take_capabilities(venue, record.capabilities)
        settled = [o.seq for o in venue.awaiting.values() if o.seq <= record.received_seq and _is_settled(o)]
        for seq in settled:
            del venue.awaiting[seq]


def _kept_back(venue: VenueState, report: Report, decision: ReportDecision) -> ReportDecision:
    """Return the decision; of an order that the venue had once, not found is no leave to send it again."""
    if decision.status is PENDING_NEW and report.exec_type is ExecType.NOT_FOUND and report.order_id in venue.doubted:
        return structs.replace(decision, status=OrderStatus.UNKNOWN)
    return decision


def _note_not_found(venue: VenueState, order: Order) -> None:
    """Have the send gate decide on an order that the venue never saw, if it still waits for an answer."""
    if order.status is PENDING_NEW:
        venue.not_found[order.order_id] = order


def _is_settled(outgoing: Outgoing) -> bool:
    """Whether nobody waits for an answer to this number any more."""
    return outgoing.kind is VOID or outgoing.order.status in TERMINAL
