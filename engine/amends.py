"""Trades that a venue takes back or corrects after it reported them: ``decide`` reads, ``apply`` writes.

What a trade counted is remembered with its id (``VenueState.trade_ids``), so exactly that is taken back: position, cum,
value and what is reserved, whatever the venue says of quantities. Rules, each with its test:

- taken back once: again is a DUPLICATE, also where an operator said it first;
- a trade that is not remembered (never seen, or long ago) is TRADE_UNKNOWN: recorded, counted, alarmed, reduce-only; if
  it was taken back its id is kept, and should it come after all it counts nothing;
- an order that is over stays over: its leaves stay 0 whatever the venue says, and FILLED becomes CANCELED;
- an order that works gets its leaves back, reserved at once; where the venue says otherwise its account is in
  reduce-only, with the more of the two reserved;
- an order that is no longer remembered changes nothing but the position, and its row in the books.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from engine.breaches import halt_overfilled
from engine.described import described, unchanged
from engine.drift import note_drift
from engine.fees import amend_fee
from engine.order import Order
from engine.order_state import Happening, next_status
from engine.reports import MANUAL_MAX, Reports
from engine.state import State
from engine.suspense import Suspense
from engine.terms import AMENDING
from engine.venue_state import VenueState
from protocol.amends import Amendment, TradeAmended
from protocol.codes import TERMINAL, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import ReplaceAnswer, ReportDecision, ReportEffect
from protocol.units import INT64_MAX
from protocol.venue import Details, Report
from risk.gate.exposure import InstrumentState, Route

APPLIED: Final = ReportEffect.APPLIED
REFUSED: Final = ReportEffect.REFUSED
Decided = tuple[ReportDecision, Amendment | None]


class Amends:
    """Decides and applies what becomes of booked trades over one State."""

    __slots__ = ("_reports", "_state", "_suspense")

    def __init__(self, state: State, reports: Reports, suspense: Suspense) -> None:
        self._state = state
        self._reports = reports
        self._suspense = suspense

    def decide(self, venue: VenueState, report: Report) -> Decided:
        """Say what a TRADE_CANCEL or TRADE_CORRECT does; ``report_seq`` 0: an operator says it."""
        assert report.exec_type in AMENDING
        details = report.details
        named = "" if details is None else details.original_trade_id
        first = venue.corrections.get(named, named)
        order = self._find_order(venue, report.order_id)
        if not first:
            return _nothing(order, None, REFUSED)
        if first not in venue.trade_ids:
            if (venue.name, first) in self._state.suspense:
                return self._suspense.decide_amended(venue, first, report)
            return _nothing(order, None, ReportEffect.TRADE_UNKNOWN)
        counted = venue.trade_ids[first]
        if counted is None:
            return _nothing(order, None, ReportEffect.TRADE_UNKNOWN)
        order_id, route, signed, price_e9 = counted[:4]
        if order_id != report.order_id:
            return _nothing(order, None, REFUSED)  # a trade of another order
        is_cancel = report.exec_type is ExecType.TRADE_CANCEL
        if route is None or not signed:
            return _nothing(order, route, ReportEffect.DUPLICATE if is_cancel else REFUSED)
        if not is_cancel and report.trade_id in venue.corrections:
            return _nothing(order, route, ReportEffect.DUPLICATE)
        if not _is_credible(venue, report, route, signed):
            return _nothing(order, route, REFUSED)
        return _decided(order, route, report, first, signed, price_e9)

    def decide_by_hand(self, order_id: str, trade_id: str, now_ns: int) -> tuple[VenueState, Report, Decided] | str:
        """Say what becomes of a trade that an operator says the venue took back, or why it can't be taken."""
        found = [v for v in self._state.venues.values() if v.corrections.get(trade_id, trade_id) in v.trade_ids]
        for venue in found:
            counted = venue.trade_ids[venue.corrections.get(trade_id, trade_id)]
            if counted is None or counted[0] != order_id:
                continue
            if len(venue.manual_trades) >= MANUAL_MAX:
                return f"venue {venue.name} expected at most {MANUAL_MAX} trades changed by hand, was one more"
            report = Report(
                0, ExecType.TRADE_CANCEL, order_id, "", 0, OrderStatus.NONE, 0, 0, now_ns,
                details=Details(original_trade_id=trade_id),
            )  # fmt: skip
            decided = self.decide(venue, report)
            if decided[0].effect is APPLIED:
                return venue, report, decided
            return f"trade {trade_id} expected one that counts, was {decided[0].effect.name}: it was taken back before"
        return f"trade {trade_id} expected one of order {order_id} that is remembered here, was none; see /v1/trades"

    def decide_again(self, record: TradeAmended, report: Report) -> bool:
        """Return whether the same is decided now."""
        return self.decide(self._state.venues[record.venue], report) == (record.decision, record.amendment)

    def _find_order(self, venue: VenueState, order_id: str) -> Order | None:
        order = self._state.orders.get(order_id) or self._state.closed.get(order_id)
        return None if order is None or order.route.instrument.venue != venue.name else order

    def apply(self, record: TradeAmended, report: Report) -> None:
        """Write what was decided."""
        venue = self._state.venues[record.venue]
        if report.report_seq:
            venue.report_seq = report.report_seq
        effect, amendment = record.decision.effect, record.amendment
        if effect is ReportEffect.TRADE_UNKNOWN:
            self._apply_unknown(venue, report, record.decision)
        elif amendment is not None and amendment.in_suspense:
            self._suspense.amend(venue, report, amendment)
        elif amendment is not None:
            self._apply_known(venue, report, record.decision, amendment)
            if record.operator:
                venue.manual_trades[amendment.trade_id] = None

    def _apply_unknown(self, venue: VenueState, report: Report, decision: ReportDecision) -> None:
        details = report.details
        assert details is not None
        trade_id = details.original_trade_id
        if report.exec_type is ExecType.TRADE_CANCEL and trade_id not in venue.trade_ids:
            venue.remember_trade(trade_id, (report.order_id, None, 0, 0, 0, 0, ""))
            venue.amended[trade_id] = None
        self._reduce(decision.account, f"{report.exec_type.name} of trade {trade_id}, which is not known")

    def _apply_known(self, venue: VenueState, report: Report, decision: ReportDecision, amendment: Amendment) -> None:
        state = self._state
        trade_id = amendment.trade_id
        counted = venue.trade_ids[trade_id]
        assert counted is not None
        order_id, route, signed, _, paid_e9, fee_e9, currency = counted
        assert route is not None
        to = amendment.to_quantity_e9 // route.instrument.quantity_step_e9
        to_signed = to if signed > 0 else -to
        correction_id = report.trade_id if report.exec_type is ExecType.TRADE_CORRECT else ""
        state.book.move_money(route, -paid_e9)
        paid_e9 = state.book.pay(route, to_signed, amendment.to_price_e9) if paid_e9 and to_signed else 0
        fee = amend_fee(state, route, fee_e9, currency, report if to_signed else None)
        venue.amend_trade(trade_id, (order_id, route, to_signed, amendment.to_price_e9, paid_e9, *fee), correction_id)
        state.book.move(route, to_signed - signed)
        order = self._find_order(venue, order_id) if amendment.knows_order else None
        if order is not None:
            self._reopen(order, decision)
            self._reports.set_order(venue, order, decision)
        note_drift(state, route.ledger)
        if decision.effect is ReportEffect.OVERFILL:
            halt_overfilled(state, route, order_id)
        if amendment.disagrees:
            self._reduce(decision.account, f"after trade {trade_id} was changed the venue says other leaves or cum")

    def _reopen(self, order: Order, decision: ReportDecision) -> None:
        """Reserve again for an order that works though nothing of it was left."""
        if order.leaves or decision.status in TERMINAL:
            return
        leaves = decision.leaves_quantity_e9 // order.route.instrument.quantity_step_e9
        if leaves:
            self._state.book.reopen(order, leaves)

    def _reduce(self, account: str, why: str) -> None:
        if account in self._state.accounts:
            self._state.raise_state(Scope.ACCOUNT, account, TradingState.REDUCING, why)
        else:
            self._state.raise_state(Scope.GLOBAL, "", TradingState.REDUCING, why)


def _nothing(order: Order | None, route: Route | None, effect: ReportEffect) -> Decided:
    """Return that nothing is booked otherwise."""
    if order is not None:
        return unchanged(order, effect), None
    return (ReportDecision(effect) if route is None else _of_route(route, effect, Side.BUY, 0)), None


def _of_route(route: Route, effect: ReportEffect, side: Side, change: int) -> ReportDecision:
    """Return the decision about a trade whose order is no longer remembered."""
    instrument = route.instrument
    position_e9 = (route.ledger.position + change) * instrument.quantity_step_e9
    names = route.account.name, "", route.strategy.name, instrument.name
    return ReportDecision(effect, *names, side, position_e9=position_e9)


def _is_credible(venue: VenueState, report: Report, route: Route, signed: int) -> bool:
    """Whether it says what can be: the whole trade taken back, or other terms of it under an id of their own."""
    step = route.instrument.quantity_step_e9
    quantity_e9 = report.last_quantity_e9
    if report.exec_type is ExecType.TRADE_CANCEL:
        return quantity_e9 in {0, abs(signed) * step}
    position_e9 = abs(route.ledger.position) * step
    return (
        bool(report.trade_id)
        and report.trade_id not in venue.trade_ids
        and quantity_e9 > 0
        and quantity_e9 % step == 0
        and position_e9 + abs(signed) * step + quantity_e9 <= INT64_MAX
        and route.instrument.price_step_e9 <= report.last_price_e9 <= INT64_MAX
    )


def _decided(order: Order | None, route: Route, report: Report, trade_id: str, signed: int, price_e9: int) -> Decided:
    """Return what a trade becomes, and its order with it."""
    instrument = route.instrument
    step = instrument.quantity_step_e9
    to_e9, to_price_e9 = (0, 0) if report.exec_type is ExecType.TRADE_CANCEL else _terms(report)
    change = to_e9 // step - abs(signed)
    side = Side.BUY if signed > 0 else Side.SELL
    value_e9 = _value_e9(instrument, to_e9 // step, to_price_e9) - _value_e9(instrument, abs(signed), price_e9)
    amendment = Amendment(
        trade_id, abs(signed) * step, price_e9, to_e9, to_price_e9, value_e9, knows_order=order is not None
    )
    moved = change if side is Side.BUY else -change
    if order is None:
        return _of_route(route, APPLIED, side, moved), amendment
    decision = _of_order(order, change)
    if decision is None:
        return _nothing(order, route, REFUSED)
    decision = structs.replace(
        decision, value_e9=max(0, min(order.value_e9 + value_e9, INT64_MAX)),
        position_e9=(route.ledger.position + moved) * step,
    )  # fmt: skip
    says = report.leaves_quantity_e9, report.cum_quantity_e9
    disagrees = report.report_seq > 0 and says != (decision.leaves_quantity_e9, decision.cum_quantity_e9)
    return decision, structs.replace(amendment, disagrees=disagrees)


def _terms(report: Report) -> tuple[int, int]:
    return report.last_quantity_e9, report.last_price_e9


def _value_e9(instrument: InstrumentState, quantity: int, price_e9: int) -> int:
    return instrument.value_e9(quantity, price_e9 // instrument.price_step_e9) if quantity else 0


def _of_order(order: Order, change: int) -> ReportDecision | None:
    """Return the order after ``change`` steps more of it are filled (less, if negative); None if that can't be."""
    cum = order.cum + change
    if cum < 0:
        return None
    asked = order.terms.replacement if order.terms is not None else None
    most = order.quantity_most
    answer = ReplaceAnswer.TAKEN if asked is not None and cum > order.quantity else ReplaceAnswer.NONE
    quantity = asked.quantity if asked is not None and answer is ReplaceAnswer.TAKEN else order.quantity
    if cum > most:
        effect = ReportEffect.OVERFILL if change > 0 else APPLIED
        return described(order, effect, OrderStatus.FILLED, 0, cum, 0, None, ReplaceAnswer.NONE)
    happening = Happening.FILLS_COMPLETE if cum == most else Happening.FILLS_AMENDED
    is_replacing = asked is not None and answer is ReplaceAnswer.NONE
    status = next_status(order.status, happening, is_filled_partly=cum > 0, is_replacing=is_replacing)
    if status is None:
        return None
    leaves = 0 if status in TERMINAL else quantity - cum
    return described(order, APPLIED, status, leaves, cum, 0, None, answer)
